import time

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file, save_model
from torch import nn

from limbeck.errors import DataError
from limbeck.metrics.cost import costs, parameters
from limbeck.metrics.memory import file_bytes, peak_memory_bytes
from limbeck.metrics.timing import Spread, latencies_ms, throughputs
from limbeck.metrics.work import macs


def cost(module, *args, **kwargs):
    return costs({"it": module}, *args, **kwargs)["it"].values


def latency_ms(module, inputs, seconds=1.0):
    return latencies_ms({"it": module}, inputs, seconds)["it"].median


def throughput(module, inputs, seconds):
    speed, cpu = throughputs({"it": module}, {"it": inputs}, seconds)["it"]
    return speed.median, cpu


class Sleeper(nn.Module):
    """Takes a known time and no CPU; every fourth call is much slower."""

    def __init__(self, seconds, slow=0.0):
        super().__init__()
        self.seconds, self.slow, self.calls = seconds, slow, 0

    def forward(self, x):
        self.calls += 1
        time.sleep(self.slow if self.slow and self.calls % 4 == 0 else self.seconds)
        return x


class Busy(nn.Module):
    """Takes CPU all the time."""

    def forward(self, x):
        end = time.perf_counter() + 0.005
        while time.perf_counter() < end:
            pass
        return x


def test_cost_has_the_keys_of_the_result_file():
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Dropout(0.5)).train()
    asked = []

    def inputs_of(count):
        asked.append(count)
        return (torch.zeros(count, 1, 8, 8),)

    found = cost(network, inputs_of, batch=16, seconds=0.02)
    assert set(found) == {
        "parameters", "macs", "file_bytes", "latency_ms_batch1", "images_per_second", "peak_memory_bytes", "cpu_percent"
    }  # fmt: skip
    assert sorted(asked) == [1, 16]
    assert found["parameters"] == 2 * 9 + 2 + 4
    assert found["macs"] == 6 * 6 * 2 * 9  # one sample
    assert all(value > 0 for value in found.values())
    assert all(m.training for m in network.modules())
    assert network[1].num_batches_tracked == 0  # measured in evaluation mode


def test_what_is_too_slow_for_a_large_batch_gets_a_smaller_one(monkeypatch):
    class PerImage(nn.Module):
        def forward(self, x):
            time.sleep(0.01 * len(x))
            return x

    asked = []

    def inputs_of(count):
        asked.append(count)
        return (torch.zeros(count, 4),)

    monkeypatch.setattr("limbeck.metrics.timing.PATIENCE", 0.05)
    found = cost(PerImage(), inputs_of, seconds=0.01)
    assert asked[0] == 1 and 1 <= asked[1] <= 5 and 20 < found["images_per_second"] <= 100
    monkeypatch.setattr("limbeck.metrics.timing.PATIENCE", 0.001)
    cost(PerImage(), inputs_of, seconds=0.01)
    assert asked[-1] == 1


def test_a_large_batch_that_would_not_fit_is_made_smaller(monkeypatch):
    class Wide(nn.Module):
        def forward(self, x):
            return x.repeat(1, 100).sum(1)

    asked = []

    def inputs_of(count):
        asked.append(count)
        return (torch.zeros(count, 1000),)

    monkeypatch.setattr("limbeck.metrics.cost.ROOM", 4 * 1000 * 101 * 8)  # eight inputs with their hundred copies
    cost(Wide(), inputs_of, seconds=0.01)
    assert asked[0] == 1 and 6 <= asked[1] <= 8


def test_what_takes_longer_than_the_patience_runs_once(monkeypatch):
    monkeypatch.setattr("limbeck.metrics.timing.PATIENCE", 0.02)
    slow, quick = Sleeper(0.03), Sleeper(0.009)
    assert latency_ms(slow, (torch.zeros(1),), seconds=0) >= 30 and slow.calls == 1
    assert latency_ms(quick, (torch.zeros(1),), seconds=0) >= 9 and quick.calls <= 3
    patient = Sleeper(0.009)
    latency_ms(patient, (torch.zeros(1),), seconds=0.08)
    assert patient.calls > 3  # who asks for more time gets it


class Clock:
    """A clock that stands still until somebody works, in place of the module `time`."""

    now = 0.0

    def perf_counter(self):
        return self.now

    process_time = perf_counter


