"""tasks/robustness.py: closed forms on linear models, orders that must hold, and masked gradients found out."""

from __future__ import annotations

import sys
from itertools import pairwise
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limbeck.baselines.classification.hog import HogClassifier
from limbeck.data.glyphs import Glyphs
from limbeck.errors import MissingExtra, RecipeError
from limbeck.networks.classifiers.small_cnn import SmallCnn
from limbeck.recipe.reader import read_recipe
from limbeck.tasks.classification import Classification
from limbeck.tasks.robustness import Robustness

N, SIDE, K = 400, 6, 3


class Linear(nn.Module):
    """Logits W x, wide enough that some samples can be turned within a radius and others cannot."""

    def __init__(self, seed: int = 0, classes: int = K) -> None:
        super().__init__()
        draw = torch.Generator().manual_seed(seed)
        self.weight = nn.Parameter(torch.randn(classes, SIDE * SIDE, generator=draw))

    def forward(self, image: Tensor) -> Tensor:
        return image.flatten(1) @ self.weight.T


def samples(network: nn.Module, wrong: int = 40) -> tuple[Tensor, Tensor]:
    """Return images well inside the bounds with the network's own classes as labels, but for the first few."""
    image = 1.4 * torch.rand(N, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(1)) - 0.7
    label = network(image).argmax(1)
    label[:wrong] = (label[:wrong] + 1) % K
    return image, label


def provably_right(network: Linear, image: Tensor, label: Tensor, radius: float, norm: str) -> float:
    """A linear classifier withstands ε iff its margin to each class j exceeds ε ‖w_j - w_y‖ in the dual norm."""
    logits = network(image)
    apart = network.weight[None] - network.weight[label][:, None]  # (N, K, D)
    gap = logits.gather(1, label[:, None]) - logits
    length = apart.abs().sum(2) if norm == "linf" else apart.norm(dim=2)
    other = F.one_hot(label, K) == 0
    return float(((gap > radius * length) | ~other).all(1).double().mean())


@pytest.mark.parametrize(("norm", "radius"), [("linf", 0.03), ("linf", 0.1), ("l2", 0.25), ("l2", 0.5)])
def test_robust_accuracy_of_a_linear_classifier_is_its_closed_form(norm: str, radius: float) -> None:
    network = Linear()
    image, label = samples(network)
    truth = provably_right(network, image, label, radius, norm)
    assert 0.05 < truth < 0.88
    found = Robustness(radius, norm, restarts=2).evaluate(network, image, label)  # type: ignore[arg-type]
    assert found["robust[ensemble]"] == pytest.approx(truth, abs=5 / N)
    assert found["robust[ensemble]"] >= truth - 1e-9  # no attack can do better than the proof
    assert found["robust[pgd-20]"] == pytest.approx(truth, abs=0.03)
    assert next(iter(found)) == "robust[ensemble]"
    assert ("robust[fgsm]" in found) == ("robust[noise]" in found) == (norm == "linf")


def test_stronger_evidence_is_never_kinder() -> None:
    network = Linear()
    image, label = samples(network)
    found = Robustness(0.1).evaluate(network, image, label)
    clean = float((network(image).argmax(1) == label).double().mean())
    assert found["robust[ensemble]"] <= found["robust[pgd-20]"] <= found["robust[fgsm]"] + 0.01
    assert found["robust[fgsm]"] < found["robust[noise]"] <= clean
    assert found["masking"] < 0.02


def test_an_attack_transferred_from_the_network_itself_is_its_own_pgd() -> None:
    network = Linear()
    image, label = samples(network)
    found = Robustness(0.1).evaluate(network, image, label, teacher=network)
    assert found["robust[transfer]"] == found["robust[pgd-20]"]
    other = Robustness(0.1).evaluate(network, image, label, teacher=Linear(5))
    assert other["robust[transfer]"] > found["robust[pgd-20]"] + 0.2


