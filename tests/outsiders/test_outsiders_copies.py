"""Networks that are hard to copy: they keep features, locks, hooks or the weights of old norms."""

from __future__ import annotations

import copy
import queue
import threading
import types
import weakref
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import prune

from limbeck.cli import main
from limbeck.errors import LimbeckError
from limbeck.networks.given.weights import load_weights
from limbeck.networks.handling.copying import copied
from limbeck.training.average import Average, averaged


class Masked(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mask", torch.full((3, 3), -torch.inf).triu(1))
        self.line = nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.line(x) @ (x @ x.T + self.mask).softmax(1)
        return found


def test_a_mask_of_attention_is_averaged() -> None:
    average = Average(network := Masked(), 0.5)
    with torch.no_grad():
        network.line.weight.zero_()
    average.update(100)
    found = averaged(network, average)
    assert torch.equal(found.mask, network.mask) and found.line.weight.abs().max() > 0


def keeping(keep: Callable[[nn.Module, Tensor], object]) -> nn.Module:
    class Keeps(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.line = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            found: Tensor = self.line(x)
            self.kept = keep(self, found)
            return found

    return Keeps()


def normed(norm: Callable[[nn.Module], nn.Module]) -> nn.Module:
    return nn.Sequential(norm(nn.Linear(4, 4)), nn.ReLU())


def locked() -> nn.Module:
    network = nn.Sequential(nn.Linear(4, 4))
    network.lock, network.again = threading.Lock(), {"inside": [threading.RLock()]}
    network.waiting = queue.Queue()  # which has locks, and methods of them
    return network


def hooked() -> nn.Module:
    network = nn.Sequential(nn.Linear(4, 4))
    network.seen = []

    def remember(self: nn.Module, module: nn.Module, inputs: object, output: Tensor) -> None:
        self.seen.append(output)

    network[0].register_forward_hook(types.MethodType(remember, network))
    return network


def remembering() -> nn.Module:
    def moved(net: nn.Module, x: Tensor) -> object:
        net.memory = net.memory * 0.9 + x.mean(0)
        return None

    network = keeping(moved)
    network.register_buffer("memory", torch.zeros(4))
    return network


def drawing() -> nn.Module:
    network = nn.Sequential(nn.Linear(4, 4))
    network.generator = torch.Generator().manual_seed(3)
    return network


@dataclass
class Kept:
    value: Tensor


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "self.feat = x": lambda: keeping(lambda net, x: x),
    "features in a list": lambda: keeping(lambda net, x: [x, x + 1]),
    "features in a dictionary": lambda: keeping(lambda net, x: {"last": (x,)}),
    "features in an object": lambda: keeping(lambda net, x: Kept(x)),
    "features in a set": lambda: keeping(lambda net, x: {x}),
    "features in a queue": lambda: keeping(lambda net, x: deque([x], maxlen=2)),
    "a memory of features": remembering,
    "pruned": lambda: nn.Sequential(prune.l1_unstructured(nn.Linear(4, 4), "weight", 0.5), nn.ReLU()),
    "old weight_norm": lambda: normed(torch.nn.utils.weight_norm),
    "old spectral_norm": lambda: normed(torch.nn.utils.spectral_norm),
    "parametrised weight_norm": lambda: normed(torch.nn.utils.parametrizations.weight_norm),
    "locks": locked,
    "hooks that keep": hooked,
    "a generator": drawing,
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", NETWORKS)
def test_networks_are_copied(name: str) -> None:
    network, x = NETWORKS[name](), torch.randn(2, 4)
    network(x)
    twin = copied(network)
    assert torch.equal(twin.eval()(x), network.eval()(x))
    before = network(x).detach().clone()
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.add_(1)
    assert torch.equal(network(x), before) and not torch.equal(twin(x), before)
    copied(twin)  # a copy can be copied


def test_hooks_of_a_copy_are_its_own() -> None:
    network = hooked()
    twin = copied(network)
    twin(torch.randn(2, 4))
    assert len(twin.seen) == 1 and network.seen == []


def scaled() -> nn.Module:
    """A layer with a scale, which the functions of `KNOW_IT` multiply its output by."""
    network = nn.Sequential(nn.Linear(4, 4))
    network.scale = nn.Parameter(torch.ones(1))
    return network


def by_closure(network: Any) -> None:
    network[0].register_forward_hook(lambda module, inputs, output: output * network.scale)


def by_default(network: Any) -> None:
    network[0].register_forward_hook(lambda module, inputs, output, net=network: output * net.scale)


def by_keyword(network: Any) -> None:
    def hook(module: nn.Module, inputs: object, output: Tensor, *, net: Any = network) -> Any:
        return output * net.scale

    network[0].register_forward_hook(hook)


def by_partial(network: Any) -> None:
    def hook(net: Any, module: nn.Module, inputs: object, output: Tensor) -> Any:
        return output * net.scale

    network[0].register_forward_hook(partial(hook, network))


def by_nesting(network: Any) -> None:
    def factor() -> Any:
        return network.scale

    network[0].register_forward_hook(lambda module, inputs, output: output * factor())


def by_another_forward(network: Any) -> None:
    before = network.forward
    network.forward = lambda x: before(x) * network.scale


def by_weak_reference(network: Any) -> None:
    network.owner = weakref.ref(network)
    network[0].register_forward_hook(lambda module, inputs, output: output * network.owner().scale)


def by_a_list(network: Any) -> None:
    network.seen = []
    network.keep = network.seen.append

    def hook(module: nn.Module, inputs: object, output: Tensor) -> Any:
        network.seen.clear()
        network.keep(output)
        return network.seen[0] * network.scale

    network[0].register_forward_hook(hook)


KNOW_IT = [
    by_closure, by_default, by_keyword, by_partial, by_nesting, by_another_forward, by_weak_reference, by_a_list,
]  # fmt: skip


@pytest.mark.parametrize("add", KNOW_IT)
def test_functions_of_a_copy_know_the_copy(add: Callable[[Any], None]) -> None:
    """Python copies no function: that of a copy would look at the weights of the original, without a word."""
    add(network := scaled())
    x = torch.randn(2, 4)
    twin = copied(network)
    with torch.no_grad():
        twin.scale.zero_()
    assert twin(x).abs().max() == 0 and network(x).abs().max() > 0
    with torch.no_grad():
        network.scale.zero_()
        twin.scale.fill_(1)
    assert twin(x).abs().max() > 0 and copied(twin)(x).abs().max() > 0


def test_features_by_a_hook_are_the_copys_own() -> None:
    """The usual way to read features: one writes them into `self`, and `forward` returns them."""

    class Features(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.found = nn.Sequential(nn.Linear(4, 4), nn.ReLU()), {}
            self.body[0].register_forward_hook(lambda module, inputs, output: self.found.update(first=output))

        def forward(self, x: Tensor) -> Any:
            self.body(x)
            return self.found["first"]

    network = Features()
    network(x := torch.randn(2, 4))
    twin = copied(network)
    with torch.no_grad():
        twin.body[0].weight.zero_()
        twin.body[0].bias.fill_(7)
    assert (twin(x) == 7).all()


def test_functions_that_know_nothing_of_it_stay_the_same() -> None:
    network, counts = nn.Sequential(nn.Linear(4, 4)), [0]
    network.pool, network.count = F.max_pool2d, lambda: counts
    twin = copied(network)
    assert twin.pool is F.max_pool2d and twin.count is network.count


def test_what_has_no_copy_is_told_in_a_line() -> None:
    network = nn.Sequential(nn.Linear(4, 4))
    network.stream = (each for each in range(3))
    with pytest.raises(LimbeckError, match=r"Sequential: expected a network that can be copied, .*: stream: .*gen"):
        copied(network)
    inside = nn.Sequential(nn.ReLU(), nn.ModuleDict({"own": network}))
    with pytest.raises(LimbeckError, match=r"what cannot: 1\.own\.stream: TypeError: .* 'generator' object; keep it"):
        copied(inside)
    assert isinstance(copy.copy(network), nn.Sequential)


@pytest.mark.parametrize("name", ["self.feat = x", "locks", "old weight_norm"])
@pytest.mark.filterwarnings("ignore")
def test_arguments_that_hold_networks_are_copied(name: str) -> None:
    """As the terms of a method that a script gives to `distill`."""
    (network := NETWORKS[name]())(x := torch.randn(2, 4))
    twin = copied({"terms": {"student.own": network}})["terms"]["student.own"]
    assert twin is not network and torch.equal(twin.eval()(x), network.eval()(x))


def test_a_network_in_data_parallel_takes_its_weights(tmp_path: Path) -> None:
    torch.save((given := nn.Linear(4, 4)).state_dict(), tmp_path / "w.pth")
    load_weights(network := nn.DataParallel(nn.Linear(4, 4)), tmp_path / "w.pth")
    assert torch.equal(network.module.weight, given.weight)


KEEPS = """
from torch import nn
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.head = nn.utils.weight_norm(nn.Conv2d(3, 8, 3)), nn.Linear(8, 2)
    def forward(self, x):
        self.feat = self.a(x)
        return self.head(self.feat.relu().mean((2, 3)))
"""
RECIPE = """
name: keeps
data: {class_path: Glyphs, init_args: {size: 16, channels: 3, classes: AB, train: 16, validation: 8, test: 8}}
task: Classification
method: Supervised
student:
  network: {class_path: Import, init_args: {target: "nets.py:Net", role: classifier, classes: 2}}
  training: {steps: 3, batch: 8, ema: 0.9, checkpoint_every: 1, evaluate_every: 1}
"""


@pytest.mark.filterwarnings("ignore")
def test_a_student_that_keeps_its_features_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("nets.py").write_text(KEEPS)
    Path("recipe.yaml").write_text(RECIPE)
    assert main(["train", "recipe.yaml", "--out", "run", "--accelerator", "cpu"]) == 0
    assert list(Path("run").rglob("final.safetensors"))