def test_networks_are_timed_in_turns(monkeypatch):
    """A machine that is half as fast for the last third of the time is so for all, and no median sees it."""
    clock, order = Clock(), []
    monkeypatch.setattr("limbeck.metrics.timing.time", clock)

    class Noted(nn.Module):
        def __init__(self, name):
            super().__init__()
            self.name = name

        def forward(self, x):
            order.append(self.name)
            clock.now += 0.01 if len(order) <= 60 else 0.02
            return x

    found = latencies_ms({name: Noted(name) for name in "abc"}, (torch.zeros(1),), seconds=0)
    assert "".join(order) == "aabbcc" * 15  # in each turn one to warm up
    expected = pytest.approx((10.0, 10.0, 20.0))
    assert all((one.median, one.low, one.high) == expected for one in found.values())


def test_a_latency_takes_half_a_second_of_each_by_default_and_a_throughput_a_second(monkeypatch):
    clock = Clock()
    monkeypatch.setattr("limbeck.metrics.timing.time", clock)

    class Quick(nn.Module):
        def forward(self, x):
            clock.now += 0.001
            return x

    for seconds, timing in (
        (0.5, latencies_ms),
        (1.0, lambda modules, one: throughputs(modules, dict.fromkeys(modules, one))),
    ):
        before = clock.now
        timing({"a": Quick(), "b": Quick()}, (torch.zeros(1),))
        assert clock.now - before == pytest.approx(2 * seconds, abs=0.03)


def test_costs_that_are_medians_have_their_quartiles():
    found = costs({"it": Sleeper(0.002)}, lambda count: (torch.zeros(count, 1),), batch=4, seconds=0.05)["it"]
    assert set(found.spread) == {"latency_ms_batch1", "images_per_second"}
    for name, (low, high) in found.spread.items():
        assert 0 < low <= found.values[name] <= high


def test_the_quartiles_by_hand():
    assert Spread.of([4.0, 1.0, 3.0, 2.0, 5.0]) == Spread(median=3.0, low=2.0, high=4.0)
    assert Spread.of([7.0]) == Spread(7.0, 7.0, 7.0)


def test_what_runs_outside_torch_has_unknown_costs_rather_than_none():
    class Elsewhere(nn.Module):
        def forward(self, x):
            return torch.from_numpy(x.numpy() @ x.numpy())

    found = cost(Elsewhere(), lambda count: (torch.zeros(count, 4, 4),), batch=4, seconds=0.01)
    assert found["parameters"] is found["macs"] is found["peak_memory_bytes"] is None
    assert found["latency_ms_batch1"] > 0 and found["images_per_second"] > 0


def test_modes_of_parts_are_restored_even_after_a_failure():
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
    network.train()
    network[1].eval()
    with pytest.raises(RuntimeError):
        latency_ms(network, (torch.zeros(1, 5, 8, 8),))
    assert (network.training, network[0].training, network[1].training) == (True, True, False)


def test_shared_parameters_count_once():
    network = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False))
    network[1].weight = network[0].weight
    assert parameters(network) == 16


def test_file_bytes_is_the_size_of_the_file(tmp_path):
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    save_file(network.state_dict(), tmp_path / "a.safetensors")
    assert file_bytes(network) == (tmp_path / "a.safetensors").stat().st_size


def test_file_bytes_stores_shared_tensors_once():
    network = nn.Sequential(nn.Linear(100, 100, bias=False), nn.Linear(100, 100, bias=False))
    apart = file_bytes(network)
    network[1].weight = network[0].weight
    assert apart - 40_000 - 200 < file_bytes(network) < apart - 40_000


def test_file_bytes_of_channels_last_and_half_precision(tmp_path):
    network = nn.Conv2d(8, 8, 3, bias=False).to(memory_format=torch.channels_last).bfloat16()
    save_model(network, str(tmp_path / "a.safetensors"), force_contiguous=True)
    assert abs(file_bytes(network) - (tmp_path / "a.safetensors").stat().st_size) < 64  # but for its metadata
    assert file_bytes(network) > 8 * 8 * 9 * 2


def test_uncounted_operations_are_listed():
    class Mixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm, self.conv = nn.BatchNorm2d(2), nn.Conv2d(2, 2, 1)

        def forward(self, x):
            x = F.silu(self.norm(self.conv(x)))
            x = torch.cat([x, F.pad(x, (1, 1))[..., 1:-1]], dim=1).permute(0, 2, 3, 1).contiguous()
            return torch.fft.fft(F.relu_(x.add_(1))).abs()

    found = macs(Mixed(), (torch.zeros(1, 2, 4, 4),))
    assert found.count == 16 * 4
    assert any("batch_norm" in name for name in found.uncounted)
    assert any("fft" in name for name in found.uncounted)
    assert len(found.uncounted) == 2  # neither SiLU, addition, padding, concatenation nor copying


