"""Things that are known by their arguments."""

from __future__ import annotations


class Described:
    """Its text is its class with all its attributes: evaluations are remembered under it."""

    def __repr__(self) -> str:
        """Return the class with its attributes, such as "Pgd(radius=0.1, steps=3)"."""
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in vars(self).items())})"
