"""Feature and relation losses against NumPy, written from the papers' formulas in float64, and their gradients."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from limbeck.losses.attention_transfer import attention_transfer
from limbeck.losses.correlation_congruence import correlation_congruence, gaussian_correlation
from limbeck.losses.crd import crd
from limbeck.losses.cwd import cwd
from limbeck.losses.factor_transfer import factor_transfer
from limbeck.losses.hint import hint
from limbeck.losses.mgd import mask, mgd
from limbeck.losses.pkt import pkt
from limbeck.losses.review import hierarchical_context
from limbeck.losses.rkd import rkd_angle, rkd_distance
from limbeck.losses.similarity_preserving import similarity_preserving
from limbeck.losses.vid import vid

Array = np.ndarray[Any, Any]
DRAW = np.random.default_rng(0)
N, C, H, W = 5, 3, 6, 6
MAP, GOAL = DRAW.normal(size=(N, C, H, W)), DRAW.normal(1, 2, size=(N, C, H, W))
WIDE = DRAW.normal(size=(N, 7, H, W))
ROW, FAR = DRAW.normal(size=(N, 4)), DRAW.normal(0.5, 2, size=(N, 6))
RAW = DRAW.normal(size=C)
UNIFORM = DRAW.uniform(size=(N, H, W))


def pooled(maps: Array, size: int) -> Array:
    """Averages over equal fields; `size` divides the map, or the fields overlap as adaptive pooling has them."""
    edges = [(math.floor(k * H / size), math.ceil((k + 1) * H / size)) for k in range(size)]
    rows = [[maps[:, :, a:b, c:d].mean((2, 3)) for c, d in edges] for a, b in edges]
    return np.stack([np.stack(row, -1) for row in rows], -2)


def vid_reference(mean: Array, goal: Array, raw: Array) -> Array:
    result = np.zeros(N)
    for n, c, i, j in product(range(N), range(C), range(H), range(W)):
        variance = math.log(1 + math.exp(raw[c])) + 1e-5
        result[n] += math.log(math.sqrt(variance)) + (goal[n, c, i, j] - mean[n, c, i, j]) ** 2 / (2 * variance)
    return result / (C * H * W)


def attention_reference(student: Array, teacher: Array, power: float) -> Array:
    maps = [(np.abs(a) ** power).sum(1).reshape(N, -1) for a in (student, teacher)]
    a, b = (q / np.sqrt((q**2).sum(1, keepdims=True)) for q in maps)
    return ((a - b) ** 2).mean(1)


def similarity_reference(student: Array, teacher: Array) -> float:
    grams = []
    for f in (student, teacher):
        gram = np.array([[float((f[i] * f[j]).sum()) for j in range(N)] for i in range(N)])
        grams.append(np.array([row / np.linalg.norm(row) for row in gram]))
    return float(np.linalg.norm(grams[1] - grams[0], "fro") ** 2 / N**2)


def pkt_reference(student: Array, teacher: Array) -> float:
    def conditional(rows: Array) -> Array:
        rows = rows / (np.linalg.norm(rows, axis=1, keepdims=True) + 1e-7)
        kernel = np.array([[0.5 * (a @ b + 1) for b in rows] for a in rows])
        return np.array([row / row.sum() for row in kernel])

    q, p = conditional(student), conditional(teacher)
    return sum(p[i, j] * math.log((p[i, j] + 1e-7) / (q[i, j] + 1e-7)) for i in range(N) for j in range(N)) / N**2


def factor_reference(student: Array, teacher: Array) -> Array:
    a, b = (f.reshape(N, -1) / np.linalg.norm(f.reshape(N, -1), axis=1, keepdims=True) for f in (student, teacher))
    return np.abs(a - b).mean(1)


def cwd_reference(student: Array, teacher: Array, temperature: float) -> Array:
    result = np.zeros(N)
    for n, c in product(range(N), range(C)):
        q, p = (np.exp(f[n, c] / temperature) / np.exp(f[n, c] / temperature).sum() for f in (student, teacher))
        result[n] += (p * np.log(p / q)).sum()
    return temperature**2 / C * result


def context_reference(student: Array, teacher: Array) -> Array:
    levels = [(1.0, student, teacher)]
    levels += [(w, pooled(student, k), pooled(teacher, k)) for k, w in ((4, 0.5), (2, 0.25), (1, 0.125))]
    total = sum(w * ((a - b) ** 2).mean((1, 2, 3)) for w, a, b in levels)
    return np.asarray(total / sum(w for w, _, _ in levels))


def huber(x: float) -> float:
    return x * x / 2 if abs(x) <= 1 else abs(x) - 0.5


def distance_reference(student: Array, teacher: Array) -> float:
    scaled = []
    for rows in (student, teacher):
        apart = np.array([[np.sqrt(((a - b) ** 2).sum()) for b in rows] for a in rows])
        scaled.append(apart / np.mean([apart[i, j] for i in range(N) for j in range(N) if i != j]))
    return sum(huber(a - b) for a, b in zip(*(s.ravel() for s in scaled), strict=True)) / N**2


def angle_reference(student: Array, teacher: Array) -> float:
    def cosine(rows: Array, i: int, j: int, k: int) -> float:
        if i in (j, k):
            return 0.0
        a, b = rows[j] - rows[i], rows[k] - rows[i]
        return float(a @ b / math.sqrt(a @ a) / math.sqrt(b @ b))

    triples = product(range(N), repeat=3)
    return sum(huber(cosine(student, *t) - cosine(teacher, *t)) for t in triples) / N**3


def correlation_reference(student: Array, teacher: Array, gamma: float, order: int) -> float:
    def kernel(rows: Array) -> Array:
        rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        series = [
            math.exp(-2 * gamma) * (2 * gamma) ** p / math.factorial(p) * (rows @ rows.T) ** p for p in range(order + 1)
        ]
        return np.asarray(np.sum(series, axis=0))

    return float(((kernel(teacher) - kernel(student)) ** 2).sum() / N**2)


def crd_reference(log_p: Array, count: int) -> Array:
    p, noise = np.exp(log_p), (log_p.shape[1] - 1) / count
    positive = np.log(p[:, 0] / (p[:, 0] + noise + 1e-7))
    return -positive - np.log(noise / (p[:, 1:] + noise + 1e-7)).sum(1)


Case = tuple[Callable[..., Tensor], Callable[..., Any], tuple[Any, ...]]
CASES: dict[str, Case] = {
    "hint": (hint, lambda s, t: ((s - t) ** 2).mean((1, 2, 3)), (MAP, GOAL)),
    "hint of vectors": (hint, lambda s, t: ((s - t) ** 2).mean(1), (ROW, FAR[:, :4])),
    "hint of a larger map": (hint, lambda s, t: ((pooled(s, 3) - t) ** 2).mean((1, 2, 3)), (MAP, GOAL[:, :, :3, :3])),
    "attention transfer": (attention_transfer, attention_reference, (MAP, WIDE, 2.0)),
    "attention transfer, p = 3.5": (attention_transfer, attention_reference, (MAP, WIDE, 3.5)),
    "similarity preserving": (similarity_preserving, similarity_reference, (MAP, WIDE)),
    "vid": (vid, vid_reference, (MAP, GOAL, RAW)),
    "pkt": (pkt, pkt_reference, (ROW, FAR)),
    "factor transfer": (factor_transfer, factor_reference, (MAP, GOAL)),
    "cwd": (cwd, cwd_reference, (MAP, GOAL, 1.0)),
    "cwd, T = 4": (cwd, cwd_reference, (MAP, GOAL, 4.0)),
    "mgd": (mgd, lambda s, t: ((t - s) ** 2).sum((1, 2, 3)), (MAP, GOAL)),
    "mask of positions": (mask, lambda f, r, v: f * np.where(r < v, 0, 1)[:, None], (MAP, UNIFORM, 0.4)),
    "mask of channels": (
        mask,
        lambda f, r, v: f * np.where(r < v, 0, 1)[:, :, None, None],
        (MAP, UNIFORM[:, 0, :C], 0.4),
    ),
    "hierarchical context": (hierarchical_context, context_reference, (MAP, GOAL)),
    "rkd distance": (rkd_distance, distance_reference, (ROW, FAR)),
    "rkd angle": (rkd_angle, angle_reference, (ROW, FAR)),
    "correlation congruence": (correlation_congruence, correlation_reference, (ROW, FAR, 0.4, 2)),
    "correlation congruence, P = 5": (correlation_congruence, correlation_reference, (ROW, FAR, 0.9, 5)),
    "crd": (crd, crd_reference, (DRAW.normal(-6, 2, size=(N, 9)), 50)),
}
every_case = pytest.mark.parametrize(("ours", "reference", "given"), CASES.values(), ids=CASES)


def tensors(given: tuple[Any, ...]) -> list[Any]:
    return [torch.from_numpy(g.copy()) if isinstance(g, np.ndarray) else g for g in given]


@every_case
def test_values(ours: Callable[..., Tensor], reference: Callable[..., Any], given: tuple[Any, ...]) -> None:
    found, expected = ours(*tensors(given)), reference(*given)
    assert found.dtype == torch.float64
    assert found.shape == np.shape(expected)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert np.abs(expected).max() > 1e-3  # so that a wrong value of about 0 would not pass unseen


@every_case
def test_gradients(ours: Callable[..., Tensor], reference: Callable[..., Any], given: tuple[Any, ...]) -> None:
    first, *rest = tensors(given)
    if ours is vid:  # its variances train as well
        assert torch.autograd.gradcheck(lambda raw: vid(first, rest[0], raw), (rest[1].requires_grad_(),))
    assert torch.autograd.gradcheck(lambda x: ours(x, *rest), (first.requires_grad_(),), fast_mode=first.numel() > 100)


def test_the_taylor_series_goes_to_the_gaussian_kernel() -> None:
    rows = torch.nn.functional.normalize(torch.from_numpy(FAR))
    gauss = (-0.4 * torch.cdist(rows, rows).square()).exp()
    errors = [float((gaussian_correlation(rows, 0.4, p) - gauss).abs().max()) for p in (1, 2, 4, 12)]
    assert errors == sorted(errors, reverse=True)
    assert errors[1] < 0.05 and errors[-1] < 1e-9


def test_vid_is_the_negative_log_likelihood_of_a_gaussian() -> None:
    mean, goal, raw = tensors((MAP, GOAL, RAW))
    variance = (torch.nn.functional.softplus(raw) + 1e-5).reshape(C, 1, 1)
    likelihood = torch.distributions.Normal(mean, variance.sqrt()).log_prob(goal).flatten(1).mean(1)
    torch.testing.assert_close(vid(mean, goal, raw), -likelihood - 0.5 * math.log(2 * math.pi))


def test_hints_are_torchs_mean_squared_error() -> None:
    student, teacher = tensors((MAP, GOAL))
    torch.testing.assert_close(hint(student, teacher).mean(), torch.nn.functional.mse_loss(student, teacher))
