"""What a method needs of a batch, against what data and task give: told before anything is trained."""

from __future__ import annotations

from collections.abc import Sequence

from limbeck.data.base import Data
from limbeck.errors import RecipeError
from limbeck.methods.base import Method
from limbeck.types import plural


def check_needs(method: Method | type[Method] | None, given: Sequence[str], data: Data) -> None:
    """Refuse a method that would not find in a batch what it cannot do without.

    Args:
        method: The method of an arm, or its class; None if nothing is trained, which needs nothing.
        given: The fields of the batches that it will see: what the task `gives`, made of the data's.
        data: The data, to be named.

    Raises:
        RecipeError: A field is missing.
    """
    demanded = () if method is None else method.needs if isinstance(method, type) else method.demands()
    missing = [name for name in demanded if name not in given]
    if missing:
        kind = method if isinstance(method, type) else type(method)
        found = plural(name for name in given if name != "index")
        raise RecipeError(
            f"{kind.__name__}: expected data with {plural(missing)}, found {found} in {data.name};"
            f" choose a set with {plural(missing)}, or another method or task"
        )
