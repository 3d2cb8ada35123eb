"""tasks/stylization.py: whether paintings move with their image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from limbeck.data.tensors import TensorImages
from limbeck.errors import RecipeError
from limbeck.metrics.work import macs
from limbeck.networks.stylizers.johnson import JohnsonStylizer
from limbeck.tasks.stylization import Stylization


class Blocks(nn.Module):
    """Paints squares of 4 pixels, each in its mean colour: it is equivariant to a move by 4 pixels, not by fewer."""

    def forward(self, image: Tensor) -> Tensor:
        height, width = image.shape[2:]
        means = nn.functional.avg_pool2d(image, 4, ceil_mode=True)
        return means.repeat_interleave(4, 2).repeat_interleave(4, 3)[..., :height, :width]


class Negative(nn.Module):
    def forward(self, image: Tensor) -> Tensor:
        return -image


@pytest.fixture
def task(tmp_path: Path) -> Stylization:
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "style.png")
    return Stylization([str(tmp_path / "style.png")], nn.Sequential(nn.Conv2d(3, 2, 3)), ["0"], ["0"], style_size=16)


def test_a_painting_that_jumps_between_strides_is_not_stable(task: Stylization) -> None:
    draw = torch.Generator().manual_seed(0)
    image = torch.randint(0, 256, (20, 3, 32, 32), generator=draw, dtype=torch.uint8)
    data = TensorImages(image, validation=0.2, test=0.5)
    seen = torch.rand(1, 3, 32, 32, generator=draw)
    assert torch.equal(Blocks()(seen[..., 4:, 4:]), Blocks()(seen)[..., 4:, 4:])
    found = {type(n): task.evaluate(n, data, split="test", seed=0)["stability"] for n in (Blocks(), Negative())}
    assert found[Blocks] < 30 and found[Negative] == 100
    alike = task.evaluate(Blocks(), data, split="test", seed=0, teacher=Blocks())
    assert alike["psnr_to_teacher"] == 100


def test_a_network_is_known_by_what_the_pictures_show(task: Stylization, tmp_path: Path) -> None:
    def again() -> Stylization:
        return Stylization(task.styles, nn.Sequential(nn.Conv2d(3, 2, 3)), ["0"], ["0"], style_size=16)

    assert again().training_identity() == task.training_identity()
    Image.fromarray(np.full((16, 16, 3), 90, dtype=np.uint8)).save(tmp_path / "style.png")
    assert again().training_identity() != task.training_identity()


def test_cost_is_measured_at_the_size_that_is_asked_for(tmp_path: Path) -> None:
    """A fully convolutional network has about four times the work at twice the size; quality knows nothing of it."""
    Image.fromarray(np.full((16, 16, 3), 90, dtype=np.uint8)).save(tmp_path / "style.png")
    image = torch.randint(0, 256, (20, 3, 20, 24), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    data, network = TensorImages(image, validation=0.2, test=0.5), JohnsonStylizer(4, 1).eval()

    def task(size: int | None) -> Stylization:
        seen = nn.Sequential(nn.Conv2d(3, 2, 3))
        torch.nn.init.ones_(seen[0].weight)  # type: ignore[arg-type]
        return Stylization([str(tmp_path / "style.png")], seen, ["0"], ["0"], style_size=16, cost_size=size)

    work = {size: macs(network, task(size).example(data, 1)).count for size in (64, 128)}
    assert work[128] / work[64] == pytest.approx(4, rel=0.01)
    assert task(64).example(data, 3)[0].shape == (3, 3, 64, 64) and task(None).example(data, 3)[0].shape[2:] == (20, 24)
    with pytest.raises(RecipeError, match=r"task.cost_size: expected a whole number of at least 16, or null, found 0"):
        task(0)
    questions = [{k: v for k, v in vars(task(s)).items() if not k.startswith("_")} for s in (None, 64)]
    assert "cost_size" not in questions[1] and questions[0].keys() == questions[1].keys()
