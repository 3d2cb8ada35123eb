"""tasks/restoration.py: figures by hand and as published, and pictures of the same places."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from toys import ToyRestorer

from limbeck.data.base import Degradation, to_float
from limbeck.data.degradations.add_noise import AddNoise
from limbeck.data.degradations.as_given import AsGiven
from limbeck.data.degradations.blur import Blur
from limbeck.data.degradations.downscale import Downscale
from limbeck.data.degradations.holes import Holes
from limbeck.data.degradations.jpeg import Jpeg
from limbeck.data.photo_crops import PhotoCrops
from limbeck.data.photo_set import PhotoSet
from limbeck.data.tensors import TensorImages
from limbeck.errors import RecipeError
from limbeck.ground.resampling import resize
from limbeck.metrics.image import luminance
from limbeck.tasks.restoration import Restoration
from limbeck.types import Batch


class Enlarge(nn.Module):
    def __init__(self, scale: int = 4) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, image: Tensor) -> Tensor:
        return resize(image, (image.shape[2] * self.scale, image.shape[3] * self.scale))


class Fill(nn.Module):
    """Gives every pixel one value, in the holes or everywhere."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = value

    def forward(self, image: Tensor) -> Tensor:
        hole = image[:, -1:] > 0
        return torch.where(hole, torch.full_like(image[:, :-1], self.value), image[:, :-1])


def data(channels: int = 3, size: int = 32) -> TensorImages:
    draw = torch.Generator().manual_seed(0)
    coarse = torch.randint(40, 200, (40, channels, 8, 8), generator=draw).float()
    image = nn.functional.interpolate(coarse, size, mode="bilinear").round().to(torch.uint8)
    return TensorImages(image, validation=0.2, test=0.3)


def test_luminance_of_the_corners_of_the_cube() -> None:
    colours = torch.tensor([[-1.0, -1, -1], [1, 1, 1], [1, -1, -1], [-1, 1, -1]]).view(4, 3, 1, 1)
    levels = (luminance(colours).flatten() + 1) * 127.5
    torch.testing.assert_close(levels, torch.tensor([16.0, 235.0, 81.481, 144.553]))


def test_a_hole_filled_with_a_wrong_value_has_the_psnr_of_its_error() -> None:
    grey = TensorImages(torch.full((20, 1, 16, 16), 127, dtype=torch.uint8), validation=0.2, test=0.5)
    task = Restoration(Holes("box", 0.2))
    found = task.evaluate(Fill(64 / 127.5 - 1), grey, split="test", seed=0)
    assert found["l1_inside"] == pytest.approx(63, abs=1e-3)
    assert found["psnr_inside"] == pytest.approx(20 * np.log10(255 / 63), abs=1e-3)
    assert found["psnr"] > found["psnr_inside"] + 6  # four fifths of the pixels are right
    assert found["l1_outside"] == 0
    assert task.main_metric == "psnr_inside"


def test_what_is_changed_around_a_hole_is_measured_there() -> None:
    class Repaint(nn.Module):
        def forward(self, image: Tensor) -> Tensor:
            return torch.where(image[:, 1:] > 0, 64 / 127.5 - 1, image[:, :1] + 8 / 127.5)

    grey = TensorImages(torch.full((20, 1, 16, 16), 127, dtype=torch.uint8), validation=0.2, test=0.5)
    found = Restoration(Holes("box", 0.2)).evaluate(Repaint(), grey, split="test", seed=0)
    assert [found[f"l1_{where}"] for where in ("inside", "outside")] == pytest.approx([63, 8], abs=1e-3)


@pytest.mark.parametrize(
    ("degradation", "metric"),
    [(Downscale(2), "psnr_y"), (Jpeg(), "psnr_y"), (AddNoise(), "psnr"), (Blur(), "psnr"), (Holes(), "psnr_inside")],
)
def test_the_main_metric_is_that_of_the_field(degradation: Degradation, metric: str) -> None:
    assert Restoration(degradation).main_metric == metric


def test_an_image_that_is_restored_perfectly_counts_100_db() -> None:
    levels = torch.tensor([127, 64], dtype=torch.uint8).repeat(10).view(20, 1, 1, 1).expand(20, 1, 16, 16)
    grey = TensorImages(levels, validation=0.2, test=0.5)
    image = grey.split("test").read(torch.arange(10)).image
    assert image is not None
    perfect = float((image[:, 0, 0, 0] > -0.2).float().mean())
    found = Restoration(Holes("box", 0.2)).evaluate(Fill(127 / 127.5 - 1), grey, split="test", seed=0)
    assert 0 < perfect < 1
    assert found["psnr_inside"] == pytest.approx(perfect * 100 + (1 - perfect) * 20 * np.log10(255 / 63), abs=1e-3)
    assert all(np.isfinite(value) for value in found.values())


