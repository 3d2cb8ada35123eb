"""What every export format keeps to. A new one adds an example."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from toys import differences

from limbeck.errors import LimbeckError, WeightsError
from limbeck.export.base import Format
from limbeck.export.safetensors import Safetensors
from limbeck.recipe.catalogue import catalogue, describe


def network(seed: int = 1) -> nn.Module:
    """Return a network with statistics of its own and a part that works in training alone, in training mode."""
    torch.manual_seed(seed)
    layers = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(), nn.Flatten(), nn.Linear(64, 2)
    )
    with torch.no_grad():
        for _ in range(3):
            layers(torch.randn(8, 3, 6, 6))
    return layers


EXAMPLE = (torch.randn(5, 3, 6, 6, generator=torch.Generator().manual_seed(0)),)
# Class -> how it is made for files of `network`.
EXAMPLES: dict[type, Callable[[], Format]] = {Safetensors: lambda: Safetensors(lambda: network(seed=2))}


def test_every_format_has_an_example() -> None:
    assert catalogue(Format) and set(catalogue(Format)) == set(EXAMPLES)
    names = [(made.name, made.suffix) for made in (make() for make in EXAMPLES.values())]
    assert len(dict(names)) == len(names) and all(suffix.startswith(".") for _, suffix in names)
    assert all(describe(cls).summary for cls in EXAMPLES)


@pytest.fixture(params=[pytest.param(make, id=cls.__name__) for cls, make in EXAMPLES.items()])
def form(request: pytest.FixtureRequest) -> Format:
    made: Format = request.param()
    return made


@torch.no_grad()
def answer(called: nn.Module) -> Tensor:
    found: Tensor = called(*EXAMPLE)
    return found


class TestFormat:
    def test_what_is_read_answers_as_what_was_written(self, form: Format, tmp_path: Path) -> None:
        own = network()
        file = form.write(own, EXAMPLE, tmp_path / f"student{form.suffix}")
        read = form.load(file)
        assert file.parent == tmp_path and not read.training
        torch.testing.assert_close(answer(read), answer(own.eval()), rtol=1e-5, atol=1e-6)
        assert not torch.allclose(answer(read), answer(network(seed=2).eval()), atol=1e-2)
        assert torch.equal(answer(form.load(file)), answer(read))

    def test_the_network_stays_as_it_is(self, form: Format, tmp_path: Path) -> None:
        own = network()
        before = deepcopy(own.state_dict())
        form.write(own, EXAMPLE, tmp_path / f"student{form.suffix}")
        assert own.training and differences(dict(before), dict(own.state_dict())) == []

    def test_a_file_is_replaced_as_a_whole_and_nothing_is_left_beside_it(self, form: Format, tmp_path: Path) -> None:
        path = tmp_path / f"student{form.suffix}"
        for seed in (1, 3):
            file = form.write(network(seed), EXAMPLE, path)
        assert [*tmp_path.iterdir()] == [file]
        torch.testing.assert_close(answer(form.load(file)), answer(network(3).eval()), rtol=1e-5, atol=1e-6)

    @pytest.mark.parametrize("harm", ["cut short", "empty", "something else", "missing"])
    def test_a_damaged_file_is_refused_in_one_line(self, form: Format, tmp_path: Path, harm: str) -> None:
        file = form.write(network(), EXAMPLE, tmp_path / f"student{form.suffix}")
        whole = file.read_bytes()
        file.unlink()
        if harm != "missing":
            file.write_bytes({"cut short": whole[: len(whole) // 2], "empty": b"", "something else": b"x" * 999}[harm])
        with pytest.raises(WeightsError) as error:
            form.load(file)
        assert str(file) in str(error.value) and "\n" not in str(error.value)

    def test_where_it_cannot_be_written_one_line_says_so(self, form: Format, tmp_path: Path) -> None:
        path = tmp_path / "none" / f"student{form.suffix}"
        with pytest.raises(WeightsError) as error:
            form.write(network(), EXAMPLE, path)
        assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_weights_alone_do_not_say_what_network_they_are_of(tmp_path: Path) -> None:
    file = Safetensors().write(network(), EXAMPLE, tmp_path / "student.safetensors")
    with pytest.raises(LimbeckError, match=r"student\.safetensors: expected Safetensors with a `build`.* found none"):
        Safetensors().load(file)
    with pytest.raises(WeightsError, match="made for another network than this Linear"):
        Safetensors(lambda: nn.Linear(2, 2)).load(file)
