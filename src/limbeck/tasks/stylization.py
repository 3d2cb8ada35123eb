"""Painting images in the manner of others."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from limbeck.data.base import Data, Split
from limbeck.data.pictures import picture
from limbeck.errors import RecipeError, require
from limbeck.losses.style import content_distance, gram, style_distance
from limbeck.metrics.base import FeatureExtractor
from limbeck.metrics.image import WINDOW, bounded_psnr, ssim
from limbeck.networks.given.external import Wrapped
from limbeck.networks.given.weights import tensor_hash, weights_hash
from limbeck.networks.handling.tap import Tap, features_at
from limbeck.networks.roles import Stylizer, unwrap
from limbeck.tasks.base import Picture, Task
from limbeck.tasks.real_images import images_of, of_size, some
from limbeck.terms.base import Term
from limbeck.terms.painting import Content, Style

CHUNK = 8  # images at a time while evaluating
SHOWN = 6  # images in the report
SHIFT = 1  # pixels by which an image is moved: no stride of a network divides it, behind which flicker would hide
BORDER = 4  # pixels that are left out, as borders are painted otherwise by right


class Stylization(Task):
    """Images in, paintings out, in each of the given styles.

    * `content`: Σ_l ‖φ_l(y) - φ_l(x)‖² / ‖φ_l(x)‖² of painting y and image x, over `content_paths`.
    * `style`: Σ_l ‖G_l(y) - G_l(s)‖² / ‖G_l(s)‖², G the Gram matrix and s the style, over `style_paths`.
    * `total`: the sum of the two, the second times `style_weight`.
    * `stability`: PSNR in dB between the painting of an image moved by a pixel both ways and the moved painting, where
      both are; at most 100 an image.
    * `psnr_to_teacher`, `ssim_to_teacher`: to the teacher's paintings; the first at most 100 dB an image.

    A classical stylizer, which takes the style as an image, gets the pictures themselves.

    Args:
        styles: Pictures, each a style: files here, in the data root, or of scikit-image.
        feature_network: A trained network that sees images, such as `Vgg16`.
        content_paths: Module paths of it.
        style_paths: Module paths of it.
        style_weight: Weight of the style in `total`.
        style_size: Height and width in pixels at which the styles are looked at.
        samples: The most images of a split that are painted, each in every style.
        cost_size: Height and width in pixels of the images whose cost is measured, as 512 for photographs; null for the
            size of the training images. Nothing else is measured on them.

    Raises:
        RecipeError: An argument is out of its range.
        DataError: A picture cannot be read.
    """

    method: ClassVar[str | None] = "Stylize"
    directions: Mapping[str, str] = {
        "content": "lower",
        "style": "lower",
        "total": "lower",
        "stability": "higher",
        "psnr_to_teacher": "higher",
        "ssim_to_teacher": "higher",
    }
    main_metric = "total"

    def __init__(
        self,
        styles: Sequence[str],
        feature_network: nn.Module,
        content_paths: Sequence[str] = ("relu3_3",),
        style_paths: Sequence[str] = ("relu1_2", "relu2_2", "relu3_3"),
        *,
        style_weight: float = 1.0,
        style_size: int = 256,
        samples: int = 100,
        cost_size: int | None = None,
    ) -> None:
        for name, value, least in (("styles", len(styles), 1), ("style_size", style_size, 16), ("samples", samples, 1)):
            if value < least:
                raise RecipeError(f"task.{name}: expected at least {least}, found {value}")
        if not style_weight > 0:
            raise RecipeError(f"task.style_weight: expected a number above 0, found {style_weight}")
        fits = cost_size is None or cost_size >= 16
        require("task.cost_size", fits, "a whole number of at least 16, or null", cost_size)
        Tap(feature_network, [*content_paths, *style_paths])
        self.styles, self.content_paths, self.style_paths = list(styles), list(content_paths), list(style_paths)
        self.style_weight, self.style_size, self.samples = style_weight, style_size, samples
        self.features = weights_hash(feature_network)[:12]  # evaluations are remembered by it
        self._cost_size = cost_size
        self._network = feature_network.eval()
        self._pictures = torch.cat([picture(path, style_size) for path in styles])
        self.pictures = tensor_hash(self._pictures)[:12]  # what lies under these names
        with torch.no_grad():
            self._grams = [gram(f) for f in features_at(self._network, self.style_paths, self._pictures)]

    def training_identity(self) -> Mapping[str, Any]:
        """Return what the pictures hold: a method knows them by their names alone."""
        return {"pictures": self.pictures}

    def ready(self, network: nn.Module) -> nn.Module:
        """Return a stylizer that takes the style as an image together with the pictures of the styles."""
        known = getattr(unwrap(network), "styles", None)
        return Styled(network, self._pictures) if known == 0 else network

    def terms(self) -> Mapping[str, Term]:
        """Return content and style as this task measures them."""
        return {"student.content": Content(self.content_paths), "student.style": Style(self.style_paths)}

    def method_arguments(self, data: Data) -> Mapping[str, Any]:
        """Return the styles and the network that sees them, and the size of the images."""
        pictures = {"styles": self.styles, "style_size": self.style_size}
        return {**pictures, "feature_network": self._network, "size": data.image_shape[1:]}

    def called(self, module: nn.Module, data: Data, **view: Any) -> nn.Module:
        """Return a module, images to paintings, as a stylizer: of several styles it is told which by its number."""
        return Wrapped(module, "stylizer", **{"styles": len(self.styles), **view})

    def example(self, data: Data, count: int) -> tuple[Tensor, ...]:
        """Return images (count, 3, H, W) of `cost_size`, and where there are several styles their numbers (count,)."""
        train = data.split("train")
        image = of_size(images_of(train.read(some(count, len(train)))), self._cost_size)
        return (image, torch.arange(count) % len(self.styles)) if len(self.styles) > 1 else (image,)

    @torch.no_grad()
    def evaluate(
        self,
        network: nn.Module,
        data: Data,
        *,
        split: Split,
        seed: int,
        extractor: FeatureExtractor | None = None,
        teacher: nn.Module | None = None,
        samples: int | None = None,
    ) -> dict[str, float]:
        """Return the metrics named above; `extractor` is of no use here."""
        parts = []
        images = torch.split(self._images(data, split, samples or self.samples), CHUNK)
        for number in range(len(self.styles)):
            parts += [self._measured(network, teacher, image, number) for image in images]
        return {name: float(torch.cat([part[name] for part in parts]).mean()) for name in parts[0]}

    @torch.no_grad()
    def preview(self, network: nn.Module, data: Data, seed: int) -> list[Picture]:
        """Return paintings, a row for each style; of a single one two rows, for larger pictures."""
        image = self._images(data, data.reference_split, SHOWN)
        painted = [self._painted(network, image, number) for number in range(len(self.styles))]
        return [self._grid(torch.cat(painted))]

    def references(self, data: Data, seed: int) -> Mapping[str, list[Picture]]:
        """Return the images, and the styles as the task sees them."""
        image = self._images(data, data.reference_split, SHOWN).repeat(len(self.styles), 1, 1, 1)
        grid = self._grid(image)
        return {"images": [grid], "styles": [Picture(grid.title, self._pictures, 1)]}

    def _grid(self, images: Tensor) -> Picture:
        """Return images of every style, one after the other, as a picture with the title that they all share."""
        if len(self.styles) == 1:
            return Picture("paintings", images, math.ceil(len(images) / 2))
        return Picture("paintings, a row for each style", images, len(images) // len(self.styles))

    def _images(self, data: Data, split: Split, count: int) -> Tensor:
        images = data.split(split)
        return images_of(images.read(some(min(count, len(images)), len(images))))

    def _measured(self, network: nn.Module, teacher: nn.Module | None, image: Tensor, number: int) -> dict[str, Tensor]:
        """Return every metric of some images painted in one style, (N,) each."""
        painted = self._painted(network, image, number)
        seen = [features_at(self._network, self.content_paths, i) for i in (painted, image)]
        grams = [grams[number : number + 1] for grams in self._grams]
        content = content_distance(*seen)
        style = style_distance(features_at(self._network, self.style_paths, painted), grams)
        moved = self._painted(network, image[..., SHIFT:, SHIFT:], number)
        inner = slice(BORDER, -BORDER)
        stable = bounded_psnr(moved[..., inner, inner], painted[..., SHIFT:, SHIFT:][..., inner, inner])
        found = {"content": content, "style": style, "total": content + self.style_weight * style, "stability": stable}
        if teacher is not None:
            goal = self._painted(teacher, image, number)
            found["psnr_to_teacher"] = bounded_psnr(painted, goal)
            if min(goal.shape[2:]) >= WINDOW:
                found["ssim_to_teacher"] = ssim(painted, goal)
        return found

    def _painted(self, network: nn.Module, image: Tensor, number: int) -> Tensor:
        """Return images painted in a style, in [-1, 1], on the CPU."""
        device = next(chain(network.parameters(), network.buffers()), torch.empty(0)).device
        which = [torch.full((len(image),), number, device=device)] if len(self.styles) > 1 else []
        found: Tensor = self.ready(network)(image.to(device), *which)
        return found.float().cpu().clamp(-1, 1)


class Styled(Stylizer):
    """A stylizer that takes the style as an image, with the pictures of the styles that it is to be asked for.

    Args:
        network: The stylizer.
        pictures: (S, 3, h, w) in [-1, 1].
    """

    pictures: Tensor

    def __init__(self, network: nn.Module, pictures: Tensor) -> None:
        super().__init__()
        self.network, self.styles = network, len(pictures)
        self.register_buffer("pictures", pictures, persistent=False)

    def forward(self, image: Tensor, style: Tensor | None = None) -> Tensor:
        """Return stylized images (N, 3, H, W), in the first style where `style` (N,) does not say which."""
        number = torch.zeros(len(image), dtype=torch.int64, device=image.device) if style is None else style
        found: Tensor = self.network(image, self.pictures.to(image.device)[number])
        return found
