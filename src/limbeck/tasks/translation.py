"""Turning images into others of the same place, of which the data has pairs: labels to photographs, edges to shoes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from limbeck.data.base import Data, Split, to_levels
from limbeck.errors import DataError, RecipeError
from limbeck.ground.randomness import generator
from limbeck.metrics.base import FeatureExtractor
from limbeck.metrics.distribution import extract, fid, kid
from limbeck.metrics.image import WINDOW, bounded_psnr, ssim
from limbeck.metrics.segmentation import mean_iou, pixel_confusion
from limbeck.networks.given.external import Wrapped
from limbeck.networks.given.weights import weights_hash
from limbeck.tasks.base import Picture, Task
from limbeck.tasks.real_images import Means, some
from limbeck.types import Batch

CHUNK = 16  # images at a time while evaluating
SHOWN, COLUMNS = 6, 3  # images in the report, and how many stand in a row


class ImageTranslation(Task):
    """Images in, what they are to become out (pix2pix, Isola et al. 2017): `image` and `target` of the data.

    Outputs are rounded to 256 levels.

    * `fid`, `kid`: of all images made of a split against all its true ones, over the features. KID is unbiased, FID
      mostly bias where there are fewer images than features.
    * `psnr`, `ssim`, `l1`: to the true image of each; the first at most 100 dB an image, the last in grey levels of
      255. Many images can be right where an input leaves things open, so a good one may be far from the true one.
    * `miou`: mean intersection over union of the classes that `segmenter` sees in what is made with the masks of the
      data (the FCN score of Isola et al. 2017, section 4.1); the floor is what it sees in the true images. Of the data
      sets of the package, `Facades` has both `target` and `mask`.
    * `psnr_to_teacher`, `ssim_to_teacher`: to what the teacher makes.

    Args:
        samples: The most images of a split that are measured.
        segmenter: A network trained on true images, which tells the logits (N, K, H, W) of the classes of their pixels;
            in a recipe an `Import` with `weights`.

    Raises:
        RecipeError: Fewer than 2 samples.
    """

    method: ClassVar[str | None] = "Restore"
    directions: Mapping[str, str] = {
        "kid": "lower",
        "fid": "lower",
        "psnr": "higher",
        "ssim": "higher",
        "l1": "lower",
        "miou": "higher",
        "psnr_to_teacher": "higher",
        "ssim_to_teacher": "higher",
    }
    main_metric = "kid"

    def __init__(self, samples: int = 1000, segmenter: nn.Module | None = None) -> None:
        if samples < 2:
            raise RecipeError(f"task.samples: expected at least 2, found {samples}")
        self.samples = samples
        self._segmenter = None if segmenter is None else segmenter.eval()
        if segmenter is not None:
            self.segmenter = weights_hash(segmenter)[:12]  # part of what results are remembered under

    def prepare(self, batch: Batch) -> Batch:
        """Return the batch as it is.

        Raises:
            DataError: It has no targets.
        """
        _pair(batch)
        return batch

    def example(self, data: Data, count: int) -> tuple[Tensor, ...]:
        """Return images (count, C, H, W)."""
        train = data.split("train")
        return (_pair(train.read(some(count, len(train))))[0],)

    def method_arguments(self, data: Data) -> Mapping[str, Any]:
        """Return the size of the images."""
        return {"size": data.image_shape[1:]}

    def called(self, module: nn.Module, data: Data, **view: Any) -> nn.Module:
        """Return a module, images to others, as a restorer of what the data has them become."""
        known = {"channels": self.answer(data)[0], "inputs": data.image_shape[0]}
        return Wrapped(module, "restorer", **{**known, **view})

    def answer(self, data: Data, *inputs: Tensor) -> tuple[int, ...]:
        """Return (C, H, W) of a target."""
        return tuple(_pair(data.split("train").read(torch.arange(1)))[1].shape[1:])

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
        """Return the metrics named above, those of distributions over the features of `extractor`; nothing is drawn."""
        means, sets = Means(), _Sets(extractor)
        confusions = []
        for batch in self._batches(data, split, samples or self.samples):
            image, target = _pair(batch)
            made = _translated(network, image, target)
            means.add(**_alike(made, target))
            if teacher is not None:
                means.add(**_to_teacher(made, _translated(teacher, image, target)))
            sets.add(made, target)
            confusions.append(self._confusion(made, batch))
        return sets.distances() | means.found() | _score(confusions)

    def floor(self, data: Data, *, extractor: FeatureExtractor | None = None) -> dict[str, float]:
        """Return the distances of real training images against the reference split, as many of both, and its `miou`."""
        sets, confusions = _Sets(extractor), []
        reference, train = data.split(data.reference_split), data.split("train")
        count = min(self.samples, len(reference))
        for part, batch in zip(
            torch.split(some(count, len(train)), CHUNK), self._batches(data, data.reference_split, count), strict=True
        ):
            true = _pair(batch)[1]
            sets.add(_pair(train.read(part))[1], true)
            confusions.append(self._confusion(true, batch))
        return sets.distances() | _score(confusions)

    def preview(self, network: nn.Module, data: Data, seed: int) -> list[Picture]:
        """Return what the network makes of images of the reference split."""
        return [_picture(_translated(network, *self._shown(data)))]

    def references(self, data: Data, seed: int) -> Mapping[str, list[Picture]]:
        """Return the images that it is made of, and the true ones."""
        image, target = self._shown(data)
        return {"input": [_picture(image)], "truth": [_picture(target)]}

    def _shown(self, data: Data) -> tuple[Tensor, Tensor]:
        return _pair(next(self._batches(data, data.reference_split, SHOWN)))

    def _batches(self, data: Data, split: Split, count: int) -> Iterator[Batch]:
        """Yield up to `count` samples of a split, a chunk at a time."""
        images = data.split(split)
        return map(images.read, torch.split(some(min(count, len(images)), len(images)), CHUNK))

    @torch.no_grad()
    def _confusion(self, image: Tensor, batch: Batch) -> Tensor | None:
        """Return the confusion of the classes in images with the masks (K, K); nothing without a segmenter."""
        if self._segmenter is None:
            return None
        if batch.mask is None:
            raise DataError("translation.segmenter: expected data with masks, found none; leave out the segmenter")
        logits = self._segmenter(image.to(_device(self._segmenter))).cpu()
        return pixel_confusion(logits.argmax(1), batch.mask, logits.shape[1])


class _Sets:
    """Two sets of images (N, C, H, W), what is made and what is true, of which only the features are kept."""

    def __init__(self, extractor: FeatureExtractor | None) -> None:
        self._extractor = extractor
        self._ours: list[Tensor] = []
        self._theirs: list[Tensor] = []

    def add(self, made: Tensor, true: Tensor) -> None:
        if self._extractor is not None:
            self._ours.append(extract(self._extractor, made, CHUNK)[0])
            self._theirs.append(extract(self._extractor, true, CHUNK)[0])

    def distances(self) -> dict[str, float]:
        """Return KID and FID between the two, named with the features; nothing without any."""
        if self._extractor is None:
            return {}
        ours, theirs = torch.cat(self._ours), torch.cat(self._theirs)
        found = {"kid": kid(theirs, ours, generator(0, "kid")), "fid": fid(theirs, ours)}
        return {f"{name}[{self._extractor.name}]": value for name, value in found.items()}


def _score(confusions: Sequence[Tensor | None]) -> dict[str, float]:
    """Return the mean IoU over all images; nothing where nobody told classes."""
    seen = [confusion for confusion in confusions if confusion is not None]
    return {"miou": mean_iou(torch.stack(seen).sum(0))} if seen else {}


def _pair(batch: Batch) -> tuple[Tensor, Tensor]:
    return batch.need("image", "translation"), batch.need("target", "translation")


@torch.no_grad()
def _translated(network: nn.Module, image: Tensor, target: Tensor) -> Tensor:
    """Return what a network in evaluation mode makes of images: in [-1, 1], at 256 levels, on the CPU."""
    made = network(image.to(_device(network))).float().cpu()
    if made.shape != target.shape:
        raise RecipeError(
            f"{type(network).__name__}: expected images {tuple(target.shape[1:])} (C, H, W) as the targets, of images"
            f" {tuple(image.shape[1:])}, found {tuple(made.shape[1:])}"
        )
    return to_levels(made)


def _alike(image: Tensor, goal: Tensor) -> dict[str, Tensor]:
    """Return PSNR, mean absolute difference in grey levels and, where its window fits in, SSIM of each image."""
    found = {"psnr": bounded_psnr(image, goal), "l1": (image - goal).abs().mean((1, 2, 3)) * 127.5}
    return found | ({"ssim": ssim(image, goal)} if min(goal.shape[2:]) >= WINDOW else {})


def _to_teacher(image: Tensor, goal: Tensor) -> dict[str, Tensor]:
    return {f"{name}_to_teacher": value for name, value in _alike(image, goal).items() if name != "l1"}


def _device(network: nn.Module) -> torch.device:
    return next(iter(network.parameters()), torch.empty(0)).device


def _picture(images: Tensor) -> Picture:
    return Picture("translations", images, COLUMNS)
