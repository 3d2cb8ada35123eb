"""methods/mutual.py: the two losses by hand, whose graph is whose, and both networks learn."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from limbeck.errors import DataError, RecipeError
from limbeck.methods.mutual import Mutual
from limbeck.types import Batch


def pair() -> tuple[Mutual, Batch]:
    torch.manual_seed(0)
    student, peer = (nn.Sequential(nn.Flatten(), nn.Linear(16, 3)) for _ in range(2))
    image = torch.randn(60, 1, 4, 4)
    return Mutual(student, peer), Batch(image=image, label=image[:, 0, 0, :3].argmax(1))


def step(method: Mutual, batch: Batch, rate: float) -> dict[str, float]:
    """Take a step of gradient descent by hand; return the losses."""
    found: dict[str, float] = {}
    players = method.players()
    for update in method.updates(batch, 0):
        values = {name: loss() for name, loss in update.losses.items() if callable(loss)}
        method.zero_grad()
        torch.stack(list(values.values())).sum().backward()
        other = players["peer" if update.player == "student" else "student"]
        assert all(p.grad is None for p in other.parameters())  # the other one only answers
        with torch.no_grad():
            for parameter in players[update.player].parameters():
                assert parameter.grad is not None
                parameter.sub_(rate * parameter.grad)
        found |= {f"{update.player}.{name}": value.item() for name, value in values.items()}
    return found


def test_both_losses_by_hand_and_the_peer_sees_the_moved_student() -> None:
    method, batch = pair()
    assert batch.image is not None and batch.label is not None
    peer = method.peer(batch.image).log_softmax(1)
    student = method.student(batch.image).log_softmax(1)
    found = step(method, batch, 0.5)
    moved = method.student(batch.image).log_softmax(1)
    assert found.keys() == Mutual.losses().keys()
    assert found["student.cross_entropy"] == pytest.approx(F.nll_loss(student, batch.label).item(), rel=1e-5)
    kl = (peer.exp() * (peer - student)).sum(1).mean()
    assert found["student.mutual"] == pytest.approx(kl.item(), rel=1e-4)
    back = (moved.exp() * (moved - peer)).sum(1).mean()
    assert found["peer.mutual"] == pytest.approx(back.item(), rel=1e-4)


def test_both_learn_and_come_to_agree() -> None:
    method, batch = pair()
    first = step(method, batch, 0.5)
    for _ in range(100):
        last = step(method, batch, 0.5)
    assert batch.image is not None
    for network in (method.student, method.peer):
        assert (network(batch.image).argmax(1) == batch.label).float().mean() > 0.9
    assert last["student.mutual"] < 0.2 * first["student.mutual"]


def test_bad_input() -> None:
    network = nn.Linear(2, 2)
    with pytest.raises(RecipeError, match="another network than the student"):
        Mutual(network, network)
    with pytest.raises(DataError, match="Mutual: expected data with labels"):
        next(Mutual(nn.Linear(2, 2), nn.Linear(2, 2)).updates(Batch(image=torch.zeros(1, 1, 1, 2)), 0))
