"""Somebody else's network, given a role's calling convention without editing or subclassing it."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar, final

from torch import Tensor, nn

from limbeck.networks.given.answers import Answer
from limbeck.networks.given.called_as.base import CalledAs, called_as
from limbeck.networks.given.imports import build
from limbeck.networks.given.weights import load_weights
from limbeck.networks.handling.precision import in_float32
from limbeck.networks.roles import Wrapper, unwrap

__all__ = ["External", "Import", "Wrapped", "unwrap"]


class External(Wrapper):
    """Calls `module` as its role is called (see `called_as`), and states what the role states of itself.

    Images outside are float (N, C, H, W) in [-1, 1].

    Attributes:
        module: The owner's network: tap paths and saved weights refer to it (see `roles.unwrap`).
        role: What it is.
        classes: Number of classes; a generator or discriminator of 0 classes is never given labels.
        image_shape: (C, H, W) of one image of the data, or None.
    """

    room: ClassVar[str] = "external networks"
    passes_on: ClassVar[tuple[type, ...]] = (CalledAs,)  # its keywords are those of the role's constructor

    classes: int
    image_shape: tuple[int, ...] | None

    @abstractmethod  # only what is below is built
    def __init__(self, module: nn.Module, way: CalledAs) -> None:
        super().__init__()
        way.check(module)
        self.module, self.role, self._way = module, way.role, way
        self._standardize = way.standardize  # here, too, so that its constants go where the network goes
        for name, value in way.states().items():
            setattr(self, name, value)

    def forward(self, value: Tensor, label: Tensor | None = None) -> Tensor:
        """Return images from latents or images, else scores (N,) or logits, as the role has it (see `networks.roles`).

        Raises:
            RecipeError: The module returns something else than its role promises.
        """
        return self._way(self.module, value.clone(), label)  # it may write into what it gets: `x.sub_(mean)`

    def check_answer(self, answer: Answer) -> None:
        """Refuse what `forward` made of a batch of the data, where that cannot be what the role promises.

        Raises:
            RecipeError: It cannot.
        """
        self._way.check_answer(self.module, answer)

    def features(self, image: Tensor) -> Tensor:
        """Return the features (N, D) of images (N, C, H, W): maps are averaged over rows and columns.

        Raises:
            RecipeError: It is no classifier, or it was not said which module's output the features are.
        """
        return self._way.features(self.module, image.clone())


@final
class Wrapped(External):
    """A network that is already built, e.g. one that a script hands to `limbeck.distill`.

    Args:
        module: Any `nn.Module`.
        role: What it is: "generator", "discriminator", "classifier", "segmenter", "restorer", or another role that has
            a class below `CalledAs`.
        image_range: (low, high) of the images that the module makes or takes.
        options: The further arguments of that class, such as `latent_shape` of a generator (see `called_as`).

    Raises:
        RecipeError: An argument cannot be used.
    """

    def __init__(
        self,
        module: nn.Module,
        role: str = "generator",
        image_range: tuple[float, float] = (-1.0, 1.0),
        **options: Any,
    ) -> None:
        super().__init__(module, called_as(role, image_range=image_range, **options))


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
        role: What it is: "generator", "discriminator", "classifier", "segmenter", "restorer", or another role that has
            a class below `CalledAs`.
        options: The further arguments of that class, such as `latent_shape` of a generator (see `called_as`).

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
        role: str = "generator",
        **options: Any,
    ) -> None:
        way = called_as(role, image_range=image_range, **options)  # before anything is built
        module = in_float32(build(target, arguments or {}))
        super().__init__(module, way)
        if weights is not None:
            load_weights(module, weights)
