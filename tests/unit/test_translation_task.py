"""tasks/translation.py: figures by hand, what is compared with what, and pictures of the same places."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio
from torch import Tensor, nn
from toys import ToyPairs

from limbeck.data.base import InMemory, Split
from limbeck.data.tensors import TensorImages
from limbeck.errors import DataError, RecipeError
from limbeck.metrics.distribution import fid, mmd2
from limbeck.metrics.features import MapFeatures
from limbeck.tasks.translation import ImageTranslation
from limbeck.types import VOID, Batch


class Shifted(nn.Module):
    """The negative, which is right, and some grey levels more, which is not."""

    def __init__(self, levels: float = 0.0) -> None:
        super().__init__()
        self.levels = levels

    def forward(self, image: Tensor) -> Tensor:
        return -image + self.levels / 127.5


def images(size: int = 16) -> TensorImages:
    draw = torch.Generator().manual_seed(0)
    return TensorImages(
        torch.randint(30, 220, (60, 3, size, size), generator=draw, dtype=torch.uint8), validation=0.2, test=0.3
    )


def means() -> MapFeatures:
    return MapFeatures(nn.AvgPool2d(8), "means")


def test_figures_of_a_known_error() -> None:
    found = ImageTranslation().evaluate(Shifted(12), ToyPairs(images()), split="test", seed=0, teacher=Shifted(15))
    assert found["l1"] == pytest.approx(12, abs=1e-3)
    assert found["psnr"] == pytest.approx(20 * np.log10(255 / 12), abs=1e-3)
    assert found["psnr_to_teacher"] == pytest.approx(20 * np.log10(255 / 3), abs=1e-3)
    assert found["ssim"] < found["ssim_to_teacher"] < 1 and "l1_to_teacher" not in found


def test_outputs_have_256_levels_as_a_file_would() -> None:
    data = ToyPairs(images())
    found = ImageTranslation().evaluate(Shifted(0.4), data, split="test", seed=0)  # less than half a level
    assert found["l1"] == pytest.approx(0, abs=1e-5) and found["psnr"] == 100
    spread = nn.Sequential(Shifted(), nn.Hardtanh(-0.5, 0.5), nn.Tanh())
    (image, target), *_ = [(b.image, b.target) for b in [data.split("test").read(torch.arange(1))]]
    levels = [((t[0] + 1) * 127.5).round().numpy().astype(np.uint8) for t in (spread(image), target)]
    one = ImageTranslation(2)
    made = one.evaluate(spread, _Only(levels[1]), split="test", seed=0)["psnr"]
    assert made == pytest.approx(peak_signal_noise_ratio(levels[1], levels[0]), abs=1e-4)


class _Only(ToyPairs):
    """A single pair, whose target has these levels (C, H, W)."""

    def __init__(self, levels: np.ndarray) -> None:
        super().__init__(images())
        self.levels = torch.from_numpy(levels)[None]

    def split(self, name: Split) -> InMemory:
        return InMemory(255 - self.levels, target=self.levels)


def test_distances_are_those_of_what_is_made_and_of_what_is_true() -> None:
    data, features = ToyPairs(images()), means()
    found = ImageTranslation().evaluate(Shifted(12), data, split="test", seed=0, extractor=features)
    true = data.split("test").read(torch.arange(len(data.split("test")))).target
    assert true is not None
    ours, theirs = (features(image)[0] for image in (true + 12 / 127.5, true))
    assert found["fid[means]"] == pytest.approx(fid(theirs, ours), rel=1e-4)
    assert found["kid[means]"] == pytest.approx(mmd2(theirs, ours), rel=1e-4)  # every subset is all there is
    perfect = ImageTranslation().evaluate(Shifted(), data, split="test", seed=0, extractor=features)
    assert perfect["fid[means]"] < 1e-6 < found["fid[means]"] and perfect["kid[means]"] < found["kid[means]"]


class Seen(nn.Module):
    """Tells the classes of `ToyPairs` from their targets."""

    def forward(self, image: Tensor) -> Tensor:
        level = 255 - ((image[:, 0] + 1) * 127.5).round()
        return nn.functional.one_hot((level // 86).long(), 3).movedim(3, 1).float()


class Unmasked(ToyPairs):
    """Pairs without masks."""

    def split(self, name: Split) -> InMemory:
        found = super().split(name)
        return InMemory(found.image, target=found.target)


def test_what_a_segmenter_sees_is_compared_with_the_masks() -> None:
    data, task = ToyPairs(images()), ImageTranslation(segmenter=Seen())
    assert task.evaluate(Shifted(), data, split="test", seed=0)["miou"] == 1
    grey = task.evaluate(nn.Hardtanh(0.0, 1e-4), data, split="test", seed=0)["miou"]
    mask = data.split("test").mask
    assert mask is not None
    known = mask[mask != VOID]
    assert grey == pytest.approx(float((known == 1).float().mean()) / 3)  # all are taken for grey
    assert task.floor(data) == {"miou": 1.0}
    assert "miou" not in ImageTranslation().evaluate(Shifted(), data, split="test", seed=0)
    with pytest.raises(DataError, match=r"translation\.segmenter: expected data with masks, found none"):
        task.evaluate(Shifted(), Unmasked(images()), split="test", seed=0)


def test_the_floor_compares_as_many_photographs_of_training() -> None:
    data, features = ToyPairs(images()), means()
    floor = ImageTranslation().floor(data, extractor=features)
    assert set(floor) == {"kid[means]", "fid[means]"}
    train, test = (data.split(name) for name in ("train", "test"))
    assert len(test) == 18 < len(train) == 30
    chosen = [features(_targets(part))[0] for part in (train, test)]
    assert floor["fid[means]"] != pytest.approx(fid(chosen[1], chosen[0]))  # that would be all 30 of them
    assert ImageTranslation().floor(data) == {}
    assert ImageTranslation(5).floor(data, extractor=features) != floor


def _targets(part: InMemory) -> Tensor:
    target = part.read(torch.arange(len(part))).target
    assert target is not None
    return target


def test_training_sees_the_pairs_of_the_data_as_they_are() -> None:
    batch = ToyPairs(images()).split("train").read(torch.arange(4))
    assert ImageTranslation().prepare(batch) is batch
    with pytest.raises(DataError, match="translation: expected data with targets, found none"):
        ImageTranslation().prepare(Batch(image=batch.image))
    with pytest.raises(DataError, match="found none; choose a set with targets"):
        ImageTranslation().evaluate(Shifted(), images(), split="test", seed=0)


def test_what_cannot_be_is_refused_in_one_line() -> None:
    with pytest.raises(RecipeError, match=r"task\.samples: expected at least 2, found 1"):
        ImageTranslation(1)
    with pytest.raises(RecipeError, match=r"AvgPool2d: expected images \(3, 16, 16\) .* found \(3, 8, 8\)"):
        ImageTranslation().evaluate(nn.AvgPool2d(2), ToyPairs(images()), split="test", seed=0)


def test_pictures_of_all_arms_of_input_and_truth_show_the_same_images() -> None:
    task, data = ImageTranslation(), ToyPairs(images())
    (mine,) = task.preview(Shifted(), data, 0)
    references = task.references(data, 0)
    assert list(references) == ["input", "truth"]
    (seen,), (truth,) = references["input"], references["truth"]
    assert mine.title == seen.title == truth.title and mine.columns == seen.columns == 3
    assert len(mine.images) == 6
    torch.testing.assert_close(mine.images, truth.images, rtol=0, atol=1e-6)
    torch.testing.assert_close(seen.images, -truth.images, rtol=0, atol=1e-6)
