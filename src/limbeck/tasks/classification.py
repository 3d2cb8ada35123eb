"""Telling the class of an image."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from limbeck.data.base import Data, Split
from limbeck.losses.base import LogitLoss
from limbeck.losses.kd import Kd
from limbeck.metrics.pictures.confusion_picture import class_picture, confusion_picture
from limbeck.metrics.pictures.strength_picture import strength_picture
from limbeck.metrics.recognition import (
    agreement,
    brier_score,
    class_accuracy,
    confusion_matrix,
    expected_calibration_error,
    kl_to_teacher,
    nll,
    top_k_accuracy,
)
from limbeck.networks.given.external import Wrapped
from limbeck.tasks.base import Picture, Task
from limbeck.tasks.robustness import Robustness
from limbeck.types import Batch

CHUNK = 250
PREVIEWED = 64
# What networks answered, (logits, labels) by split, number of samples and state.
_TOLD: WeakKeyDictionary[nn.Module, dict[tuple[str, int, int], tuple[Tensor, Tensor]]] = WeakKeyDictionary()
CONFUSED = 10000  # the most images of a split that the pictures of its classes count


class Classification(Task):
    """Images in, logits out; judged by accuracy, likelihood and calibration. It draws nothing.

    Accuracies by class are pictures rather than metrics: a verdict for each of a hundred classes would be noise, and
    their columns would bury the table.

    Args:
        robustness: Attacks that it is judged under as well: then the main metric is the accuracy under the strongest.
    """

    method: ClassVar[str | None] = "Supervised"
    answers: ClassVar[str] = "logits"
    directions: Mapping[str, str] = {
        "top1": "higher",
        "top5": "higher",
        "nll": "lower",
        "ece": "lower",
        "brier": "lower",
        "agreement": "higher",
        "kl_to_teacher": "lower",
        "robust": "higher",
        "masking": "lower",
    }

    def __init__(self, robustness: Robustness | None = None) -> None:
        self.robustness = robustness

    @property
    def main_metric(self) -> str:
        """Return "top1", or "robust"."""
        return "top1" if self.robustness is None else "robust"

    def terms(self) -> Mapping[str, LogitLoss]:
        """Return the teacher's softened probabilities, to be followed (Hinton et al. 2015)."""
        return {"student.logits": Kd()}

    def called(self, module: nn.Module, data: Data, **view: Any) -> nn.Module:
        """Return a module, images to logits, as a classifier of this data."""
        known = {"image_shape": data.image_shape, "classes": len(data.classes)}
        return Wrapped(module, "classifier", **{**known, **view})

    def answer(self, data: Data, *inputs: Tensor) -> tuple[int, ...]:
        """Return (K,)."""
        return (len(data.classes),)

    def example(self, data: Data, count: int) -> tuple[Tensor, ...]:
        """Return the first `count` training images."""
        image = data.split("train").read(torch.arange(count) % len(data.split("train"))).image
        assert image is not None
        return (image,)

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
        """Return `top1`, `top5` (of more than five classes), `nll`, `ece`, `brier`, and the fidelity to `teacher`.

        With `robustness` also its metrics.

        The fidelity is `agreement`, the share of equal decisions, and `kl_to_teacher`. All are defined in
        `metrics/recognition.py`. Fewer `samples` than the split holds are taken from it at equal distances.

        Raises:
            DataError: The data has no labels, or classes that the network or the teacher has not.
        """
        logits, label = _answers(network, data, split, samples)
        metrics = {"top1": top_k_accuracy(logits, label)}
        if logits.shape[1] > 5:
            metrics["top5"] = top_k_accuracy(logits, label, 5)
        metrics |= {
            "nll": nll(logits, label),
            "ece": expected_calibration_error(logits, label),
            "brier": brier_score(logits, label),
        }
        if teacher is not None:
            other, _ = _answers(teacher, data, split, samples)
            metrics |= {"agreement": agreement(logits, other), "kl_to_teacher": kl_to_teacher(logits, other)}
        if self.robustness is not None:
            image, truth = _some(data, split, min(samples or self.robustness.samples, self.robustness.samples))
            device = _device(network)
            metrics |= self.robustness.evaluate(network, image.to(device), truth.to(device), teacher)
        return metrics

    def chance(self, data: Data) -> dict[str, float]:
        """Return the top1 of always answering the most frequent class, and two standard errors."""
        label = data.split(data.reference_split).labels()
        if label is None:
            return {}
        share = float(label.bincount().max()) / len(label)
        return {"top1": share + 2 * math.sqrt(share * (1 - share) / len(label))}

    def alarm(self, network: nn.Module, data: Data) -> str | None:
        """Return a warning when the network masks its gradients from the attacks that judge it."""
        if self.robustness is None:
            return None
        image, label = (t.to(_device(network)) for t in _some(data, "validation", self.robustness.samples))
        return self.robustness.alarm(network, image, label)

    def preview(self, network: nn.Module, data: Data, seed: int) -> list[Picture]:
        """Return images sorted by the class that the network gives them, the accuracy by class, and the confusion.

        All are of the reference split; the latter two count at most 10,000 of its images.
        """
        images = data.split(data.reference_split)
        image = _labelled(images.read(torch.arange(min(PREVIEWED, len(images)))), data)[0]
        with torch.no_grad():
            found = network(image.to(_device(network))).argmax(1).cpu()
        logits, label = _answers(network, data, data.reference_split, CONFUSED)
        confusion = confusion_matrix(logits, label)
        names = [*data.classes, *map(str, range(len(data.classes), len(confusion)))]
        return [
            Picture("images, sorted by predicted class", image[found.argsort(stable=True)]),
            Picture("accuracy by class", class_picture(class_accuracy(confusion), names), 1),
            Picture("confusion", confusion_picture(confusion, names), 1),
            *self._curve(network, data),
        ]

    def _curve(self, network: nn.Module, data: Data) -> list[Picture]:
        if self.robustness is None:
            return []
        image, label = (t.to(_device(network)) for t in _some(data, data.reference_split, self.robustness.samples))
        strengths, right = self.robustness.curve(network, image, label)
        if not strengths:
            return []
        return [Picture("accuracy by strength", strength_picture(strengths, right, self.robustness.radius), 1)]


