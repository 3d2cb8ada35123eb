"""The weights alone, as safetensors: small, read without running code, and of use to every other tool."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import ClassVar, final

from torch import Tensor, nn

from limbeck.errors import RecipeError
from limbeck.export.base import Format
from limbeck.networks.given.weights import load_weights, save_weights


@final
class Safetensors(Format):
    """The names and values of a network's weights; not its layers, which have to be there when it is read.

    Args:
        build: Makes a network with the layers of the one that was written; of use to `load` alone, which cannot do
            without. For a student of a run, `limbeck.run.applying.exported` takes it from the run's result.
    """

    name: ClassVar[str] = "safetensors"
    suffix: ClassVar[str] = ".safetensors"

    def __init__(self, build: Callable[[], nn.Module] | None = None) -> None:
        self.build = build

    def write(self, network: nn.Module, example: tuple[Tensor, ...], path: Path) -> Path:
        """Write the weights; `example` is not called."""
        save_weights(network, path)
        return path

    def load(self, path: Path) -> nn.Module:
        """Return a network of `build` with the weights of the file.

        Raises:
            WeightsError: The file is missing, damaged, or made for another network.
            RecipeError: There is no `build`.
        """
        if self.build is None:
            raise RecipeError(
                f"{path}: expected Safetensors with a `build`, as the file does not say of which layers the network is"
                " made, found none; give it the network's class"
            )
        network = self.build()
        load_weights(network, path)
        return network.eval()
