"""What a picture shows and how it is painted, as a network that sees images sees it (Johnson et al. 2016)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal, Protocol, final

import torch
from torch import Tensor

from limbeck.errors import require
from limbeck.losses.style import content_distance, gram, statistics_kl, style_distance
from limbeck.networks.handling.tap import Tap, features_at
from limbeck.terms.base import Answers, Cast, SampleTerm, Term
from limbeck.terms.scene import Scene, Stage
from limbeck.types import Batch

Picture = Literal["student", "teacher", "image"]


class Painting(Stage, Protocol):
    """What a scene of painters asks of its method, beside its `feature_network`."""

    def style_gram(self, batch: Batch, path: str) -> Tensor:
        """Return the Gram matrix (N, C, C) of each image's style at a path of the feature network."""
        ...


class StylizerScene(Scene):
    """A step in which one network sees every picture once: φ_l are its features, G_l their Gram matrices."""

    stage: Painting

    def seen(self, whose: Picture, paths: Sequence[str]) -> list[Tensor]:
        """Return φ_l of the student's or the teacher's painting, or of the image, as a term declared in `paths`.

        Only what is seen of the student's painting carries a gradient.
        """
        found = self.once(("seen", whose), lambda: self._look(whose))
        return [found[path] for path in paths]

    def style_grams(self, paths: Sequence[str]) -> list[Tensor]:
        """Return G_l of each image's own style (N, C, C)."""
        return [self.stage.style_gram(self.batch, path) for path in paths]

    def _look(self, whose: Picture) -> dict[str, Tensor]:
        image = self.batch.need("image", "a stylizer") if whose == "image" else self.output(whose)
        paths = self.stage.taps("feature_network")
        with torch.set_grad_enabled(torch.is_grad_enabled() and (whose == "student" or self.moved)):
            found = features_at(self.stage.network("feature_network"), paths, image)
        return dict(zip(paths, found, strict=True))


class _Seen(Term):
    """A term of what the feature network sees at some paths."""

    about: ClassVar[Sequence[Answers]] = ("images",)
    scene: ClassVar[type[Scene]] = StylizerScene

    def __init__(self, paths: Sequence[str], *, to_teacher: bool) -> None:
        super().__init__()
        key = f"{type(self).__name__}.paths"
        require(key, len(paths) > 0, "module paths of the feature network", list(paths))
        self.at = list(paths)
        self.wants = ("feature_network", "teacher") if to_teacher else ("feature_network",)

    def paths(self) -> Mapping[str, Sequence[str]]:
        """Return the paths of the feature network."""
        return {"feature_network": self.at}

    def join(self, cast: Cast) -> None:
        """Name a wrong path before anything is trained."""
        Tap(cast.network("feature_network"), self.at)


@final
class Content(_Seen, SampleTerm):
    """Σ_l ‖φ_l(S(x)) - φ_l(y)‖² / ‖φ_l(y)‖²: how far what the student's painting shows is from what y shows.

    Divided like that it is a number about 1, whatever the network; Johnson et al. 2016 (arXiv:1603.08155), eq. 2,
    divide by sizes.

    Args:
        paths: Module paths of the feature network; the default is that of VGG-16.
        to: What y is: the "image", or the "teacher"'s painting of it.

    Raises:
        RecipeError: Neither, or no path.
    """

    def __init__(self, paths: Sequence[str] = ("relu3_3",), to: Literal["image", "teacher"] = "image") -> None:
        require("Content.to", to in ("image", "teacher"), "image or teacher", to)
        super().__init__(paths, to_teacher=to == "teacher")
        self.goal: Picture = to

    def each(self, scene: Scene) -> Tensor:
        """Return the distance of each image (N,)."""
        assert isinstance(scene, StylizerScene)
        return content_distance(scene.seen("student", self.at), scene.seen(self.goal, self.at))


@final
class Style(_Seen, SampleTerm):
    """Σ_l ‖G_l(S(x)) - G_l(y)‖² / ‖G_l(y)‖²: how far the manner of the student's painting is from that of y.

    Divided like that it is a number about 1, whatever the network; Johnson et al. 2016, eq. 4, divide by sizes.

    Args:
        paths: Module paths of the feature network; the default are those of VGG-16.
        to: What y is: the picture of the image's "style", or the "teacher"'s painting.

    Raises:
        RecipeError: Neither, or no path.
    """

    def __init__(
        self,
        paths: Sequence[str] = ("relu1_2", "relu2_2", "relu3_3"),
        to: Literal["style", "teacher"] = "style",
    ) -> None:
        require("Style.to", to in ("style", "teacher"), "style or teacher", to)
        super().__init__(paths, to_teacher=to == "teacher")
        self.to_teacher = to == "teacher"

    def each(self, scene: Scene) -> Tensor:
        """Return the distance of each image (N,)."""
        assert isinstance(scene, StylizerScene)
        if self.to_teacher:
            goals = [gram(seen) for seen in scene.seen("teacher", self.at)]
        else:
            goals = scene.style_grams(self.at)
        return style_distance(scene.seen("student", self.at), goals)


@final
class ChannelStatistics(_Seen):
    """Σ_l KL of the mean and spread of every channel: those of the teacher's painting are the student's soft label.

    See `losses.style.statistics_kl`.

    Args:
        paths: Module paths of the feature network; the default are those of VGG-16.

    Raises:
        RecipeError: There is no path.
    """

    def __init__(self, paths: Sequence[str] = ("relu1_2", "relu2_2", "relu3_3")) -> None:
        super().__init__(paths, to_teacher=True)

    def forward(self, scene: Scene) -> Tensor:
        """Return the mean divergence over the images."""
        assert isinstance(scene, StylizerScene)
        pairs = zip(scene.seen("teacher", self.at), scene.seen("student", self.at), strict=True)
        return torch.stack([statistics_kl(goal, mine).mean() for goal, mine in pairs]).sum()
