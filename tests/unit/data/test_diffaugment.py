"""DiffAugment against the paper's operations written out in numpy, one image at a time, and gradients."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from limbeck.data.augmentations.diffaugment import DiffAugment, brightness, contrast, cutout, saturation, translation
from limbeck.errors import RecipeError
from limbeck.types import KINDS, VOID

MASK, TARGET = KINDS["mask"], KINDS["target"]


def image(count: int = 4, height: int = 16, width: int = 24) -> Tensor:
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(0)) * 2 - 1


def drawn(augmentation: DiffAugment, count: int, seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name: draw.sample(count, generator) for name, draw in augmentation.draws().items()}


def test_colour_is_as_in_the_paper() -> None:
    x, u = image(), torch.tensor([0.0, 0.25, 0.5, 0.9])
    for i, (one, draw) in enumerate(zip(x.numpy(), u.tolist(), strict=True)):
        assert np.allclose(brightness(x, u)[i], one + draw - 0.5, atol=1e-6)
        grey = one.mean(0)
        assert np.allclose(saturation(x, u)[i], grey + 2 * draw * (one - grey), atol=1e-6)
        assert np.allclose(contrast(x, u)[i], one.mean() + (draw + 0.5) * (one - one.mean()), atol=1e-6)


def test_colour_at_its_neutral_draw_changes_nothing() -> None:
    half = torch.full((4,), 0.5)
    for change in (brightness, saturation, contrast):
        torch.testing.assert_close(change(image(), half), image(), atol=1e-6, rtol=0)


def test_translation_moves_whole_pixels_up_to_an_eighth_and_brings_in_zero() -> None:
    x = image(700)
    u = torch.rand(700, 2, generator=torch.Generator().manual_seed(1))
    moved = translation(x, u).numpy()
    seen = set()
    for i in range(700):
        right, down = int(u[i, 0] * 7) - 3, int(u[i, 1] * 5) - 2  # 24 / 8 = 3 and 16 / 8 = 2 either way
        padded = np.pad(x[i].numpy(), ((0, 0), (2, 2), (3, 3)))
        assert np.array_equal(moved[i], padded[:, 2 + down : 18 + down, 3 + right : 27 + right])
        seen.add((right, down))
    assert len(seen) == 35


def test_cutout_is_half_the_side_about_any_pixel() -> None:
    x = torch.ones(700, 1, 16, 24)
    u = torch.rand(700, 2, generator=torch.Generator().manual_seed(1))
    gone = cutout(x, u) == 0
    for i in range(0, 700, 7):
        left, top = int(u[i, 0] * 25) - 6, int(u[i, 1] * 17) - 4  # even holes of 12 and 8: 25 and 17 places
        expected = np.zeros((16, 24), bool)
        expected[max(0, top) : top + 8, max(0, left) : left + 12] = True
        assert np.array_equal(gone[i, 0].numpy(), expected)
    assert gone.any(0).all()  # every pixel is reached


def test_odd_sides() -> None:
    x = torch.ones(500, 1, 5, 5)  # hole int(5 / 2 + 0.5) = 3, odd: 5 places; shift int(5 / 8 + 0.5) = 1
    u = torch.rand(500, 2, generator=torch.Generator().manual_seed(1))
    assert set((cutout(x, u) == 0).sum((1, 2, 3)).tolist()) == {4, 6, 9}
    assert set((translation(x, u) == 0).sum((1, 2, 3)).tolist()) == {0, 5, 9}


def test_a_policy_is_its_changes_in_order() -> None:
    x = image()
    whole = DiffAugment("cutout, color")
    draws = drawn(whole, 4)
    assert list(draws) == [f"diffaugment.{k}" for k in ("cutout", "brightness", "saturation", "contrast")]
    expected = cutout(x, draws["diffaugment.cutout"])
    for key, change in (("brightness", brightness), ("saturation", saturation), ("contrast", contrast)):
        expected = change(expected, draws[f"diffaugment.{key}"])
    assert torch.equal(whole(x, draws), expected)


def test_real_and_fake_can_draw_apart() -> None:
    real, fake = DiffAugment(name="real"), DiffAugment(name="fake")
    draws = {**drawn(real, 4), **drawn(fake, 4, seed=1)}
    assert len(draws) == 10 and not torch.equal(real(image(), draws), fake(image(), draws))


def test_the_gradient_reaches_saturated_pixels_through_colour() -> None:
    x = torch.ones(4, 3, 8, 8, requires_grad=True)
    augmentation = DiffAugment("color")
    result = augmentation(x, drawn(augmentation, 4))
    assert result.max() > 1  # not clamped: see the class
    result.sum().backward()
    assert x.grad is not None and (x.grad != 0).all()


def test_gradients_of_the_whole_policy() -> None:
    augmentation = DiffAugment()
    draws = {name: value.double() for name, value in drawn(augmentation, 2).items()}
    x = image(2, 6, 5)[:, :2].double().requires_grad_()
    assert torch.autograd.gradcheck(lambda t: augmentation(t, draws), x)


def test_bfloat16_keeps_places_exact() -> None:
    x = torch.ones(1, 1, 64, 64, dtype=torch.bfloat16)
    u = torch.full((1, 2), 1 - 2**-24)  # the largest draw: rounded to bfloat16 it would be 1, beyond the last place
    assert (translation(x, u) != 0).sum() == (64 - 8) ** 2
    assert (cutout(x, u) == 0).sum() == 16**2


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        ("colour", r"found 'colour' \(did you mean 'color'\?\)"),
        ("", "found ''"),
        ("color,color", "expected every word once"),
    ],
)
def test_bad_policies(policy: str, words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        DiffAugment(policy)


def test_masks_and_targets_are_shifted_and_keep_what_is_cut_out() -> None:
    augmentation = DiffAugment()
    mask = torch.randint(0, 5, (40, 16, 24), generator=torch.Generator().manual_seed(3))
    draws = drawn(augmentation, 40)
    u = draws["diffaugment.translation"]
    moved = augmentation.move(mask, draws, MASK)
    for i in range(40):
        right, down = int(u[i, 0] * 7) - 3, int(u[i, 1] * 5) - 2
        padded = np.pad(mask[i].numpy(), ((2, 2), (3, 3)), constant_values=VOID)
        assert np.array_equal(moved[i], padded[2 + down : 18 + down, 3 + right : 27 + right])
    assert torch.equal(augmentation.move(image(40), draws, TARGET), translation(image(40), u))
    for still in (DiffAugment("color,cutout"), DiffAugment("cutout")):
        assert still.move(mask, drawn(still, 40), MASK) is mask
        assert torch.equal(still.move(image(40), drawn(still, 40), TARGET), image(40))
