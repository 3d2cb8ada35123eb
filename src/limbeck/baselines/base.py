"""The contracts of classical techniques: they stand beside networks, are called like them, and are not trained."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, Literal

from torch import Tensor, nn


class EdgeDetector(nn.Module, ABC):
    """Tells where the edges of an image are, without being trained. It takes images of any size."""

    room: ClassVar[str] = "edge detectors"

    @abstractmethod
    def forward(self, image: Tensor) -> Tensor:
        """Return how strong the edge at every pixel is, (N, 1, H, W) in [0, 1], from images (N, C, H, W) in [-1, 1].

        From `threshold` on, a pixel counts as an edge.
        """

    threshold: float = 0.5


class Regions(nn.Module, ABC):
    """Divides an image into regions that look alike, without knowing what they are. It takes images of any size."""

    room: ClassVar[str] = "regions"

    @abstractmethod
    def forward(self, image: Tensor) -> Tensor:
        """Return the number of the region of every pixel, (N, H, W), int64, from images (N, C, H, W) in [-1, 1].

        The regions of each image are numbered from 0 without a gap.
        """


class Fitted(nn.Module, ABC):
    """A classical technique that is fitted to labelled images as a whole: a baseline, no network to distil.

    It is called like a `Classifier` or a `Segmenter`, passes no gradient, and has no layer before the last.

    Attributes:
        truth: What it is fitted to: the label of each image, or the mask with the class of each pixel.
        image_shape: (C, H, W) of what it classifies.
        classes: Number of classes K.
        train_images: The most training images that it is to be fitted to.
    """

    room: ClassVar[str] = "baselines"

    truth: ClassVar[Literal["label", "mask"]] = "label"
    image_shape: tuple[int, int, int]
    classes: int
    train_images: int

    @abstractmethod
    def fit(self, image: Tensor, label: Tensor) -> None:
        """Fit it to images (N, C, H, W) in [-1, 1] with their classes (N,), or masks (N, H, W); in random order.

        Raises:
            RecipeError: Images or classes are not those that it is made for.
        """

    @abstractmethod
    def forward(self, image: Tensor) -> Tensor:
        """Return logits (N, K), or (N, K, H, W), from images (N, C, H, W) in [-1, 1], once it is fitted."""
