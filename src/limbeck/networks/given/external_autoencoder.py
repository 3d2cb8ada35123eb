"""Somebody else's variational autoencoder, such as diffusers' AutoencoderKL, called as ours are."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, final

import torch
from torch import Tensor, full, nn

from limbeck.data.ranges import checked_range
from limbeck.errors import LimbeckError, RecipeError, in_a_line
from limbeck.networks.given.answers import Answer, check_images
from limbeck.networks.given.imports import build
from limbeck.networks.given.weights import load_weights
from limbeck.networks.handling.precision import in_float32
from limbeck.networks.roles import VariationalAutoencoder, Wrapper

LOG_SCALE = -1.5  # where the learned standard deviation of pixels starts, as in our own


class ExternalAutoencoder(Wrapper, VariationalAutoencoder):
    """Calls `module` as a variational autoencoder is called.

    The module has `encode` and `decode`. `encode` returns (mean, log variance), both in one tensor on top of each
    other, or an object whose `latent_dist` has `mean` and `logvar`; `decode` returns images, or an object with them as
    `sample`. `encode` may take any images; `decode` gives those of `image_shape`.
    """

    @abstractmethod  # only what is below is built
    def __init__(
        self, module: nn.Module, image_range: Sequence[float], image_shape: Sequence[int], scale: float
    ) -> None:
        super().__init__()
        self.image_range, self.scale = checked_range("image_range", image_range), scale
        if len(image_shape) != 3 or min(image_shape) < 1:
            raise RecipeError(f"image_shape: expected [C, H, W] of at least 1 each, found {list(image_shape)}")
        if not (math.isfinite(scale) and scale > 0):
            raise RecipeError(f"scale: expected a number above 0, found {scale}")
        self.module = module
        channels, height, width = image_shape
        self.image_shape = (channels, height, width)
        for name in ("encode", "decode"):
            if not callable(getattr(self.module, name, None)):
                raise RecipeError(f"{self._name}: expected an autoencoder with encode and decode, found no {name}")
        training = module.training
        self.latent_shape = self.eval()._probe()
        self.train(training)

    def posterior(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log variance, each (N, *latent_shape), of the scaled latent."""
        low, high = self.image_range
        found: Any = self.module.encode((image + 1) * ((high - low) / 2) + low)  # type: ignore[operator]
        found = getattr(found, "latent_dist", found)
        if hasattr(found, "logvar"):
            mean, log_variance = found.mean, found.logvar
        elif isinstance(found, Tensor) and found.ndim > 1 and found.shape[1] % 2 == 0:
            mean, log_variance = found.chunk(2, dim=1)
        elif isinstance(found, tuple) and len(found) == 2:
            mean, log_variance = found
        else:
            raise RecipeError(f"{self._name}.encode: expected mean and log variance, found {type(found).__name__}")
        return mean * self.scale, log_variance + 2 * math.log(self.scale)

    def decode(self, latent: Tensor) -> Tensor:
        """Return images (N, C, H, W) in [-1, 1]."""
        image: Any = self.module.decode(latent / self.scale)  # type: ignore[operator]
        image = getattr(image, "sample", image)
        if not isinstance(image, Tensor) or image.shape[1:] != self.image_shape:
            found = tuple(image.shape) if isinstance(image, Tensor) else type(image).__name__
            raise RecipeError(f"{self._name}.decode: expected images (N, *{self.image_shape}), found {found}")
        low, high = self.image_range
        return (image - low) * (2 / (high - low)) - 1

    def check_answer(self, answer: Answer) -> None:
        """Refuse reconstructions that cannot be in the range of images that was said.

        Raises:
            RecipeError: They cannot.
        """
        check_images(self._name, answer, self.image_range, converted=True)

    @torch.no_grad()
    def _probe(self) -> tuple[int, ...]:
        """Return the shape of the latent of one image of `image_shape`."""
        try:
            return tuple(self.posterior(torch.zeros(1, *self.image_shape))[0].shape[1:])
        except LimbeckError:
            raise
        except Exception as error:  # whatever the owner's module raises
            raise RecipeError(
                f"image_shape: expected [C, H, W] that {self._name} can encode, found {list(self.image_shape)}:"
                f" {in_a_line(error)}"
            ) from error

    @property
    def _name(self) -> str:
        return type(self.module).__name__


@final
class ImportAutoencoder(ExternalAutoencoder):
    """Builds an autoencoder from its import path and loads its weights; diffusers' `AutoencoderKL` needs no wrapper.

    It is called as `ExternalAutoencoder` says. It states no scale of a Gaussian likelihood: to train it, choose the
    likelihood "l1" or "bernoulli".

    Args:
        target: "package.module.Class", such as "diffusers.AutoencoderKL", or "path/to/file.py:Class".
        arguments: Keyword arguments of the class: of AutoencoderKL, its configuration.
        weights: File with its weights (see `weights.load_weights`); null keeps the initial ones.
        image_range: (low, high) of the images that the module takes and makes.
        image_shape: (C, H, W) of one image of the data.
        scale: What a latent is multiplied by, so that its prior is near standard normal; `scaling_factor` of
            AutoencoderKL, such as 0.18215. 1 leaves it as it is.

    Raises:
        RecipeError: The target cannot be found or built, an argument cannot be used, or the module returns something
            else.
        WeightsError: The weights cannot be loaded.
    """

    def __init__(
        self,
        target: str,
        arguments: dict[str, Any] | None = None,
        weights: str | None = None,
        image_range: tuple[float, float] = (-1.0, 1.0),
        *,
        image_shape: Sequence[int],
        scale: float = 1.0,
    ) -> None:
        super().__init__(in_float32(build(target, arguments or {})), image_range, image_shape, scale)
        if weights is not None:
            load_weights(self.module, weights)


@final
class WrappedAutoencoder(ExternalAutoencoder):
    """An autoencoder that is already built, e.g. one that a script hands to `limbeck.distill`.

    It is called as `ExternalAutoencoder` says, and has a scale of a Gaussian likelihood, which trains with it and is
    not saved with the module's weights.

    Args:
        module: Any `nn.Module` with `encode` and `decode`.
        image_range: (low, high) of the images that the module takes and makes.
        image_shape: (C, H, W) of one image of the data.
        scale: What a latent is multiplied by, so that its prior is near standard normal. 1 leaves it as it is.

    Raises:
        RecipeError: An argument cannot be used, or the module returns something else.
    """

    def __init__(
        self,
        module: nn.Module,
        image_range: tuple[float, float] = (-1.0, 1.0),
        *,
        image_shape: Sequence[int],
        scale: float = 1.0,
    ) -> None:
        super().__init__(module, image_range, image_shape, scale)
        self.log_scale = nn.Parameter(full((), LOG_SCALE))
