"""Making a discriminator's score a log-odds, by Platt's (1999) scaling."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from limbeck.errors import RecipeError


def calibrate(real: Tensor, fake: Tensor) -> tuple[float, float]:
    """Return (scale, offset) for which scale · score + offset is the log-odds of "real" against "generated".

    Fit it on images that the discriminator was not trained on: held-out real images (the validation split) and
    images of the generator that it was trained against. On its training images its scores are too sure.

    It minimises the cross-entropy of σ(scale · s + offset) with Platt's targets (N₊ + 1) / (N₊ + 2) for real and
    1 / (N₋ + 2) for generated images, which keep the optimum finite when the two are perfectly separated (Platt
    1999, section 2.2). Each side has the same total weight, whatever its size, as in the discriminator's own loss.
    Solved by Newton's method with halved steps, in float64. A scale below 0 means that generated images score
    higher.

    Args:
        real: Scores of held-out real images, any shape.
        fake: Scores of generated images, any shape.

    Raises:
        RecipeError: No scores on one side, scores that are not finite, or scores that are all equal.
    """
    sides = {"real": real.detach().double().cpu().flatten(), "generated": fake.detach().double().cpu().flatten()}
    for name, scores in sides.items():
        if scores.numel() == 0 or not scores.isfinite().all():
            raise RecipeError(f"calibration: expected finite scores of {name} images, found {scores.numel()} scores")
    positive, negative = sides["real"], sides["generated"]
    score = torch.cat([positive, negative])
    if score.min() == score.max():
        raise RecipeError(f"calibration: all {len(score)} scores are equal, so they tell nothing; train it for longer")
    target = _each(positive, (len(positive) + 1) / (len(positive) + 2), negative, 1 / (len(negative) + 2))
    weight = _each(positive, 1 / len(positive), negative, 1 / len(negative))

    centre, spread = score.mean(), score.std(correction=0)
    slope, level = _logistic_regression((score - centre) / spread, target, weight)
    scale = slope / spread
    return float(scale), float(level - scale * centre)


def _each(positive: Tensor, of_positive: float, negative: Tensor, of_negative: float) -> Tensor:
    return torch.cat([torch.full_like(positive, of_positive), torch.full_like(negative, of_negative)])


def _logistic_regression(score: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Return (slope, level), (2,), of the smallest weighted cross-entropy, a convex function."""
    inputs = torch.stack([score, torch.ones_like(score)], dim=1)
    theta = inputs.new_zeros(2)
    for _ in range(100):
        chance = (inputs @ theta).sigmoid()
        gradient = inputs.T @ (weight * (chance - target))
        curvature = inputs.T @ (inputs * (weight * chance * (1 - chance))[:, None])
        step = torch.linalg.pinv(curvature, hermitian=True) @ gradient
        before = _cross_entropy(inputs @ theta, target, weight)
        while _cross_entropy(inputs @ (theta - step), target, weight) > before:
            step = step / 2
        theta = theta - step
        if step.abs().max() < 1e-12:
            break
    return theta


def _cross_entropy(logit: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    return (weight * F.binary_cross_entropy_with_logits(logit, target, reduction="none")).sum()
