"""Telling the class of every pixel."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from limbeck.attacks.base import Attack, loss_and_gradient
from limbeck.attacks.objectives import cross_entropy
from limbeck.baselines.base import EdgeDetector, Fitted
from limbeck.data.base import Data, Split
from limbeck.data.mask_census import check_known, known, named, occurring
from limbeck.errors import DataError, RecipeError
from limbeck.ground.progress import say_once
from limbeck.ground.randomness import generator
from limbeck.losses.base import LogitLoss
from limbeck.losses.kd import Kd
from limbeck.metrics.pictures.confusion_picture import class_picture
from limbeck.metrics.pictures.mask_picture import error_picture, legend_picture, overlay
from limbeck.metrics.segmentation import (
    boundary_f1,
    class_iou,
    edge_f1,
    mask_boundaries,
    mean_iou,
    pixel_accuracy,
    pixel_confusion,
)
from limbeck.networks.given.external import Wrapped
from limbeck.networks.handling.tiling import tiled
from limbeck.networks.roles import unwrap
from limbeck.tasks.base import Picture, Task
from limbeck.tasks.real_images import images_of, some
from limbeck.types import VOID, Batch

CHUNK = 10  # images at a time while evaluating
SHOWN, COLUMNS = 6, 3  # images in the report, and how many stand in a row


class Segmentation(Task):
    """Images in, a class for every pixel out. It draws nothing. Void pixels count in no metric.

    * `miou`: the mean over classes of intersection over union, from the pixels of all images together. A class that no
      mask has counts only where it is predicted, as 0; such classes are said.
    * `pixel_accuracy`: the share of pixels whose class is right.
    * `boundary_f1`: how well the borders of each class are met (Csurka et al. 2013).
    * `edge_f1`: how well the borders between classes are met, whatever the classes; all that edge detectors have.
    * `agreement`: the share of pixels that get the same class from the teacher, averaged over images.
    * `robust_miou`: `miou` of `attacked` of the images after an attack; of networks that pass a gradient.

    The IoU of each class is a picture rather than a metric: a verdict for each would be noise.

    Args:
        tolerance: How far a border may be from its place, in pixels; null for 0.75 % of the image's diagonal.
        samples: The most images of a split that are measured.
        tile: Images are cut into squares of that many pixels; null: seen as a whole, as images always are by what was
            fitted to regions of whole images. Networks that halve an image want a tile and an overlap that are
            multiples of their stride.
        overlap: Pixels around a square that are seen too.
        attack: Makes the mean cross-entropy of an image's pixels large, for `robust_miou`; null: not measured.
        attacked: How many images are attacked.

    Raises:
        RecipeError: An argument is out of its range.
    """

    method: ClassVar[str | None] = "Segment"
    answers: ClassVar[str] = "logits of pixels"
    directions: Mapping[str, str] = {
        "miou": "higher",
        "pixel_accuracy": "higher",
        "boundary_f1": "higher",
        "edge_f1": "higher",
        "agreement": "higher",
        "robust_miou": "higher",
    }
    main_metric = "miou"

    def __init__(
        self,
        *,
        tolerance: int | None = None,
        samples: int = 1000,
        tile: int | None = None,
        overlap: int = 32,
        attack: Attack | None = None,
        attacked: int = 20,
    ) -> None:
        for name, value, least in (
            ("tolerance", 1 if tolerance is None else tolerance, 1),
            ("samples", samples, 1),
            ("tile", 1 if tile is None else tile, 1),
            ("overlap", overlap, 0),
            ("attacked", attacked, 1),
        ):
            if value < least:
                raise RecipeError(f"task.{name}: expected a whole number of at least {least}, found {value}")
        self.tolerance, self.samples, self.tile, self.overlap = tolerance, samples, tile, overlap
        self.attack, self.attacked = attack, attacked

    def terms(self) -> Mapping[str, LogitLoss]:
        """Return the teacher's probabilities of every pixel, to be followed (Liu et al. 2020, eq. 1)."""
        return {"student.logits": Kd(1.0)}

    def method_arguments(self, data: Data) -> Mapping[str, Any]:
        """Return the size of the images."""
        return {"size": data.image_shape[1:]}

    def called(self, module: nn.Module, data: Data, **view: Any) -> nn.Module:
        """Return a module, images to logits of pixels, as a segmenter of this data."""
        known = {"image_shape": data.image_shape, "classes": len(data.mask_classes)}
        return Wrapped(module, "segmenter", **{**known, **view})

    def answer(self, data: Data, *inputs: Tensor) -> tuple[int, ...]:
        """Return (K, H, W)."""
        return (len(data.mask_classes), *inputs[0].shape[2:])

    def example(self, data: Data, count: int) -> tuple[Tensor, ...]:
        """Return the first `count` training images.

        Raises:
            DataError: No training mask has a pixel with a class.
        """
        images = data.split("train")
        check_known(data.name, "train", known(occurring(images, known)))
        return (images_of(images.read(torch.arange(count) % len(images))),)

    def evaluate(
        self,
        network: nn.Module,
        data: Data,
        *,
        split: Split,
        seed: int,
        extractor: Any = None,
        teacher: nn.Module | None = None,
        samples: int | None = None,
    ) -> dict[str, float]:
        """Return the metrics named above; `extractor` is of no use here.

        Raises:
            DataError: The data has no masks, none with a class, or more classes than the network.
        """
        count = min(samples or self.samples, self.samples)
        if isinstance(unwrap(network), EdgeDetector):
            met = [edge_f1(self._edges(network, x), mask, self.tolerance) for x, mask in _parts(data, split, count)]
            return {"edge_f1": _mean(met)}
        classes = len(data.mask_classes)
        confusion = torch.zeros(classes, classes, dtype=torch.int64)
        borders, edges, same = [], [], []
        for image, mask in _parts(data, split, count):
            found = self._classes(network, image, mask, data)
            confusion += pixel_confusion(found, mask, classes)
            borders.append(boundary_f1(found, mask, self.tolerance))
            edges.append(edge_f1(mask_boundaries(found), mask, self.tolerance))
            if teacher is not None:
                alike = found == self._classes(teacher, image, mask, data)
                same.append(alike.double().where(mask != VOID, torch.nan).nanmean((1, 2)))
        check_known(data.name, split, bool(confusion.any()))
        _tell_absent(confusion, data, split)
        metrics = {
            "miou": mean_iou(confusion),
            "pixel_accuracy": pixel_accuracy(confusion),
            "boundary_f1": _mean(borders),
            "edge_f1": _mean(edges),
        }
        if teacher is not None:
            metrics["agreement"] = _mean(same)
        if self.attack is not None:
            attacked = _parts(data, split, min(count, self.attacked))
            if _differentiable(network, *next(_parts(data, split, 1))):
                metrics["robust_miou"] = self._robust(network, data, attacked, seed)
        return metrics

    def chance(self, data: Data) -> dict[str, float]:
        """Return the mIoU and the pixel accuracy of answering the most frequent class everywhere."""
        pixels = torch.zeros(len(data.mask_classes), dtype=torch.int64)
        for _, mask in _parts(data, data.reference_split, self.samples):
            pixels += mask[mask != VOID].bincount(minlength=len(pixels))
        if not pixels.any():
            return {}
        share = float(pixels.max() / pixels.sum())
        return {"miou": share / int((pixels > 0).sum()), "pixel_accuracy": share}

    def preview(self, network: nn.Module, data: Data, seed: int) -> list[Picture]:
        """Return what the network makes of some images of the reference split, where it errs, and the IoU by class."""
        image, mask = _shown(data)
        if isinstance(unwrap(network), EdgeDetector):
            edges = self._edges(network, image).float()[:, None].expand(-1, 3, -1, -1)
            return [Picture("masks", 1 - 2 * edges, COLUMNS)]
        found = self._classes(network, image, mask, data)
        pictures = [
            Picture("masks", overlay(image, found, len(data.mask_classes)), COLUMNS),
            Picture("errors, in red", error_picture(found, mask), COLUMNS),
        ]
        confusion = sum(
            pixel_confusion(self._classes(network, image, mask, data), mask, len(data.mask_classes))
            for image, mask in _parts(data, data.reference_split, self.samples)
        )
        assert isinstance(confusion, Tensor)
        return [*pictures, Picture("IoU by class", class_picture(class_iou(confusion), list(data.mask_classes)), 1)]

    def references(self, data: Data, seed: int) -> Mapping[str, list[Picture]]:
        """Return the images, their true masks, and which colour is which class."""
        image, mask = _shown(data)
        truth = overlay(image, mask, len(data.mask_classes))
        return {
            "input": [Picture("masks", image.expand(-1, 3, -1, -1), COLUMNS)],
            "truth": [Picture("masks", truth, COLUMNS), Picture("colours", legend_picture(list(data.mask_classes)), 1)],
        }

    @torch.no_grad()
    def _classes(self, network: nn.Module, image: Tensor, mask: Tensor, data: Data) -> Tensor:
        """Return the class of every pixel (N, H, W), on the CPU."""
        device = _device(network)
        if getattr(unwrap(network), "oracle", False):
            logits: Tensor = network(image.to(device), mask.to(device))
        else:
            tile = None if isinstance(unwrap(network), Fitted) else self.tile
            see = network if tile is None else partial(tiled, network, tile=tile, overlap=self.overlap)
            logits = see(image.to(device))
        expected = (len(data.mask_classes), *image.shape[2:])
        if logits.shape[1:] != expected:
            raise DataError(
                f"{type(unwrap(network)).__name__}: expected logits {expected} (K, H, W) for the {expected[0]} classes"
                f" of {data.name}, found {tuple(logits.shape[1:])}"
            )
        return logits.argmax(1).cpu()

    @torch.no_grad()
    def _edges(self, network: nn.Module, image: Tensor) -> Tensor:
        """Return where a detector sees edges (N, H, W), bool."""
        detector = unwrap(network)
        assert isinstance(detector, EdgeDetector)
        strength: Tensor = network(image.to(_device(network)))[:, 0]
        return strength.cpu() >= detector.threshold

    def _robust(self, network: nn.Module, data: Data, parts: Iterable[tuple[Tensor, Tensor]], seed: int) -> float:
        """Return the mean IoU after the attack."""
        assert self.attack is not None
        classes, device = len(data.mask_classes), _device(network)
        confusion = torch.zeros(classes, classes, dtype=torch.int64)
        for number, (image, mask) in enumerate(parts):
            x = image.to(device)
            draw = generator(seed, "robust segmentation", number)
            drawn = {n: d.sample(len(x), draw).to(device) for n, d in self.attack.draws(x.shape[1:]).items()}
            target = mask.to(device)
            changed = self.attack(lambda image, y=target: cross_entropy(network(image), y), x, drawn)  # type: ignore[misc]
            confusion += pixel_confusion(self._classes(network, changed.cpu(), mask, data), mask, classes)
        return mean_iou(confusion)