def test_a_recurrent_layer_is_listed():
    found = macs(nn.LSTM(4, 4), (torch.zeros(3, 1, 4),))
    assert found.count > 0 or any("rnn" in name or "lstm" in name for name in found.uncounted)


def test_latency_is_the_median_in_milliseconds():
    found = latency_ms(Sleeper(0.004, slow=0.05), (torch.zeros(1),), seconds=0.2)
    assert 4 <= found < 20  # a mean would be 19 and more on an idle machine


def test_latency_warms_up_and_takes_its_time():
    network = Sleeper(0.002)
    latency_ms(network, (torch.zeros(1),), seconds=0)
    assert network.calls == 15 * 2
    latency_ms(network, (torch.zeros(1),), seconds=0.4)
    assert network.calls > 5 * 2 + 5 * 4  # 40 forwards in each turn, where nothing else runs


def test_throughput_and_cpu_use():
    sleeping, idle = throughput(Sleeper(0.01), (torch.zeros(32, 1),), seconds=0.2)
    assert 800 < sleeping <= 3200
    assert idle < 50
    # A busy loop of 5 ms holds one core, unless others take it away: then it has less than 100 %.
    _, busy = throughput(Busy(), (torch.zeros(1),), seconds=0.2)
    assert idle < busy < 130


MEGABYTE = 1024 * 1024


class Chain(nn.Module):
    """Allocates 4, 4 and 4 MB, at most two of them at once, and returns 1 MB."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(MEGABYTE // 2))  # 2 MB
        self.register_buffer("table", torch.zeros(MEGABYTE // 4))  # 1 MB

    def forward(self, x):
        a = x.new_empty(MEGABYTE)
        b = a.neg()
        del a
        c = b.neg()
        del b
        return c[: MEGABYTE // 4].clone()


def test_peak_memory_by_hand():
    found = peak_memory_bytes(Chain(), (torch.zeros(MEGABYTE),))
    assert found == (2 + 1 + 4 + 8) * MEGABYTE  # weights, table, input, and two of the three


def test_peak_memory_is_repeatable_and_ignores_what_else_is_alive():
    network, x = Chain(), torch.zeros(MEGABYTE)
    first = peak_memory_bytes(network, (x,))
    others = [torch.zeros(MEGABYTE) for _ in range(3)]
    assert peak_memory_bytes(network, (x,)) == first
    del others
    assert peak_memory_bytes(network, (x,)) == first


def test_peak_memory_of_a_linear_chain():
    network = nn.Sequential(nn.Linear(1000, 4000, bias=False), nn.ReLU(inplace=True), nn.Linear(4000, 10, bias=False))
    found = peak_memory_bytes(network, (torch.zeros(100, 1000),))
    exact = 4 * (4_000_000 + 40_000 + 100_000 + 400_000 + 1_000)
    assert exact <= found <= 1.2 * exact  # the product may pack its operands


def test_peak_memory_includes_the_buffers_of_operators():
    class Product(nn.Module):
        def forward(self, x):
            return x.t().contiguous().sum()

    assert peak_memory_bytes(Product(), (torch.zeros(512, 512),)) >= 2 * MEGABYTE


def test_profiling_writes_nothing_to_stderr(capfd):
    peak_memory_bytes(Chain(), (torch.zeros(4),))
    assert capfd.readouterr().err == ""


def test_a_shared_weight_takes_memory_once():
    network = nn.Sequential(nn.Linear(1000, 1000, bias=False), nn.Linear(1000, 1000, bias=False))
    apart = peak_memory_bytes(network, (torch.zeros(1, 1000),))
    network[1].weight = network[0].weight
    assert apart - peak_memory_bytes(network, (torch.zeros(1, 1000),)) == 4_000_000


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_peak_memory_on_a_gpu():
    found = peak_memory_bytes(Chain().cuda(), (torch.zeros(MEGABYTE, device="cuda"),))
    assert found == (2 + 1 + 4 + 8) * MEGABYTE


def test_inputs_without_a_tensor_are_named():
    with pytest.raises(DataError, match="at least one tensor, found \\['int'\\]"):
        latency_ms(Busy(), (1,))
