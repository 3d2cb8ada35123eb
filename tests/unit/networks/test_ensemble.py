"""Several classifiers as one: the mean of their probabilities, by hand, and who counts for how much."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from limbeck.errors import RecipeError, WeightsError
from limbeck.networks.classifiers.ensemble import Ensemble
from limbeck.networks.classifiers.small_cnn import SmallCnn
from limbeck.networks.given.weights import save_weights


class Says(nn.Module):
    """Gives the same probabilities to every image."""

    def __init__(self, *probabilities: float) -> None:
        super().__init__()
        self.image_shape, self.classes = (1, 8, 8), len(probabilities)
        self.logits = nn.Parameter(torch.tensor(probabilities).log() + 3)  # logits are free up to a constant

    def forward(self, image: Tensor) -> Tensor:
        return self.logits.expand(len(image), -1)


def says(ensemble: Ensemble) -> list[float]:
    return [round(p, 5) for p in ensemble(torch.zeros(2, 1, 8, 8)).softmax(1)[0].tolist()]


def test_the_mean_by_hand() -> None:
    ensemble = Ensemble([Says(0.7, 0.2, 0.1), Says(0.1, 0.2, 0.7)])
    assert says(ensemble) == [0.4, 0.2, 0.4]
    assert torch.allclose(ensemble(torch.zeros(1, 1, 8, 8)).exp().sum(), torch.ones(()))  # log-probabilities


def test_confidence_by_hand() -> None:
    sure, unsure = (0.9, 0.1), (0.4, 0.6)
    weights = [1 + sum(p * math.log(p) for p in ps) / math.log(2) for ps in (sure, unsure)]
    expected = [sum(w * ps[k] for w, ps in zip(weights, (sure, unsure), strict=True)) / sum(weights) for k in (0, 1)]
    found = says(Ensemble([Says(*sure), Says(*unsure)], weighting="confidence"))
    assert found == pytest.approx(expected, abs=1e-4) and found[0] > 0.65 - 1e-4


def test_extremes_of_confidence() -> None:
    even = Says(0.5, 0.5)
    assert says(Ensemble([even, Says(0.5, 0.5)], weighting="confidence")) == [0.5, 0.5]
    certain = Says(1.0, 1e-30)
    ensemble = Ensemble([certain, even], weighting="confidence")
    assert says(ensemble)[0] == pytest.approx(1.0, abs=1e-5)
    image = torch.zeros(1, 1, 8, 8)
    ensemble(image)[0, 0].backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in ensemble.parameters())


def test_members_from_files(tmp_path: Path) -> None:
    torch.manual_seed(0)
    known = [SmallCnn(width=2, size=8, classes=3).eval() for _ in range(2)]
    files = [tmp_path / f"{i}.safetensors" for i in range(2)]
    for network, file in zip(known, files, strict=True):
        save_weights(network, file)
    fresh = [SmallCnn(width=2, size=8, classes=3) for _ in range(2)]
    ensemble = Ensemble(fresh, weights=[str(file) for file in files]).eval()
    image = torch.randn(4, 1, 8, 8)
    mean = torch.stack([network(image).softmax(1) for network in known]).mean(0)
    torch.testing.assert_close(ensemble(image).exp(), mean)
    with pytest.raises(WeightsError, match="no such"):
        Ensemble(fresh, weights=[str(files[0]), str(tmp_path / "none.safetensors")])


@pytest.mark.parametrize(
    ("members", "more", "message"),
    [
        ([], {}, r"Ensemble\.members: expected classifiers of the same"),
        ([Says(0.5, 0.5), Says(0.2, 0.3, 0.5)], {}, r"Ensemble\.members: expected classifiers of the same"),
        ([Says(0.5, 0.5)], {"weights": ["a", "b"]}, r"Ensemble\.weights: expected 1 files"),
        ([Says(0.5, 0.5)], {"weighting": "best"}, r"Ensemble\.weighting: expected one of 'mean', 'confidence'"),
    ],
)
def test_what_cannot_be_an_ensemble(members: list[nn.Module], more: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        Ensemble(members, **more)  # type: ignore[arg-type]
