"""Limbeck distils a large image model into a small, fast one, and proves what was gained and lost."""

import sys
from typing import TYPE_CHECKING, Any

__version__ = "0.2.0.dev0"
__all__ = ["__version__", "distill"]

if TYPE_CHECKING:
    from limbeck.api import distill


def __getattr__(name: str) -> Any:
    """Import `distill` when it is first asked for: `import limbeck` itself stays light."""
    if name == "distill":
        from limbeck.api import distill  # noqa: PLC0415

        return distill
    raise AttributeError(f"module 'limbeck' has no attribute {name!r}", name=name, obj=sys.modules[__name__])


def __dir__() -> list[str]:
    """Return the public names, `distill` among them before it is imported."""
    return sorted(__all__)
