"""replicas.py: means over processes, here with a stand-in for the others; test_engine.py has real ones."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from limbeck.training import replicas
from limbeck.training.replicas import Copies, One, buckets


class Other:
    """Stands in for Fabric with one more process, in which everything is three times as large."""

    device, global_rank, world_size = torch.device("cpu"), 0, 2

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def all_reduce(self, tensor: Tensor, reduce_op: str) -> Tensor:
        assert reduce_op == "mean"
        self.sizes.append(tensor.nbytes)
        return tensor.mul_(2)  # (x + 3x) / 2; in place, as the real one may


def copies() -> tuple[Copies, Other]:
    other = Other()
    return Copies(other), other  # type: ignore[arg-type]


def parameters() -> tuple[list[nn.Parameter], list[Tensor | None]]:
    shapes = [(3,), (2, 3, 4, 4), (), (50,), (2,), (5, 5)]
    found = [nn.Parameter(torch.zeros(shape)) for shape in shapes]
    gradients: list[Tensor | None] = [torch.randn(shape) for shape in shapes]
    assert gradients[1] is not None
    gradients[1] = gradients[1].to(memory_format=torch.channels_last)
    gradients[4] = None
    for parameter, gradient in zip(found, gradients, strict=True):
        parameter.grad = None if gradient is None else gradient.clone()
    return found, gradients


@pytest.mark.parametrize(
    ("size", "calls"),
    [(10**6, [4 * (3 + 96 + 1 + 50 + 25)]), (400, [4 * (3 + 96 + 1), 4 * (50 + 25)]), (1, [12, 384, 4, 200, 100])],
)
def test_gradients_are_averaged_whatever_the_buckets(
    monkeypatch: pytest.MonkeyPatch, size: int, calls: list[int]
) -> None:
    monkeypatch.setattr(replicas, "BUCKET", size)
    where, other = copies()
    moved, before = parameters()
    where.mean_gradients(moved)
    for parameter, gradient in zip(moved, before, strict=True):
        assert (parameter.grad is None) == (gradient is None)
        if parameter.grad is not None and gradient is not None:
            torch.testing.assert_close(parameter.grad, 2 * gradient, rtol=0, atol=0)
            assert parameter.grad.stride() == gradient.stride()
    assert other.sizes == calls


def test_buckets_hold_everything_once_and_in_order() -> None:
    tensors = [torch.zeros(n) for n in (1, 2, 9, 3, 1, 1)]
    found = [[len(t) for t in bucket] for bucket in buckets(tensors, 5 * 4)]
    assert found == [[1, 2], [9], [3, 1, 1]]
    assert list(buckets([], 20)) == []


def test_values_buffers_and_what_is_asked() -> None:
    where, _ = copies()
    assert where.mean_values({"a": 1.5, "b": -2.0}) == {"a": 3.0, "b": -4.0}
    statistics, count = torch.tensor([1.0, 2.0]), torch.tensor(7)
    where.average_buffers([statistics, count])
    assert statistics.tolist() == [2.0, 4.0] and count.item() == 7  # a counter is no average
    assert [where.agree(asked) for asked in (True, False)] == [True, False]


def test_one_device_leaves_everything_as_it_is() -> None:
    where: Any = One("cpu")
    moved, before = parameters()
    where.mean_gradients(moved)
    for parameter, gradient in zip(moved, before, strict=True):
        assert parameter.grad is gradient or torch.equal(parameter.grad, gradient)
    assert where.mean_values({"a": 0.1}) == {"a": 0.1} and where.mean(moved[0]) is moved[0]
    assert [where.agree(asked) for asked in (True, False)] == [True, False]
    assert (where.rank, where.count, where.device) == (0, 1, torch.device("cpu"))