def test_the_border_is_left_out() -> None:
    class Framed(nn.Module):
        def forward(self, image: Tensor) -> Tensor:
            found = image.clone()
            found[..., :2] = -1
            return found

    spoilt = Framed()
    task, clean = Restoration(AddNoise(1e-6), border=2), data(1)
    assert task.evaluate(spoilt, clean, split="test", seed=0)["psnr"] > 60
    assert Restoration(AddNoise(1e-6)).evaluate(spoilt, clean, split="test", seed=0)["psnr"] < 30
    assert Restoration(Downscale(4)).border == 4


def test_training_batches_have_the_whole_image_as_target_and_the_same_degradation_for_the_same_seed() -> None:
    task, image = Restoration(AddNoise()), torch.zeros(4, 1, 8, 8)
    batch = Batch(image=image, drawn={"restoration.seed": torch.arange(4)})
    found, again = task.prepare(batch), task.prepare(batch)
    assert found.target is not None and torch.equal(found.target, image)
    assert found.image is not None and again.image is not None and torch.equal(found.image, again.image)
    untouched = Restoration(AddNoise(), unlabelled=True).prepare(batch)
    assert untouched.target is None and untouched.image is not None and torch.equal(untouched.image, image)


def test_a_network_is_known_by_what_it_learned_to_restore() -> None:
    """An arm that removes other noise, or learned from whole images, is another arm."""
    tasks = [Restoration(AddNoise(0.1)), Restoration(AddNoise(0.2)), Restoration(AddNoise(0.1), unlabelled=True)]
    assert len({str(task.training_identity()) for task in tasks}) == 3
    assert (
        Restoration(AddNoise(0.1), samples=3).training_identity() == tasks[0].training_identity()
    )  # what is measured is another matter


def test_images_are_cut_to_a_multiple_of_the_scale() -> None:
    task, images = Restoration(Downscale(3)), data(1, 64)
    image = images.split("train").read(torch.arange(4)).image
    assert image is not None
    found = task.prepare(Batch(image=image, drawn={"restoration.seed": torch.arange(4)}))
    assert found.image is not None and found.target is not None
    assert found.image.shape == (4, 1, 21, 21) and torch.equal(found.target, image[..., :63, :63])
    assert task.example(images, 2)[0].shape == (2, 1, 21, 21)
    assert task.evaluate(Enlarge(3), images, split="test", seed=0)["psnr"] > 30
    (seen,), (truth,) = task.references(images, 0).values()
    assert seen.images.shape == truth.images.shape


def test_images_without_a_mask_cannot_stand_for_those_with_holes() -> None:
    with pytest.raises(RecipeError, match=r"task\.unlabelled: expected false, as training images have no channel"):
        Restoration(Holes(), unlabelled=True)


