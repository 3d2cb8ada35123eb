"""Channel-wise distillation: where each channel is active, as a distribution (Shu et al. 2021)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import final

import torch
from torch import Tensor, nn

from limbeck.errors import require
from limbeck.losses.base import FeatureLoss, check_paths, pairs
from limbeck.losses.tensors import pointwise, pooled_alike, precise, same_shape


def cwd(student: Tensor, teacher: Tensor, temperature: float = 4.0) -> Tensor:
    """Return T²/C Σ_c Σ_i φ(t_c)_i log(φ(t_c)_i / φ(s_c)_i) of each sample (N,), in [0, ∞) (Shu et al. 2021, eq. 4).

    φ(y_c) = softmax over the positions i of y_{c,i} / T (eq. 3). In nats.

    Args:
        student: (N, C, H, W).
        teacher: The same width; where height and width differ, both are average-pooled to the smaller.
        temperature: T > 0; above 1 it looks at a wider region of each channel.

    Raises:
        RecipeError: The widths differ.
    """
    student, teacher = pooled_alike(student, teacher)
    same_shape(student, teacher, "cwd")
    log_q, log_p = ((y.flatten(2) / temperature).log_softmax(2) for y in (student, teacher))
    return temperature**2 * (log_p.exp() * (log_p - log_q)).sum(2).mean(1)


@final
class Cwd(FeatureLoss):
    """Match, channel by channel, the distribution of activity over positions (Shu et al. 2021, eq. 4).

    A pair whose widths differ owns a 1x1 convolution from the student's to the teacher's. The loss is
    the sum over pairs of `cwd`, averaged over samples.

    Args:
        paths: Module path in the student for each module path of the teacher, {student path: teacher path}; maps only.
        temperature: T > 0.

    Raises:
        RecipeError: `temperature` is not above 0.
    """

    def __init__(self, paths: Mapping[str, str], temperature: float = 4.0) -> None:
        super().__init__()
        self.paths = check_paths(self, paths)
        require("Cwd.temperature", 0 < temperature < math.inf, "a number above 0", temperature)
        self.temperature = temperature
        self.adapters = nn.ModuleList()

    def fit_to(self, student: Sequence[tuple[int, ...]], teacher: Sequence[tuple[int, ...]]) -> None:
        """Make an adapter for each pair of maps whose widths differ."""
        shapes = pairs(self, student, teacher, "maps")
        self.adapters = nn.ModuleList(
            nn.Identity() if mine[0] == goal[0] else pointwise(mine, mine[0], goal[0], bias=False)
            for mine, goal in shapes  # no bias: the softmax over positions would not see it
        )

    def forward(
        self,
        student: Sequence[Tensor],
        teacher: Sequence[Tensor],
        label: Tensor | None = None,
        index: Tensor | None = None,
        drawn: Mapping[str, Tensor] | None = None,
    ) -> Tensor:
        """Return the sum over pairs."""
        triples = zip(self.adapters, student, teacher, strict=True)
        return torch.stack([cwd(adapt(precise(s)), t, self.temperature).mean() for adapt, s, t in triples]).sum()
