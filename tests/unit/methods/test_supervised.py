"""methods/supervised.py: the loss is the cross-entropy, and following it learns the labels."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from limbeck.errors import RecipeError
from limbeck.methods.supervised import Supervised
from limbeck.types import Batch


class Fixed(nn.Module):
    """The image is its logits."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return image.flatten(1)


def loss_of(method: Supervised, batch: Batch) -> torch.Tensor:
    (update,) = method.updates(batch, 0)
    assert update.player == "student"
    assert {f"student.{name}" for name in update.losses} == set(Supervised.losses)
    value = update.losses["cross_entropy"]
    assert callable(value)
    return value()


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_by_hand(smoothing: float) -> None:
    logits = torch.tensor([[2.0, 0.0, -1.0], [0.5, 0.5, 0.5]])
    label = torch.tensor([0, 2])
    log_q = [[v - math.log(sum(math.exp(w) for w in row)) for v in row] for row in logits.tolist()]
    by_hand = -sum(
        (smoothing / 3 + (1 - smoothing) * (k == c)) * log_q[i][k]
        for i, c in enumerate(label.tolist())
        for k in range(3)
    )
    batch = Batch(image=logits.view(2, 1, 1, 3), label=label)
    assert loss_of(Supervised(Fixed(), label_smoothing=smoothing), batch).item() == pytest.approx(by_hand / 2, rel=1e-5)


def test_it_learns() -> None:
    torch.manual_seed(0)
    image = torch.randn(64, 1, 4, 4)
    batch = Batch(image=image, label=(image[:, 0, 0, 0] > 0).long())
    method = Supervised(nn.Sequential(nn.Flatten(), nn.Linear(16, 2)))
    optimizer = torch.optim.Adam(method.players()["student"].parameters(), 0.1)
    for _ in range(50):
        optimizer.zero_grad()
        loss_of(method, batch).backward()
        optimizer.step()
    assert (method.student(image).argmax(1) == batch.label).float().mean() > 0.95


def test_bad_input() -> None:
    with pytest.raises(RecipeError, match=r"label_smoothing: expected a number in \[0, 1\), found 1"):
        Supervised(Fixed(), label_smoothing=1)
    with pytest.raises(RecipeError, match="images and labels"):
        next(Supervised(Fixed()).updates(Batch(image=torch.zeros(1, 1, 1, 2)), 0))
