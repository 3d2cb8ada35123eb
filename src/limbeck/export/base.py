"""The contract of a file format for trained networks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar

from torch import Tensor, nn


class Format(ABC):
    """A kind of file that a trained network is written to, and read back from as something callable.

    Attributes:
        name: What it is called in results, such as "safetensors".
        suffix: How the names of its files end.
    """

    room: ClassVar[str] = "export formats"

    name: ClassVar[str]
    suffix: ClassVar[str]

    @abstractmethod
    def write(self, network: nn.Module, example: tuple[Tensor, ...], path: Path) -> Path:
        """Write a network in one piece: beside `path` first and then renamed, so never half a file.

        Args:
            network: It is left as it is.
            example: Inputs as it is called with, for formats that watch it run.
            path: Where, with the `suffix`.

        Returns:
            The file.

        Raises:
            WeightsError: The file cannot be written.
            RecipeError: The format cannot hold this network.
        """

    @abstractmethod
    def load(self, path: Path) -> nn.Module:
        """Return what a file holds, in evaluation mode: called as the network was, it answers as that did.

        Raises:
            WeightsError: The file is missing, damaged, or no file of this format.
        """
