"""What attacks make large, one number a sample; positions beyond the classes, such as pixels, are averaged.

A method closes one of these over its network and its goal: `lambda x: cross_entropy(student(x), label)`.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from limbeck.errors import RecipeError
from limbeck.types import VOID


def cross_entropy(logits: Tensor, label: Tensor) -> Tensor:
    """Return -log softmax(z)_y in nats, in [0, ∞): what FGSM and PGD maximise (Madry et al. 2018, eq. 2.1).

    Args:
        logits: (N, K) or (N, K, ...), e.g. (N, K, H, W) of a segmentation.
        label: (N,) or (N, ...), int64; void pixels count as 0.

    Returns:
        (N,), at least float32.

    Raises:
        RecipeError: The shapes do not belong together.
    """
    _check_label(logits, label, "cross_entropy")
    void = VOID if label.ndim > 1 else -100  # of whole images 255 is a class like any other
    return _averaged(F.cross_entropy(_precise(logits), label, ignore_index=void, reduction="none"))


def cw_margin(logits: Tensor, label: Tensor) -> Tensor:
    """Return max_{j≠y} z_j - z_y, above 0 where the class is wrong (Carlini and Wagner 2017, f₆ of section V-A).

    Its gradient does not vanish where the network is certain, as that of the cross-entropy does.

    Args:
        logits: (N, K) or (N, K, ...), K of at least 2.
        label: (N,) or (N, ...), int64.

    Returns:
        (N,), at least float32.

    Raises:
        RecipeError: The shapes do not belong together, or there is one class only.
    """
    _check_label(logits, label, "cw_margin")
    if logits.shape[1] < 2:
        raise RecipeError(f"cw_margin: expected logits of at least 2 classes, found shape {tuple(logits.shape)}")
    logits, place = _precise(logits), label.unsqueeze(1)
    own = logits.gather(1, place).squeeze(1)
    return _averaged(logits.scatter(1, place, -math.inf).amax(1) - own)


def kl_divergence(logits: Tensor, goal: Tensor) -> Tensor:
    """Return KL(softmax(goal) ‖ softmax(z)) in nats, in [0, ∞).

    With the teacher's logits as goal this is what the attack of RSLAD maximises (Zi et al. 2021), with the network's
    own at the clean input that of TRADES (Zhang et al. 2019): there it is 0 with gradient 0, so start at random.

    Args:
        logits: (N, K) or (N, K, ...).
        goal: The same shape; no gradient flows to it.

    Returns:
        (N,), at least float32.

    Raises:
        RecipeError: The shapes differ.
    """
    _check_same(logits, goal, "kl_divergence")
    mine, theirs = _precise(logits).log_softmax(1), _precise(goal.detach()).log_softmax(1)
    return _averaged(F.kl_div(mine, theirs, log_target=True, reduction="none").sum(1))


def squared_error(output: Tensor, goal: Tensor) -> Tensor:
    """Return the mean of (output - goal)² over all but the samples, in [0, ∞): how far images lie apart.

    With a student's and a teacher's image of one latent, an attack on the latent finds where they differ most.

    Args:
        output: (N, ...).
        goal: The same shape; no gradient flows to it, so make it anew at the attacked input where it depends on that.

    Returns:
        (N,), at least float32.

    Raises:
        RecipeError: The shapes differ.
    """
    _check_same(output, goal, "squared_error")
    return _averaged((_precise(output) - _precise(goal.detach())).square())


def _averaged(values: Tensor) -> Tensor:
    return values.flatten(1).mean(1) if values.ndim > 1 else values


def _precise(tensor: Tensor) -> Tensor:
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def _check_label(logits: Tensor, label: Tensor, what: str) -> None:
    if logits.ndim < 2 or label.shape != (len(logits), *logits.shape[2:]):
        raise RecipeError(
            f"{what}: expected logits (N, K, ...) and labels (N, ...), found shapes {tuple(logits.shape)} and"
            f" {tuple(label.shape)}"
        )


def _check_same(output: Tensor, goal: Tensor, what: str) -> None:
    if output.shape != goal.shape:
        raise RecipeError(f"{what}: expected one shape, found {tuple(output.shape)} and {tuple(goal.shape)}")
