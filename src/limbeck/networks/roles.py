"""What a network promises: its role.

A role is how tasks and methods call a network. A network of one's own needs no role class as a base: it is enough
that it can be called in the same way (see `external.Import`). Features are tapped by module path (`tap.Tap`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

from torch import Tensor, nn

from limbeck.errors import RecipeError


class Generator(nn.Module, ABC):
    """Makes an image from a latent and, when it is class-conditional, a label.

    Attributes:
        latent_shape: Shape of one latent, e.g. (64,); its prior is standard normal.
        image_shape: (C, H, W) of what it makes.
        classes: Number of classes K it is conditioned on; 0 when it takes no label.
    """

    room: ClassVar[str] = "generators"

    latent_shape: tuple[int, ...]
    image_shape: tuple[int, int, int]
    classes: int

    @abstractmethod
    def forward(self, latent: Tensor, label: Tensor | None = None) -> Tensor:
        """Return images (N, C, H, W) in [-1, 1] from latents (N, *latent_shape) and labels (N,)."""


class Denoiser(nn.Module, ABC):
    """Tells what is image and what is noise in a mixture of both, x_t = (1 - t) x_0 + t e.

    At time t = 0 that is the image x_0, at t = 1 the noise e, which is standard normal: the straight path of
    rectified flow (Liu et al. 2022, arXiv:2209.03003) and flow matching (Lipman et al. 2022, arXiv:2210.02747).

    Attributes:
        predicts: What it returns: the "velocity" e - x_0, along which x_t moves as t grows, the "noise" e, or the
            "image" x_0; of each the mean over all that x_t can have come from.
        image_shape: (C, H, W) of the images.
        classes: Number of classes K it is conditioned on; 0 when it takes no label.
    """

    room: ClassVar[str] = "denoisers"

    predicts: Literal["velocity", "noise", "image"]
    image_shape: tuple[int, int, int]
    classes: int

    @abstractmethod
    def forward(self, noisy: Tensor, time: Tensor, label: Tensor | None = None) -> Tensor:
        """Return what it predicts (N, C, H, W) from x_t (N, C, H, W), times t (N,) in [0, 1] and labels (N,)."""


class Discriminator(nn.Module, ABC):
    """Scores how real an image looks.

    Attributes:
        image_shape: (C, H, W) of what it judges.
        classes: Number of classes K it is conditioned on; 0 when it takes no label.
    """

    room: ClassVar[str] = "discriminators"

    image_shape: tuple[int, int, int]
    classes: int

    @abstractmethod
    def forward(self, image: Tensor, label: Tensor | None = None) -> Tensor:
        """Return scores (N,), higher for real: a log-odds under the logistic loss, else without a unit.

        One that judges patches returns (N, h, w), a score for each.
        """


class Classifier(nn.Module, ABC):
    """Tells the class of an image.

    Attributes:
        image_shape: (C, H, W) of what it classifies.
        classes: Number of classes K.
    """

    room: ClassVar[str] = "classifiers"

    image_shape: tuple[int, int, int]
    classes: int

    @abstractmethod
    def features(self, image: Tensor) -> Tensor:
        """Return the features (N, D) before the last layer, from images (N, C, H, W) in [-1, 1]."""

    @abstractmethod
    def forward(self, image: Tensor) -> Tensor:
        """Return logits (N, K) from images (N, C, H, W) in [-1, 1]."""


class Autoencoder(nn.Module, ABC):
    """Makes a latent of an image, and an image of a latent.

    Its two parts are the modules `encoder` and `decoder`, so that each can be trained, exchanged or tapped by itself.

    Attributes:
        latent_shape: Shape of one latent, e.g. (64,), or (4, 8, 8) where it is spatial.
        image_shape: (C, H, W) of the images.
    """

    room: ClassVar[str] = "autoencoders"

    latent_shape: tuple[int, ...]
    image_shape: tuple[int, int, int]

    @abstractmethod
    def encode(self, image: Tensor) -> Tensor:
        """Return the latents (N, *latent_shape) of images (N, C, H, W) in [-1, 1]."""

    @abstractmethod
    def decode(self, latent: Tensor) -> Tensor:
        """Return images (N, C, H, W) in [-1, 1] from latents (N, *latent_shape)."""

    def forward(self, image: Tensor) -> Tensor:
        """Return the reconstructions (N, C, H, W) of images (N, C, H, W), both in [-1, 1]."""
        return self.decode(self.encode(image))


class VariationalAutoencoder(Autoencoder):
    """An autoencoder whose encoder gives a distribution, and whose latents have a standard normal prior.

    Attributes:
        log_scale: The logarithm of the standard deviation of a pixel around what `decode` returns, (): a part of the
            model under a Gaussian likelihood, of no use under others.
    """

    log_scale: nn.Parameter

    @abstractmethod
    def posterior(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log variance of q(latent | image), each (N, *latent_shape), of images (N, C, H, W)."""

    def encode(self, image: Tensor) -> Tensor:
        """Return the mean of the posterior (N, *latent_shape)."""
        return self.posterior(image)[0]


