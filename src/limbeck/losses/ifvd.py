"""Intra-class feature variation: how far each pixel is from the middle of its class (IFVD, Wang et al. 2020, ECCV)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, final

import torch
import torch.nn.functional as F
from torch import Tensor

from limbeck.losses.base import FeatureLoss, check_paths, pairs
from limbeck.losses.gather import masked_mean
from limbeck.losses.tensors import full_precision, pixel_classes, pooled_alike, precise, same_shape, unit
from limbeck.types import VOID


def variation(features: Tensor, mask: Tensor) -> Tensor:
    """Return M(p) = cos(f_p, 1/|S_p| Σ_{q∈S_p} f_q) of each place (N, h, w), in [-1, 1]; 0 where it is void.

    S_p are the places of the same image that have the class of p: their mean is the class's prototype.

    Args:
        features: f (N, C, h, w).
        mask: (N, h, w), int64 class of each place.
    """
    known = mask != VOID
    places = precise(features).where(known[:, None], 0)  # what is void is not even multiplied by 0
    label = mask.where(known, 0)
    members = F.one_hot(label, int(label.max()) + 1).where(known[..., None], 0).to(places).flatten(1, 2)  # (N, hw, K)
    with full_precision(places):
        mean = places.flatten(2) @ members / members.sum(1, keepdim=True).clamp(min=1)
        prototype = (mean @ members.transpose(1, 2)).reshape(places.shape)
    return (unit(places) * unit(prototype)).sum(1)


def ifvd(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """Return the mean of (M_s(p) - M_t(p))² over the places p that are not void, a scalar in [0, 4] (Wang et al. 2020).

    M is `variation`. Over the images of all processes; 0 where all is void. The number of channels may differ, and the
    length of a place's feature counts only in its prototype.

    The published code also counts void places in the mean, with a difference of 0, and adds 1e-6 to |S_p|; here
    neither.

    Args:
        student: (N, C, h, w).
        teacher: (N, C', h', w'); where height and width differ, both are average-pooled to the smaller.
        mask: (N, H, W), int64 class of each pixel; a place has that of the nearest pixel.

    Raises:
        RecipeError: The numbers of samples differ, or the masks are none.
    """
    student, teacher = pooled_alike(student, teacher)
    same_shape(student[:, 0], teacher[:, 0], "ifvd")
    classes = pixel_classes(mask, student, "Ifvd")
    return masked_mean((variation(student, classes) - variation(teacher, classes)).square(), classes != VOID)


@final
class Ifvd(FeatureLoss):
    """Every pixel is to be as near to the middle of its class as it is for the teacher (IFVD, Wang et al. 2020).

    It owns nothing, and needs masks. The loss is the sum over pairs of `ifvd`.

    Args:
        paths: Module path in the student for each module path of the teacher, {student path: teacher path}; maps only.
    """

    needs_label: ClassVar[bool] = True

    def __init__(self, paths: Mapping[str, str]) -> None:
        super().__init__()
        self.paths = check_paths(self, paths)

    def fit_to(self, student: Sequence[tuple[int, ...]], teacher: Sequence[tuple[int, ...]]) -> None:
        """Check that all features are maps."""
        pairs(self, student, teacher, "maps")

    def forward(
        self,
        student: Sequence[Tensor],
        teacher: Sequence[Tensor],
        label: Tensor | None = None,
        index: Tensor | None = None,
        drawn: Mapping[str, Tensor] | None = None,
    ) -> Tensor:
        """Return the sum over pairs.

        Raises:
            RecipeError: `label` are no masks.
        """
        assert label is not None, "Ifvd needs masks"
        return torch.stack([ifvd(s, t, label) for s, t in zip(student, teacher, strict=True)]).sum()