def test_the_curve_falls_from_the_clean_accuracy() -> None:
    network = Linear()
    image, label = samples(network)
    strengths, right = Robustness(0.1, strengths=(0.1, 0.5, 1.0, 3.0)).curve(network, image, label)
    assert strengths == pytest.approx([0, 0.01, 0.05, 0.1, 0.3])
    some = torch.linspace(0, N - 1, 200).long()
    assert right[0] == pytest.approx(float((network(image[some]).argmax(1) == label[some]).double().mean()))
    assert all(a >= b for a, b in pairwise(right)) and right[-1] < 0.1 < right[1]
    by_hand = provably_right(network, image[some], label[some], 0.05, "linf")
    assert right[2] == pytest.approx(by_hand, abs=0.03)


class Masked(nn.Module):
    """The same decisions by steps: the slope of a staircase is 0 almost everywhere, which fools gradients only."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        logits = self.network(image)
        stairs = logits.detach().mul(4).round() / 4
        return stairs + 0 * logits  # a gradient of exactly 0, as of any quantised network


class Shattered(nn.Module):
    """Slopes of a fine saw tooth point anywhere, though it is too small to change decisions much."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        return self.network(image + 0.01 * torch.sin(image * 3000))


def test_masked_gradients_are_found_out_and_honest_ones_are_not() -> None:
    network = Linear()
    image, label = samples(network, wrong=0)
    judge = Robustness(0.15)
    honest = judge.evaluate(network, image, label)
    assert honest["masking"] <= 0.02 and judge.alarm(network, image, label) is None
    for masked in (Masked(network), Shattered(network)):
        found = judge.evaluate(masked, image, label, teacher=network)
        assert found["robust[pgd-20]"] > honest["robust[pgd-20]"] + 0.2  # it looks robust
        assert found["masking"] > 0.2
        text = judge.alarm(masked, image, label)
        assert text is not None and "gradients look masked" in text and "\n" not in text


def test_a_network_trained_honestly_raises_no_alarm_and_attacks_leave_no_trace() -> None:
    torch.manual_seed(0)
    data = Glyphs(16, train=400, validation=120, test=120, classes="ABC", channels=1)
    train = data.split("train").read(torch.arange(400))
    assert train.image is not None and train.label is not None
    network = SmallCnn(8, size=16, classes=3)
    optimizer = torch.optim.Adam(network.parameters(), 0.01)
    for step in range(60):
        part = torch.arange(step * 50, step * 50 + 50) % 400
        optimizer.zero_grad()
        F.cross_entropy(network(train.image[part]), train.label[part]).backward()
        optimizer.step()
    optimizer.zero_grad()
    network.eval()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    task = Classification(Robustness(0.1, samples=100, steps=10, restarts=1))
    found = task.evaluate(network, data, split="test", seed=0)
    plain = Classification().evaluate(network, data, split="test", seed=0)
    assert {name: found[name] for name in plain} == plain  # nothing else changes
    assert found["top1"] > 0.85 and found["robust[ensemble]"] < 0.6
    assert found["masking"] <= 0.05 and task.alarm(network, data) is None
    assert task.evaluate(network, data, split="test", seed=3) == found  # drawn once for all
    assert all(parameter.grad is None for parameter in network.parameters())
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert task.main_metric == "robust" and Classification().main_metric == "top1"
    titles = [picture.title for picture in task.preview(network, data, 0)]
    assert titles[-1] == "accuracy by strength" and "accuracy by strength" not in [
        picture.title for picture in Classification().preview(network, data, 0)
    ]


def test_without_gradients_only_blind_attacks_are_reported() -> None:
    data = Glyphs(16, train=60, validation=20, test=40, classes="ABC", channels=1)
    train = data.split("train").read(torch.arange(60))
    assert train.image is not None and train.label is not None
    hog = HogClassifier(channels=1, size=16, classes=3)
    hog.fit(train.image, train.label)
    task = Classification(Robustness(0.1))
    found = task.evaluate(hog, data, split="test", seed=0, teacher=SmallCnn(2, size=16, classes=3).eval())
    assert {name for name in found if name.startswith("robust")} == {"robust[noise]", "robust[transfer]"}
    assert "masking" not in found and task.alarm(hog, data) is None
    assert "accuracy by strength" not in [picture.title for picture in task.preview(hog, data, 0)]
    assert "robust[transfer]" not in task.evaluate(hog, data, split="test", seed=0, teacher=hog)


