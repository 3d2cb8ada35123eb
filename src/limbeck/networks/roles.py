"""What a network promises: its role.

A role is how tasks and methods call a network. A network of one's own needs no role class as a base: it is enough
that it can be called in the same way (see `external.Import`). Features are tapped by module path (`tap.Tap`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn


class Generator(nn.Module, ABC):
    """Makes an image from a latent and, when it is class-conditional, a label.

    Attributes:
        latent_shape: Shape of one latent, e.g. (64,); its prior is standard normal.
        image_shape: (C, H, W) of what it makes.
        classes: Number of classes K it is conditioned on; 0 when it takes no label.
    """

    latent_shape: tuple[int, ...]
    image_shape: tuple[int, int, int]
    classes: int

    @abstractmethod
    def forward(self, latent: Tensor, label: Tensor | None = None) -> Tensor:
        """Return images (N, C, H, W) in [-1, 1] from latents (N, *latent_shape) and labels (N,)."""


class Discriminator(nn.Module, ABC):
    """Scores how real an image looks.

    Attributes:
        image_shape: (C, H, W) of what it judges.
        classes: Number of classes K it is conditioned on; 0 when it takes no label.
    """

    image_shape: tuple[int, int, int]
    classes: int

    @abstractmethod
    def forward(self, image: Tensor, label: Tensor | None = None) -> Tensor:
        """Return scores (N,), higher for real: a log-odds under the logistic loss, else without a unit."""


class Classifier(nn.Module, ABC):
    """Tells the class of an image.

    Attributes:
        image_shape: (C, H, W) of what it classifies.
        classes: Number of classes K.
    """

    image_shape: tuple[int, int, int]
    classes: int

    @abstractmethod
    def features(self, image: Tensor) -> Tensor:
        """Return the features (N, D) before the last layer, from images (N, C, H, W) in [-1, 1]."""

    @abstractmethod
    def forward(self, image: Tensor) -> Tensor:
        """Return logits (N, K) from images (N, C, H, W) in [-1, 1]."""


class Fitted(nn.Module, ABC):
    """A classical technique that is fitted to labelled images as a whole: a baseline, no network to distil.

    It is called like a `Classifier`, passes no gradient, and has no layer before the last.

    Attributes:
        image_shape: (C, H, W) of what it classifies.
        classes: Number of classes K.
        train_images: The most training images that it is to be fitted to.
    """

    image_shape: tuple[int, int, int]
    classes: int
    train_images: int

    @abstractmethod
    def fit(self, image: Tensor, label: Tensor) -> None:
        """Fit it to images (N, C, H, W) in [-1, 1] with their classes (N,); they are in random order.

        Raises:
            RecipeError: Images or classes are not those that it is made for.
        """

    @abstractmethod
    def forward(self, image: Tensor) -> Tensor:
        """Return logits (N, K) from images (N, C, H, W) in [-1, 1], once it is fitted."""


class Wrapper(nn.Module, ABC):
    """Only changes how the network in it is called, so that network's own names count: see `unwrap`.

    Attributes:
        module: The network in it.
    """

    module: nn.Module


def unwrap(network: nn.Module) -> nn.Module:
    """Return the network inside a `Wrapper`, and any other network as it is.

    Features are tapped and weights are saved, loaded and hashed under the names of what this returns.
    """
    return unwrap(network.module) if isinstance(network, Wrapper) else network
