"""Training of a network that paints in given styles, alone or from a teacher (Johnson et al. 2016)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import ClassVar, final

import torch
from torch import Tensor, nn

from limbeck.data.pictures import picture
from limbeck.errors import require
from limbeck.losses.base import FeatureLoss
from limbeck.losses.features import l1
from limbeck.losses.style import content_distance, gram, statistics_kl, style_distance, total_variation
from limbeck.methods.legacy import Legacy
from limbeck.networks.handling.adapters import feature_shapes
from limbeck.networks.handling.frozen import Frozen
from limbeck.networks.handling.tap import Tap, features_at
from limbeck.types import Batch, Draw, Loss, Update

SIDE = 64  # height and width of the image that networks are shown to learn the shapes of their features
STYLE = "stylize.style"


@final
class Stylize(Legacy):
    """One player: the student keeps what an image shows and paints as the style is painted, or as its teacher paints.

    Without a teacher this is Johnson's training, and so its own control arm. x is an image, S and T are student and
    teacher, φ_l the features of `feature_network` at a layer, G their Gram matrix, s the style.

    * `student.content`: Σ_l ‖φ_l(S(x)) - φ_l(x)‖² / ‖φ_l(x)‖² over `content_paths`.
    * `student.style`: Σ_l ‖G_l(S(x)) - G_l(s)‖² / ‖G_l(s)‖² over `style_paths`. Divided like that, both are numbers
      about 1, whatever the network (Johnson et al. 2016, eq. 2 and 4, divide by sizes).
    * `student.total_variation`: how much neighbouring pixels of S(x) differ.
    * `student.output`: L1 distance of S(x) from T(x).
    * `student.perceptual`: Σ_l ‖φ_l(S(x)) - φ_l(T(x))‖² / ‖φ_l(T(x))‖² over both kinds of paths: how differently the
      two paintings are seen.
    * `student.gram`: as `style`, with T(x) in place of the style.
    * `student.statistics`: Σ_l KL of the channels' statistics, T(x)'s as soft label, S(x)'s as answer.
    * `student.features`: how features follow the teacher's: with `Hint` this is the linear embedding of collaborative
      distillation (Wang et al. 2020, arXiv:2003.08436, eq. 5).

    Args:
        student: A stylizer that knows as many styles as there are pictures, or takes a style as an image.
        teacher: Another one.
        styles: Pictures, each a style: files here, in the data root, or of scikit-image.
        style_size: Height and width in pixels at which the styles are looked at.
        feature_network: A trained network that sees images, such as `Vgg16`.
        content_paths: Module paths of it.
        style_paths: Module paths of it.
        features: How features follow the teacher's.

    Raises:
        RecipeError: Arguments that exclude each other, or networks that do not fit.
        DataError: A picture cannot be read.
    """

    pictures: Tensor
    weights: ClassVar[Mapping[str, float]] = {
        "student.content": 1.0,
        "student.style": 1.0,
        "student.total_variation": 0.0,
        "student.output": 1.0,
        "student.perceptual": 0.0,
        "student.gram": 0.0,
        "student.statistics": 0.0,
        "student.features": 1.0,
    }

    def __init__(
        self,
        student: nn.Module,
        teacher: nn.Module | None = None,
        *,
        styles: Sequence[str],
        style_size: int = 256,
        feature_network: nn.Module,
        content_paths: Sequence[str] = ("relu3_3",),
        style_paths: Sequence[str] = ("relu1_2", "relu2_2", "relu3_3"),
        features: FeatureLoss | None = None,
    ) -> None:
        super().__init__()
        require("stylize.styles", len(styles) > 0, "at least one picture", list(styles))
        require("stylize.teacher", teacher is not student or teacher is None, "another network (a copy)", "the student")
        for network in (student, teacher):
            known = getattr(network, "styles", len(styles)) or len(styles)
            require(
                "stylize.styles",
                known == len(styles),
                f"{known} pictures, as many as the network's styles",
                len(styles),
            )
        self.student, self.styles = student, list(styles)
        self.teacher = None if teacher is None else Frozen(teacher)
        self.feature_network = Frozen(feature_network)
        self.content_paths, self.style_paths = list(content_paths), list(style_paths)
        Tap(feature_network, [*content_paths, *style_paths])  # names a wrong path before anything is trained
        self.features = None if teacher is None else features
        if self.features is not None and teacher is not None:
            pairs = self.features.paths
            self.features.fit_to(_shapes(student, list(pairs)), _shapes(teacher, list(pairs.values())))
        with torch.no_grad():
            pictures = torch.cat([picture(path, style_size) for path in styles])
            found = features_at(self.feature_network.network, self.style_paths, pictures)
        self.register_buffer("pictures", pictures, persistent=False)
        for number, feature in enumerate(found):
            self.register_buffer(f"gram_{number}", gram(feature), persistent=False)

    def draws(self) -> Mapping[str, Draw]:
        """Return which style each image is painted in, and what the feature loss draws."""
        drawn = {} if self.features is None else dict(self.features.draws())
        return drawn | {STYLE: Draw((), "integers", high=len(self.styles))}

    def players(self) -> Mapping[str, nn.Module]:
        """Return the student, together with what its feature loss owns."""
        owns = self.features is not None and any(True for _ in self.features.parameters())
        return {"student": nn.ModuleList([self.student, self.features]) if owns else self.student}  # type: ignore[list-item]

    def updates(self, batch: Batch, step: int) -> Iterator[Update]:
        """Yield the student's update."""
        require("stylize.data", batch.image is not None, "batches with images", None)
        lesson = _Lesson(self, batch)
        losses: dict[str, Loss] = {
            "content": lesson.content,
            "style": lesson.style,
            "total_variation": lambda: total_variation(lesson.mine[0]).mean(),
        }
        if self.teacher is not None:
            losses |= {
                "output": lambda: l1(lesson.mine[0], lesson.taught[0]).mean(),
                "perceptual": lesson.perceptual,
                "gram": lesson.gram,
                "statistics": lesson.statistics,
            }
        if self.features is not None:
            losses["features"] = lesson.followed
        yield Update("student", losses)

    def grams(self) -> list[Tensor]:
        """Return the Gram matrices of all styles (S, C, C) at each layer."""
        return [self.get_buffer(f"gram_{number}") for number in range(len(self.style_paths))]


