"""Weight files as outsiders save them, networks that are hard to copy, and features before operations in place."""

from __future__ import annotations

import argparse
import copy
import threading
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file, save_model
from torch import Tensor, nn
from torch.nn import functional as F

from limbeck.errors import LimbeckError, WeightsError
from limbeck.networks.given.weights import load_weights
from limbeck.networks.handling.copying import copied
from limbeck.networks.handling.tap import features_at
from limbeck.training.average import Average, averaged
from limbeck.training.checkpoint import load, save


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.norm, self.head = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.head(self.norm(self.a(x)).relu().mean((2, 3)))
        return found


def seeded(seed: int) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    return Net().state_dict()


RAW, EMA = seeded(1), seeded(2)


def under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + name: value for name, value in tensors.items()}


def taken(network: nn.Module) -> str:
    head = network.state_dict()["head.weight"]
    return (
        "raw" if torch.equal(head, RAW["head.weight"]) else "averaged" if torch.equal(head, EMA["head.weight"]) else ""
    )


AVERAGED = {
    "generator_ema": {
        "state_dict": {"counter": torch.tensor(1), **under("generator.", RAW), **under("generator_ema.", EMA)}
    },
    "ema_generator": {**under("generator.", RAW), **under("ema_generator.", EMA)},
    "g_ema": {"g": RAW, "g_ema": EMA},
    "netG_ema": {"netG": RAW, "netG_ema": EMA},
    "model_ema": {"model": RAW, "model_ema": EMA},
    "params_ema": {"params": RAW, "params_ema": EMA},
    "state_dict_ema": {"state_dict": RAW, "state_dict_ema": EMA},
    "ema.": {**under("module.", RAW), **under("ema.", EMA)},
    "shadow": {"model": RAW, "shadow": EMA},
    "averaged_model": {"model": RAW, "averaged_model": EMA},
}  # fmt: skip


@pytest.mark.parametrize("name", AVERAGED)
def test_averaged_weights_are_preferred(tmp_path: Path, name: str) -> None:
    torch.save(AVERAGED[name], tmp_path / "w.pth")
    load_weights(network := Net(), tmp_path / "w.pth")
    assert taken(network) == "averaged"


def test_averaged_weights_that_do_not_fit_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"model": RAW, "model_ema": {"head.weight": EMA["head.weight"]}}, tmp_path / "w.pth")
    load_weights(network := Net(), tmp_path / "w.pth")
    assert taken(network) == "raw" and "model_ema" in capsys.readouterr().err


NAMES = ("w.pth.tar", "w", "w.pkl", "w.weights", "w.pth", "w.ckpt", "epoch_3.0")


@pytest.mark.parametrize("name", NAMES)
def test_a_file_is_known_by_its_content(tmp_path: Path, name: str) -> None:
    torch.save({"state_dict": RAW}, tmp_path / name)
    load_weights(network := Net(), tmp_path / name)
    assert taken(network) == "raw"


@pytest.mark.parametrize("name", ["w.bin", "w", "w.pth"])
def test_safetensors_under_another_name(tmp_path: Path, name: str) -> None:
    save_file(RAW, tmp_path / name)
    load_weights(network := Net(), tmp_path / name)
    assert taken(network) == "raw"


FLOAT_COUNTER = {n: t.float() if n.endswith("tracked") else t for n, t in RAW.items()}
PROFILED = {**RAW, "total_ops": torch.zeros(1), "a.total_ops": torch.zeros(1), "a.total_params": torch.zeros(1)}
BESIDE: dict[str, Any] = {
    "a profiler's counters": PROFILED,
    "a float counter": FLOAT_COUNTER,
    "a numpy scalar": {"model": RAW, "best_acc": np.float64(72.3), "seen": np.int64(3)},
    "options": {"model": RAW, "args": argparse.Namespace(lr=0.1, name="x")},
    "a loss under another prefix": {"state_dict": {**under("unet.", RAW), "loss.weight": torch.ones(3)}},
    "a criterion": {"state_dict": {**under("backbone_net.", RAW), **under("criterion.", {"centres": torch.ones(3)})}},
    "two prefixes": {"state_dict": {**under("model.inner.", RAW), "loss.weight": torch.ones(3)}},
}


@pytest.mark.parametrize("name", BESIDE)
def test_bookkeeping_beside_weights_is_left_aside(tmp_path: Path, name: str) -> None:
    torch.save(BESIDE[name], tmp_path / "w.pth")
    load_weights(network := Net(), tmp_path / "w.pth")
    assert taken(network) == "raw"


def test_what_is_left_aside_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save(PROFILED, tmp_path / "w.pth")
    load_weights(Net(), tmp_path / "w.pth")
    assert "a.total_ops" in capsys.readouterr().err


class Instance(nn.Module):
    def __init__(self, *, track: bool) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.InstanceNorm2d(4, affine=True, track_running_stats=track))


def test_statistics_of_instance_norms(tmp_path: Path) -> None:
    """PyTorch 0.3 kept them where nobody used them."""
    torch.save(Instance(track=True).state_dict(), tmp_path / "w.pth")
    load_weights(network := Instance(track=False), tmp_path / "w.pth")
    assert torch.equal(network.body[0].weight, torch.load(tmp_path / "w.pth")["body.0.weight"])


def test_statistics_of_batch_norms_are_no_bookkeeping(tmp_path: Path) -> None:
    torch.save(nn.Sequential(nn.BatchNorm2d(4)).state_dict(), tmp_path / "w.pth")
    with pytest.raises(WeightsError, match=r"unexpected tensors: 0\.running_mean"):
        load_weights(nn.Sequential(nn.BatchNorm2d(4, track_running_stats=False)), tmp_path / "w.pth")


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(4, 4)
        self.b = self.a


