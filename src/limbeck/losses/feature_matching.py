"""Features that match the teacher's, layer by layer, through as little of an adapter as will do (Wang et al. 2018)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import final

from torch import Tensor, nn

from limbeck.errors import RecipeError
from limbeck.losses.base import FeatureLoss, check_paths, pairs
from limbeck.losses.features import feature_matching
from limbeck.losses.tensors import pointwise, precise


@final
class FeatureMatching(FeatureLoss):
    """L1 distance of features, every layer counting alike, whatever its size (Wang et al. 2018, eq. 4).

    Features of another width come through a learned 1x1 convolution, or a linear layer for vectors (Romero et al.
    2015); those of the teacher's own width are compared as they are.

    Args:
        paths: Module path in the student for each module path of the teacher, {student path: teacher path}.
    """

    def __init__(self, paths: Mapping[str, str]) -> None:
        super().__init__()
        self.paths = check_paths(self, paths)
        self.adapters = nn.ModuleList()

    def fit_to(self, student: Sequence[tuple[int, ...]], teacher: Sequence[tuple[int, ...]]) -> None:
        """Make an adapter for each pair that differs in width.

        Raises:
            RecipeError: A pair differs in height or width, or is of another kind.
        """
        for (path, goal), (mine, theirs) in zip(
            self.paths.items(), pairs(self, student, teacher, "alike"), strict=True
        ):
            if mine[1:] != theirs[1:]:
                raise RecipeError(
                    f"FeatureMatching {path!r} -> {goal!r}: expected features that differ in width only, found {mine}"
                    f" and {theirs}; choose layers of the same height and width"
                )
            self.adapters.append(nn.Identity() if mine == theirs else pointwise(mine, mine[0], theirs[0]))

    def forward(
        self,
        student: Sequence[Tensor],
        teacher: Sequence[Tensor],
        label: Tensor | None = None,
        index: Tensor | None = None,
        drawn: Mapping[str, Tensor] | None = None,
    ) -> Tensor:
        """Return the mean over pairs and samples."""
        adapted = [adapt(precise(feature)) for adapt, feature in zip(self.adapters, student, strict=True)]
        return feature_matching(adapted, teacher).mean()