class Restorer(nn.Module, ABC):
    """Brings back what an image has lost: pixels, sharpness, or what was there before noise and holes.

    It takes images of any size.

    Attributes:
        channels: Channels C of what it makes.
        inputs: Channels of what it takes: C, or C + 1 where the last one is 1 in the holes and -1 elsewhere.
        scale: How many times higher and wider its output is.
    """

    room: ClassVar[str] = "restorers"

    channels: int
    inputs: int
    scale: int

    @abstractmethod
    def forward(self, image: Tensor) -> Tensor:
        """Return images (N, C, scale H, scale W), about [-1, 1], of degraded ones (N, inputs, H, W) in [-1, 1]."""


class ProbabilisticRestorer(Restorer):
    """A restorer that also says how sure it is of every value."""

    @abstractmethod
    def distribution(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return what `forward` returns, and the logarithm of the scale around it, each (N, C, scale H, scale W)."""


class Stylizer(nn.Module, ABC):
    """Paints an image in the manner of another one. It takes images of any size.

    Attributes:
        styles: Number of styles S that it knows; 0 when it takes the style as an image.
    """

    room: ClassVar[str] = "stylizers"

    styles: int

    @abstractmethod
    def forward(self, image: Tensor, style: Tensor | None = None) -> Tensor:
        """Return stylized images (N, 3, H, W) in [-1, 1] of images (N, 3, H, W) in [-1, 1].

        Args:
            image: The content.
            style: Numbers of styles (N,), int64, of use where there are several; or, where `styles` is 0, images
                (N, 3, h, w) in [-1, 1] whose size need not be that of `image`.
        """


def style_images(stylizer: Stylizer, image: Tensor, style: Tensor | None) -> Tensor:
    """Return the style (N, 3, h, w) of each of N images, for a stylizer that takes it as an image.

    Raises:
        RecipeError: There is none, or it is something else.
    """
    name = type(stylizer).__name__
    if style is None:
        raise RecipeError(f"{name}: expected style images (N, 3, h, w), found none")
    if style.ndim != 4 or style.shape[1] != 3 or len(style) not in (1, len(image)):
        raise RecipeError(f"{name}: expected style images ({len(image)}, 3, h, w), found {tuple(style.shape)}")
    return style.to(image).expand(len(image), -1, -1, -1)


class Segmenter(nn.Module, ABC):
    """Tells the class of every pixel. It takes images of any size.

    Attributes:
        channels: Channels C of the image.
        classes: Number of classes K.
    """

    room: ClassVar[str] = "segmenters"

    channels: int
    classes: int

    @abstractmethod
    def forward(self, image: Tensor) -> Tensor:
        """Return logits (N, K, H, W) from images (N, C, H, W) in [-1, 1]."""


class Wrapper(nn.Module, ABC):
    """Only changes how the network in it is called, so that network's own names count: see `unwrap`.

    Attributes:
        module: The network in it.
    """

    module: nn.Module


@runtime_checkable
class CutDown(Protocol):
    """A network that can begin as a larger trained one, cut down to its own size."""

    def start_from(self, larger: nn.Module) -> None:
        """Take the weights of a larger network, as far as there is room for them.

        Raises:
            RecipeError: The other is no network that this could be cut out of.
        """


def unwrap(network: nn.Module) -> nn.Module:
    """Return the network inside a `Wrapper`, and any other network as it is.

    Features are tapped and weights are saved, loaded and hashed under the names of what this returns.
    """
    return unwrap(network.module) if isinstance(network, Wrapper) else network


def stated(network: nn.Module, name: str, default: Any = None) -> Any:
    """Return what a network states of itself, such as its `inputs`; the outermost `Wrapper` that states it counts."""
    if isinstance(network, Wrapper) and not hasattr(network, name):
        return stated(network.module, name, default)
    return getattr(network, name, default)


def segments(network: nn.Module) -> bool:
    """Tell whether a network gives logits of pixels: a `Segmenter`, or somebody's own with that role."""
    return isinstance(unwrap(network), Segmenter) or stated(network, "role") == "segmenter"


def channels_of(network: nn.Module, asker: str) -> int:
    """Return the number of channels of the images that a network takes.

    Args:
        network: One that states its `channels`, or a wrapper that was told its `image_shape`.
        asker: Who needs to know; named where nobody says it.

    Raises:
        RecipeError: Neither is stated.
    """
    shape: tuple[int, ...] | None = stated(network, "image_shape")
    channels: int | None = stated(network, "channels", shape[0] if shape else None)
    if channels is None:
        raise RecipeError(
            f"{asker}: expected {type(network).__name__} to state its number of `channels`, found none; give an"
            " imported network its image_shape"
        )
    return channels
