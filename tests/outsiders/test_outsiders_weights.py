"""Other people's networks and weight files: in-place operations after a tap, and what lies beside weights in files."""

import os
import pickle
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from toys import ToyGan, toy_job, trained

from limbeck.errors import CheckpointError, LimbeckError, WeightsError
from limbeck.networks.given.external import Wrapped
from limbeck.networks.given.weights import load_weights
from limbeck.networks.handling.tap import Tap, features_at
from limbeck.training.checkpoint import load, masks, save


class _Then(nn.Module):
    """A batch norm, and then something that writes into what it returned."""

    def __init__(self, then: Callable[[Tensor], Tensor], tapped: nn.Module | None = None) -> None:
        super().__init__()
        self.conv, self.tapped, self.then = nn.Conv2d(3, 4, 3), tapped or nn.BatchNorm2d(4), then

    def forward(self, image: Tensor) -> Tensor:
        made: Tensor = self.tapped(self.conv(image))
        written: Tensor = self.then(made)
        return written


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
        expected = net.get_submodule("tapped")(net.get_submodule("conv")(image))
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


class _Writes(nn.Module):
    """Normalises its input in place, as many do, and then asks a layer."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.layer(x.sub_(0.5).div_(2))
        return found


WRITERS: dict[str, tuple[Callable[[], nn.Module], dict[str, Any]]] = {
    "classifier": (lambda: nn.Sequential(nn.Flatten(), nn.Linear(48, 3)), {"classes": 3, "features": "layer.0"}),
    "discriminator": (lambda: nn.Sequential(nn.Flatten(), nn.Linear(48, 1)), {}),
    "segmenter": (lambda: nn.Conv2d(3, 3, 1), {"classes": 3}),
    "restorer": (lambda: nn.Conv2d(3, 3, 1), {}),
    "stylizer": (lambda: nn.Conv2d(3, 3, 1), {}),
    "generator": (lambda: nn.Conv2d(3, 3, 1), {"latent_shape": (3, 4, 4), "image_shape": (3, 4, 4)}),
}


@pytest.mark.parametrize("role", WRITERS)
def test_a_network_that_writes_into_its_input_leaves_the_batch_alone(role: str) -> None:
    """Else the student would see what the teacher has made of its images."""
    make, options = WRITERS[role]
    network = Wrapped(_Writes(make()), role, **options)
    image = torch.rand(2, 3, 4, 4)
    before = image.clone()
    first = network(image)
    assert torch.equal(image, before) and torch.equal(network(image), first)
    if role == "classifier":
        network.features(image)
        assert torch.equal(image, before)
    network(image.requires_grad_()).sum().backward()  # torch writes into no leaf that wants a gradient
    assert image.grad is not None and image.grad.abs().sum() > 0


State = dict[str, Tensor]


def _net(seed: int = 0, width: int = 4, tracks: bool = False) -> nn.Sequential:
    torch.manual_seed(seed)
    norm = nn.InstanceNorm2d(width, affine=True, track_running_stats=tracks)
    return nn.Sequential(nn.Conv2d(1, width, 3), nn.BatchNorm2d(width), norm)


def _under(prefix: str, state: State) -> State:
    return {f"{prefix}.{name}": value for name, value in state.items()}


def _same(net: nn.Module, state: State) -> bool:
    return all(torch.equal(value, state[name]) for name, value in net.state_dict().items())


RAW, EMA, OTHER = _net(1).state_dict(), _net(2).state_dict(), _net(3, 5).state_dict()
FLAT = ["generator_ema", "ema_generator", "netG_ema", "g_ema", "model_ema", "params_ema", "ema_model", "state_dict_ema",
        "unet_ema", "modelEma", "EMA", "emaNet", "ema.generator", "module.ema", "shadow", "averaged_model",
        "swa_model.module", "AveragedModel"]  # fmt: skip


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("name", FLAT)
def test_averaged_weights_are_preferred(tmp_path: Path, name: str, nested: bool) -> None:
    raw = {"generator": RAW} if nested else _under("generator", RAW)
    mean = {name: EMA} if nested else _under(name, EMA)
    torch.save({"state_dict": {"step_counter": torch.tensor(1), **raw, **mean}}, tmp_path / "w.pth")
    net = _net()
    load_weights(net, tmp_path / "w.pth")
    assert _same(net, EMA)


@pytest.mark.parametrize("name", ["schema", "cinema", "semantic", "remap", "avgpool", "overshadowed"])
def test_other_words_are_no_averages(tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"model": RAW, name: OTHER}, tmp_path / "w.pth")
    load_weights(_net(), tmp_path / "w.pth")
    assert not capsys.readouterr().err


ASIDE: dict[str, tuple[Callable[[], Any], str]] = {
    "averages of another shape": (lambda: {"generator": RAW, "generator_ema": OTHER}, "generator_ema"),
    "averages without dots": (lambda: _under("model", RAW) | {"model_ema.0weight": torch.ones(3)}, "model_ema"),
    "averages in a list": (lambda: {"model": RAW, "ema": {"shadow_params": list(EMA.values())}}, "ema"),
    "thop": (lambda: RAW | {"0.total_ops": torch.zeros(1), "total_params": torch.zeros(1)}, "0.total_ops"),
    "thop beside a prefix": (lambda: _under("unet", RAW) | {"total_ops": torch.zeros(1)}, "total_ops"),
    "instance norm of 0.3": (lambda: _net(1, tracks=True).state_dict(), "2.running_mean"),
    "a loss": (lambda: {"state_dict": _under("unet", RAW) | {"loss.weight": torch.ones(3)}}, "loss.weight"),
    "a criterion": (lambda: _under("my.own", RAW) | {"criterion.vgg.weight": torch.ones(3)}, "criterion.vgg.weight"),
    "a window": (lambda: _under("unet", RAW) | {"ssim.window": torch.ones(3, 3)}, "ssim.window"),
    "another head": (lambda: _under("body", RAW) | _under("last", nn.Linear(4, 2).state_dict()), "last.weight"),
    "averages in memory": (lambda: {"model": RAW, "shadow": list(EMA.values())}, "shadow"),
    "a step": (lambda: _under("unet", RAW) | {"step": torch.tensor(4)}, "step"),
    "a NumPy number": (lambda: {"model": RAW, "best": np.float64(72.3)}, "best (float64)"),
    "a NumPy integer": (lambda: {"model": RAW, "log": [{"epoch": np.int64(3)}]}, "log.0.epoch (int64)"),
    "a NumPy array": (lambda: {"model": RAW, "curve": np.zeros(3)}, "curve (ndarray)"),
    "arguments": (lambda: {"model": RAW, "args": Namespace(lr=0.1, best=np.float32(3))}, "args (Namespace)"),
}


@pytest.mark.parametrize("case", ASIDE)
def test_what_is_no_weight_is_left_aside_and_said(
    tmp_path: Path, case: str, capsys: pytest.CaptureFixture[str]
) -> None:
    make, name = ASIDE[case]
    torch.save(make(), tmp_path / "w.pth")
    net = _net()
    load_weights(net, tmp_path / "w.pth")
    assert _same(net, RAW)
    assert f"left aside {name}" in capsys.readouterr().err.replace("\n", " ")


@pytest.mark.parametrize("name", ["w.pth.tar", "w", "w.pkl", "w.model", "w.safetensors.bak", "w.PTH", "w.pth"])
@pytest.mark.parametrize("kind", ["zip", "old", "safetensors"])
def test_files_are_known_by_their_content(tmp_path: Path, name: str, kind: str) -> None:
    if kind == "safetensors":
        safetensors.torch.save_file(dict(RAW), tmp_path / name)
    else:
        torch.save(RAW, tmp_path / name, _use_new_zipfile_serialization=kind == "zip")
    net = _net()
    load_weights(net, tmp_path / name)
    assert _same(net, RAW)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_arrays_that_pickle_has_written(tmp_path: Path, protocol: int) -> None:
    """As Detectron2's files."""
    arrays = {name: tensor.numpy() for name, tensor in RAW.items()}
    first = next(name for name, array in arrays.items() if array.ndim)
    arrays[first] = arrays[first].astype(arrays[first].dtype.newbyteorder(">"))  # of a machine of another kind
    beside = {"model": arrays, "__author__": "third_party", "matching_heuristics": True, "lr": np.float64(0.1)}
    (tmp_path / "w.pkl").write_bytes(pickle.dumps(beside, protocol))
    net = _net()
    load_weights(net, tmp_path / "w.pkl")
    assert _same(net, RAW)


