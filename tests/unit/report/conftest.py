from __future__ import annotations

import pytest
from invented import make_result

from limbeck.report.result import Result


@pytest.fixture
def result() -> Result:
    """Five seeds in which the student beats its control on every metric."""
    return make_result([17.2, 17.9, 17.4, 17.8, 17.2], [40.1, 43.0, 41.2, 39.9, 41.5])
