"""Somebody else's network, given a role's calling convention without editing or subclassing it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, Literal, final, get_args

from torch import Tensor, nn

from limbeck.errors import RecipeError
from limbeck.networks.building import check_sizes
from limbeck.networks.imports import build
from limbeck.networks.roles import Wrapper, unwrap
from limbeck.networks.tap import Tap
from limbeck.networks.weights import load_weights

__all__ = ["External", "Import", "Role", "Wrapped", "unwrap"]

Role = Literal["generator", "discriminator", "classifier"]


class External(Wrapper):
    """Calls `module` as its role is called, converting values and shapes on the way in and out.

    Images outside are float (N, C, H, W) in [-1, 1]; the module sees or makes them in `image_range`.

    Attributes:
        module: The owner's network: tap paths and saved weights refer to it (see `roles.unwrap`).
        role: What it is.
        classes: Number of classes; a generator or discriminator of 0 classes is never given labels.
    """

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
    ) -> None:
        super().__init__()
        if role not in get_args(Role):
            raise RecipeError(f"role: expected one of {', '.join(get_args(Role))}, found {role!r}")
        if len(image_range) != 2 or not image_range[0] < image_range[1]:
            raise RecipeError(f"image_range: expected [low, high] with low < high, found {list(image_range)}")
        check_sizes(self, at_least=0, classes=classes)
        if features is not None:
            Tap(module, [features])  # raises when there is no such module
        self.module = module
        self.role: Role = role
        self.image_range = (float(image_range[0]), float(image_range[1]))
        self.latent_shape = None if latent_shape is None else tuple(latent_shape)
        self.image_shape = None if image_shape is None else tuple(image_shape)
        self.classes = classes
        self._features = features

    def forward(self, value: Tensor, label: Tensor | None = None) -> Tensor:
        """Return images from latents (generator), scores (N,) or logits (N, K) from images, as in `roles`.

        Raises:
            RecipeError: The module returns something else than its role promises.
        """
        labels = () if label is None or not self.classes or self.role == "classifier" else (label,)
        if self.role == "generator":
            return self._to_ours(self._call(self._reshape(value, "latent_shape"), *labels))
        output = self._call(self._to_theirs(value), *labels)
        if self.role == "classifier":
            return output
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

    def _to_theirs(self, image: Tensor) -> Tensor:
        low, high = self.image_range
        return image if (low, high) == (-1, 1) else (image + 1) * ((high - low) / 2) + low


@final
class Wrapped(External):
    """A network that is already built, e.g. one that a script hands to `limbeck.distill`.

    Args:
        module: Any `nn.Module`.
        role: What it is: "generator", "discriminator" or "classifier".
        image_range: (low, high) of the images that the module makes or takes.
        latent_shape: Shape in which a generator takes one latent, e.g. (128, 1, 1); null leaves it as it is.
        image_shape: (C, H, W) of one image of a generator whose output is flat; null leaves it as it is.
        classes: Number of classes; a generator or discriminator with classes is called with (input, label).
        features: Path of the module whose output `features` returns; only for classifiers.

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
    ) -> None:
        super().__init__(
            module,
            role,
            image_range=image_range,
            latent_shape=latent_shape,
            image_shape=image_shape,
            classes=classes,
            features=features,
        )


@final
class Import(External):
    """Builds somebody's own network from its import path, and loads its weights.

    Args:
        target: "package.module.Class", or "path/to/file.py:Class"; a function that returns a module will do.
        arguments: Keyword arguments of the class.
        weights: File with its weights (see `weights.load_weights`); null keeps the initial ones.
        image_range: (low, high) of the images that the network makes or takes.
        role: What it is: "generator", "discriminator" or "classifier".
        latent_shape: Shape in which a generator takes one latent, e.g. [128, 1, 1]; null leaves it as it is.
        image_shape: (C, H, W) of one image of a generator whose output is flat; null leaves it as it is.
        classes: Number of classes; a generator or discriminator with classes is called with (input, label).
        features: Path of the module whose output `features` returns; only for classifiers.

    Raises:
        RecipeError: The target cannot be found or built, or an argument cannot be used.
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
        )
        if weights is not None:
            load_weights(module, weights)
