"""metrics/perceptual.py and tasks/perceptual_distance.py: eq. 1 of Zhang et al. 2018 written again, and its place."""

from __future__ import annotations

import itertools
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from limbeck.data.degradations.add_noise import AddNoise
from limbeck.data.photo_set import PhotoSet
from limbeck.data.tensors import TensorImages
from limbeck.errors import DataError, RecipeError, WeightsError
from limbeck.metrics.perceptual import perceptual_distance
from limbeck.networks.classifiers.vgg import Vgg16
from limbeck.tasks.perceptual_distance import PerceptualDistance
from limbeck.tasks.restoration import Restoration

DATA = Path(os.environ.get("LIMBECK_DATA", "nowhere"))
PUBLISHED = DATA / "weights" / "lpips_linear_v0.1" / "vgg.pth"
CHANNELS = (64, 128, 256, 512, 512)  # of the five layers of VGG-16 that the authors look at


def features(seed: int, *shapes: tuple[int, ...]) -> list[Tensor]:
    draw = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=draw, dtype=torch.float64) for shape in shapes]


def written_again(one: list[Tensor], other: list[Tensor], weights: list[Tensor]) -> list[float]:
    total = [0.0] * len(one[0])
    for f, g, w in zip(one, other, weights, strict=True):
        samples, _, height, width = f.shape
        for n, y, x in itertools.product(range(samples), range(height), range(width)):
            a, b = f[n, :, y, x].numpy(), g[n, :, y, x].numpy()
            change = a / np.linalg.norm(a) - b / np.linalg.norm(b)
            total[n] += float((w.numpy() * change**2).sum()) / (height * width)
    return total


def test_it_is_equation_1() -> None:
    shapes = (2, 3, 4, 5), (2, 6, 2, 3)
    one, other = features(0, *shapes), features(1, *shapes)
    weights = [torch.rand(c, generator=torch.Generator().manual_seed(c), dtype=torch.float64) for c in (3, 6)]
    found = perceptual_distance(one, other, weights)
    np.testing.assert_allclose(found.numpy(), written_again(one, other, weights), rtol=1e-9)
    plain = perceptual_distance(one, other)
    np.testing.assert_allclose(plain.numpy(), written_again(one, other, [torch.ones(3), torch.ones(6)]), rtol=1e-9)


def test_what_is_known_of_it() -> None:
    (f,) = features(0, (3, 4, 5, 5))
    assert torch.equal(perceptual_distance([f], [f]), torch.zeros(3, dtype=torch.float64))
    torch.testing.assert_close(perceptual_distance([f], [-f]), torch.full((3,), 4.0, dtype=torch.float64))
    torch.testing.assert_close(perceptual_distance([f], [f * 7]), torch.zeros(3, dtype=torch.float64))  # of one length
    one, other = torch.tensor([1.0, 0]).view(1, 2, 1, 1), torch.tensor([3.0, 4]).view(1, 2, 1, 1)
    assert float(perceptual_distance([one], [other])) == pytest.approx(0.4**2 + 0.8**2)
    assert float(perceptual_distance([one], [other], [torch.tensor([2.0, 0.5])])) == pytest.approx(0.32 + 0.32)
    assert float(perceptual_distance([torch.zeros(1, 2, 1, 1)], [other])) == pytest.approx(1.0)  # a place that is dark


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (([], []), "of the same layers, found 0, 0"),
        ((features(0, (1, 2, 2, 2)), features(0, (1, 2, 2, 3))), "expected two equal shapes"),
        ((features(0, (1, 2, 2, 2)),) * 2 + ([torch.ones(3)],), r"expected weights \(2,\), found \(3,\)"),
        ((features(0, (1, 2, 2, 2)),) * 2 + ([-torch.ones(2)],), "expected weights of at least 0, found -1"),
    ],
)
def test_what_does_not_fit_is_refused(arguments: Any, says: str) -> None:
    with pytest.raises(DataError, match=says):
        perceptual_distance(*arguments)


def images(channels: int = 3) -> TensorImages:
    draw = torch.Generator().manual_seed(0)
    coarse = torch.randint(40, 200, (40, channels, 8, 8), generator=draw).float()
    image = nn.functional.interpolate(coarse, 32, mode="bilinear").round().to(torch.uint8)
    return TensorImages(image, validation=0.2, test=0.3)