def _tell_absent(confusion: Tensor, data: Data, split: Split) -> None:
    """Say once which classes no true mask has that was measured: a mean over classes is without them."""
    absent = set((confusion.sum(1) == 0).nonzero()[:, 0].tolist())
    if absent:
        missing = named(absent, data.mask_classes)
        rule = "it counts in miou only where it is predicted"
        say_once(f"{data.name}: no {split} mask that is measured has a pixel of {missing}; {rule}")


def _parts(data: Data, split: Split, most: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield at most `most` images (N, C, H, W) and masks (N, H, W) of a split, at equal distances."""
    images = data.split(split)
    for part in torch.split(torch.linspace(0, len(images) - 1, min(most, len(images))).long(), CHUNK):
        yield _masked(images.read(part), data)


def _shown(data: Data) -> tuple[Tensor, Tensor]:
    """Return the images and masks of the report, drawn once for all."""
    images = data.split(data.reference_split)
    return _masked(images.read(some(min(SHOWN, len(images)), len(images))), data)


def _masked(batch: Batch, data: Data) -> tuple[Tensor, Tensor]:
    return batch.need("image", data.name), batch.need("mask", data.name)


def _differentiable(network: nn.Module, image: Tensor, mask: Tensor) -> bool:
    image, mask = image.to(_device(network)), mask.to(_device(network))
    try:
        loss_and_gradient(lambda x: cross_entropy(network(x), mask), image, "Segmentation")
    except RecipeError:
        return False
    return True


def _mean(parts: list[Tensor]) -> float:
    """Return the mean over all images that have a value."""
    return float(torch.cat(parts).nanmean())


def _device(network: nn.Module) -> torch.device:
    """Return where a network is: classical ones have no parameters, perhaps buffers."""
    return next((t.device for t in (*network.parameters(), *network.buffers())), torch.device("cpu"))
