"""Numbers as people read them, and as JSON can hold them."""

from __future__ import annotations

import math


def number(value: float, places: int | None = None) -> str:
    """Return `value` with three significant digits (17.5, 0.0123, 1,234), or with so many decimal places."""
    if places is None and value != 0 and not 1e-4 <= abs(value) < 1e7:
        return f"{value:.2e}".replace("-", "−")
    return f"{value:,.{decimals(value) if places is None else places}f}".replace("-", "−")


def decimals(value: float) -> int:
    """Return the decimal places that three significant digits of `value` need; 2 for zero, never below 0."""
    return 2 if value == 0 else max(0, 2 - math.floor(math.log10(abs(value))))


def finite(value: float | None) -> float | None:
    """Return the value as JSON can hold it: None where it is not finite."""
    return float(value) if value is not None and math.isfinite(value) else None
