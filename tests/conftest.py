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