class _Lesson:
    """What the losses of one step share, each computed when it is first asked for."""

    def __init__(self, method: Stylize, batch: Batch) -> None:
        assert batch.image is not None
        self.method, self.batch, self.image = method, batch, batch.image
        self.number = batch.drawn[STYLE]
        self.paths = {} if method.features is None else method.features.paths
        self.seen_paths = list(dict.fromkeys([*method.content_paths, *method.style_paths]))

    @cached_property
    def mine(self) -> tuple[Tensor, dict[str, Tensor]]:
        """S(x), and the student's features by path."""
        return self._run(self.method.student, list(self.paths))

    @cached_property
    def taught(self) -> tuple[Tensor, dict[str, Tensor]]:
        """T(x), and the teacher's features by path."""
        assert self.method.teacher is not None
        with torch.no_grad():
            return self._run(self.method.teacher.network, list(self.paths.values()))

    @cached_property
    def painted(self) -> dict[str, Tensor]:
        """φ(S(x)) by path."""
        return self._seen(self.mine[0], self.seen_paths)

    @cached_property
    def goal(self) -> dict[str, Tensor]:
        """φ(T(x)) by path."""
        with torch.no_grad():
            return self._seen(self.taught[0], self.seen_paths)

    def content(self) -> Tensor:
        """Return how far what is shown is from the image."""
        with torch.no_grad():
            shown = self._seen(self.image, self.method.content_paths)
        return content_distance([self.painted[path] for path in shown], list(shown.values())).mean()

    def style(self) -> Tensor:
        """Return how far the Gram matrices are from those of each image's style."""
        grams = [found[self.number] for found in self.method.grams()]
        return self._grams(grams)

    def perceptual(self) -> Tensor:
        """Return how far what is seen of the painting is from what is seen of the teacher's."""
        return content_distance([self.painted[path] for path in self.goal], list(self.goal.values())).mean()

    def gram(self) -> Tensor:
        """Return how far the Gram matrices are from those of the teacher's paintings."""
        return self._grams([gram(self.goal[path]) for path in self.method.style_paths])

    def statistics(self) -> Tensor:
        """Return the divergence of the channels' statistics from the teacher's."""
        paths = self.method.style_paths
        return torch.stack([statistics_kl(self.goal[path], self.painted[path]).mean() for path in paths]).sum()

    def followed(self) -> Tensor:
        """Return the value of the feature loss."""
        assert self.method.features is not None
        mine = [self.mine[1][path] for path in self.paths]
        goal = [self.taught[1][path] for path in self.paths.values()]
        value: Tensor = self.method.features(mine, goal, self.batch.label, self.batch.index, self.batch.drawn)
        return value

    def _grams(self, goals: list[Tensor]) -> Tensor:
        return style_distance([self.painted[path] for path in self.method.style_paths], goals).mean()

    def _seen(self, image: Tensor, paths: Sequence[str]) -> dict[str, Tensor]:
        return dict(zip(paths, features_at(self.method.feature_network.network, paths, image), strict=True))

    def _run(self, network: nn.Module, paths: list[str]) -> tuple[Tensor, dict[str, Tensor]]:
        with Tap(network, paths) as tap:
            image = network(self.image, *self._style_of(network))
        return image, {path: tap[path] for path in paths}

    def _style_of(self, network: nn.Module) -> list[Tensor]:
        """Return what says in which style each image is painted, as the network asks for it."""
        if getattr(network, "styles", None) == 0:
            return [self.method.pictures[self.number]]
        return [self.number] if len(self.method.styles) > 1 else []


def _shapes(network: nn.Module, paths: list[str]) -> list[tuple[int, ...]]:
    weight = next(network.parameters(), torch.empty(0))
    image, styles = weight.new_zeros(2, 3, SIDE, SIDE), getattr(network, "styles", 1)
    if styles < 2:
        return feature_shapes(network, paths, image, *([image] if styles == 0 else []))
    first, last = (torch.full((2,), number, device=weight.device) for number in (0, styles - 1))
    feature_shapes(network, paths, image, last)  # refuses a layer that not every style passes
    return feature_shapes(network, paths, image, first)