@torch.no_grad()
def _logits(network: nn.Module, data: Data, split: Split, samples: int | None) -> tuple[Tensor, Tensor]:
    """Return the logits (N, K) of a network and the labels (N,) of a split, on the CPU."""
    images = data.split(split)
    count = min(samples or len(images), len(images))
    logits, labels = [], []
    for part in torch.split(torch.linspace(0, len(images) - 1, count).long(), CHUNK):
        image, label = _labelled(images.read(part), data)
        labels.append(label)
        logits.append(network(image.to(_device(network))).float().cpu())
    return torch.cat(logits), torch.cat(labels)


def _answers(network: nn.Module, data: Data, split: Split, samples: int | None) -> tuple[Tensor, Tensor]:
    """Return what `_logits` does, asking a network once until it changes, as a teacher is compared with every arm."""
    changes = sum(t._version for t in (*network.parameters(), *network.buffers()))
    images = data.split(split)
    known, key = (
        _TOLD.setdefault(network, {}),
        (images.fingerprint(), min(samples or len(images), len(images)), changes),
    )
    if key not in known:
        known[key] = _logits(network, data, split, samples)
    return known[key]


def _some(data: Data, split: Split, most: int) -> tuple[Tensor, Tensor]:
    """Return at most `most` images and labels of a split, at equal distances."""
    images = data.split(split)
    return _labelled(images.read(torch.linspace(0, len(images) - 1, min(most, len(images))).long()), data)


def _labelled(batch: Batch, data: Data) -> tuple[Tensor, Tensor]:
    return batch.need("image", data.name), batch.need("label", data.name)


def _device(network: nn.Module) -> torch.device:
    """Return where a network is: classical ones have no parameters, perhaps buffers."""
    return next((t.device for t in (*network.parameters(), *network.buffers())), torch.device("cpu"))
