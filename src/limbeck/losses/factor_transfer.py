"""Factor transfer: the student translates what the teacher paraphrases (Kim et al. 2018)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import final

import torch
from torch import Tensor, nn

from limbeck.errors import require
from limbeck.losses.base import FeatureLoss, check_paths, pairs
from limbeck.losses.tensors import pooled_alike, precise, same_shape, unit


def factor_transfer(student: Tensor, teacher: Tensor) -> Tensor:
    """Return mean |F_S/‖F_S‖₂ - F_T/‖F_T‖₂| of each sample (N,), in [0, 2/√D] (Kim et al. 2018, section 3, p = 1).

    The paper takes the norm, that is, the sum; its code the mean over the D elements, and this follows the code.

    Args:
        student: Factors (N, C, H, W).
        teacher: Factors of the same width; where height and width differ, both are average-pooled to the smaller.

    Raises:
        RecipeError: The widths differ.
    """
    student, teacher = pooled_alike(student, teacher)
    same_shape(student, teacher, "factor transfer")
    return (unit(student.flatten(1)) - unit(teacher.flatten(1))).abs().mean(1)


@final
class FactorTransfer(FeatureLoss):
    """Follow the factors of an autoencoder of the teacher's features (Kim et al. 2018, section 3).

    Each pair owns a paraphraser, a convolutional autoencoder of the teacher's features T with factor F_T, and a
    translator, which makes the factor F_S from the student's features. The loss is the sum over pairs of
    `factor_transfer`(F_S, F_T) + reconstruction * mean (T - paraphrase(T))².

    It differs from the paper in one thing: there the paraphraser is trained on the teacher first, and then fixed.
    Here both train together. The student follows a detached F_T, so that the teacher's factor is shaped by the
    reconstruction alone, as in the paper, but it is a moving goal until the reconstruction has settled.

    Args:
        paths: Module path in the student for each module path of the teacher, {student path: teacher path}; maps only.
        rate: k > 0: the factor has k times the teacher's width.
        reconstruction: > 0, what the reconstruction counts. The paper weighs the factors by 500 for networks of the
            size of CIFAR's; a weight on the whole loss acts on both terms, so there 1/500 leaves this one at 1.

    Raises:
        RecipeError: `rate` or `reconstruction` is not above 0.
    """

    def __init__(self, paths: Mapping[str, str], rate: float = 0.5, reconstruction: float = 1.0) -> None:
        super().__init__()
        self.paths = check_paths(self, paths)
        require("FactorTransfer.rate", 0 < rate < math.inf, "a number above 0", rate)
        require("FactorTransfer.reconstruction", 0 < reconstruction < math.inf, "a number above 0", reconstruction)
        self.rate = rate
        self.reconstruction = reconstruction
        self.encoders, self.decoders, self.translators = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()

    def fit_to(self, student: Sequence[tuple[int, ...]], teacher: Sequence[tuple[int, ...]]) -> None:
        """Make a paraphraser (encoder and decoder) and a translator for each pair of maps."""
        widths = [(mine[0], goal[0]) for mine, goal in pairs(self, student, teacher, "maps")]
        factors = [max(1, round(self.rate * goal)) for _, goal in widths]
        rows = list(zip(widths, factors, strict=True))
        self.encoders = nn.ModuleList(_layers(goal, goal, factor, factor) for (_, goal), factor in rows)
        self.decoders = nn.ModuleList(_layers(factor, factor, goal, goal) for (_, goal), factor in rows)
        self.translators = nn.ModuleList(_layers(mine, mine, factor, factor) for (mine, _), factor in rows)

    def forward(
        self,
        student: Sequence[Tensor],
        teacher: Sequence[Tensor],
        label: Tensor | None = None,
        index: Tensor | None = None,
        drawn: Mapping[str, Tensor] | None = None,
    ) -> Tensor:
        """Return the sum over pairs of the distance of the factors and the error of the paraphraser."""
        owned = zip(self.encoders, self.decoders, self.translators, strict=True)
        terms = []
        for (encode, decode, translate), s, t in zip(owned, student, teacher, strict=True):
            goal = precise(t)
            factor = encode(goal)
            error = (precise(decode(factor)) - goal).square().mean()
            terms.append(factor_transfer(translate(precise(s)), factor.detach()).mean() + self.reconstruction * error)
        return torch.stack(terms).sum()


def _layers(*widths: int) -> nn.Sequential:
    """Return 3x3 convolutions, each with batch normalisation and leaky ReLU of slope 0.1."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        convolution = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)  # the normalisation has the bias
        layers += [convolution, nn.BatchNorm2d(outputs), nn.LeakyReLU(0.1)]
    return nn.Sequential(*layers)