def test_a_recipe_asks_for_it(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text(
        """
name: r
data: {class_path: Glyphs, init_args: {size: 16, classes: ABC, train: 60, validation: 20, test: 20}}
task:
  class_path: Classification
  init_args: {robustness: {class_path: Robustness, init_args: {radius: 0.2, norm: l2}}}
method: Supervised
student: {network: {class_path: SmallCnn, init_args: {channels: 3, size: 16, classes: 3}}, training: {steps: 1}}
""",
        encoding="utf-8",
    )
    task = read_recipe(tmp_path / "r.yaml").task.build()
    assert isinstance(task, Classification) and repr(task.robustness) == repr(Robustness(0.2, "l2"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"radius": 0.0}, "Robustness.radius: expected a number above 0"),
        ({"norm": "l1"}, "Pgd.norm: expected 'linf' or 'l2'"),
        ({"steps": 2}, "Robustness.steps: expected a whole number of at least 3, found 2"),
        ({"restarts": 0}, "Robustness.restarts: expected"),
        ({"samples": 0}, "Robustness.samples: expected"),
        ({"strengths": ()}, "Robustness.strengths: expected rising multiples"),
        ({"strengths": (0.0, 1.0)}, "Robustness.strengths: .*found"),
        ({"strengths": (1.0, 0.5)}, "Robustness.strengths"),
        ({"tolerance": 1.0}, "Robustness.tolerance"),
    ],
)
def test_what_cannot_be_is_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        Robustness(**options)  # type: ignore[arg-type]


class Constant(nn.Module):
    """The first class whatever it is shown."""

    def __init__(self) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.tensor([1.0, 0.0, 0.0]))

    def forward(self, image: Tensor) -> Tensor:
        return self.logits + 0 * image.flatten(1).sum(1, keepdim=True)


def test_a_classifier_that_answers_the_same_to_everything_masks_nothing() -> None:
    image = torch.rand(30, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    label = torch.arange(30) % 3
    found = Robustness().evaluate(Constant(), image, label)
    assert found["masking"] == 0 and found["robust[ensemble]"] == pytest.approx(1 / 3)
    assert Robustness().alarm(Constant(), image, label) is None


@pytest.mark.parametrize(("norm", "radius"), [("linf", 0.1), ("l2", 0.5)])
def test_autoattack_on_a_linear_classifier_is_its_closed_form_and_leaves_nothing_behind(
    norm: str, radius: float
) -> None:
    pytest.importorskip("pyautoattack")
    network = Linear().eval()
    image, label = samples(network)
    image, label = image[30:80], label[30:80]  # 10 of them are wrong before
    truth = provably_right(network, image, label, radius, norm)
    assert 0.05 < truth < 0.7
    before = torch.random.get_rng_state()
    attack = Robustness(radius, norm, autoattack=True)  # type: ignore[arg-type]
    found = attack.evaluate(network, image, label)
    assert found["robust[autoattack]"] == pytest.approx(truth, abs=1e-9)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert network.weight.grad is None and network.weight.requires_grad and not network.training
    assert found.items() > Robustness(radius, norm).evaluate(network, image, label).items()  # type: ignore[arg-type]


@pytest.mark.parametrize("classes", [2, 5])
def test_autoattack_has_targets_among_many_classes_and_few(classes: int) -> None:
    pytest.importorskip("pyautoattack")
    network = Linear(classes=classes).eval()
    image = torch.rand(20, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(0)) - 0.5
    with torch.no_grad():
        label = network(image).argmax(1)
    found = Robustness(0.05, autoattack=True).evaluate(network, image, label)
    assert found["robust[autoattack]"] <= found["robust[ensemble]"]


def test_without_autoattack_results_are_remembered_as_before() -> None:
    assert "autoattack" not in repr(Robustness())
    pytest.importorskip("pyautoattack")
    assert "autoattack=True" in repr(Robustness(autoattack=True))


def test_autoattack_that_is_not_installed_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyautoattack", None)
    with pytest.raises(MissingExtra, match=r"limbeck\[robust\]"):
        Robustness(autoattack=True)
