"""Weight files: found wherever they lie, refused in one line when they do not fit, never half-written, never run."""

import os
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from limbeck.errors import WeightsError
from limbeck.networks.gan.dcgan import DcganDiscriminator, DcganGenerator
from limbeck.networks.given.external import Wrapped
from limbeck.networks.given.weights import load_weights, save_weights, weights_hash

State = dict[str, Tensor]


def _net(seed: int = 0, width: int = 4) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(1, width, 3), nn.BatchNorm2d(width), nn.Flatten(), nn.Linear(width, 2))


def _same(a: nn.Module, b: nn.Module) -> bool:
    ours, theirs = a.state_dict(), b.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[k], theirs[k]) for k in ours)


def _prefixed(prefix: str, state: State) -> State:
    return {prefix + name: value for name, value in state.items()}


@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".pt", ".th", ".bin", ".ckpt"])
def test_every_kind_of_file(tmp_path: Path, suffix: str) -> None:
    source, path = _net(1), tmp_path / f"w{suffix}"
    if suffix == ".safetensors":
        safetensors.torch.save_file(source.state_dict(), path)
    else:
        torch.save(source.state_dict(), path)
    net = _net(2)
    load_weights(net, path)
    assert _same(net, source)


OTHER = {"0.weight": torch.zeros(7, 7)}
LAYOUTS: dict[str, Callable[[State], dict[str, Any]]] = {
    "bare": lambda s: s,
    "module.": lambda s: _prefixed("module.", s),
    "compiled": lambda s: _prefixed("_orig_mod.module.", s),
    "state_dict": lambda s: {"epoch": 3, "best": 0.5, "state_dict": s},
    "state_dict and module.": lambda s: {"state_dict": _prefixed("module.", s), "arch": "net"},
    "params": lambda s: {"params": s},
    "deep": lambda s: {"model": {"net": s}, "optimizer": {"state": {0: {"exp_avg": torch.zeros(3)}}, "groups": [1]}},
    "two networks": lambda s: {"discriminator": OTHER, "generator": s},
    "unknown name": lambda s: {"netQ": s, "netD": OTHER},
    "lightning": lambda s: {"state_dict": _prefixed("generator.", s) | _prefixed("discriminator.", OTHER)},
    "averaged beside": lambda s: {"g": _net(5).state_dict(), "g_ema": s, "d": OTHER},
    "averaged prefix": lambda s: _prefixed("ema.", s) | _prefixed("model.", _net(5).state_dict()),
    "half precision": lambda s: {k: v.half() if v.is_floating_point() else v for k, v in s.items()},
    "old, without counters": lambda s: {k: v for k, v in s.items() if "num_batches" not in k},
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_weights_are_found_wherever_they_lie(tmp_path: Path, layout: str) -> None:
    source, net, path = _net(1), _net(2), tmp_path / "w.pth"
    if layout == "half precision":
        source.half().float()
    torch.save(LAYOUTS[layout](source.state_dict()), path)
    load_weights(net, path)
    assert _same(net, source)


def _refused(net: nn.Module, path: Path, *parts: str) -> None:
    """Loading raises one line that names the file and has every part; the network is untouched."""
    before = {name: value.clone() for name, value in net.state_dict().items()}
    with pytest.raises(WeightsError) as caught:
        load_weights(net, path)
    message = str(caught.value)
    assert "\n" not in message and str(path) in message
    for part in parts:
        assert part in message, message
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_another_width_names_the_first_tensors_and_shapes(tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    torch.save({"state_dict": _prefixed("module.", DcganGenerator(width=8).state_dict())}, path)
    _refused(
        DcganGenerator(width=4),
        path,
        "made for another network than this DcganGenerator",
        "tensors of another shape: blocks.0.conv.weight expected (64, 16, 4, 4), found (64, 32, 4, 4)",
    )


def test_another_network_counts_missing_and_unexpected(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    net = DcganDiscriminator(width=4)
    save_weights(net, path)
    bigger = DcganDiscriminator(width=4, size=64)
    _refused(bigger, path, "2 tensors missing: blocks.3.conv.weight, blocks.3.conv.bias", "score.weight expected")
    state = net.state_dict()
    torch.save(state | {"extra.a": torch.zeros(1), "extra.b": torch.zeros(1)}, tmp_path / "x.pth")
    _refused(net, tmp_path / "x.pth", "2 unexpected tensors: extra.a, extra.b")
    whole = {name: value.to(torch.int8) for name, value in state.items()}
    torch.save(whole, tmp_path / "q.pth")
    _refused(net, tmp_path / "q.pth", "found (4, 1, 4, 4) of whole numbers")


class _Code:
    def __reduce__(self) -> Any:
        return os.mkdir, ("should-not-exist",)


@pytest.mark.parametrize("protocol", [None, 2, 4])
def test_code_in_a_pickle_is_named_and_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, protocol: int | None
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "w.pth"
    if protocol is not None:
        path.write_bytes(pickle.dumps({"0.weight": _Code()}, protocol))
    else:
        torch.save({"0.weight": _Code()}, path)
    says = "holds posix.mkdir that is no tensor, which could run code"
    _refused(_net(), path, says, "torch.save(network.state_dict()")
    assert not Path("should-not-exist").exists()


def test_a_pickled_module_is_not_loaded(tmp_path: Path) -> None:
    torch.save(_net(), tmp_path / "w.pth")
    _refused(_net(), tmp_path / "w.pth", "torch.nn.modules.container.Sequential", "could run code")


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize("kept", [0.0, 0.1, 0.6, 0.99])
def test_truncated_files(tmp_path: Path, suffix: str, kept: float) -> None:
    path = tmp_path / f"w{suffix}"
    if suffix == ".safetensors":
        save_weights(_net(), path)
    else:
        torch.save(_net().state_dict(), path)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    _refused(_net(), path, "truncated, or not a weight file")


def test_a_pickle_cut_off_anywhere(tmp_path: Path) -> None:
    """Within the name of a class, too, where torch's reader finds another name, and within a number."""
    path, net = tmp_path / "w.pth", nn.BatchNorm1d(1)
    torch.save(net.state_dict(), path, _use_new_zipfile_serialization=False)
    content = path.read_bytes()
    for kept in range(len(content)):
        path.write_bytes(content[:kept])
        _refused(net, path, "truncated, or not a weight file")


def test_files_that_are_no_weight_files(tmp_path: Path) -> None:
    _refused(_net(), tmp_path / "none.pth", "no such weight file")
    (tmp_path / "folder.pth").mkdir()
    _refused(_net(), tmp_path / "folder.pth", "no such weight file")
    (tmp_path / "w.txt").write_text("hello")
    _refused(_net(), tmp_path / "w.txt", "truncated, or not a weight file (5 bytes, type .txt)")
    (tmp_path / "w.pth").write_text("hello, this is not a checkpoint")
    _refused(_net(), tmp_path / "w.pth", "truncated, or not a weight file (31 bytes")
    for content in ([torch.zeros(3)], {"epoch": 3}, {}):
        torch.save(content, tmp_path / "e.pth")
        _refused(_net(), tmp_path / "e.pth", "expected the weights of a Sequential, found no tensor")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite(tmp_path: Path, value: float) -> None:
    bad = _net()
    bad.state_dict()["3.weight"][0, :3] = value
    save_weights(bad, tmp_path / "w.safetensors")
    _refused(_net(), tmp_path / "w.safetensors", "3.weight holds 3 of 8 values that are NaN or infinite")


def test_two_that_fit_must_be_told_apart(tmp_path: Path) -> None:
    torch.save({"netA": _net(1).state_dict(), "netB": _net(2).state_dict()}, tmp_path / "w.pth")
    _refused(_net(), tmp_path / "w.pth", "netA, netB all fit the network")


def test_a_part_of_another_network_is_not_taken_for_the_whole(tmp_path: Path) -> None:
    """The last layer of a big network has the names and shapes of a lone linear layer."""
    big = nn.ModuleDict({"stem": nn.Conv2d(1, 4, 3), "linear": nn.Linear(4, 2)})
    torch.save(big.state_dict(), tmp_path / "w.pth")
    _refused(nn.Linear(4, 2), tmp_path / "w.pth", "made for another network than this Linear")


def test_save_and_load_are_exact_and_leave_nothing_beside(tmp_path: Path) -> None:
    net = DcganDiscriminator(width=4, spectral_norm=True, normalization="batch").to(memory_format=torch.channels_last)
    net(torch.randn(4, 1, 32, 32))
    path = tmp_path / "w.safetensors"
    for _ in range(2):  # also over an older file
        save_weights(net, path)
    assert [p.name for p in tmp_path.iterdir()] == ["w.safetensors"]
    (tmp_path / "plain").touch()
    assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode
    other = DcganDiscriminator(width=4, spectral_norm=True, normalization="batch")
    load_weights(other, path)
    assert _same(net, other)
    assert safetensors.torch.load_file(path).keys() == net.state_dict().keys()


def test_shared_tensors_can_be_saved(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    net[1].weight = net[0].weight
    save_weights(net, tmp_path / "w.safetensors")
    other = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    load_weights(other, tmp_path / "w.safetensors")
    assert _same(net, other)


def test_a_save_that_fails_says_so_and_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(WeightsError, match=re.escape(f"{tmp_path / 'none' / 'w.safetensors'}: cannot write")):
        save_weights(_net(), tmp_path / "none" / "w.safetensors")
    path = tmp_path / "w.safetensors"
    save_weights(_net(1), path)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(WeightsError, match="No space left on device"):
        save_weights(_net(2), path)
    monkeypatch.undo()
    assert [p.name for p in tmp_path.iterdir()] == ["w.safetensors"]
    net = _net(3)
    load_weights(net, path)
    assert _same(net, _net(1))


def test_hash_follows_every_bit_name_and_type() -> None:
    net = _net(1)
    first = weights_hash(net)
    assert len(first) == 64 and first == weights_hash(_net(1))
    assert first != weights_hash(_net(2))
    assert first == weights_hash(net.to(memory_format=torch.channels_last)) == weights_hash(Wrapped(net))
    with torch.no_grad():
        weight = net[3].weight
        weight[0, 0] = torch.nextafter(weight[0, 0], torch.tensor(9.0))
    assert weights_hash(net) != first
    assert weights_hash(nn.Linear(2, 2, dtype=torch.bfloat16)) != weights_hash(nn.Linear(2, 2))
    zeros = [nn.Conv2d(1, 4, 1), nn.Conv2d(4, 1, 1)]
    for net_ in zeros:
        nn.init.zeros_(net_.weight)
        net_.bias = None
    assert weights_hash(zeros[0]) != weights_hash(zeros[1])  # same bytes, another shape
