"""Losses of the logits of pixels (N, K, H, W): with their classes, as rows for any loss of logits, and near borders."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from limbeck.errors import RecipeError
from limbeck.losses.gather import gathered, masked_mean
from limbeck.losses.tensors import kl_divergence, not_negative, positive, precise, same_shape
from limbeck.types import VOID


def pixel_rows(logits: Tensor) -> Tensor:
    """Return the logits (N, K, H, W) of pixels as rows (N H W, K), which any `LogitLoss` takes, in row-major order."""
    return logits.movedim(1, 3).flatten(0, 2)


def pixel_cross_entropy(logits: Tensor, mask: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return Σ w_y (-log softmax(s)_y) / Σ w_y over the pixels that are not void, in nats, a scalar in [0, ∞).

    The sums are over the images of all processes. 0 where all pixels are void, or weigh nothing.

    Args:
        logits: s (N, K, H, W).
        mask: y (N, H, W), int64.
        weights: w (K,) of each class, at least 0; None for 1.

    Raises:
        RecipeError: The mask has another size or classes outside [0, K), or there are not K weights.
    """
    known = _known(logits, mask, "pixel_cross_entropy")
    label = mask.where(known, 0)
    loss = F.cross_entropy(precise(logits), label, reduction="none")
    if weights is None:
        return masked_mean(loss, known)
    if weights.shape != logits.shape[1:2]:
        raise RecipeError(
            f"pixel_cross_entropy: expected {logits.shape[1]} class weights, found {tuple(weights.shape)}"
        )
    weight = weights.to(loss)[label]
    average = gathered(masked_mean(weight, known)[None]).mean()
    return masked_mean(weight * loss, known) / average.where(average > 0, 1)


def boundary_weights(mask: Tensor, width: int = 2, gain: float = 4.0) -> Tensor:
    """Return 1 + `gain` for pixels near the border of two classes and 1 for others, (N, H, W), float32.

    A pixel is near one where a pixel of another class lies within `width` pixels of it, by Euclidean distance between
    their centres: the two pixels at a border are 1 apart. Void is no class: a pixel beside it is not near a border, and
    a void pixel, which has no side, never is. Two classes with a strip of void between them do meet across it.

    Args:
        mask: (N, H, W), int64.
        width: At least 1.
        gain: At least 0.

    Raises:
        RecipeError: A number is out of its range.
    """
    if width < 1:
        raise RecipeError(f"boundary_weights.width: expected a whole number of at least 1, found {width}")
    not_negative(gain, "boundary_weights.gain")
    height, breadth = mask.shape[1:]
    around = F.pad(mask, (width, width, width, width), value=VOID)
    near = torch.zeros_like(mask, dtype=torch.bool)
    for down in range(2 * width + 1):
        for right in range(2 * width + 1):
            if (down - width) ** 2 + (right - width) ** 2 <= width**2:
                other = around[:, down : down + height, right : right + breadth]
                near |= (other != mask) & (other != VOID)
    return 1 + gain * (near & (mask != VOID)).float()


def weighted_kl(student: Tensor, teacher: Tensor, weight: Tensor, temperature: float = 1.0) -> Tensor:
    """Return T² Σ_i w_i KL(softmax(t_i / T) ‖ softmax(s_i / T)) / Σ_i w_i of each sample (N,), in nats, in [0, ∞).

    Over the pixels i of an image; with equal weights it is the mean of `Kd` over its pixels (Liu et al. 2020,
    arXiv:1903.04197, eq. 1). 0 where an image has no weight.

    Args:
        student: Logits s (N, K, H, W).
        teacher: Logits t (N, K, H, W); they get no gradient.
        weight: w (N, H, W), at least 0, such as `boundary_weights`.
        temperature: T > 0.

    Raises:
        RecipeError: The shapes differ, or the temperature is not above 0.
    """
    positive(temperature, "weighted_kl.temperature")
    same_shape(student, teacher, "weighted_kl")
    _check_size(student, weight, "weighted_kl")
    goal, mine = (precise(z).movedim(1, 3) / temperature for z in (teacher.detach(), student))
    divergence = temperature**2 * kl_divergence(goal, mine)
    weight = weight.to(divergence)
    total = weight.sum((1, 2))
    return (weight * divergence).sum((1, 2)) / total.where(total > 0, 1)


def _known(logits: Tensor, mask: Tensor, what: str) -> Tensor:
    """Return where the mask is not void (N, H, W), after checking that it numbers the classes of the logits."""
    _check_size(logits, mask, what)
    known, classes = mask != VOID, logits.shape[1]
    outside = mask[known & ((mask < 0) | (mask >= classes))]
    if outside.numel():
        raise RecipeError(f"{what}: expected classes in [0, {classes}) or {VOID} for void, found {int(outside[0])}")
    return known


def _check_size(logits: Tensor, mask: Tensor, what: str) -> None:
    expected = (logits.shape[0], *logits.shape[2:])
    if logits.ndim != 4 or mask.shape != expected:
        raise RecipeError(
            f"{what}: expected logits (N, K, H, W) and one number for each of their pixels (N, H, W), found"
            f" {tuple(logits.shape)} and {tuple(mask.shape)}"
        )