class _Runs:
    """Makes a folder when it is unpickled, by a function that a pickle names."""

    def __init__(self, maker: Any, *arguments: Any) -> None:
        self.called = maker, arguments

    def __reduce__(self) -> Any:
        return self.called


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("beside", [False, True])
def test_a_bare_pickle_runs_nothing(tmp_path: Path, protocol: int, beside: bool) -> None:
    mark = tmp_path / "ran"
    for hostile in (_Runs(os.mkdir, str(mark)), _Runs(eval, f"open({str(mark)!r}, 'w')"), _Runs(getattr, "", "join")):
        content = {"model": {"a": np.zeros(3)}, "extra": hostile} if beside else hostile
        (tmp_path / "w.pkl").write_bytes(pickle.dumps(content, protocol))
        with pytest.raises(LimbeckError, match="that is no tensor, which could run code"):
            load_weights(_net(), tmp_path / "w.pkl")
        assert not mark.exists()


def test_a_bare_pickle_cut_off_anywhere_is_damaged(tmp_path: Path) -> None:
    whole = pickle.dumps({"model": {name: tensor.numpy() for name, tensor in RAW.items()}}, 2)
    for length in range(0, len(whole), 7):
        (tmp_path / "w.pkl").write_bytes(whole[:length])
        with pytest.raises(LimbeckError, match=r"w\.pkl: truncated, or not a weight file"):
            load_weights(_net(), tmp_path / "w.pkl")


