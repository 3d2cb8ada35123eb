"""An evaluation holds a part of the images that it makes, never all of them."""

from __future__ import annotations

import weakref

import pytest
import torch
from torch import Tensor, nn
from toys import ToyPairs

from limbeck.data.base import Data, to_levels
from limbeck.data.tensors import TensorImages
from limbeck.metrics.features import ClassifierFeatures
from limbeck.networks.classifiers.small_cnn import SmallCnn
from limbeck.tasks import generation, translation
from limbeck.tasks.base import Task
from limbeck.tasks.generation import Generation
from limbeck.tasks.translation import ImageTranslation

PART, PARTS, SIZE = 5, 8, 16


class Alive:
    """Knows the most images that were alive when another one was made."""

    def __init__(self) -> None:
        self.made: list[weakref.ref[Tensor]] = []
        self.most = 0

    def note(self, image: Tensor) -> Tensor:
        self.made.append(weakref.ref(image))
        self.most = max(self.most, sum(made() is not None for made in self.made))
        return image


class Maker(nn.Module):
    """Makes images of anything, one part at a time."""

    def __init__(self, alive: Alive, inputs: int) -> None:
        super().__init__()
        self.linear, self.alive = nn.Linear(inputs, SIZE * SIZE), alive

    def forward(self, value: Tensor) -> Tensor:
        return self.alive.note(self.linear(value.flatten(1)).tanh().unflatten(1, (1, SIZE, SIZE)))


def images() -> TensorImages:
    """Twice as many as are measured, half of them for tests."""
    count = 2 * PART * PARTS
    image = torch.randint(0, 256, (count, 1, SIZE, SIZE), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return TensorImages(image, torch.arange(count) % 3, validation=0.1, test=0.5)


CASES: dict[str, tuple[Task, Data, int]] = {
    "generation": (Generation((4,), samples=PART * PARTS), images(), 4),
    "translation": (ImageTranslation(samples=PART * PARTS), ToyPairs(images()), SIZE * SIZE),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("measured", [True, False], ids=["features", "no features"])
def test_only_parts_of_the_images_live_at_once(name: str, measured: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (generation, translation):
        monkeypatch.setattr(module, "CHUNK", PART)
    alive = Alive()
    monkeypatch.setattr(translation, "to_levels", lambda image: alive.note(to_levels(image)))
    task, data, inputs = CASES[name]
    torch.manual_seed(0)
    network, teacher = Maker(alive, inputs).eval(), Maker(alive, inputs).eval()
    extractor = ClassifierFeatures(SmallCnn(2, channels=1, size=SIZE, classes=3), "toy") if measured else None
    task.evaluate(network, data, split="test", seed=0, extractor=extractor, teacher=teacher)
    assert len(alive.made) >= 2 * PARTS
    assert alive.most <= PARTS // 2
