"""What is trained in several processes has to be sent to them."""

from __future__ import annotations

import pickle

from limbeck.errors import RecipeError, in_a_line
from limbeck.recipe.plan import Recipe


def check_sent(recipe: Recipe) -> None:
    """Refuse what cannot be sent to other processes, where an arm is trained in several.

    Raises:
        RecipeError: Such as a function without a name, or TorchScript.
    """
    for name, arm in recipe.arms().items():
        if arm.training is not None and arm.training.processes > 1:
            try:
                pickle.dumps((arm, recipe.teacher_of(name)))
            except Exception as error:  # whatever the owner's objects raise
                raise RecipeError(
                    f"distill: processes: expected networks, terms and optimisers that can be sent to other processes,"
                    f" found in {name} {in_a_line(error)}; use no lambda and no TorchScript, or one process"
                ) from error