def test_counters_saved_as_floats(tmp_path: Path) -> None:
    torch.save(RAW | {"1.num_batches_tracked": torch.tensor([7.0])}, tmp_path / "w.pth")
    net = _net()
    load_weights(net, tmp_path / "w.pth")
    assert net.state_dict()["1.num_batches_tracked"] == 7


@pytest.mark.parametrize("whole", [True, False])
def test_tied_tensors_saved_once(tmp_path: Path, whole: bool) -> None:
    """A module that is there twice, and a weight that two modules share."""

    def tied() -> nn.ModuleList:
        a, b = nn.Linear(4, 4), nn.Linear(4, 4)
        b.weight = a.weight
        return nn.ModuleList([a, a if whole else b])

    source, net = tied(), tied()
    safetensors.torch.save_model(source, str(tmp_path / "w.safetensors"))
    load_weights(net, tmp_path / "w.safetensors")
    assert _same(net, source.state_dict())
    loose = nn.ModuleList([nn.Linear(4, 4), nn.Linear(4, 4)])
    with pytest.raises(WeightsError, match=r"tensors? missing"):
        load_weights(loose, tmp_path / "w.safetensors")


class _Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.to_q, self.to_k, self.to_v = (nn.Linear(2, 2) for _ in range(3))
        self.to_out = nn.ModuleList([nn.Linear(2, 2)])


