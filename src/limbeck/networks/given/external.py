"""Somebody else's network, given a role's calling convention without editing or subclassing it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, final, get_args

import torch.nn.functional as F
from torch import Tensor, nn

from limbeck.errors import RecipeError
from limbeck.networks.blocks.building import Standardize, check_sizes
from limbeck.networks.given.imports import build
from limbeck.networks.given.weights import load_weights
from limbeck.networks.handling.tap import Tap
from limbeck.networks.roles import Wrapper, unwrap

__all__ = ["External", "Import", "Role", "Wrapped", "unwrap"]

Role = Literal["generator", "discriminator", "classifier", "segmenter", "restorer"]


class External(Wrapper):
    """Calls `module` as its role is called, converting values and shapes on the way in and out.

    Images outside are float (N, C, H, W) in [-1, 1]; the module sees or makes them in `image_range` (a restorer does
    both), or sees them standardised by `mean` and `std`, at `image_size`.

    Attributes:
        module: The owner's network: tap paths and saved weights refer to it (see `roles.unwrap`).
        role: What it is.
        classes: Number of classes; a generator or discriminator of 0 classes is never given labels.
        channels, inputs, scale: Of a restorer, as `roles.Restorer` has them; others do not have them.
    """

    room: ClassVar[str] = "external networks"

    @abstractmethod  # only Wrapped and Import are built
    def __init__(
        self,
        module: nn.Module,
        role: Role,
        *,
        image_range: Sequence[float],
        latent_shape: Sequence[int] | None,
        image_shape: Sequence[int] | None,
        classes: int,
        features: str | None,
        mean: Sequence[float] | None,
        std: Sequence[float] | None,
        image_size: int | None,
        channels: int = 3,
        inputs: int | None = None,
        scale: int = 1,
    ) -> None:
        super().__init__()
        if role not in get_args(Role):
            raise RecipeError(f"role: expected one of {', '.join(get_args(Role))}, found {role!r}")
        if len(image_range) != 2 or not image_range[0] < image_range[1]:
            raise RecipeError(f"image_range: expected [low, high] with low < high, found {list(image_range)}")
        check_sizes(self, at_least=0, classes=classes)
        if image_size is not None:
            check_sizes(self, image_size=image_size)
        for name, value in (("mean", mean), ("std", std), ("image_size", image_size)):
            if value is not None and role in ("generator", "restorer"):
                wanted = "a network that takes images and makes none"
                raise RecipeError(f"{name}: expected {wanted}, found a {role}; leave it out")
        if (mean or std) and tuple(image_range) != (-1, 1):
            raise RecipeError("image_range: expected none beside mean and std, which say what the network sees")
        if features is not None:
            Tap(module, [features])  # raises when there is no such module
        self.module = module
        self.role: Role = role
        self.image_range = (float(image_range[0]), float(image_range[1]))
        self.latent_shape = None if latent_shape is None else tuple(latent_shape)
        self.image_shape = None if image_shape is None else tuple(image_shape)
        self.classes = classes
        self.image_size = image_size
        if role == "restorer":
            self.channels, self.inputs, self.scale = channels, channels if inputs is None else inputs, scale
            check_sizes(self, channels=self.channels, inputs=self.inputs, scale=self.scale)
        self._standardize = Standardize(self, len(mean or std or ()), mean, std)
        self._features = features

    def forward(self, value: Tensor, label: Tensor | None = None) -> Tensor:
        """Return images from latents or images (generator, restorer), else scores (N,) or logits (N, K), as in `roles`.

        Logits of pixels (N, K, h, w) are resized bilinearly to the height and width of the images.

        Raises:
            RecipeError: The module returns something else than its role promises.
        """
        labels = (label,) if label is not None and self.classes and self.role in ("generator", "discriminator") else ()
        if self.role == "generator":
            return self._to_ours(self._call(self._reshape(value, "latent_shape"), *labels))
        output = self._call(self._to_theirs(value), *labels)
        if self.role == "restorer":
            return self._to_ours(output)
        if self.role == "classifier":
            return output
        if self.role == "segmenter":
            return self._to_pixels(output, value)
        if output.numel() != len(value):
            raise RecipeError(f"{self._name}: expected one score an image, found an output of {tuple(output.shape)}")
        return output.flatten()

    def features(self, image: Tensor) -> Tensor:
        """Return the features (N, D) of images (N, C, H, W): maps are averaged over rows and columns.

        Raises:
            RecipeError: It was not said which module's output the features are.
        """
        if self._features is None:
            raise RecipeError(f"{self._name}: say by `features` which module's output its features are")
        with Tap(self.module, [self._features]) as tap:
            self._call(self._to_theirs(image))
        found = tap[self._features]
        return found.flatten(2).mean(2) if found.ndim > 2 else found

    @property
    def _name(self) -> str:
        return type(self.module).__name__

    def _call(self, *inputs: Tensor) -> Tensor:
        output = self.module(*inputs)
        if self.role in ("classifier", "segmenter"):  # some libraries return logits in an object with more
            output = getattr(output, "logits", output)
            output = output.get("out", output) if isinstance(output, Mapping) else output
        if not isinstance(output, Tensor):
            raise RecipeError(
                f"{self._name}: expected a {self.role} that returns one tensor, found {type(output).__name__};"
                " wrap it in a module of your own that returns the tensor alone"
            )
        return output

    def _reshape(self, tensor: Tensor, argument: Literal["latent_shape", "image_shape"]) -> Tensor:
        """Return `tensor` with every sample in the shape that `argument` gives, if it gives one."""
        shape: tuple[int, ...] | None = getattr(self, argument)
        if shape is None:
            return tensor
        try:
            return tensor.reshape(len(tensor), *shape)
        except RuntimeError as error:
            raise RecipeError(
                f"{self._name}: {argument} {list(shape)} does not fit samples of shape {list(tensor.shape[1:])}"
            ) from error

    def _to_ours(self, image: Tensor) -> Tensor:
        low, high = self.image_range
        image = self._reshape(image, "image_shape")
        if image.ndim != 4:
            raise RecipeError(
                f"{self._name}: expected images (N, C, H, W), found {tuple(image.shape)}; say by `image_shape` how"
                " one image is to be viewed, e.g. [1, 28, 28]"
            )
        return image if (low, high) == (-1, 1) else (image - low) * (2 / (high - low)) - 1

    def _to_pixels(self, logits: Tensor, image: Tensor) -> Tensor:
        known = f"(N, {self.classes}, h, w)" if self.classes else "(N, K, h, w)"
        if logits.ndim != 4 or len(logits) != len(image) or (self.classes and logits.shape[1] != self.classes):
            raise RecipeError(
                f"{self._name}: expected logits of pixels {known}, found an output of {tuple(logits.shape)}"
            )
        if logits.shape[2:] == image.shape[2:]:
            return logits
        return F.interpolate(logits, image.shape[2:], mode="bilinear", align_corners=False)

    def _to_theirs(self, image: Tensor) -> Tensor:
        size = self.image_size
        if size is not None and image.shape[-2:] != (size, size):
            image = F.interpolate(image, (size, size), mode="bilinear", antialias=True)
        if self._standardize.active:
            channels = len(self._standardize.scale)
            if image.shape[1] != channels:
                raise RecipeError(
                    f"{self._name}: expected images of {channels} channels, as mean and std have, found"
                    f" {image.shape[1]}; data of images has `channels`"
                )
            return self._standardize(image)  # type: ignore[no-any-return]
        low, high = self.image_range
        return image if (low, high) == (-1, 1) else (image + 1) * ((high - low) / 2) + low


@final
class Wrapped(External):
    """A network that is already built, e.g. one that a script hands to `limbeck.distill`.

    Args:
        module: Any `nn.Module`.
        role: What it is: "generator", "discriminator", "classifier", "segmenter" or "restorer".
        image_range: (low, high) of the images that the module makes or takes.
        latent_shape: Shape in which a generator takes one latent, e.g. (128, 1, 1); null leaves it as it is.
        image_shape: (C, H, W) of one image of the data; a flat output of a generator is viewed so. Null for any.
        classes: Number of classes; a generator or discriminator with classes is called with (input, label).
        features: Path of the module whose output `features` returns; only for classifiers.
        mean: What the module wants subtracted from images in [0, 1], one number a channel, instead of an image_range.
        std: What it then wants them divided by.
        image_size: Height and width at which the module sees images; null leaves them at the size of the data.
        channels: Channels of what a restorer makes.
        inputs: Channels of what a restorer takes, in `image_range` with the mask of holes; null for `channels`.
        scale: How many times higher and wider a restorer's output is.

    Raises:
        RecipeError: An argument cannot be used.
    """

    def __init__(
        self,
        module: nn.Module,
        role: Role = "generator",
        image_range: tuple[float, float] = (-1.0, 1.0),
        *,
        latent_shape: Sequence[int] | None = None,
        image_shape: Sequence[int] | None = None,
        classes: int = 0,
        features: str | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        image_size: int | None = None,
        channels: int = 3,
        inputs: int | None = None,
        scale: int = 1,
    ) -> None:
        super().__init__(
            module,
            role,
            image_range=image_range,
            latent_shape=latent_shape,
            image_shape=image_shape,
            classes=classes,
            features=features,
            mean=mean,
            std=std,
            image_size=image_size,
            channels=channels,
            inputs=inputs,
            scale=scale,
        )


@final
class Import(External):
    """Builds somebody's own network from its import path, or a library's by its name, and loads its weights.

    Args:
        target: "package.module.Class", or "path/to/file.py:Class"; a function that returns a module will do. Or a model
            of an installed library: "timm:NAME", "torchvision:NAME", "transformers:NAME_OR_FOLDER", or of segmenters
            "transformers-segmentation:NAME_OR_FOLDER".
        arguments: Keyword arguments of the class, or of the library's function that makes the model.
        weights: File with its weights (see `weights.load_weights`); null keeps the initial ones.
        image_range: (low, high) of the images that the network makes or takes.
        role: What it is: "generator", "discriminator", "classifier", "segmenter" or "restorer".
        latent_shape: Shape in which a generator takes one latent, e.g. [128, 1, 1]; null leaves it as it is.
        image_shape: (C, H, W) of one image of the data; a flat output of a generator is viewed so. Null for any.
        classes: Number of classes; a generator or discriminator with classes is called with (input, label).
        features: Path of the module whose output `features` returns; only for classifiers.
        mean: What the module wants subtracted from images in [0, 1], one number a channel, instead of an image_range.
        std: What it then wants them divided by.
        image_size: Height and width at which the module sees images; null leaves them at the size of the data.
        channels: Channels of what a restorer makes.
        inputs: Channels of what a restorer takes, in `image_range` with the mask of holes; null for `channels`.
        scale: How many times higher and wider a restorer's output is.

    Raises:
        RecipeError: The target cannot be found or built, or an argument cannot be used.
        MissingExtra: The library is not installed.
        WeightsError: The weights cannot be loaded.
    """

    def __init__(
        self,
        target: str,
        arguments: dict[str, Any] | None = None,
        weights: str | None = None,
        image_range: tuple[float, float] = (-1.0, 1.0),
        *,
        role: Role = "generator",
        latent_shape: Sequence[int] | None = None,
        image_shape: Sequence[int] | None = None,
        classes: int = 0,
        features: str | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        image_size: int | None = None,
        channels: int = 3,
        inputs: int | None = None,
        scale: int = 1,
    ) -> None:
        module = build(target, arguments or {})
        super().__init__(
            module,
            role,
            image_range=image_range,
            latent_shape=latent_shape,
            image_shape=image_shape,
            classes=classes,
            features=features,
            mean=mean,
            std=std,
            image_size=image_size,
            channels=channels,
            inputs=inputs,
            scale=scale,
        )
        if weights is not None:
            load_weights(module, weights)
