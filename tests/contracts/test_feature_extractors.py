"""What every FeatureExtractor of the package keeps to. A new one adds a row to `EXAMPLES`."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from toys import every_module

from limbeck.metrics.base import FeatureExtractor
from limbeck.metrics.features import ClassifierFeatures, InceptionFeatures, MapFeatures
from limbeck.metrics.inception import InceptionV3


class TinyClassifier(nn.Module):
    """A classifier with what would betray training mode: dropout and batch norm."""

    image_shape = (3, 16, 16)
    classes = 5

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 6, 3, stride=2), nn.BatchNorm2d(6), nn.ReLU(), nn.Dropout(0.5))
        self.head = nn.Linear(6, 5)

    def features(self, image: Tensor) -> Tensor:
        mean: Tensor = self.body(image).mean(dim=(2, 3))
        return mean

    def forward(self, image: Tensor) -> Tensor:
        logits: Tensor = self.head(self.features(image))
        return logits


def inception(folder: Path) -> InceptionFeatures:
    torch.save(InceptionV3().state_dict(), folder / "weights.pth")
    return InceptionFeatures(str(folder / "weights.pth"))


EXAMPLES: dict[type[FeatureExtractor], Callable[[Path], FeatureExtractor]] = {
    ClassifierFeatures: lambda _: ClassifierFeatures(TinyClassifier(), "tiny"),
    InceptionFeatures: inception,
    MapFeatures: lambda _: MapFeatures(TinyClassifier().body, "maps", scale=0.5),
}


def found() -> list[type[FeatureExtractor]]:
    modules = [importlib.import_module(name) for name in every_module("metrics")]
    classes = {c for m in modules for c in vars(m).values() if inspect.isclass(c) and issubclass(c, FeatureExtractor)}
    return sorted((c for c in classes if not inspect.isabstract(c)), key=lambda c: c.__name__)


def test_every_extractor_has_an_example() -> None:
    assert found() and set(found()) == set(EXAMPLES)


@pytest.fixture(scope="module", params=found(), ids=lambda c: c.__name__)
def extractor(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> FeatureExtractor:
    torch.manual_seed(0)
    return EXAMPLES[request.param](tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_shapes(extractor: FeatureExtractor, images: Tensor) -> None:
    features, logits = extractor(images)
    assert features.shape == (3, extractor.dimension)
    assert logits.ndim == 2 and len(logits) == 3 and logits.shape[1] != 1  # 0 where it knows no classes
    assert features.isfinite().all() and logits.isfinite().all()
    assert extractor.name


def test_it_stays_in_evaluation_mode(extractor: FeatureExtractor, images: Tensor) -> None:
    assert not any(m.training for m in extractor.modules())
    before = extractor(images)
    nn.ModuleList([extractor]).train()
    assert not any(m.training for m in extractor.modules())
    after = extractor(images)
    assert torch.equal(before[0], after[0]) and torch.equal(before[1], after[1])


def test_samples_do_not_influence_each_other(extractor: FeatureExtractor, images: Tensor) -> None:
    torch.testing.assert_close(extractor(images[1:2])[0], extractor(images)[0][1:2], rtol=1e-3, atol=1e-5)


def test_no_parameter_takes_gradients(extractor: FeatureExtractor) -> None:
    assert list(extractor.parameters())
    assert not any(p.requires_grad for p in extractor.parameters())


def test_fingerprint_follows_the_weights(extractor: FeatureExtractor) -> None:
    before = extractor.fingerprint()
    assert len(before) == 16 and int(before, 16) >= 0
    assert extractor.fingerprint() == before
    for weight in (next(iter(extractor.parameters())), next(b for b in extractor.buffers() if b.is_floating_point())):
        kept = weight.flatten()[-1].clone()
        weight.view(-1)[-1] += 0.01
        assert extractor.fingerprint() != before
        weight.view(-1)[-1] = kept
    assert extractor.fingerprint() == before