def test_tensors_tied_and_saved_once(tmp_path: Path) -> None:
    save_model(source := Tied(), str(tmp_path / "w.safetensors"))
    load_weights(network := Tied(), tmp_path / "w.safetensors")
    assert torch.equal(network.b.weight, source.a.weight)


def test_a_network_in_data_parallel_takes_its_weights(tmp_path: Path) -> None:
    torch.save(RAW, tmp_path / "w.pth")
    load_weights(network := nn.DataParallel(Net()), tmp_path / "w.pth")
    assert taken(network.module) == "raw"


def test_a_program_of_torchscript_is_named(tmp_path: Path) -> None:
    torch.jit.script(Net()).save(str(tmp_path / "w.pt"))
    with pytest.raises(WeightsError, match="a TorchScript program, which is code; save its weights alone"):
        load_weights(Net(), tmp_path / "w.pt")


def test_old_names_of_attention(tmp_path: Path) -> None:
    """As in sd-vae's published files."""
    pytest.importorskip("diffusers")
    from diffusers import AutoencoderKL  # noqa: PLC0415

    made = AutoencoderKL(block_out_channels=(8,), norm_num_groups=4)
    held = made.state_dict()
    for new, old in (("to_q", "query"), ("to_k", "key"), ("to_v", "value"), ("to_out.0", "proj_attn")):
        held = {name.replace(new, old): value for name, value in held.items()}
    assert any("query" in name for name in held)
    torch.save(held, tmp_path / "w.bin")
    load_weights(other := AutoencoderKL(block_out_channels=(8,), norm_num_groups=4), tmp_path / "w.bin")
    assert all(torch.equal(a, b) for a, b in zip(other.parameters(), made.parameters(), strict=True))


class Masked(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mask", torch.full((3, 3), -torch.inf).triu(1))
        self.line = nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.line(x) @ (x @ x.T + self.mask).softmax(1)
        return found


def test_a_mask_of_attention_loads(tmp_path: Path) -> None:
    torch.save(Masked().state_dict(), tmp_path / "w.pth")
    load_weights(network := Masked(), tmp_path / "w.pth")
    assert network.mask.isinf().sum() == 3


@pytest.mark.parametrize(("name", "value"), [("line.weight", -torch.inf), ("mask", torch.nan), ("mask", torch.inf)])
def test_other_infinities_do_not_load(tmp_path: Path, name: str, value: float) -> None:
    state = Masked().state_dict()
    state[name][0, 0] = value
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match=f"{name} holds 1 of 9 values that are NaN or infinite"):
        load_weights(Masked(), tmp_path / "w.pth")


def test_a_mask_of_attention_is_checkpointed(tmp_path: Path) -> None:
    state = {"method": {"student.mask": Masked().mask}, "infinite": ["/method/student.mask"]}
    save(tmp_path / "c.safetensors", state)
    assert load(tmp_path / "c.safetensors")["method"]["student.mask"].isinf().sum() == 3
    with pytest.raises(LimbeckError, match="holds NaN or infinity"):
        save(tmp_path / "d.safetensors", {**state, "infinite": []})


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
    return network


def hooked() -> nn.Module:
    network = nn.Sequential(nn.Linear(4, 4))
    network.seen = []

    def remember(self: nn.Module, module: nn.Module, inputs: object, output: Tensor) -> None:
        self.seen.append(output)

    network[0].register_forward_hook(types.MethodType(remember, network))
    return network


def drawing() -> nn.Module:
    network = nn.Sequential(nn.Linear(4, 4))
    network.generator = torch.Generator().manual_seed(3)
    return network


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "self.feat = x": lambda: keeping(lambda net, x: x),
    "features in a list": lambda: keeping(lambda net, x: [x, x + 1]),
    "features in a dictionary": lambda: keeping(lambda net, x: {"last": (x,)}),
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


def test_what_has_no_copy_is_told_in_a_line() -> None:
    network = nn.Sequential(nn.Linear(4, 4))
    network.stream = (each for each in range(3))
    with pytest.raises(LimbeckError, match=r"Sequential: expected a network that can be copied, .*generator"):
        copied(network)
    assert isinstance(copy.copy(network), nn.Sequential)


class Functional(nn.Module):
    """In place, as published networks are written."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.norm, self.how = nn.BatchNorm2d(3), how

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(x)
        if self.how == "relu_":
            return F.relu_(y)
        y += 5
        return y


INPLACE: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "a module": (lambda: nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), nn.ReLU(inplace=True)), "1"),
    "relu_": (lambda: Functional("relu_"), "norm"),
    "+=": (lambda: Functional("+="), "norm"),
    "leaky": (lambda: nn.Sequential(nn.BatchNorm2d(3), nn.LeakyReLU(0.2, inplace=True)), "0"),
}


@pytest.mark.parametrize("name", INPLACE)
@pytest.mark.parametrize("gradient", [True, False])
def test_features_are_what_the_module_returned(name: str, gradient: bool) -> None:
    make, path = INPLACE[name]
    network, x = make(), torch.randn(8, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    with torch.set_grad_enabled(gradient):
        found = features_at(network, [path], x)[0]
    assert abs(float(found.mean())) < 1e-4 and float(found.min()) < -1  # a batch norm's output: mean 0, both signs
    if gradient:
        found.square().sum().backward()
        assert all(p.grad is not None for n, p in network.named_parameters() if n.startswith(path))