@pytest.mark.parametrize("channels", [1, 3])
def test_restoration_measures_it_and_more_noise_is_further(channels: int) -> None:
    seen = PerceptualDistance(Vgg16(), ["relu1_2", "relu2_2"])
    found = [
        Restoration(AddNoise(level), perceptual=seen, samples=4).evaluate(
            nn.Identity(), images(channels), split="test", seed=0
        )["perceptual[vgg16-2]"]
        for level in (0.01, 10, 40)
    ]
    assert found[0] == pytest.approx(0, abs=1e-9) and 1e-4 < found[1] < found[2] / 2


def test_metrics_of_sets_carry_both_names(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 20, 3), dtype=np.uint8)).save(
        tmp_path / "photos" / "a.png"
    )
    photos = PhotoSet(str(tmp_path / "photos"))
    task = Restoration(AddNoise(10), [photos], perceptual=PerceptualDistance(Vgg16(), name="mine"))
    found = task.evaluate(nn.Identity(), images(), split="test", seed=0)
    assert {"perceptual[mine, photos]", "psnr[photos]"} < set(found)


def test_evaluations_are_remembered_by_what_it_depends_on(tmp_path: Path) -> None:
    paths = ["relu1_2", "relu2_1"]
    other = Vgg16()
    with torch.no_grad():
        next(other.parameters()).add_(0.01)
    file = tmp_path / "linear.pth"
    torch.save({f"lin{n}.model.1.weight": torch.rand(1, c, 1, 1) for n, c in enumerate((64, 128))}, file)
    several = [
        PerceptualDistance(Vgg16(), paths),
        PerceptualDistance(Vgg16(), paths[:1]),
        PerceptualDistance(other, paths),
        PerceptualDistance(Vgg16(), paths, str(file)),
    ]
    assert len({repr(one) for one in several}) == 4
    assert repr(several[0]) == repr(PerceptualDistance(Vgg16(), paths))
    assert [one.name for one in several] == ["vgg16-2", "vgg16-1", "vgg16-2", "vgg16-2-weighted"]


def test_bad_arguments(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="feature path 'relu9': no such module"):
        PerceptualDistance(Vgg16(), ["relu9"])
    with pytest.raises(RecipeError, match=r"expected layers of \(N, C, H, W\), found none"):
        PerceptualDistance(Vgg16(), [])
    torch.save({"lin0.model.1.weight": torch.ones(1, 64, 1, 1)}, tmp_path / "one.pth")
    with pytest.raises(WeightsError, match=r"one\.pth"):
        PerceptualDistance(Vgg16(), ["relu1_2", "relu2_2"], str(tmp_path / "one.pth"))


class FiveLayers(nn.Module):
    """Features as wide as those of VGG-16."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv2d(3, c, 1) for c in CHANNELS)

    def forward(self, image: Tensor) -> Tensor:
        return torch.cat([layer(image) for layer in self.layers], 1)


@pytest.mark.skipif(not PUBLISHED.is_file(), reason="needs weights/lpips_linear_v0.1 of LIMBECK_DATA")
def test_the_published_weights_are_read_for_all_five_layers_and_no_fewer() -> None:
    torch.manual_seed(0)
    paths = [f"layers.{number}" for number in range(5)]
    seen = PerceptualDistance(FiveLayers(), paths, str(PUBLISHED))
    given = torch.load(PUBLISHED, map_location="cpu", weights_only=True)
    assert seen.weights is not None and [len(weight) for weight in seen.weights] == list(CHANNELS)
    for number, weight in enumerate(seen.weights):
        assert torch.equal(weight, given[f"lin{number}.model.1.weight"].flatten())
    one, other = torch.rand(2, 3, 9, 9), torch.rand(2, 3, 9, 9)
    assert seen(one, one).abs().max() == 0 and seen(one, other).min() > 0
    with pytest.raises(WeightsError, match=r"vgg\.pth"):
        PerceptualDistance(Vgg16(), weights=str(PUBLISHED))  # three layers, and another network's channels