def test_old_names_of_attention(tmp_path: Path) -> None:
    source, net = (nn.ModuleDict({"mid": _Attention()}) for _ in range(2))
    old = source.state_dict()
    for now, then in (("to_q", "query"), ("to_k", "key"), ("to_v", "value"), ("to_out.0", "proj_attn")):
        old = {name.replace(now, then): value for name, value in old.items()}
    torch.save(old, tmp_path / "w.bin")
    load_weights(net, tmp_path / "w.bin")
    assert _same(net, source.state_dict())


class _Masked(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3)
        self.register_buffer("mask", torch.full((3, 3), float("-inf")).triu(1))


def test_a_mask_of_infinities_is_loaded(tmp_path: Path) -> None:
    source, net = _Masked(), _Masked()
    source.norm.weight.data.fill_(3)
    torch.save(source.state_dict(), tmp_path / "w.pth")
    load_weights(net, tmp_path / "w.pth")
    assert _same(net, source.state_dict())


REFUSED = {
    "NaN in a buffer": ("mask", float("nan")),
    "infinity in a parameter": ("norm.weight", float("-inf")),
    "infinity in a statistic": ("norm.running_var", float("inf")),
}


@pytest.mark.parametrize("case", REFUSED)
def test_other_numbers_that_are_not_finite_are_refused(tmp_path: Path, case: str) -> None:
    name, value = REFUSED[case]
    state = _Masked().state_dict()
    state[name].view(-1)[0] = value
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match=f"{name} holds 1 of"):
        load_weights(_Masked(), tmp_path / "w.pth")


@pytest.mark.parametrize("name", ["w.pt", "w.pth.tar", "w"])
def test_a_torchscript_program_is_named(tmp_path: Path, name: str) -> None:
    torch.jit.script(_net()).save(str(tmp_path / name))  # type: ignore[no-untyped-call]
    with pytest.raises(WeightsError, match="a TorchScript program, expected weights alone; save them with"):
        load_weights(_net(), tmp_path / name)


@pytest.mark.parametrize("ema", [None, 0.9])
@pytest.mark.parametrize("value", [float("-inf"), float("inf")])
def test_a_mask_of_infinities_is_trained_saved_and_averaged(tmp_path: Path, value: float, ema: float | None) -> None:
    method = ToyGan()
    method.student.register_buffer("mask", torch.full((3, 3), value).triu(1))
    state = trained(toy_job(tmp_path, method, ema=ema, steps=3, checkpoint_every=1))
    assert torch.equal(state["student"]["mask"], torch.full((3, 3), value).triu(1))
    assert torch.equal(state["method"]["student.mask"], state["student"]["mask"])


BROKEN = {
    "NaN in a mask": ({"method": {"mask": float("nan")}}, "/method/mask"),
    "infinity in a parameter": ({"method": {"norm.weight": float("inf")}}, "/method/norm.weight"),
    "infinity in a statistic": ({"student": {"norm.running_var": float("inf")}}, "/student/norm.running_var"),
    "infinity in an optimizer": ({"optimizers": {"exp_avg": float("inf")}}, "/optimizers/exp_avg"),
    "a name that only ends alike": ({"student": {"ask": float("inf")}}, "/student/ask"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_checkpoint_of_other_infinities_is_refused(tmp_path: Path, case: str) -> None:
    tree, name = BROKEN[case]
    net = _Masked()
    net.norm.running_var.fill_(float("inf"))
    known = masks(net)
    assert known == {"mask"}
    state = {part: {key: torch.tensor([1.0, value]) for key, value in held.items()} for part, held in tree.items()}
    with pytest.raises(CheckpointError, match=f"{name} holds NaN or infinity"):
        save(tmp_path / "c.safetensors", state, known)
    assert not (tmp_path / "c.safetensors").exists()


def test_a_checkpoint_keeps_the_mask(tmp_path: Path) -> None:
    net = _Masked()
    save(tmp_path / "c.safetensors", {"best": {"student": net.state_dict()}}, masks(net))
    assert _same(net, load(tmp_path / "c.safetensors")["best"]["student"])
