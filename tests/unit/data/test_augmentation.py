"""Augmentations against numpy, scipy and torch's exact rearrangements, and hand-computed cases."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance
from scipy import ndimage
from torch import Tensor

from limbeck.data.augmentations.augmentation import AugmentationSequence, ColourJitter, Cutout, Flip, luma
from limbeck.data.augmentations.warp import Crop, Padding, RandomScaleCrop, Rotation, Scale, Translation, Warp, resample
from limbeck.data.base import Augmentation
from limbeck.errors import RecipeError
from limbeck.types import KINDS, VOID

MASK, TARGET = KINDS["mask"], KINDS["target"]

NUMPY: dict[Padding, dict[str, object]] = {
    "reflection": {"mode": "symmetric"},
    "border": {"mode": "edge"},
    "zeros": {"mode": "constant"},
}


def image(height: int = 9, width: int = 9, count: int = 2) -> Tensor:
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(0)) * 2 - 1


def at(*values: float) -> Tensor:
    return torch.tensor(values)


def test_flip() -> None:
    x, u = image(), at(0.2, 0.8)
    assert torch.equal(Flip()(x, {"flip": u}), torch.stack([x[0].flip(2), x[1]]))
    assert torch.equal(Flip(vertical=True)(x, {"flip": u}), torch.stack([x[0].flip(1), x[1]]))
    assert torch.equal(Flip(0)(x, {"flip": at(0, 0)}), x)


@pytest.mark.parametrize("shape", [(9, 9), (8, 8)])
def test_a_rotation_by_90_degrees_is_exact(shape: tuple[int, int]) -> None:
    x = image(*shape)
    turned = Rotation(90)(x, {"rotation": at(1, 0)})  # 1 - 2^-24 is the largest draw; 1 gives the bound
    expected = torch.stack([x[0].rot90(1, (1, 2)), x[1].rot90(-1, (1, 2))])  # counter-clockwise, clockwise
    torch.testing.assert_close(turned, expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(Rotation(90)(x, {"rotation": at(0.5, 0.5)}), x, atol=1e-5, rtol=0)


@pytest.mark.parametrize("angle", [-33.0, 7.0, 58.0])
def test_rotation_against_scipy_also_when_not_square(angle: float) -> None:
    x = image(12, 17)
    turned = Rotation(90, padding="zeros")(x, {"rotation": at(*[(angle / 90 + 1) / 2] * 2)})
    # scipy rotates from axis 0 (down) to axis 1 (right): counter-clockwise as seen.
    expected = ndimage.rotate(x.numpy(), angle, axes=(2, 3), reshape=False, order=1, mode="grid-constant", cval=0)
    assert np.abs(turned.numpy() - expected).max() < 1e-4


@pytest.mark.parametrize("zoom", [0.5, 0.83, 1.7])
def test_scale_against_scipy(zoom: float) -> None:
    x = image(12, 17)
    scaled = Scale(zoom, zoom, padding="zeros")(x, {"scale": at(0.3, 0.9)})
    centre = np.array([5.5, 8.0])
    for i in range(2):
        for c in range(3):
            expected = ndimage.affine_transform(
                x[i, c].numpy(), np.eye(2) / zoom, centre - centre / zoom, order=1, mode="grid-constant"
            )
            assert np.abs(scaled[i, c].numpy() - expected).max() < 1e-4


def test_scale_is_uniform_in_its_logarithm() -> None:
    x = torch.zeros(3, 1, 65, 65)
    x[:, :, 16:49, 16:49] = 1  # a square of side 33
    sides = Scale(0.5, 2.0, padding="zeros")(x, {"scale": at(0, 0.5, 1)})[:, 0, 32].sum(1)
    assert sides.tolist() == pytest.approx([16.5, 33, 65], abs=0.6)


@pytest.mark.parametrize("padding", ["reflection", "border", "zeros"])
def test_crop_is_pad_and_cut(padding: Padding) -> None:
    x = image(6, 8)
    padded = np.pad(x.numpy(), ((0, 0), (0, 0), (3, 3), (3, 3)), **NUMPY[padding])  # type: ignore[call-overload]
    for left in range(7):
        for top in range(7):
            windows = Crop(3, padding=padding)(x, {"crop": torch.tensor([[left, top], [left, top]])})
            assert np.array_equal(windows.numpy(), padded[:, :, top : top + 6, left : left + 8])
    assert Crop(3).draws()["crop"].high == 7


def test_translation_goes_both_ways_up_to_its_share() -> None:
    x = image(10, 20)
    moved = Translation(0.1, padding="zeros")(x, {"translation": torch.tensor([[0.0, 1.0], [1.0, 0.5]])})
    expected = torch.zeros_like(x)
    expected[0, :, :-1, 2:] = x[0, :, 1:, :-2]  # 2 = 0.1 * 20 to the right, 1 = 0.1 * 10 up
    expected[1, :, :, :-2] = x[1, :, :, 2:]
    torch.testing.assert_close(moved, expected, atol=1e-5, rtol=0)


def test_translation_by_half_a_pixel_averages() -> None:
    x = image(10, 10)
    moved = Translation(0.05)(x, {"translation": torch.tensor([[1.0, 0.5]] * 2)})  # half a pixel
    torch.testing.assert_close(moved[..., :-1], (x[..., :-1] + x[..., 1:]) / 2, atol=1e-5, rtol=0)


def test_cutout_covers_a_square_about_its_centre() -> None:
    x = torch.ones(3, 2, 12, 8)
    covered = Cutout(0.5, fill=-1)(x, {"cutout": torch.tensor([[0.5, 0.5], [0.0, 0.0], [0.999, 0.999]])})
    expected = x.clone()
    expected[0, :, 4:8, 2:6] = -1  # side 0.5 * 8 = 4 about (4, 6)
    expected[1, :, :2, :2] = -1
    expected[2, :, 9:, 5:] = -1  # about (7, 11), the last pixels
    assert torch.equal(covered, expected)
    assert torch.equal(Cutout(0)(x, {"cutout": torch.rand(3, 2)}), x)


def test_no_gradient_comes_from_what_is_covered() -> None:
    x = torch.ones(1, 1, 4, 4, requires_grad=True)
    Cutout(0.5)(x, {"cutout": torch.tensor([[0.5, 0.5]])}).sum().backward()
    assert x.grad is not None and x.grad.sum() == 12 and (x.grad[0, 0, 1:3, 1:3] == 0).all()


def test_resample_with_the_identity_changes_nothing() -> None:
    x = image(7, 5)
    same = resample(x, torch.eye(2).expand(2, 2, 2), torch.zeros(2, 2), padding="border")
    torch.testing.assert_close(same, x, atol=1e-6, rtol=0)


def test_resample_keeps_a_linear_picture_linear() -> None:
    down, right = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")
    x = (0.3 * right - 0.2 * down)[None, None]
    matrix, shift = torch.tensor([[[0.6, -0.2], [0.1, 0.5]]]), torch.tensor([[1.5, -2.0]])
    px, py = right - 15.5, down - 15.5
    source_x, source_y = 0.6 * px - 0.2 * py + 1.5 + 15.5, 0.1 * px + 0.5 * py - 2.0 + 15.5
    expected = (0.3 * source_x - 0.2 * source_y)[None, None]
    torch.testing.assert_close(resample(x, matrix, shift, padding="zeros"), expected, atol=1e-4, rtol=0)


def test_a_sequence_goes_in_order() -> None:
    x = image()
    flip, cut = Flip(1.0), Cutout(0.3)
    drawn = {"flip": at(0, 0), "cutout": torch.tensor([[0.1, 0.2], [0.7, 0.9]])}
    both = AugmentationSequence([flip, cut])
    assert torch.equal(both(x, drawn), cut(flip(x, drawn), drawn))
    assert not torch.equal(both(x, drawn), AugmentationSequence([cut, flip])(x, drawn))
    assert both.draws() == {**flip.draws(), **cut.draws()}


def test_a_sequence_wants_different_names() -> None:
    with pytest.raises(RecipeError, match=r"different names .*another `name`.*found \['flip'\]"):
        AugmentationSequence([Flip(), Flip(vertical=True)])
    nested = AugmentationSequence([Flip(), AugmentationSequence([Flip(vertical=True, name="upside-down"), Crop()])])
    assert set(nested.draws()) == {"flip", "upside-down", "crop"}


@pytest.mark.parametrize(
    "make",
    [
        lambda: Flip(1.5),
        lambda: Rotation(-1),
        lambda: Scale(0, 1),
        lambda: Scale(1.2, 0.8),
        lambda: Translation(2),
        lambda: Crop(-1),
        lambda: Cutout(1.1),
        lambda: Cutout(fill=3),
        lambda: RandomScaleCrop(0, 1),
        lambda: RandomScaleCrop(2, 1),
        lambda: ColourJitter(-0.1),
        lambda: ColourJitter(saturation=1.5),
    ],
)
def test_bad_arguments(make: object) -> None:
    with pytest.raises(RecipeError, match=r"expected .* found"):
        make()  # type: ignore[operator]


def classes(height: int = 12, width: int = 17, count: int = 6) -> Tensor:
    return torch.randint(0, 11, (count, height, width), generator=torch.Generator().manual_seed(2))


def draw(augmentation: Augmentation, count: int, seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name: one.sample(count, generator) for name, one in augmentation.draws().items()}


WARPS = [
    pytest.param(lambda padding, warp=warp: warp(padding=padding), id=warp.__name__)
    for warp in (Rotation, Scale, RandomScaleCrop, Translation, Crop)
]


@pytest.mark.parametrize("make", WARPS)
@pytest.mark.parametrize("padding", ["reflection", "border", "zeros"])
def test_a_mask_of_the_images_own_values_moves_as_the_image(make: object, padding: Padding) -> None:
    warp: Warp = make(padding)  # type: ignore[operator]
    mask, drawn = classes(), draw(warp, 6)
    matrix, shift = warp.movement(drawn, (17, 12))
    values = (mask + 1).float()[:, None]  # above 0, so that what comes in from outside is told apart
    moved = resample(values, matrix, shift, padding=padding, mode="nearest")[:, 0].long()
    expected = torch.where(moved == 0, VOID, moved - 1)
    result = warp.move(mask, drawn, MASK)
    assert torch.equal(result, expected) and result.dtype == torch.int64
    assert (result == VOID).any() == (padding == "zeros")
    if warp.mode == "nearest":
        assert torch.equal(warp(values, drawn)[:, 0].long(), moved)


@pytest.mark.parametrize("make", WARPS)
def test_every_warp_moves_the_image_as_its_movement_says(make: object) -> None:
    warp: Warp = make("border")  # type: ignore[operator]
    x, drawn = image(12, 17, 6), draw(warp, 6)
    matrix, shift = warp.movement(drawn, (17, 12))
    for i in range(6):
        m, s = matrix[i].double().numpy()[::-1, ::-1], shift[i].double().numpy()[::-1]  # (x, y) to (row, column)
        centre = np.array([5.5, 8.0])
        order = 0 if warp.mode == "nearest" else 1
        expected = ndimage.affine_transform(x[i, 0].numpy(), m, centre + s - m @ centre, order=order, mode="nearest")
        assert np.abs(warp(x, drawn)[i, 0].numpy() - expected).max() < 1e-4


@pytest.mark.parametrize("angle", [-33.0, 7.0, 58.0])
def test_a_rotated_mask_against_scipy(angle: float) -> None:
    mask, drawn = classes(), {"rotation": at(*[(angle / 90 + 1) / 2] * 6)}
    turned = Rotation(90, padding="zeros").move(mask, drawn, MASK)
    for one, before in zip(turned.numpy(), mask.numpy(), strict=True):
        expected = ndimage.rotate(before, angle, reshape=False, order=0, mode="grid-constant", cval=VOID)
        assert np.array_equal(one, expected)


def test_flips_of_masks_and_targets_are_exact() -> None:
    mask, u = classes(count=2), {"flip": at(0.2, 0.8)}
    assert torch.equal(Flip().move(mask, u, MASK), torch.stack([mask[0].flip(1), mask[1]]))
    assert torch.equal(Flip(vertical=True).move(mask, u, MASK), torch.stack([mask[0].flip(0), mask[1]]))
    x = image()
    assert torch.equal(Flip().move(x[:, :1], u, TARGET), Flip()(x, u)[:, :1])


@pytest.mark.parametrize("padding", ["reflection", "border", "zeros"])
def test_a_cropped_mask_is_padded_and_cut(padding: Padding) -> None:
    mask = classes(6, 8, 1)
    fill = {"constant_values": VOID} if padding == "zeros" else {}
    padded = np.pad(mask[0].numpy(), 3, **NUMPY[padding], **fill)  # type: ignore[call-overload]
    for left in range(7):
        for top in range(7):
            moved = Crop(3, padding=padding).move(mask, {"crop": torch.tensor([[left, top]])}, MASK)
            assert np.array_equal(moved[0].numpy(), padded[top : top + 6, left : left + 8])


def test_void_stays_void_and_moves_along() -> None:
    mask = torch.full((1, 4, 4), 3)
    mask[0, 0, 0] = VOID
    moved = Crop(1, padding="border").move(mask, {"crop": torch.tensor([[1, 0]])}, MASK)  # one down
    assert moved[0, :2, 0].tolist() == [VOID, VOID] and (moved == VOID).sum() == 2


def test_targets_move_with_the_interpolation_of_images() -> None:
    x = image(12, 17, 4)
    for change in (Rotation(30), Scale(0.5, 2), Translation(0.3), Crop(3), RandomScaleCrop(), Flip()):
        drawn = draw(change, 4)
        assert torch.equal(change.move(x, drawn, TARGET), change(x, drawn))


def test_what_covers_or_colours_leaves_masks_and_targets() -> None:
    mask, x = classes(), image(12, 17, 6)
    for change in (Cutout(0.5), ColourJitter()):
        drawn = draw(change, 6)
        assert change.move(mask, drawn, MASK) is mask and change.move(x, drawn, TARGET) is x


def test_a_sequence_moves_masks_and_targets_in_order() -> None:
    turn, crop = Rotation(40, padding="zeros"), Crop(3)
    both, other = AugmentationSequence([turn, crop]), AugmentationSequence([crop, turn])
    mask, x, drawn = classes(), image(12, 17, 6), draw(both, 6)
    assert torch.equal(both.move(mask, drawn, MASK), crop.move(turn.move(mask, drawn, MASK), drawn, MASK))
    assert torch.equal(both.move(x, drawn, TARGET), both(x, drawn))
    assert not torch.equal(both.move(mask, drawn, MASK), other.move(mask, drawn, MASK))


def test_a_window_of_a_larger_image_never_leaves_it() -> None:
    mask, change = classes(20, 30, 200), RandomScaleCrop(1.0, 3.0)
    assert (change.move(mask, draw(change, 200), MASK) != VOID).all()
    # At zoom 2 the corners are reached: the window of the top left quarter, each pixel twice.
    corner = RandomScaleCrop(2, 2).move(mask[:1], {"scale_crop": torch.tensor([[0.3, 0.0, 0.0]])}, MASK)
    assert torch.equal(corner[0], mask[0, :10, :15].repeat_interleave(2, 0).repeat_interleave(2, 1))


def test_a_smaller_image_lies_whole_in_the_window() -> None:
    drawn = {"scale_crop": torch.tensor([[0.5, 0.0, 0.0], [0.5, 1.0, 1.0], [0.5, 0.5, 0.5]])}
    moved = RandomScaleCrop(0.5, 0.5).move(torch.full((3, 20, 30), 7), drawn, MASK)
    for one, (down, right) in zip(moved, [(10, 15), (0, 0), (5, 7.5)], strict=True):
        rows, columns = (one == 7).nonzero().unbind(1)
        assert abs((one == 7).sum() - 150) <= 10 and (one[one != 7] == VOID).all()
        assert abs(rows.min() - down) <= 1 and abs(columns.min() - right) <= 1


@pytest.mark.parametrize(("place", "name"), [(0, "Brightness"), (1, "Contrast"), (2, "Color")])
@pytest.mark.parametrize("uniform", [0.0, 0.3, 1.0])
def test_colours_change_as_pillow_changes_them(place: int, name: str, uniform: float) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    drawn = torch.full((1, 3), 0.5)
    drawn[0, place] = uniform
    x = torch.from_numpy(pixels).permute(2, 0, 1)[None] / 127.5 - 1
    changed = (ColourJitter(0.6, 0.6, 0.6)(x, {"colour_jitter": drawn})[0].permute(1, 2, 0) + 1) * 127.5
    enhancer = getattr(ImageEnhance, name)(Image.fromarray(pixels))
    expected = np.asarray(enhancer.enhance(1 + 0.6 * (2 * uniform - 1))).astype(float)
    assert np.abs(changed.numpy() - expected).max() <= 2  # Pillow rounds to whole levels in between


def test_colour_jitter_by_nothing_and_of_grey() -> None:
    x = image()
    drawn = {"colour_jitter": torch.rand(2, 3)}
    torch.testing.assert_close(ColourJitter(0, 0, 0)(x, drawn), x, atol=1e-6, rtol=0)
    grey = x[:, :1]
    torch.testing.assert_close(ColourJitter(0, 0, 1)(grey, drawn), grey, atol=1e-6, rtol=0)
    torch.testing.assert_close(luma(x[:, :1].expand(2, 3, 9, 9)), grey, atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", ["on_mask", "on_target"])
def test_an_augmentation_that_would_leave_masks_and_targets_behind_is_refused(name: str) -> None:
    with pytest.raises(RecipeError, match=rf"Old\.{name}: expected a method move\(pixels, drawn, kind\) instead"):
        type("Old", (Flip,), {name: lambda self, pixels, drawn: pixels})
