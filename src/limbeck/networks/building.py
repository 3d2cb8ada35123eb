"""How networks are built: sizes that are checked before anything is allocated, and spectral normalisation."""

from __future__ import annotations

from torch import nn
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


def normalise_spectrum(network: nn.Module) -> None:
    """Divide the weight of every convolution, linear layer and embedding by its largest singular value.

    One step of the power iteration in every training forward estimates that value (Miyato et al. 2018,
    "Spectral Normalization for Generative Adversarial Networks", algorithm 1). Its vectors are buffers, so they
    are part of the `state_dict`.
    """
    for layer in list(network.modules()):
        if isinstance(layer, nn.Conv2d | nn.Linear | nn.Embedding):
            spectral_norm(layer)
