"""Its presence puts this folder on the import path, so that every test finds `toys`."""

from collections.abc import Iterator
from functools import partial

import pytest
from pair import Pair

from limbeck.metrics.cost import costs


@pytest.fixture(scope="session", autouse=True)
def _short_timings() -> Iterator[None]:
    """Time the networks of whole runs for a moment and two images: no test of a run looks at its times."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("limbeck.run.assessing.costs", partial(costs, batch=2, seconds=0.02))
        yield


@pytest.fixture(scope="session")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Two processes that many tests share."""
    found = Pair(tmp_path_factory.mktemp("pair"))
    yield found
    found.close()


@pytest.fixture
def _blank_drawings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the report's plots and grids of images blank: they take a third of a run, and have their own tests."""

    def blank(*_: object, **__: object) -> bytes:
        return b""

    for name in ("curves", "quality_against_cost", "image_grid"):
        monkeypatch.setattr(f"limbeck.report.plots.{name}", blank)
