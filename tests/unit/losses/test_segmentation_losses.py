"""Losses of segmentation: what they see and what they do not, void, the memory of CIRKD, and several processes."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from pair import Pair
from torch import Tensor

from limbeck.errors import RecipeError
from limbeck.losses.base import LogitLoss
from limbeck.losses.cirkd import Cirkd, cross_image
from limbeck.losses.cirkd_memory import CirkdMemory, members, relations
from limbeck.losses.cwd import Cwd, cwd
from limbeck.losses.dist import Dist
from limbeck.losses.dkd import Dkd
from limbeck.losses.gather import masked_mean, own_part
from limbeck.losses.ifvd import Ifvd, ifvd
from limbeck.losses.kd import Kd
from limbeck.losses.nkd import Nkd
from limbeck.losses.pairwise_structure import pairwise_structure
from limbeck.losses.segmentation import (
    boundary_weights,
    pixel_cross_entropy,
    pixel_rows,
    weighted_kl,
)
from limbeck.losses.tensors import pixel_classes
from limbeck.types import VOID

N, K, SIZE = 4, 3, 6
PATHS = {"a": "b"}


def maps(seed: int, width: int = 5) -> Tensor:
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(N, width, SIZE, SIZE, generator=draw, dtype=torch.float64)


def masks(seed: int = 0, void: float = 0.3) -> Tensor:
    """Classes of pixels; a third image that nobody has labelled."""
    draw = torch.Generator().manual_seed(seed)
    mask = torch.randint(K, (N, SIZE, SIZE), generator=draw)
    mask[torch.rand(mask.shape, generator=draw) < void] = VOID
    mask[2] = VOID
    return mask


def memory(**options: float) -> CirkdMemory:
    torch.manual_seed(0)
    sizes = {"pixels": 8, "regions": 3, "pixel_anchors": 12, "region_anchors": 6, "stored": 2} | options
    loss = CirkdMemory(PATHS, K, **sizes)  # type: ignore[arg-type]
    loss.fit_to([(5, SIZE, SIZE)], [(4, SIZE, SIZE)])
    return loss.double()


def drawn(loss: CirkdMemory, seed: int = 5) -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    return {name: declared.sample(N, draw) for name, declared in loss.draws().items()}


# The mean over what counts


def test_the_masked_mean_sees_what_is_in_the_mask_and_nothing_else() -> None:
    values = torch.tensor([[1.0, math.nan], [5.0, math.inf]], requires_grad=True)
    mask = torch.tensor([[True, False], [True, False]])
    mean = masked_mean(values, mask)
    mean.backward()
    assert mean == 3
    assert values.grad is not None and values.grad.tolist() == [[0.5, 0], [0.5, 0]]
    assert masked_mean(values, ~torch.ones_like(mask)) == 0
    assert not masked_mean(values, ~mask).isfinite()  # nor does it hide what is
    with pytest.raises(RecipeError, match="masked_mean: expected the same shape"):
        masked_mean(values, mask[:1])


# Pixels as samples


def known_rows(logits: Tensor, mask: Tensor) -> Tensor:
    return pixel_rows(logits)[mask.flatten() != VOID]


def test_rows_are_the_pixels_in_the_order_of_their_labels() -> None:
    logits, mask = maps(1, K), masks()
    rows = pixel_rows(logits)
    assert rows.shape == (N * SIZE * SIZE, K)
    assert torch.equal(rows[SIZE * SIZE + 2 * SIZE + 3], logits[1, :, 2, 3])
    expected = torch.nn.functional.cross_entropy(known_rows(logits, mask), mask[mask != VOID])
    torch.testing.assert_close(pixel_cross_entropy(logits, mask), expected)


@pytest.mark.parametrize("loss", [Kd(), Dkd(), Nkd(), Dist()], ids=lambda loss: type(loss).__name__)
def test_any_loss_of_logits_takes_pixels(loss: LogitLoss) -> None:
    student, teacher, mask = maps(1, K).requires_grad_(), maps(2, K), masks()
    value = loss(known_rows(student, mask), known_rows(teacher, mask), mask[mask != VOID])
    (gradient,) = torch.autograd.grad(value.mean(), student)
    assert value.shape in {(int((mask != VOID).sum()),), ()}
    assert torch.equal(gradient.abs().sum(1) > 0, mask != VOID)


def test_equal_weights_give_the_mean_of_kd_over_pixels() -> None:
    student, teacher = maps(1, K), maps(2, K)
    expected = Kd(2.0)(pixel_rows(student), pixel_rows(teacher)).reshape(N, -1).mean(1)
    torch.testing.assert_close(weighted_kl(student, teacher, 3 * torch.ones(N, SIZE, SIZE), 2.0), expected)
    assert (weighted_kl(student, student + 7, torch.ones(N, SIZE, SIZE)).abs() < 1e-12).all()
    nothing = torch.zeros(N, SIZE, SIZE)
    assert torch.equal(weighted_kl(student, teacher, nothing), torch.zeros(N, dtype=torch.float64))


def test_only_weighted_pixels_get_a_gradient() -> None:
    student, teacher = maps(1, K).requires_grad_(), maps(2, K).requires_grad_()
    weight = (masks() != VOID).float()
    weighted_kl(student, teacher, weight).sum().backward()
    assert student.grad is not None and teacher.grad is None
    assert torch.equal(student.grad.abs().sum(1) > 0, weight > 0)


def test_borders_by_hand() -> None:
    mask = torch.tensor([[[0, 0, 0, 1, 1, VOID, 1, 1], [0, 0, 0, 1, 1, VOID, 2, 2]]])
    assert boundary_weights(mask, 1, 4.0)[0].tolist() == [[1, 1, 5, 5, 1, 1, 5, 5], [1, 1, 5, 5, 1, 1, 5, 5]]
    # the 2 is two pixels away from the 1 on the other side of the void
    assert boundary_weights(mask, 2, 4.0)[0].tolist() == [[1, 5, 5, 5, 5, 1, 5, 5], [1, 5, 5, 5, 5, 1, 5, 5]]
    assert torch.equal(boundary_weights(mask, 2, 0.0), torch.ones(1, 2, 8))
    assert torch.equal(boundary_weights(torch.full_like(mask, VOID)), torch.ones(1, 2, 8))


def test_borders_turn_with_the_image() -> None:
    mask = masks(void=0.1)[:, :, :5]
    for turned in (lambda m: m.flip(2), lambda m: m.transpose(1, 2), lambda m: m.flip(1)):
        assert torch.equal(boundary_weights(turned(mask), 2), turned(boundary_weights(mask, 2)))


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: pixel_cross_entropy(maps(1, K), masks()[:, :4]), r"found \(4, 3, 6, 6\) and \(4, 4, 6\)"),
        (lambda: pixel_cross_entropy(maps(1, 2), masks()), r"expected classes in \[0, 2\) or 255 for void, found 2"),
        (lambda: pixel_cross_entropy(maps(1, K), masks(), torch.ones(2)), r"expected 3 class weights, found \(2,\)"),
        (lambda: weighted_kl(maps(1, K), maps(2, 4), torch.ones(N, SIZE, SIZE)), "expected the same shape"),
        (lambda: weighted_kl(maps(1, K), maps(2, K), torch.ones(N, 1, SIZE)), "weighted_kl: expected logits"),
        (lambda: weighted_kl(maps(1), maps(2), torch.ones(N, SIZE, SIZE), 0.0), "temperature: expected a number above"),
        (lambda: boundary_weights(masks(), 0), "width: expected a whole number of at least 1, found 0"),
        (lambda: boundary_weights(masks(), 1, -1.0), "gain: expected a number of at least 0"),
        (lambda: pixel_classes(None, maps(1), "Ifvd"), "Ifvd: expected masks .* found none"),
        (lambda: ifvd(maps(1), maps(2)[:2], masks()), "ifvd: expected the same shape"),
        (lambda: cross_image(maps(1), maps(2)[:, :, :3]), "cross_image: expected the same shape"),
        (lambda: memory(pixel=0.0, region=0.0), "region: expected a number above 0 where pixel is 0"),
        (lambda: CirkdMemory(PATHS, 256), "classes: expected at most 255, found 256"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(call: Callable[[], object], says: str) -> None:
    with pytest.raises(RecipeError, match=says) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_nothing_known_is_no_loss() -> None:
    void = torch.full((N, SIZE, SIZE), VOID)
    student = maps(1, K).requires_grad_()
    held = memory()
    before = [ring.clone() for ring in held.buffers()]
    losses = [
        pixel_cross_entropy(student, void),
        pixel_cross_entropy(student, void, torch.ones(K)),
        pixel_cross_entropy(student, torch.zeros_like(void), torch.zeros(K)),
        ifvd(student, maps(2), void),
        held([maps(1).requires_grad_()], [maps(2, 4)], void, None, drawn(held)),
    ]
    for loss in losses:
        loss.backward()
        assert loss == 0
    assert student.grad is not None and (student.grad == 0).all()
    assert all(map(torch.equal, before, held.buffers()))


# Void


def _losses_with_masks() -> dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]]:
    def remembered(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
        loss = memory()
        value: Tensor = loss([student], [teacher[:, :4]], mask, None, drawn(loss))
        return torch.cat([value[None], *(buffer.flatten() for buffer in loss.buffers())])

    return {
        "cross-entropy": lambda s, t, m: pixel_cross_entropy(s, m)[None],
        "weighted cross-entropy": lambda s, t, m: pixel_cross_entropy(s, m, torch.arange(5.0))[None],
        "dkd of rows": lambda s, t, m: Dkd()(known_rows(s, m), known_rows(t, m), m[m != VOID]),
        "ifvd": lambda s, t, m: Ifvd(PATHS)([s], [t], m)[None],
        "memory": remembered,
    }


@pytest.mark.parametrize("junk", [1e6, math.nan])
@pytest.mark.parametrize("name", _losses_with_masks())
def test_void_pixels_have_no_influence(name: str, junk: float) -> None:
    loss, mask = _losses_with_masks()[name], masks()
    student, teacher = maps(1).requires_grad_(), maps(2)
    void = (mask == VOID)[:, None]
    before = loss(student, teacher, mask)
    after = loss(student.detach().masked_fill(void, junk), teacher.masked_fill(void, -junk), mask)
    assert torch.equal(before, after) and before[0] > 1e-3
    (gradient,) = torch.autograd.grad(before[0] if name != "dkd of rows" else before.sum(), student)
    assert (gradient.masked_select(void.expand_as(gradient)) == 0).all()
    assert not torch.equal(before, loss(student.detach() + maps(3), teacher, mask))


# What each loss does not see


def test_relations_inside_an_image_do_not_see_the_scale_of_all_features() -> None:
    student, teacher, mask = maps(1), maps(2, 7), masks()
    for loss in (pairwise_structure, cross_image, lambda s, t: ifvd(s, t, mask)):
        assert (loss(3.7 * student, student).abs() < 1e-12).all()
        assert (loss(student, teacher) > 1e-4).all()
        torch.testing.assert_close(loss(3.7 * student, teacher), loss(student, teacher))


def test_cosines_do_not_see_a_rotation_of_the_channels() -> None:
    rotation = torch.linalg.qr(maps(3)[0, :, :5, 0])[0]
    turned = torch.einsum("dc,nchw->ndhw", rotation, maps(1))
    torch.testing.assert_close(cross_image(turned, maps(2)), cross_image(maps(1), maps(2)))
    torch.testing.assert_close(ifvd(turned, maps(2), masks()), ifvd(maps(1), maps(2), masks()))
    torch.testing.assert_close(pairwise_structure(turned, maps(2), 0.1), pairwise_structure(maps(1), maps(2), 0.1))


def test_variation_is_of_an_image_alone_and_blind_to_the_names_of_classes() -> None:
    student, teacher, mask = maps(1), maps(2), masks()
    renamed = mask.where(mask == VOID, (mask + 1) % K + 7)
    torch.testing.assert_close(ifvd(student, teacher, renamed), ifvd(student, teacher, mask))
    counts = (mask != VOID).sum((1, 2))
    alone = torch.stack([ifvd(*(t[i : i + 1] for t in (student, teacher, mask))) for i in range(N)])
    torch.testing.assert_close((alone * counts).sum() / counts.sum(), ifvd(student, teacher, mask))
    single = torch.arange(SIZE * SIZE).reshape(1, SIZE, SIZE).expand(N, -1, -1)  # every pixel its own prototype
    assert ifvd(student, teacher, single) < 1e-12


def test_cross_image_relations_couple_the_images_and_follow_their_order() -> None:
    order = torch.tensor([3, 1, 0, 2])
    whole = cross_image(maps(1), maps(2))
    torch.testing.assert_close(cross_image(maps(1)[order], maps(2)[order]), whole[order])
    torch.testing.assert_close(cross_image(maps(1), maps(2), 0.1, slice(1, 3)), whole[1:3])
    assert not torch.isclose(whole[0], cross_image(maps(1)[:1], maps(2)[:1])[0], rtol=1e-3)
    small = [torch.nn.functional.avg_pool2d(f, 2) for f in (maps(1), maps(2))]
    torch.testing.assert_close(Cirkd(PATHS, 2)([maps(1)], [maps(2)]), cross_image(*small).mean())


def test_maps_of_other_sizes_are_pooled_to_the_smaller() -> None:
    small = torch.nn.functional.avg_pool2d(maps(2), 2)
    shrunk = torch.nn.functional.avg_pool2d(maps(1), 2)
    assert torch.equal(pairwise_structure(maps(1), small), pairwise_structure(shrunk, small))
    assert torch.equal(ifvd(maps(1), small, masks()), ifvd(shrunk, small, masks()))
    assert torch.equal(Cirkd(PATHS)([maps(1)], [small]), Cirkd(PATHS)([shrunk], [small]))
    held = memory()
    assert held([maps(1)], [small[:, :4]], masks(), None, drawn(held)).isfinite()


def test_a_place_has_the_class_of_its_upper_left_pixel() -> None:
    mask = torch.arange(36).reshape(1, 6, 6)
    assert pixel_classes(mask, torch.zeros(1, 2, 3, 2), "x").tolist() == [[[0, 3], [12, 15], [24, 27]]]
    assert pixel_classes(torch.full((1, 6, 6), VOID), torch.zeros(1, 2, 4, 4), "x").unique().tolist() == [VOID]


def test_channel_wise_distillation_takes_the_logits_of_a_head() -> None:
    loss = Cwd({"head": "head"}, temperature=4.0)
    loss.fit_to([(K, SIZE, SIZE)], [(K, SIZE, SIZE)])
    assert not list(loss.parameters())  # the same classes: nothing stands between the logits
    torch.testing.assert_close(loss([maps(1, K)], [maps(2, K)]), cwd(maps(1, K), maps(2, K)).mean())


# The memory of CIRKD


def test_members_are_different_pixels_of_the_class_and_each_is_as_likely() -> None:
    label = torch.tensor([[0, VOID, 1, 0, 0, 1, 0, VOID, 0, 0, 0]])  # seven of 0, two of 1, none of 2
    seen = torch.zeros(11)
    offsets = (torch.arange(700) + 0.5) / 700
    for offset in offsets:
        at, counts = members(label, offset[None], K, 3)
        assert counts.tolist() == [[7, 2, 0]]
        assert len(set(at[0, 0].tolist())) == 3 and (label[0, at[0, 0]] == 0).all()
        assert at[0, 1, :2].tolist() == [2, 5]
        seen[at[0, 0]] += 1
    zeros = label[0] == 0
    torch.testing.assert_close(seen[zeros] / 700, torch.full((7,), 3 / 7), rtol=0.01, atol=0)
    assert (seen[~zeros] == 0).all()
    last, _ = members(label, torch.tensor([1 - 2.0**-24]), K, 3)
    assert last.max() < 11 and (label[0, last[0, 0]] == 0).all()


def test_the_memory_takes_in_pixels_and_means_of_classes_in_order() -> None:
    loss, mask, teacher = memory(stored=1), torch.full((N, SIZE, SIZE), VOID), maps(2, 4)
    mask[0, 0, :2] = mask[1, 5, 5] = mask[3, 2, 2] = 1
    held = loss.memories[0]
    before, unit = held.state_dict(), torch.nn.functional.normalize(teacher)
    before = {name: value.clone() for name, value in before.items()}
    given = drawn(loss) | {"cirkd.offset": torch.tensor([0.7, 0.1, 0.2, 0.3])}
    loss([maps(1)], [teacher], mask, None, given)
    pixels = torch.stack([unit[0, :, 0, 1], unit[1, :, 5, 5], unit[3, :, 2, 2]])  # ⌊0.7 · 2⌋ = 1: the second of two
    torch.testing.assert_close(held.pixels[1, :3], pixels)
    mean = torch.nn.functional.normalize((unit[0, :, 0, 0] + unit[0, :, 0, 1]) / 2, dim=0)
    torch.testing.assert_close(held.regions[1], torch.stack([mean, pixels[1], pixels[2]]))
    assert torch.equal(held.pixels[1, 3:], before["pixels"][1, 3:])
    for kind in (0, 2):
        assert torch.equal(held.pixels[kind], before["pixels"][kind])
        assert torch.equal(held.regions[kind], before["regions"][kind])
    assert held.next_pixel.tolist() == [0, 3, 0] and held.next_region.tolist() == [0, 0, 0]
    loss([maps(1)], [-teacher], mask, None, given)  # the ring of three regions begins anew
    torch.testing.assert_close(held.regions[1, 0], -mean)
    torch.testing.assert_close(held.pixels[1, 3:6], -pixels)
    assert not held.pixels.requires_grad


def test_of_more_pixels_than_a_ring_holds_the_last_remain() -> None:
    small, large = memory(pixels=3), memory(pixels=30)
    for loss in (small, large):
        given = drawn(loss) | {"cirkd.offset": torch.tensor([0.7, 0.1, 0.2, 0.3])}
        loss([maps(1)], [maps(2, 4)], masks(void=0), None, given)  # three images, two pixels of each class
    held, all_of_them = small.memories[0], large.memories[0]
    assert all_of_them.next_pixel.tolist() == [6] * K and held.next_pixel.tolist() == [0] * K
    assert torch.equal(held.pixels, all_of_them.pixels[:, 3:6])


def test_the_loss_is_that_of_its_projections_and_of_what_the_rings_hold() -> None:
    loss, mask, student, teacher = memory(pixel=2.0, region=3.0), masks(), maps(1), maps(2, 4)
    given = drawn(loss)
    value = loss([student], [teacher], mask, None, given)
    held, known = loss.memories[0], mask != VOID
    mine, goal = held.head(student.movedim(1, 3)[known]), teacher.movedim(1, 3)[known]
    chosen = {kind: given[f"cirkd.{kind}"][0].argsort()[: 12 // K + 1] for kind in ("pixel", "region")}
    pixels, regions = held.pixels[:, chosen["pixel"]], held.regions[:, chosen["region"]]
    assert pixels.shape == (K, 5, 4) and regions.shape == (K, 3, 4)
    expected = 2 * relations(mine, goal, pixels.flatten(0, 1)).mean()
    expected = expected + 3 * relations(mine, goal, regions.flatten(0, 1)).mean()
    torch.testing.assert_close(value, expected)


def test_a_projection_onto_the_teacher_leaves_nothing_to_learn() -> None:
    loss = memory()
    loss.fit_to([(4, SIZE, SIZE)], [(4, SIZE, SIZE)])
    loss.double()
    with torch.no_grad():
        for layer in (loss.memories[0].head[0], loss.memories[0].head[2]):
            layer.weight.copy_(torch.eye(4))
        loss.memories[0].head[0].bias.zero_()
    positive = maps(1, 4).abs()
    assert loss([2 * positive], [positive], masks(), None, drawn(loss)).abs() < 1e-12


def test_classes_beyond_the_memory_are_refused() -> None:
    loss = memory()
    with pytest.raises(
        RecipeError, match=r"CirkdMemory.classes: expected the number of classes.* found 3 and a pixel of 7"
    ):
        loss([maps(1)], [maps(2, 4)], masks().where(masks() != 1, 7), None, drawn(loss))


# Several processes


def _half(rank: int) -> dict[str, Tensor]:
    """Return the gradients and memories of one of two processes, each with half of the batch."""
    part = own_part(N // 2)
    assert part.start == rank * N // 2
    return _gradients(part)


def _gradients(part: slice) -> dict[str, Tensor]:
    weight = maps(3)[0, :, :5, 0].clone().requires_grad_()  # void is not the same in both halves
    student, teacher, mask = torch.einsum("dc,nchw->ndhw", weight, maps(1)[part]), maps(2)[part], masks()[part]
    held = memory()
    given = {name: value[part] for name, value in drawn(held).items()}
    known = (mask != VOID)[:, None].expand_as(student)
    losses = {
        "masked mean": masked_mean(student.square(), known),
        "cross-entropy": pixel_cross_entropy(student, mask),
        "weighted cross-entropy": pixel_cross_entropy(student, mask, torch.arange(5.0)),
        "ifvd": Ifvd(PATHS)([student], [teacher], mask),
        "cirkd": Cirkd(PATHS, 2)([student], [teacher]),
        "memory": held([student], [teacher[:, :4]], mask, None, given),
    }
    found = {name: torch.autograd.grad(loss, weight, retain_graph=True)[0] for name, loss in losses.items()}
    found |= {f"value of {name}": loss.detach() for name, loss in losses.items()}
    (found["head"],) = torch.autograd.grad(losses["memory"], held.memories[0].head[0].weight)
    return found | {f"buffer {name}": buffer for name, buffer in held.memories[0].named_buffers()}


def test_two_processes_with_half_the_batch_are_one_with_the_whole(pair: Pair) -> None:
    whole, parts = _gradients(slice(None)), pair(_half)
    assert (masks()[:2] != VOID).sum() != (masks()[2:] != VOID).sum()
    for name, expected in whole.items():
        if name.startswith("buffer"):
            assert torch.equal(parts[0][name], parts[1][name])
        average = (parts[0][name] + parts[1][name]) / 2
        torch.testing.assert_close(average.to(expected), expected, rtol=1e-9, atol=1e-12, msg=name)
