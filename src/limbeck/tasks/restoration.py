"""Bringing back what images have lost: super-resolution, inpainting, denoising, deblurring, artefact removal."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limbeck.data.base import Data, Degradation, Split, to_levels
from limbeck.data.photo_set import PhotoSet
from limbeck.errors import RecipeError, require
from limbeck.ground.randomness import generator
from limbeck.metrics.base import FeatureExtractor
from limbeck.metrics.image import luminance
from limbeck.networks.given.external import Wrapped
from limbeck.networks.handling.tiling import from_all_sides, tiled
from limbeck.tasks.base import Picture, Task
from limbeck.tasks.perceptual_distance import PerceptualDistance
from limbeck.tasks.real_images import images_of, of_size, some
from limbeck.tasks.restored import alike, by_holes, means, named
from limbeck.types import Batch, Draw

SEED = "restoration.seed"
SEEDS = 2**31
CHUNK = 16  # images at a time while evaluating
SHOWN, SIDE, COLUMNS = 6, 48, 3  # cut-outs in the report, their side, and how many stand in a row
ENLARGED = 3  # times, so that pixels can be seen
OVERLAP = 32  # pixels around a tile


class Restoration(Task):
    """Degraded images in, whole ones out; in training the whole images are those of the data.

    As the field measures it, outputs are rounded to 256 levels and `border` pixels are left out on every side. A PSNR
    counts as 100 dB at most, or one image that is restored perfectly would make the mean infinite.

    * `psnr`, `ssim`: of all channels, in dB and at most 1. `psnr_y`, `ssim_y`: of the luminance of RGB images.
    * `psnr_inside`, `l1_inside`: in the holes, where the degradation cuts some; the second in grey levels of 255.
      `l1_outside`: elsewhere; 0 for a network that passes on what is known.
    * `perceptual[NAME]`: the distance that `perceptual` measures, a network's view of the images.
    * `psnr_to_teacher`, `ssim_to_teacher`: to what the teacher makes.

    With `sets`, each metric is measured on the reference split for every set instead, e.g. `psnr_y[set5]`; on other
    splits it is measured on the data's images, which choices are made by.

    Args:
        degradation: What images lose.
        sets: Whole photographs to be measured on. The last is what the verdict is about.
        border: Pixels left out on every side; null for the scale where that is above 1, else 0.
        samples: The most images of a split that are measured; those of `sets` all are.
        self_ensemble: Take the mean over all eight sides of an image, at eight times the cost.
        tile: Restore images in squares of that many pixels, to save memory; null: as a whole.
        unlabelled: Training images are the degraded ones, and nobody has them whole: only a teacher that is trained
            already can be followed, without a control, and not where the degradation cuts holes.
        perceptual: A distance in the features of a given network; null for none.
        cost_size: Height and width in pixels of the degraded images whose cost is measured; null for the size of the
            training images. Nothing else is measured on them.

    Raises:
        RecipeError: An argument is out of its range.
    """

    method: ClassVar[str | None] = "Restore"
    directions: Mapping[str, str] = {
        "psnr": "higher",
        "ssim": "higher",
        "psnr_y": "higher",
        "ssim_y": "higher",
        "psnr_inside": "higher",
        "l1_inside": "lower",
        "l1_outside": "lower",
        "perceptual": "lower",
        "psnr_to_teacher": "higher",
        "ssim_to_teacher": "higher",
    }

    def __init__(
        self,
        degradation: Degradation,
        sets: Sequence[PhotoSet] = (),
        *,
        border: int | None = None,
        samples: int = 1000,
        self_ensemble: bool = False,
        tile: int | None = None,
        unlabelled: bool = False,
        perceptual: PerceptualDistance | None = None,
        cost_size: int | None = None,
    ) -> None:
        require("task.samples", samples >= 1, "a whole number of at least 1", samples)
        _check_optional("border", border, 0)
        _check_optional("tile", tile, 1)
        _check_optional("cost_size", cost_size, 1)
        if len({photos.name for photos in sets}) < len(sets):
            raise RecipeError(f"task.sets: expected different names, found {', '.join(s.name for s in sets)}")
        require(
            "task.unlabelled",
            not (unlabelled and degradation.masks),
            "false, as training images have no channel that says where holes are",
            unlabelled,
        )
        bare = [photos.name for photos in sets if photos.degraded is None]
        given = degradation.given
        require("task.sets", not (given and bare), "sets with a folder `degraded`, as AsGiven makes nothing", bare)
        require("task.unlabelled", not (given and unlabelled), "false, as AsGiven comes with whole images", unlabelled)
        self.degradation, self.sets = degradation, list(sets)
        of_scale = degradation.scale if degradation.scale > 1 else 0
        self.border = of_scale if border is None else border
        self.samples, self.self_ensemble, self.tile, self.unlabelled = samples, self_ensemble, tile, unlabelled
        self.perceptual, self._cost_size = perceptual, cost_size

    @property
    def main_metric(self) -> str:
        """The PSNR by which the field compares what restores this degradation."""
        return self.degradation.main_metric

    def draws(self) -> Mapping[str, Draw]:
        """Return the seed of every image's degradation."""
        return {SEED: Draw((), "integers", high=SEEDS)}

    def prepare(self, batch: Batch) -> Batch:
        """Return the batch with degraded images and the whole ones as targets."""
        assert batch.image is not None
        if self.unlabelled:
            return batch
        whole = self._divisible(batch.image)
        return batch.replace(image=self.degradation.of(batch, whole, batch.drawn[SEED]), target=whole)

    def gives(self, data: Data) -> tuple[str, ...]:
        """Return the fields of the data and, unless it stays unlabelled, the whole images as targets."""
        found = data.gives()
        return found if self.unlabelled or "target" in found else (*found, "target")

    def training_identity(self) -> Mapping[str, Any]:
        """Return what images lose before they are restored."""
        return {"degradation": repr(self.degradation), "unlabelled": self.unlabelled}

    def method_arguments(self, data: Data) -> Mapping[str, Any]:
        """Return the size of the degraded images."""
        height, width = (side // self.degradation.scale for side in data.image_shape[1:])
        return {"size": (height, width)}

    def called(self, module: nn.Module, data: Data, **view: Any) -> nn.Module:
        """Return a module, degraded images to whole ones, as a restorer of what the degradation takes away."""
        channels, scale = data.image_shape[0], self.degradation.scale
        known = {"channels": channels, "inputs": channels + self.degradation.masks, "scale": scale}
        return Wrapped(module, "restorer", **{**known, **view})

    def answer(self, data: Data, *inputs: Tensor) -> tuple[int, ...]:
        """Return (C, scale H, scale W) of degraded images of H times W pixels."""
        height, width = inputs[0].shape[2:]
        return data.image_shape[0], height * self.degradation.scale, width * self.degradation.scale

    def example(self, data: Data, count: int) -> tuple[Tensor, ...]:
        """Return degraded images (count, C, H, W) of the `cost_size`."""
        return (of_size(self._pairs(data, "train", count)[0], self._cost_size),)

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
        if split != data.reference_split or not self.sets:
            return means(self._measured(network, teacher, *part) for part in self._of_split(data, split, seed, samples))
        found: dict[str, float] = {}
        for photos in reversed(self.sets):  # the first in the table is the one that the verdict is about
            here = means(self._measured(network, teacher, *part) for part in self._of_set(photos, seed))
            found |= {named(name, photos.name): value for name, value in here.items()}
        return found

    def per_image(self, network: nn.Module, photos: PhotoSet, seed: int = 0) -> dict[str, Tensor]:
        """Return every metric of every photograph of a set, (N,) each."""
        parts = [self._measured(network, None, *part) for part in self._of_set(photos, seed)]
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}

    def preview(self, network: nn.Module, data: Data, seed: int) -> list[Picture]:
        """Return enlarged cut-outs of what the network restores."""
        degraded, whole = self._shown(data, seed)
        return [self._cut(self.restored(network, degraded), whole)]

    def references(self, data: Data, seed: int) -> Mapping[str, list[Picture]]:
        """Return the same cut-outs of the degraded and of the whole images."""
        degraded, whole = self._shown(data, seed)
        seen = degraded[:, : whole.shape[1]]
        if self.degradation.scale > 1:
            seen = F.interpolate(seen, scale_factor=self.degradation.scale)
        return {"input": [self._cut(seen, whole)], "truth": [self._cut(whole, whole)]}

    @torch.no_grad()
    def restored(self, network: nn.Module, degraded: Tensor) -> Tensor:
        """Return what a network makes of degraded images (N, inputs, H, W): in [-1, 1], at 256 levels, on the CPU."""
        device = next(iter(network.parameters()), torch.empty(0)).device
        restore: Callable[[Tensor], Tensor] = network
        if self.self_ensemble:
            restore = partial(from_all_sides, restore)
        if self.tile is not None:
            restore = partial(tiled, restore, tile=self.tile, overlap=OVERLAP, scale=self.degradation.scale)
        return to_levels(restore(degraded.to(device)).float().cpu())

    def _measured(
        self, network: nn.Module, teacher: nn.Module | None, degraded: Tensor, whole: Tensor
    ) -> dict[str, Tensor]:
        """Return every metric of some images of one size, (N,) each."""
        made = self.restored(network, degraded)
        if made.shape != whole.shape:
            raise RecipeError(
                f"{type(network).__name__}: expected images {tuple(whole.shape[1:])} (C, H, W) of degraded ones"
                f" {tuple(degraded.shape[1:])}, found {tuple(made.shape[1:])}; is its scale that of the degradation?"
            )
        edge = slice(self.border, -self.border or None)
        inner, goal = made[..., edge, edge], whole[..., edge, edge]
        found = alike(inner, goal)
        grey = goal.shape[1] != 3
        found |= alike(inner, goal, "_y") if grey else alike(luminance(inner), luminance(goal), "_y")
        if self.perceptual is not None:
            found[f"perceptual[{self.perceptual.name}]"] = self.perceptual(inner, goal)
        if self.degradation.masks:
            found |= by_holes(made, whole, degraded[:, -1:] > 0)
        if teacher is not None:
            theirs = self.restored(teacher, degraded)[..., edge, edge]
            found |= {f"{name}_to_teacher": value for name, value in alike(inner, theirs).items()}
        return found

    def _of_split(self, data: Data, split: Split, seed: int, samples: int | None) -> Iterator[tuple[Tensor, Tensor]]:
        degraded, whole = self._pairs(data, split, samples or self.samples, seed)
        yield from zip(torch.split(degraded, CHUNK), torch.split(whole, CHUNK), strict=True)

    def _of_set(self, photos: PhotoSet, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the degraded form of every photograph, and the photograph."""
        seeds = torch.randint(SEEDS, (len(photos),), generator=generator(seed, "degradation", photos.name))
        for (whole, given), one in zip(photos.photographs(self.degradation.scale), seeds, strict=True):
            yield self.degradation(whole, one[None]) if given is None else given, whole

    def _pairs(self, data: Data, split: Split, count: int, seed: int = 0) -> tuple[Tensor, Tensor]:
        """Return up to `count` images of a split, degraded and whole."""
        images = data.split(split)
        indices = some(count, len(images)) if split == "train" else some(min(count, len(images)), len(images))
        batch = images.read(indices)
        whole = self._divisible(images_of(batch))
        seeds = torch.randint(SEEDS, (len(whole),), generator=generator(seed, "degradation"))
        return self.degradation.of(batch, whole, seeds), whole

    def _divisible(self, whole: Tensor) -> Tensor:
        """Return images (N, C, H, W) cut to a multiple of the scale from the top left, as those of a `PhotoSet` are."""
        height, width = (side // self.degradation.scale * self.degradation.scale for side in whole.shape[2:])
        return whole[..., :height, :width]

    def _shown(self, data: Data, seed: int) -> tuple[Tensor, Tensor]:
        return self._pairs(data, data.reference_split, SHOWN, seed)

    def _cut(self, image: Tensor, whole: Tensor) -> Picture:
        """Return the liveliest square of each image, enlarged; where it lies depends on the whole image alone."""
        squares = []
        for one, reference in zip(image, whole, strict=True):
            side = min(SIDE, *reference.shape[1:])
            spread = reference.mean(0).unfold(0, side, side // 2 or 1).unfold(1, side, side // 2 or 1).std((2, 3))
            best = int(spread.argmax())
            top, left = (place * (side // 2 or 1) for place in divmod(best, spread.shape[1]))
            squares.append(one[:, top : top + side, left : left + side])
        enlarged = F.interpolate(torch.stack(squares).clamp(-1, 1), scale_factor=ENLARGED)
        return Picture("cut-outs, enlarged three times", enlarged, COLUMNS)


def _check_optional(name: str, value: int | None, least: int) -> None:
    require(f"task.{name}", value is None or value >= least, f"a whole number of at least {least}, or null", value)
