"""Telling the class of an image."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from limbeck.data.base import Data, Split
from limbeck.errors import DataError
from limbeck.tasks.base import Picture, Task

CHUNK = 250
PREVIEWED = 64


class Classification(Task):
    """Images in, logits out; judged by accuracy and likelihood. It draws nothing."""

    directions: Mapping[str, str] = {"top1": "higher", "nll": "lower"}
    main_metric = "top1"

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
        features: Any = None,
        teacher: nn.Module | None = None,
        samples: int | None = None,
    ) -> dict[str, float]:
        """Return `top1`, the share of right answers in [0, 1], and `nll`, the mean cross-entropy in nats."""
        images = data.split(split)
        count = min(samples or len(images), len(images))
        right, loss = 0.0, 0.0
        device = next(network.parameters()).device
        for part in torch.split(torch.linspace(0, len(images) - 1, count).long(), CHUNK):
            batch = images.read(part)
            if batch.image is None or batch.label is None:
                raise DataError(f"{data.name}: expected images with labels, found no labels; choose a labelled set")
            with torch.no_grad():
                logits = network(batch.image.to(device)).float().cpu()
            right += float((logits.argmax(1) == batch.label).sum())
            loss += float(F.cross_entropy(logits, batch.label, reduction="sum"))
        return {"top1": right / count, "nll": loss / count}

    def preview(self, network: nn.Module, data: Data, seed: int) -> list[Picture]:
        """Return test images sorted by the class that the network gives them, a row a class."""
        images = data.split(data.reference_split)
        (image,) = (images.read(torch.arange(min(PREVIEWED, len(images)))).image,)
        assert image is not None
        with torch.no_grad():
            found = network(image.to(next(network.parameters()).device)).argmax(1).cpu()
        return [Picture("images by predicted class", image[found.argsort(stable=True)])]
