"""Other people's networks and weight files: in-place operations after a tap, and what lies beside weights in files."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from limbeck.networks.handling.tap import Tap, features_at


class _Then(nn.Module):
    """A batch norm, and then something that writes into what it returned."""

    def __init__(self, then: Callable[[Tensor], Tensor], tapped: nn.Module | None = None) -> None:
        super().__init__()
        self.conv, self.tapped, self.then = nn.Conv2d(3, 4, 3), tapped or nn.BatchNorm2d(4), then

    def forward(self, image: Tensor) -> Tensor:
        return self.then(self.tapped(self.conv(image)))


class _Shortcut(nn.Module):
    """A tapped identity whose input is written into later, past the tap."""

    def __init__(self, tapped: nn.Module) -> None:
        super().__init__()
        self.conv, self.tapped = nn.Conv2d(3, 4, 3), tapped

    def forward(self, image: Tensor) -> Tensor:
        x = self.conv(image)
        seen = self.tapped(x).sum()
        x += 5
        return x + seen


def _added(x: Tensor) -> Tensor:
    x += 3
    return x


def _part(x: Tensor) -> Tensor:
    x[:, 0] = 7
    return x


INPLACE: dict[str, Callable[[], nn.Module]] = {
    "ReLU(inplace=True)": lambda: _Then(nn.ReLU(inplace=True)),
    "LeakyReLU(inplace=True)": lambda: _Then(nn.LeakyReLU(0.2, inplace=True)),
    "relu_": lambda: _Then(F.relu_),
    "+=": lambda: _Then(_added),
    "a part written": lambda: _Then(_part),
    "through a view": lambda: _Then(lambda x: F.relu_(x.flatten(1))),
    "tapped ReLU written into": lambda: _Then(_added, nn.ReLU(inplace=True)),
    "identity": lambda: _Shortcut(nn.Identity()),
    "flatten": lambda: _Shortcut(nn.Flatten()),
    "eval dropout": lambda: _Shortcut(nn.Dropout(0.0)),
}


@pytest.mark.parametrize("grad", [True, False])
@pytest.mark.parametrize("kind", INPLACE)
def test_a_tap_shows_what_its_module_returned(kind: str, grad: bool) -> None:
    torch.manual_seed(0)
    net = INPLACE[kind]().eval()
    image = torch.randn(2, 3, 8, 8, requires_grad=grad)
    with torch.set_grad_enabled(grad):
        [seen] = features_at(net, ["tapped"], image)
        expected = net.tapped(net.conv(image))
    assert torch.equal(seen, expected)
    assert seen.requires_grad is grad
    if grad and "part" not in kind:
        [ours], [theirs] = (torch.autograd.grad(v.square().sum(), image) for v in (seen, expected))
        assert torch.equal(ours, theirs) and ours.abs().sum() > 0


@pytest.mark.parametrize("kind", INPLACE)
def test_a_tap_changes_no_output_and_stays_in_the_graph(kind: str) -> None:
    torch.manual_seed(0)
    net = INPLACE[kind]().eval()
    image = torch.randn(2, 3, 8, 8)
    with Tap(net, ["tapped"]) as tap:
        out = net(image)
    assert torch.equal(out, net(image))
    [slope] = torch.autograd.grad(out.sum(), tap["tapped"])
    assert slope.shape == tap["tapped"].shape and slope.abs().sum() > 0
