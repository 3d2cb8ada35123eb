"""Feature and relation losses: what they see and what they do not, edge cases, memory, and several processes."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from pair import Pair
from torch import Tensor

from limbeck.errors import RecipeError
from limbeck.losses.attention_transfer import AttentionTransfer, attention_transfer
from limbeck.losses.base import FeatureLoss
from limbeck.losses.correlation_congruence import CorrelationCongruence, correlation_congruence
from limbeck.losses.crd import Crd, crd
from limbeck.losses.cwd import Cwd, cwd
from limbeck.losses.factor_transfer import FactorTransfer, factor_transfer
from limbeck.losses.gather import gathered
from limbeck.losses.hint import Hint, hint
from limbeck.losses.mgd import Mgd, mask, mgd
from limbeck.losses.pkt import Pkt, pkt
from limbeck.losses.review import Review, hierarchical_context
from limbeck.losses.rkd import Rkd, rkd_angle, rkd_distance
from limbeck.losses.similarity_preserving import SimilarityPreserving, similarity_preserving
from limbeck.losses.vid import Vid, vid

Compare = Callable[[Tensor, Tensor], Tensor]
N = 6
RELATIONS: list[Compare] = [similarity_preserving, pkt, rkd_distance, rkd_angle, correlation_congruence]
MAPS: list[Compare] = [hint, attention_transfer, factor_transfer, cwd, mgd, hierarchical_context]
PATHS = {"a": "b"}
relation = pytest.mark.parametrize("loss", RELATIONS, ids=lambda f: f.__name__)
per_sample = pytest.mark.parametrize("loss", MAPS, ids=lambda f: f.__name__)


def rows(seed: int, width: int = 5) -> Tensor:
    return torch.randn(N, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def maps(seed: int, width: int = 3, size: int = 6) -> Tensor:
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(N, width, size, size, generator=draw, dtype=torch.float64)


def rotation(width: int = 5) -> Tensor:
    return torch.linalg.qr(rows(7, width)[:width] if width <= N else torch.eye(width))[0]


@relation
def test_relations_are_scalars_that_vanish_at_equality_only(loss: Compare) -> None:
    assert loss(rows(1), rows(1)).abs() < 1e-12
    assert loss(rows(1), rows(2)).shape == () and loss(rows(1), rows(2)) > 1e-6


@relation
def test_relations_do_not_see_a_rotation_or_the_scale_of_all(loss: Compare) -> None:
    turned = 3.7 * rows(1) @ rotation()
    assert loss(turned, rows(1)) < 1e-7 * loss(rows(1), rows(2))
    torch.testing.assert_close(loss(rows(1), rows(2)), loss(turned, rows(2)), rtol=1e-6, atol=0)


@relation
def test_relations_do_not_depend_on_the_order_of_the_samples_but_on_the_pairing(loss: Compare) -> None:
    order = torch.tensor([3, 1, 5, 0, 2, 4])
    torch.testing.assert_close(loss(rows(1)[order], rows(2)[order]), loss(rows(1), rows(2)))
    assert loss(rows(1)[order], rows(1)) > 1e-6


@pytest.mark.parametrize("loss", [rkd_distance, rkd_angle])
def test_distances_and_angles_do_not_see_a_shift(loss: Compare) -> None:
    torch.testing.assert_close(loss(rows(1) + 10, rows(2)), loss(rows(1), rows(2)))


@pytest.mark.parametrize("loss", [pkt, correlation_congruence])
def test_cosines_do_not_see_the_length_of_each_sample(loss: Compare) -> None:
    lengths = torch.arange(1, N + 1, dtype=torch.float64)[:, None]
    torch.testing.assert_close(loss(lengths * rows(1), rows(2)), loss(rows(1), rows(2)), rtol=1e-5, atol=0)


@per_sample
def test_map_losses_are_per_sample_and_vanish_at_equality(loss: Compare) -> None:
    student = maps(1)
    goal = torch.cat([student[:3], maps(2)[3:]])
    value = loss(student, goal)
    assert value.shape == (N,)
    assert (value[:3].abs() < 1e-12).all() and (value[3:] > 1e-6).all()


@per_sample
def test_map_losses_follow_the_order_of_the_samples(loss: Compare) -> None:
    order = torch.tensor([3, 1, 5, 0, 2, 4])
    torch.testing.assert_close(loss(maps(1)[order], maps(2)[order]), loss(maps(1), maps(2))[order])


def test_what_each_map_loss_does_not_see() -> None:
    student, teacher = maps(1), maps(2)
    torch.testing.assert_close(attention_transfer(-5 * student, teacher), attention_transfer(student, teacher))
    torch.testing.assert_close(attention_transfer(student[:, [2, 0, 1]], teacher), attention_transfer(student, teacher))
    torch.testing.assert_close(factor_transfer(5 * student, teacher), factor_transfer(student, teacher))
    shift = torch.arange(3, dtype=torch.float64)[:, None, None]
    torch.testing.assert_close(cwd(student + shift, teacher), cwd(student, teacher))


def test_vid_is_least_where_the_variance_is_that_of_the_error() -> None:
    error, mean = maps(1), torch.zeros_like(maps(1))
    variance = error.square().mean((0, 2, 3))
    best = (variance - 1e-5).expm1().log()  # softplus⁻¹
    least = vid(mean, error, best).mean()
    for shift in (-0.1, 0.1):
        assert vid(mean, error, best + shift).mean() > least
    torch.testing.assert_close(least, 0.5 * (variance.log() + 1).mean())


def test_vid_starts_at_the_variance_that_was_asked_for() -> None:
    for variance in (1e-3, 5.0, 900.0):
        loss = Vid(PATHS, variance)
        loss.fit_to([(4,)], [(3,)])
        torch.testing.assert_close(torch.nn.functional.softplus(loss.raw[0]) + 1e-5, torch.full((3,), variance))


@pytest.mark.parametrize("loss", [hint, attention_transfer, factor_transfer, cwd])
def test_maps_of_other_sizes_are_pooled_to_the_smaller(loss: Compare) -> None:
    large, small = maps(1, size=8), maps(2, size=4)
    pooled = torch.nn.functional.avg_pool2d(large, 2)
    assert torch.equal(loss(large, small), loss(pooled, small))
    assert torch.equal(loss(small, large), loss(small, pooled))


@pytest.mark.parametrize("loss", [hint, factor_transfer, cwd, mgd, hierarchical_context])
def test_other_widths_are_refused_and_not_broadcast(loss: Compare) -> None:
    with pytest.raises(RecipeError, match="expected the same shape"):
        loss(maps(1, width=1), maps(2, width=3))


@pytest.mark.parametrize("loss", [*RELATIONS, attention_transfer])
def test_other_numbers_of_samples_are_refused(loss: Compare) -> None:
    with pytest.raises(RecipeError, match="expected the same shape"):
        loss(maps(1)[:1], maps(2))


@relation
def test_maps_and_vectors_relate(loss: Compare) -> None:
    student = maps(1)
    flat = student.flatten(1) if loss is similarity_preserving else student.mean((2, 3))
    torch.testing.assert_close(loss(student, rows(2)), loss(flat, rows(2)))


@pytest.mark.parametrize("loss", RELATIONS)
@pytest.mark.parametrize("kind", ["zero", "equal", "two alike", "tiny"])
def test_samples_that_coincide_give_finite_gradients(loss: Compare, kind: str) -> None:
    student = rows(1).float()
    if kind == "zero":
        student = torch.zeros(N, 5)
    elif kind == "equal":
        student = torch.ones(N, 5)
    elif kind == "two alike":
        student[1] = student[0]
    else:
        student = 1e-25 * student  # its squares are no float32
    student.requires_grad_()
    for goal in (rows(2).float(), torch.zeros(N, 5)):
        value = loss(student, goal)
        (gradient,) = torch.autograd.grad(value, student)
        assert value.isfinite() and gradient.isfinite().all()


def test_one_sample_has_no_relations() -> None:
    for loss in RELATIONS:
        with pytest.raises(RecipeError, match="expected at least 2 samples in a batch, as it compares them, found 1"):
            loss(rows(1)[:1], rows(2)[:1])


def test_rkd_angles_by_hand() -> None:
    corner = torch.tensor([[0.0, 0], [1, 0], [0, 2]])  # right angle at the first
    line = torch.tensor([[0.0, 0], [1, 0], [2, 0]])
    # Cosines, for each vertex its ordered pair twice: 0, 1/√5, 2/√5 against 1, -1, 1.
    gaps = [1, 1 + 1 / math.sqrt(5), 1 - 2 / math.sqrt(5)]
    huber = [g - 0.5 if g > 1 else g * g / 2 for g in gaps]
    assert rkd_angle(corner, line).item() == pytest.approx(2 * sum(huber) / 27, rel=1e-6)


def test_the_mask_hides_its_share_and_keeps_the_rest() -> None:
    features = torch.ones(2, 3, 64, 64)
    uniform = torch.rand(2, 64, 64, generator=torch.Generator().manual_seed(0))
    masked = mask(features, uniform, 0.65)
    assert masked.mean().item() == pytest.approx(0.35, abs=0.02)
    assert (masked == masked[:, :1]).all() and set(masked.unique().tolist()) == {0, 1}
    assert torch.equal(mask(features, uniform, 0.0), features)
    with pytest.raises(RecipeError, match=r"expected draws \(2, 64, 64\) or \(2, 3\)"):
        mask(features, uniform[:, :5], 0.5)


def test_mgd_declares_its_masks_once_it_knows_the_maps() -> None:
    loss = Mgd({"a": "b", "c": "d"})
    assert loss.draws() == {}
    loss.fit_to([(2, 8, 8), (2, 4, 4)], [(3, 8, 8), (5, 4, 4)])
    assert [d.shape for d in loss.draws().values()] == [(8, 8), (4, 4)]
    with pytest.raises(RecipeError, match="same height and width, found"):
        Mgd(PATHS).fit_to([(2, 8, 8)], [(3, 4, 4)])


def test_the_factors_of_the_teacher_follow_its_reconstruction_alone() -> None:
    torch.manual_seed(0)
    loss = FactorTransfer(PATHS, reconstruction=1e-30)
    loss.fit_to([(3, 6, 6)], [(4, 6, 6)])
    loss([maps(1).float()], [maps(2, 4).float()]).backward()
    assert all(p.grad is None or p.grad.abs().max() < 1e-25 for p in loss.encoders.parameters())
    assert all(p.grad is not None and p.grad.abs().max() > 1e-6 for p in loss.translators.parameters())


def test_a_perfect_student_stays_with_a_perfect_adapter() -> None:
    for loss in (Hint(PATHS), Cwd(PATHS)):
        loss.fit_to([(3, 6, 6)], [(3, 6, 6)])
        with torch.no_grad():
            for name, parameter in loss.named_parameters():
                parameter.copy_(torch.eye(3)[:, :, None, None] if name.endswith("weight") else torch.zeros(3))
        assert loss([maps(1).float()], [maps(1).float()]) < 1e-10


def test_review_takes_maps_from_shallow_to_deep_and_then_vectors() -> None:
    torch.manual_seed(0)
    loss = Review({"a": "x", "b": "y", "c": "z"})
    loss.fit_to([(4, 6, 6), (6, 3, 3), (8,)], [(5, 6, 6), (7, 6, 6), (9,)])
    student = [maps(1, 4).float(), maps(2, 6, 3).float(), rows(3, 8).float()]
    goal = [maps(4, 5).float(), maps(5, 7).float(), rows(6, 9).float()]
    for features in student:
        features.requires_grad_()
    loss(student, goal).backward()
    assert all(f.grad is not None and f.grad.abs().sum() > 0 for f in student)
    with pytest.raises(RecipeError, match=r"shallow to deep, found maps of height \[3, 6\]"):
        Review({"a": "x", "b": "y"}).fit_to([(6, 3, 3), (4, 6, 6)], [(5, 3, 3), (7, 6, 6)])


def test_in_review_a_shallow_teacher_level_teaches_the_deeper_student_levels() -> None:
    torch.manual_seed(0)
    loss = Review({"a": "x", "b": "y"})
    loss.fit_to([(4, 6, 6), (6, 3, 3)], [(5, 6, 6), (7, 3, 3)])
    deep = maps(2, 6, 3).float().requires_grad_()
    residual = loss.fusions[1](deep, None, (3, 3))[1]
    seen, _ = loss.fusions[0](maps(1, 4).float(), residual, (6, 6))
    seen.square().sum().backward()
    assert deep.grad is not None and deep.grad.abs().sum() > 0
    assert seen.shape == (N, 5, 6, 6)


def test_weights_of_rkd() -> None:
    student, teacher = [rows(1)], [rows(2)]
    distance, angle = rkd_distance(rows(1), rows(2)), rkd_angle(rows(1), rows(2))
    torch.testing.assert_close(Rkd(PATHS, 2.0, 3.0)(student, teacher), 2 * distance + 3 * angle)
    torch.testing.assert_close(Rkd(PATHS, 0.0, 1.0)(student, teacher), angle)
    with pytest.raises(RecipeError, match="angle: expected a number above 0 where distance is 0"):
        Rkd(PATHS, 0.0, 0.0)


@pytest.mark.parametrize(
    "made",
    [
        lambda: Mgd(PATHS, ratio=1.0),
        lambda: AttentionTransfer(PATHS, power=0.5),
        lambda: Cwd(PATHS, temperature=0.0),
        lambda: Vid(PATHS, variance=1e-6),
        lambda: FactorTransfer(PATHS, rate=0.0),
        lambda: CorrelationCongruence(PATHS, gamma=0.0),
        lambda: CorrelationCongruence(PATHS, order=0),
        lambda: Crd(PATHS, 10, momentum=1.0),
        lambda: Mgd(PATHS, masks="rows"),  # type: ignore[arg-type]
    ],
)
def test_numbers_at_the_edge_are_refused(made: Callable[[], FeatureLoss]) -> None:
    with pytest.raises(RecipeError, match=r"^\w+\.\w+: expected [^\n]+, found [^\n]+$"):
        made()


# Contrast


def memory(**options: float) -> Crd:
    torch.manual_seed(0)
    loss = Crd(PATHS, 10, negatives=4, width=3, **options)  # type: ignore[arg-type]
    loss.fit_to([(5,)], [(5,)])
    return loss


def contrast(loss: Crd, index: Tensor, seed: int = 1, negatives: Tensor | None = None) -> Tensor:
    drawn = torch.arange(4).expand(len(index), 4) if negatives is None else negatives
    mine, goal = rows(seed).float()[: len(index)], rows(seed + 9).float()[: len(index)]
    value: Tensor = loss([mine], [goal], index=index, drawn={"negatives": drawn})
    return value


def test_crd_in_numpy_terms_from_its_banks_at_the_first_batch() -> None:
    loss = memory()
    held = loss.memories[0]
    banks = {"s": held.student_bank.clone(), "t": held.teacher_bank.clone()}
    index, negatives = torch.tensor([7, 2, 9]), torch.tensor([[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 0, 0]])
    value = contrast(loss, index, 1, negatives)
    expected = 0.0
    for head, anchor, bank in ((held.student, rows(1), "t"), (held.teacher, rows(10), "s")):
        embedded = torch.nn.functional.normalize(head(anchor.float()[:3]))
        score = torch.stack(
            [
                (banks[bank][torch.cat([i[None], n])] @ e / 0.07).exp()
                for i, n, e in zip(index, negatives, embedded, strict=True)
            ]
        )
        p = score / (score.mean() * 10)
        noise = 4 / 10
        terms = (p[:, 0] / (p[:, 0] + noise + 1e-7)).log() + (noise / (p[:, 1:] + noise + 1e-7)).log().sum(1)
        expected -= terms.mean().item()
    assert value.item() == pytest.approx(expected, rel=1e-5)


def test_the_bank_takes_in_what_it_saw_with_momentum_and_nothing_else() -> None:
    loss = memory(momentum=0.25)
    held = loss.memories[0]
    before, index = held.teacher_bank.clone(), torch.tensor([7, 2, 9])
    contrast(loss, index)
    with torch.no_grad():
        new = torch.nn.functional.normalize(held.teacher(rows(10).float()[:3]))
    expected = torch.nn.functional.normalize(0.25 * before[index] + 0.75 * new)
    torch.testing.assert_close(held.teacher_bank[index], expected)
    others = [i for i in range(10) if i not in index.tolist()]
    assert torch.equal(held.teacher_bank[others], before[others])
    assert not held.teacher_bank.requires_grad


def test_the_normalisation_is_estimated_once() -> None:
    loss = memory()
    held = loss.memories[0]
    assert all(bool(value.isfinite().all()) for value in held.state_dict().values())  # a checkpoint refuses others
    assert not held.student_log_z_known
    contrast(loss, torch.tensor([7, 2]))
    first = held.student_log_z.clone()
    contrast(loss, torch.tensor([1, 3]), seed=4)
    assert held.student_log_z_known and first != 0 and torch.equal(first, held.student_log_z)


def test_an_image_twice_in_a_batch_is_written_once() -> None:
    once, twice = memory(), memory()
    contrast(once, torch.tensor([7, 2]))
    contrast(twice, torch.tensor([7, 2, 7]))
    assert torch.equal(once.memories[0].student_bank, twice.memories[0].student_bank)


def test_a_low_temperature_does_not_overflow() -> None:
    loss = memory(temperature=1e-3)
    assert contrast(loss, torch.tensor([7, 2])).isfinite()
    assert crd(torch.tensor([[-1e4, 1e4], [1e4, -1e4]]), 10).isfinite().all()


def test_images_beyond_the_count_are_refused() -> None:
    with pytest.raises(
        RecipeError, match=r"Crd.count: expected the number of training images.* found 10 and an image 12"
    ):
        contrast(memory(), torch.tensor([7, 12]))


# Several processes


def _half(rank: int) -> dict[str, Tensor]:
    """Return the gradients and banks of one of two processes, each with half of the batch."""
    return _gradients(slice(rank * N // 2, (rank + 1) * N // 2))


def _gradients(part: slice) -> dict[str, Tensor]:
    weight = rows(3, 5)[:5].clone().requires_grad_()
    found = {}
    losses = {
        "sp": SimilarityPreserving(PATHS),
        "pkt": Pkt(PATHS),
        "rkd": Rkd(PATHS),
        "cc": CorrelationCongruence(PATHS),
    }
    for name, loss in losses.items():
        (found[name],) = torch.autograd.grad(loss([rows(1)[part] @ weight], [rows(2)[part]]), weight)
    bank = memory()
    index, negatives = torch.tensor([7, 2, 9, 1, 2, 0])[part], torch.arange(4).expand(N, 4)[part]
    value = bank([rows(1).float()[part]], [rows(2).float()[part]], index=index, drawn={"negatives": negatives})
    found["crd"] = torch.autograd.grad(value, bank.memories[0].student.weight)[0]
    found["bank"], found["z"] = bank.memories[0].student_bank.clone(), bank.memories[0].student_log_z.clone()
    return found


def test_two_processes_with_half_the_batch_are_one_with_the_whole(pair: Pair) -> None:
    whole, parts = _gradients(slice(None)), pair(_half)
    for name, expected in whole.items():
        torch.testing.assert_close((parts[0][name] + parts[1][name]) / 2, expected, rtol=1e-5, atol=1e-9)
    assert torch.equal(parts[0]["bank"], parts[1]["bank"])
    alone = rows(1)
    assert gathered(alone) is alone
