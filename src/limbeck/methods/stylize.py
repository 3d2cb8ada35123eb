"""Training of a network that paints in given styles, alone or from a teacher (Johnson et al. 2016)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import ClassVar, final

import torch
from torch import Tensor, nn

from limbeck.data.pictures import picture
from limbeck.errors import RecipeError, require
from limbeck.losses.style import gram
from limbeck.methods.base import Default, Method, Terms
from limbeck.networks.handling.feature_shapes import feature_shapes
from limbeck.networks.handling.frozen import Frozen
from limbeck.networks.handling.tap import features_at
from limbeck.terms.base import blank
from limbeck.terms.output_distance import OutputDistance
from limbeck.terms.painting import ChannelStatistics, Content, Style, StylizerScene
from limbeck.terms.scene import Scene
from limbeck.terms.total_variation import TotalVariation
from limbeck.types import Batch, Draw, Update

STYLE = "stylize.style"
BOTH = ("relu3_3", "relu1_2", "relu2_2")  # the layers of VGG-16 that see content, and those that see style


@final
class Stylize(Method):
    """One player: the student keeps what an image shows and paints as the style is painted, or as its teacher paints.

    Without a teacher this is Johnson's training, and so its own control arm. By default:

    * `student.content`: what the painting shows is what the image shows (`Content`).
    * `student.style`: it is painted as the style is painted (`Style`).
    * `student.total_variation`: it is smooth (`TotalVariation`); off unless weighed.
    * `student.output`: its distance from the teacher's painting (`OutputDistance`).
    * `student.perceptual`: how differently the two paintings are seen (`Content`, to: teacher); off unless weighed.
    * `student.gram`: it is painted as the teacher's painting is painted (`Style`, to: teacher); off unless weighed.
    * `student.statistics`: the teacher's channel statistics as soft label (`ChannelStatistics`); off unless weighed.

    Further terms are at hand: any loss of features, with `Hint` the linear embedding of collaborative distillation
    (Wang et al. 2020, arXiv:2003.08436, eq. 5), `Spectral`, `Perceptual`, `Worst`.

    The layers at which `feature_network` sees content and style are the `paths` of those terms; by default those of
    VGG-16, so that another network needs terms with its own.

    Args:
        student: A stylizer that knows as many styles as there are pictures, or takes a style as an image.
        teacher: Another one.
        terms: Terms that replace the defaults or stand beside them, by "player.term"; null takes one away.
        styles: Pictures, each a style: files here, in the data root, or of scikit-image.
        style_size: Height and width in pixels at which the styles are looked at.
        feature_network: A trained network that sees images, such as `Vgg16`.
        size: Height and width of the images that networks are shown to learn the shapes of their features, or one
            number for both: those of the training images where a term draws something of that shape (`Mgd`, `Worst`).

    Raises:
        RecipeError: An argument is out of its range, networks do not fit, or a term cannot work with them.
        DataError: A picture cannot be read.
    """

    pictures: Tensor
    defaults: ClassVar[Mapping[str, Default]] = {
        "student.content": Default(Content),
        "student.style": Default(Style),
        "student.total_variation": Default(TotalVariation, 0.0),
        "student.output": Default(OutputDistance),
        "student.perceptual": Default(partial(Content, BOTH, to="teacher"), 0.0),
        "student.gram": Default(partial(Style, to="teacher"), 0.0),
        "student.statistics": Default(ChannelStatistics, 0.0),
    }
    scene: ClassVar[type[Scene]] = StylizerScene
    moved_arguments: ClassVar[Mapping[str, str]] = {
        "content_paths": "student.content: {class_path: Content, init_args: {paths: ...}}, student.perceptual:"
        " {class_path: Content, init_args: {paths: ..., to: teacher}}",
        "style_paths": "student.style: {class_path: Style, init_args: {paths: ...}}, student.gram: {class_path: Style,"
        " init_args: {paths: ..., to: teacher}}, student.statistics: {class_path: ChannelStatistics, init_args: {paths:"
        " ...}}",
        "features": "student.features: ...",
    }

    def __init__(
        self,
        student: nn.Module,
        teacher: nn.Module | None = None,
        *,
        terms: Terms | None = None,
        styles: Sequence[str],
        style_size: int = 256,
        feature_network: nn.Module,
        size: int | tuple[int, int] = 64,
    ) -> None:
        super().__init__()
        require("styles", len(styles) > 0, "at least one picture", list(styles))
        for network in (student, teacher):
            known = getattr(network, "styles", len(styles)) or len(styles)
            fitting = f"{known} pictures, as many as the network's styles"
            require("styles", known == len(styles), fitting, len(styles))
        self.size = (size, size) if isinstance(size, int) else size
        require("size", min(self.size) >= 1, "pixels of at least 1", size)
        self.feature_network = Frozen(feature_network)
        self.register_buffer("pictures", torch.cat([picture(path, style_size) for path in styles]), persistent=False)
        self.cast({"student": student}, {"teacher": teacher}, terms)
        for name in ("student.content", "student.style"):  # without them, unasked, it would be no painter
            if name in self.left_out:
                raise RecipeError(f"terms.{name}: {self.left_out[name]}")
        with torch.no_grad():
            found = features_at(feature_network, self.taps("feature_network"), self.pictures)
        for number, feature in enumerate(found):
            self.register_buffer(f"gram_{number}", gram(feature), persistent=False)

    def draws(self) -> Mapping[str, Draw]:
        """Return what the terms draw, and which style each image is painted in."""
        return {**super().draws(), STYLE: Draw((), "integers", high=len(self.pictures))}

    def updates(self, batch: Batch, step: int) -> Iterator[Update]:
        """Yield the student's update."""
        yield self.update_of("student", self.enter(batch, step))

    def style_gram(self, batch: Batch, path: str) -> Tensor:
        """Return the Gram matrix (N, C, C) of each image's style at a path of the feature network."""
        number = self.taps("feature_network").index(path)
        return self.get_buffer(f"gram_{number}")[batch.drawn[STYLE]]

    def call(self, network: nn.Module, batch: Batch) -> Tensor:
        """Return what a painter makes of the images, each in its style, which it is told as it asks for it."""
        number, style = batch.drawn[STYLE], []
        if getattr(network, "styles", None) == 0:
            style = [self.pictures[number]]
        elif len(self.pictures) > 1:
            style = [number]
        painting: Tensor = network(batch.need("image", "Stylize"), *style)
        return painting

    def shapes(self, who: str, paths: Sequence[str]) -> list[tuple[int, ...]]:
        """Return the shape of one sample's features at each path, which images of every style have to pass."""
        network = self.network(who)
        first = self.example(network)
        last = first.replace(drawn={STYLE: first.drawn[STYLE] + len(self.pictures) - 1})
        feature_shapes(network, paths, call=lambda: self.call(network, last))
        return super().shapes(who, paths)

    def example(self, network: nn.Module) -> Batch:
        """Return two images to be painted in the first style."""
        image = blank((3, *self.size), network)
        return Batch(image=image, drawn={STYLE: image.new_zeros(2, dtype=torch.int64)})
