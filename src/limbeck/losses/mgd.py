"""Masked generative distillation: the teacher's whole map from a part of the student's (Yang et al. 2022)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, final

import torch
from torch import Tensor, nn

from limbeck.errors import RecipeError, require
from limbeck.losses.base import FeatureLoss, check_paths, pairs
from limbeck.losses.tensors import pointwise, precise, same_shape
from limbeck.types import Draw


def mask(features: Tensor, drawn: Tensor, ratio: float) -> Tensor:
    """Return the features (N, C, H, W), set to 0 wherever `drawn` is below `ratio` (Yang et al. 2022, eqs. 2 and 3).

    Args:
        features: (N, C, H, W).
        drawn: R, uniform in [0, 1): (N, H, W) masks positions, (N, C) whole channels.
        ratio: λ, the share that is masked, on average.

    Raises:
        RecipeError: `drawn` has another shape.
    """
    count, channels, *size = features.shape
    if drawn.shape not in ((count, *size), (count, channels)):
        raise RecipeError(
            f"mgd: expected draws {(count, *size)} or {(count, channels)} for features {tuple(features.shape)},"
            f" found {tuple(drawn.shape)}"
        )
    kept = (drawn >= ratio).to(features.dtype)
    return features * (kept[:, None] if drawn.ndim == 3 else kept[:, :, None, None])


def mgd(generated: Tensor, teacher: Tensor) -> Tensor:
    """Return Σ_{c,i} (T - G)² of each sample (N,), in [0, ∞) (Yang et al. 2022, eq. 5).

    Args:
        generated: G, (N, C, H, W).
        teacher: T, the same shape.

    Raises:
        RecipeError: The shapes differ.
    """
    same_shape(generated, teacher, "mgd")
    return (precise(generated) - precise(teacher)).square().flatten(1).sum(1)


@final
class Mgd(FeatureLoss):
    """Generate the teacher's feature map from the student's, of which a part is masked (Yang et al. 2022, eqs. 2-5).

    Each pair owns a generator, W₂ ReLU(W₁ ·) with 3x3 convolutions, and, where widths differ, a 1x1 convolution
    before the mask. The mask is drawn anew for every sample. The loss is the sum over pairs of `mgd`, averaged over
    samples; it is a sum over elements, as the paper's weights α expect it,
    such as 2e-5 (segmentation) and 7e-5 (classification).

    The paper masks positions; its code does so for detection and segmentation, but masks whole channels for
    classification. `masks` chooses.

    Args:
        paths: Module path in the student for each module path of the teacher, {student path: teacher path}; maps of
            the same height and width only.
        ratio: λ in [0, 1), the share that is masked; 0.65 and 0.45 for one- and two-stage detectors, 0.75 for
            segmentation, 0.5 for classification in the paper.
        masks: Whether positions are masked, in all channels, or whole channels.

    Raises:
        RecipeError: `ratio` is outside [0, 1).
    """

    def __init__(
        self, paths: Mapping[str, str], ratio: float = 0.5, masks: Literal["positions", "channels"] = "positions"
    ) -> None:
        super().__init__()
        self.paths = check_paths(self, paths)
        require("Mgd.ratio", 0 <= ratio < 1, "a number in [0, 1)", ratio)
        require("Mgd.masks", masks in ("positions", "channels"), "'positions' or 'channels'", masks)
        self.ratio = ratio
        self.masks = masks
        self.adapters, self.generators = nn.ModuleList(), nn.ModuleList()
        self._drawn: list[tuple[int, ...]] = []

    def fit_to(self, student: Sequence[tuple[int, ...]], teacher: Sequence[tuple[int, ...]]) -> None:
        """Make an adapter and a generator for each pair of maps of the same height and width."""
        shapes = pairs(self, student, teacher, "maps")
        for mine, goal in shapes:
            if mine[1:] != goal[1:]:
                raise RecipeError(
                    f"Mgd.paths: expected maps of the same height and width, found {mine} and {goal};"
                    " choose layers at the same resolution"
                )
        self.adapters = nn.ModuleList(
            nn.Identity() if mine[0] == goal[0] else pointwise(mine, mine[0], goal[0]) for mine, goal in shapes
        )
        self.generators = nn.ModuleList(_generator(goal[0]) for _, goal in shapes)
        self._drawn = [goal[1:] if self.masks == "positions" else goal[:1] for _, goal in shapes]

    def draws(self) -> Mapping[str, Draw]:
        """Return the numbers of each pair's mask, uniform; known after `fit_to`."""
        return {f"mgd{number}": Draw(shape, "uniform") for number, shape in enumerate(self._drawn)}

    def forward(
        self,
        student: Sequence[Tensor],
        teacher: Sequence[Tensor],
        label: Tensor | None = None,
        index: Tensor | None = None,
        drawn: Mapping[str, Tensor] | None = None,
    ) -> Tensor:
        """Return the sum over pairs."""
        assert drawn is not None, "Mgd needs what it declares in draws"
        numbers = [drawn[name] for name in self.draws()]
        terms = []
        for adapt, generate, s, t, r in zip(self.adapters, self.generators, student, teacher, numbers, strict=True):
            masked = mask(adapt(precise(s)), r, self.ratio)
            terms.append(mgd(generate(masked), t).mean())
        return torch.stack(terms).sum()


def _generator(width: int) -> nn.Sequential:
    """Return eq. 4."""
    return nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, width, 3, padding=1))