def test_what_is_given_is_restored_as_it_is_and_nothing_is_made(tmp_path: Path) -> None:
    for folder in ("whole", "small"):
        (tmp_path / folder).mkdir()
    for number in range(10):
        pixels = torch.from_numpy(np.random.default_rng(number).integers(0, 256, (3, 16, 24), dtype=np.uint8))
        small = Downscale(2)(to_float(pixels)[None], torch.tensor([0]))[0]
        for folder, image in (("whole", to_float(pixels)), ("small", small)):
            levels = ((image + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()
            Image.fromarray(levels).save(tmp_path / folder / f"{number}.png")
    whole, small = str(tmp_path / "whole"), str(tmp_path / "small")
    task, made = Restoration(AsGiven(2), samples=9), Restoration(Downscale(2), samples=9)
    given = PhotoCrops(whole, 16, degraded=small, test=0.3, validation=0.3)
    plain = PhotoCrops(whole, 16, test=0.3, validation=0.3)
    found = task.evaluate(Enlarge(2), given, split="test", seed=0)
    expected = made.evaluate(Enlarge(2), plain, split="test", seed=0)
    assert found.keys() == expected.keys()
    assert found["psnr_y"] == pytest.approx(expected["psnr_y"], abs=1.5)  # cut-outs differ at their edges alone
    batch = given.split("train").read(torch.arange(2))
    ready = task.prepare(batch.replace(drawn={"restoration.seed": torch.arange(2)}))
    assert ready.image is not None and torch.equal(ready.image, batch.fields["degraded"])
    assert ready.target is not None and batch.image is not None and torch.equal(ready.target, batch.image)
    assert task.border == 2 and task.method_arguments(given) == {"size": (8, 8)}
    assert task.example(given, 3)[0].shape == (3, 3, 8, 8)
    sets = [PhotoSet(whole, small, name="pairs"), PhotoSet(whole, name="alone")]
    both = (Restoration(degradation, sets[:1]) for degradation in (AsGiven(2), Downscale(2)))
    taken, again = (each.evaluate(Enlarge(2), plain, split="test", seed=0) for each in both)
    assert taken == pytest.approx(again)
    with pytest.raises(RecipeError, match=r"task.sets: expected sets with a folder `degraded`, .* found \['alone'\]"):
        Restoration(AsGiven(2), sets)
    with pytest.raises(RecipeError, match=r"task.unlabelled: expected false, as AsGiven comes with whole images"):
        Restoration(AsGiven(2), unlabelled=True)


def test_sets_replace_the_split_that_is_referred_to(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        for number in range(2):
            pixels = np.random.default_rng(number).integers(0, 256, (30, 41 + number, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / name / f"{number}.png")
    sets = [PhotoSet(str(tmp_path / "one")), PhotoSet(str(tmp_path / "two"), name="zwei")]
    task, network = Restoration(Downscale(2), sets), Enlarge(2)
    found = task.evaluate(network, data(), split="test", seed=0)
    assert next(iter(found)) == "psnr[zwei]" and {name.partition("[")[2] for name in found} == {"one]", "zwei]"}
    assert found["psnr_y[one]"] == found["psnr_y[zwei]"]
    assert "psnr_y" in task.evaluate(network, data(), split="validation", seed=0)
    each = task.per_image(network, sets[0])["psnr_y"]
    assert each.shape == (2,) and float(each.mean()) == pytest.approx(found["psnr_y[one]"])
    with pytest.raises(RecipeError, match=r"task\.sets: expected different names, found one, one"):
        Restoration(Downscale(2), sets[:1] * 2)


def test_a_network_of_another_scale_is_refused_in_one_line() -> None:
    with pytest.raises(RecipeError, match=r"ToyRestorer: expected images \(1, 32, 32\).* is its scale"):
        Restoration(Downscale(2)).evaluate(ToyRestorer(scale=4), data(1), split="test", seed=0)


def test_pictures_of_all_arms_and_of_the_truth_show_the_same_places() -> None:
    task, images = Restoration(Downscale(2)), data()
    (mine,) = task.preview(Enlarge(2), images, 0)
    references = task.references(images, 0)
    assert list(references) == ["input", "truth"]
    (seen,), (truth,) = references["input"], references["truth"]
    assert mine.images.shape == seen.images.shape == truth.images.shape
    assert mine.title == seen.title == truth.title
    errors = [float((picture.images - truth.images).abs().mean()) for picture in (mine, seen)]
    assert errors[0] < errors[1] < 0.2


@pytest.mark.skipif(
    not (Path(os.environ.get("LIMBECK_DATA", "nowhere")) / "sr" / "Set5").is_dir(),
    reason="needs sr/Set5 of LIMBECK_DATA",
)
@pytest.mark.parametrize("given", ["sr/Set5/LR_x4", None])
def test_bicubic_on_set5_is_as_published(given: str | None) -> None:
    task = Restoration(Downscale(4), [PhotoSet("sr/Set5/HR", given, name="set5")])
    found = task.evaluate(Enlarge(), data(), split="test", seed=0)
    assert found["psnr_y[set5]"] == pytest.approx(28.43, abs=0.005)
    assert found["ssim_y[set5]"] == pytest.approx(0.8104, abs=0.0015)


def test_cost_is_measured_at_the_size_that_is_asked_for() -> None:
    image = torch.randint(0, 256, (20, 1, 16, 16), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    data = TensorImages(image, validation=0.2, test=0.5)
    (degraded,) = Restoration(Holes(), cost_size=40).example(data, 3)
    assert degraded.shape == (3, 2, 40, 40) and set(degraded[:, 1].unique().tolist()) == {-1.0, 1.0}
    assert Restoration(Downscale(2)).example(data, 3)[0].shape == (3, 1, 8, 8)
    with pytest.raises(RecipeError, match=r"task.cost_size: expected a whole number of at least 1, or null, found 0"):
        Restoration(Holes(), cost_size=0)
