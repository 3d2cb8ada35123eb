"""What was probably meant by a flag that no verb has."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def meant(word: str, known: Iterable[str], *, reads_recipe: bool = False) -> str:
    """Return " (did you mean --x?)", or "" where nothing is near.

    Args:
        word: What nobody takes, such as "--seed" or "--seed=7".
        known: The flags that there are.
        reads_recipe: Whether flags with dots can change a recipe, too.
    """
    name = word.lstrip("-").partition("=")[0]
    known = [flag for flag in known if flag.startswith("--")]
    found = sorted((flag for flag in known if word.startswith("--") and flag.startswith(f"--{name}")), key=len)[:1]
    if reads_recipe and (word.startswith("-") or "=" in word):
        found += _of_the_recipe(name.replace("-", "_"))
    found = found or get_close_matches(f"--{name}", known, n=1)
    return f" (did you mean {', or '.join(found)}?)" if found else ""


def _of_the_recipe(name: str) -> list[str]:
    """Return the flag with dots that changes what a recipe calls so."""
    if "." in name:
        return [f"--{name}"]
    if name in ("data", "task", "method", "augmentation", "weighting"):
        return [f"--{name}.class_path"]
    if name in ("teacher", "student"):
        return [f"--{name}.network.class_path"]
    from limbeck.recipe.sections import TrainingSection  # noqa: PLC0415 (torch is heavy)

    return [f"--student.training.{name}"] if name in TrainingSection.names() else []
