"""How networks are built: checks before anything is allocated, spectral normalisation, and what classifiers share."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from limbeck.errors import RecipeError


def check_sizes(owner: object, *, at_least: int = 1, **sizes: int) -> None:
    """Check that every named size is a whole number of at least `at_least`.

    Raises:
        RecipeError: One is not; the message names the owner's class and the argument.
    """
    for name, size in sizes.items():
        if not isinstance(size, int) or isinstance(size, bool) or size < at_least:
            raise RecipeError(
                f"{type(owner).__name__}.{name}: expected a whole number of at least {at_least}, found {size!r}"
            )


def sides(owner: object, size: int | Sequence[int], *, at_least: int = 1) -> tuple[int, int]:
    """Return height and width from `size`, which is both of them or one number for both.

    Raises:
        RecipeError: One is not a whole number of at least `at_least`, or there are not two.
    """
    pair = tuple(size) if isinstance(size, Sequence) else (size, size)
    if len(pair) != 2:
        raise RecipeError(f"{type(owner).__name__}.size: expected one number or (height, width), found {size!r}")
    for side in pair:
        check_sizes(owner, at_least=at_least, size=side)
    return pair


def check_choice(owner: object, choices: Collection[object], **arguments: object) -> None:
    """Check that every named argument is one of `choices`.

    Raises:
        RecipeError: One is not; the message names the owner's class and the argument.
    """
    for name, value in arguments.items():
        if value not in choices:
            raise RecipeError(
                f"{type(owner).__name__}.{name}: expected one of {', '.join(map(repr, choices))}, found {value!r}"
            )


def check_dropout(owner: object, dropout: float) -> None:
    """Check that a probability of being left out is at least 0 and below 1.

    Raises:
        RecipeError: It is not.
    """
    if not 0 <= dropout < 1:
        raise RecipeError(f"{type(owner).__name__}.dropout: expected at least 0 and below 1, found {dropout!r}")


def doublings(owner: object, size: int, *, start: int = 4, at_least: int = 8) -> int:
    """Return how often `start` pixels double to become `size` pixels.

    Raises:
        RecipeError: `size` is smaller than `at_least`, or is not `start` times a power of two.
    """
    check_sizes(owner, size=size)
    count = (size // start).bit_length() - 1
    if size < at_least or start << count != size:
        raise RecipeError(f"{type(owner).__name__}.size: expected a power of two of at least {at_least}, found {size}")
    return count


def check_blocks(owner: object, size: int, blocks: int, **counts: Sequence[int]) -> None:
    """Check that every named list has a whole number of at least 1 for each of the blocks of images of `size` pixels.

    Raises:
        RecipeError: One has not.
    """
    for name, numbers in counts.items():
        check_sizes(owner, **{f"{name}[{i}]": number for i, number in enumerate(numbers)})
        if len(numbers) != blocks:
            raise RecipeError(
                f"{type(owner).__name__}.{name}: expected {blocks} numbers for images of {size} pixels, one for each"
                f" block, found {len(numbers)}"
            )


def normalise_spectrum(network: nn.Module) -> None:
    """Divide the weight of every convolution, linear layer and embedding by its largest singular value.

    One step of the power iteration in every training forward estimates that value (Miyato et al. 2018,
    "Spectral Normalization for Generative Adversarial Networks", algorithm 1). Its vectors are buffers, so they
    are part of the `state_dict`.
    """
    for layer in list(network.modules()):
        if isinstance(layer, nn.Conv2d | nn.Linear | nn.Embedding):
            spectral_norm(layer)


def initialise_convolutions(network: nn.Module) -> None:
    """Draw every convolution's weights from a normal distribution of variance 2 / (outputs · kernel area).

    This keeps gradients of the same size through layers with ReLU (He et al. 2015, equation 14).
    """
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")


@dataclass(frozen=True)
class Statistics:
    """What was done to the images that published weights were trained with.

    Attributes:
        mean: Mean of images in [0, 1] that the weights were trained with, one number a channel; null takes [-1, 1].
        std: Standard deviation that goes with `mean`.
    """

    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None

    def check(self, owner: object, channels: int) -> None:
        """Refuse statistics that cannot be those of images of so many channels.

        Raises:
            RecipeError: Only one of the two is given, one has not C numbers, or one has a number that cannot be. The
                message names the owner's class.
        """
        name = type(owner).__name__
        if (self.mean is None) != (self.std is None):
            given, absent = ("std", "mean") if self.mean is None else ("mean", "std")
            raise RecipeError(f"{name}.{absent}: expected {channels} numbers beside {given}, found null")
        for key, values, least, kind in (
            ("mean", self.mean, -math.inf, "numbers"),
            ("std", self.std, 0.0, "numbers above 0"),
        ):
            if values is not None and (len(values) != channels or not all(least < v < math.inf for v in values)):
                raise RecipeError(f"{name}.{key}: expected {channels} {kind}, one a channel, found {list(values)}")


class Standardize(nn.Module):
    """Brings images from [-1, 1] to the statistics that published weights were trained with.

    Its constants are not in the `state_dict`, which keeps the names of the published network.

    Args:
        owner: The network that it is made for; messages name its class.
        channels: Channels C of the image.
        statistics: What was subtracted from images in [0, 1], and what they were then divided by; without them images
            stay in [-1, 1].

    Raises:
        RecipeError: The statistics cannot be those of such images.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, owner: object, channels: int, statistics: Statistics) -> None:
        super().__init__()
        statistics.check(owner, channels)
        mean, std = statistics.mean, statistics.std
        self.active = mean is not None
        if mean is None or std is None:
            return
        # ((image + 1) / 2 - mean) / std
        centre, spread = (torch.tensor(values, dtype=torch.float64).view(-1, 1, 1) for values in (mean, std))
        self.register_buffer("scale", (0.5 / spread).float(), persistent=False)
        self.register_buffer("shift", ((0.5 - centre) / spread).float(), persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        """Return images (N, C, H, W) as the network was trained to see them, from images in [-1, 1]."""
        return image * self.scale + self.shift if self.active else image
