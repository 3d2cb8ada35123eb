"""The contract of a feature extractor: what distribution metrics compare images by."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from torch import Tensor, nn


class FeatureExtractor(nn.Module, ABC):
    """Turns images into features and class probabilities; frozen, in evaluation mode.

    Attributes:
        name: What the metrics are named after, e.g. "fashion-cnn" in "fid[fashion-cnn]".
        dimension: Number of features D.
    """

    room: ClassVar[str] = "feature extractors"

    name: str
    dimension: int

    @abstractmethod
    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return features (N, D) and logits (N, K) of images (N, C, H, W) in [-1, 1].

        K is 0 where it knows no classes.
        """

    @abstractmethod
    def fingerprint(self) -> str:
        """Return a short hash of the weights: numbers over different features do not compare."""
