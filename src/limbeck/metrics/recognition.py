"""How good class decisions and class probabilities are: pure functions of logits and labels, in float64."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from limbeck.errors import DataError, RecipeError


def top_k_accuracy(logits: Tensor, label: Tensor, k: int = 1) -> float:
    """Return the share of samples whose label is among the k classes of the largest logits, in [0, 1].

    Of equal logits the lower class number counts as the larger, so a network that says the same of all classes
    does not count as right.

    Args:
        logits: (N, K).
        label: (N,), int64, in 0..K-1.
        k: How many classes may be named, in 1..K.

    Raises:
        DataError: Logits or labels that cannot be compared (see `nll`).
        RecipeError: k outside 1..K.
    """
    logits, label = _checked(logits, label)
    if not 1 <= k <= logits.shape[1]:
        raise RecipeError(f"top_k_accuracy.k: expected 1 to {logits.shape[1]}, the number of classes, found {k}")
    own = logits.gather(1, label[:, None])
    lower = torch.arange(logits.shape[1], device=label.device) < label[:, None]
    rank = ((logits > own) | ((logits == own) & lower)).sum(dim=1)
    return _mean(rank < k)


def nll(logits: Tensor, label: Tensor) -> float:
    """Return the mean negative log-likelihood of the labels, -log p(label), in nats: the cross-entropy, in [0, ∞).

    Args:
        logits: (N, K).
        label: (N,), int64, in 0..K-1.

    Raises:
        DataError: There is no sample, the shapes do not fit, a label is out of range or a logit is not finite.
    """
    logits, label = _checked(logits, label)
    return float(F.cross_entropy(logits, label))


def expected_calibration_error(logits: Tensor, label: Tensor, bins: int = 15) -> float:
    """Return how far the confidence is from the accuracy, in [0, 1] (Guo et al. 2017, Eq. 3; Naeini et al. 2015).

    ECE = sum over bins of |B_m| / N · |accuracy(B_m) - confidence(B_m)|, where the confidence of a sample is its
    largest probability and bin m of M holds those in ((m - 1) / M, m / M]. It depends on the number of bins, and
    few samples bias it upwards; a network that always says the shares of the classes is calibrated and useless.

    Args:
        logits: (N, K).
        label: (N,), int64, in 0..K-1.
        bins: Number M of bins of equal width.

    Raises:
        DataError: Logits or labels that cannot be compared (see `nll`).
        RecipeError: `bins` below 1.
    """
    logits, label = _checked(logits, label)
    if bins < 1:
        raise RecipeError(f"expected_calibration_error.bins: expected at least 1, found {bins}")
    confidence = logits.softmax(dim=1).amax(dim=1)
    gap = (decisions(logits) == label).double() - confidence
    place = (confidence * bins).ceil().long().clamp(1, bins) - 1
    return float(gap.new_zeros(bins).index_add_(0, place, gap).abs().sum() / len(gap))


def brier_score(logits: Tensor, label: Tensor) -> float:
    """Return the mean of sum_k (p_k - y_k)² over samples, y being 1 at the label, in [0, 2] (Brier 1950, Eq. 2).

    Args:
        logits: (N, K).
        label: (N,), int64, in 0..K-1.

    Raises:
        DataError: Logits or labels that cannot be compared (see `nll`).
    """
    logits, label = _checked(logits, label)
    wanted = F.one_hot(label, logits.shape[1])
    return float((logits.softmax(dim=1) - wanted).square().sum(dim=1).mean())


def agreement(logits: Tensor, teacher: Tensor) -> float:
    """Return the share of samples for which student and teacher decide alike, right or wrong (Stanton et al. 2021).

    Args:
        logits: (N, K) of the student.
        teacher: (N, K) of the teacher for the same samples.

    Returns:
        A share, in [0, 1].

    Raises:
        DataError: The shapes differ, there is no sample, or a logit is not finite.
    """
    logits, teacher = _pair(logits, teacher)
    return _mean(decisions(logits) == decisions(teacher))


def kl_to_teacher(logits: Tensor, teacher: Tensor) -> float:
    """Return the mean KL(p ‖ q) = sum_k p_k (log p_k - log q_k) of teacher p and student q, in nats, in [0, ∞).

    Args:
        logits: (N, K) of the student.
        teacher: (N, K) of the teacher for the same samples.

    Raises:
        DataError: The shapes differ, there is no sample, or a logit is not finite.
    """
    logits, teacher = _pair(logits, teacher)
    log_q, log_p = logits.log_softmax(dim=1), teacher.log_softmax(dim=1)
    return max(float((log_p.exp() * (log_p - log_q)).sum(dim=1).mean()), 0.0)  # rounding may leave -1e-17


def confusion_matrix(logits: Tensor, label: Tensor) -> Tensor:
    """Return how many samples of each class (row) are taken for each class (column): (K, K), int64, on the CPU.

    Args:
        logits: (N, K).
        label: (N,), int64, in 0..K-1.

    Raises:
        DataError: Logits or labels that cannot be compared (see `nll`).
    """
    logits, label = _checked(logits, label)
    classes = logits.shape[1]
    return torch.bincount(label * classes + decisions(logits), minlength=classes**2).view(classes, classes).cpu()


def class_accuracy(confusion: Tensor) -> Tensor:
    """Return the share of each class that is taken for what it is (its recall): (K,), float64, NaN without samples.

    Args:
        confusion: (K, K), a `confusion_matrix`.
    """
    return confusion.diagonal().double() / confusion.sum(dim=1)


def decisions(logits: Tensor) -> Tensor:
    """Return the class of the largest logit (N,), of equal ones the lowest class number.

    Args:
        logits: (N, K).
    """
    return (logits == logits.amax(dim=1, keepdim=True)).byte().argmax(dim=1)


def _mean(right: Tensor) -> float:
    return right.double().mean().item()


def _checked(logits: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
    logits = _finite(logits)
    count, classes = logits.shape
    if label.shape != (count,) or label.dtype != torch.int64:
        raise DataError(f"labels: expected ({count},) of int64, found {tuple(label.shape)} of {label.dtype}")
    low, high = int(label.min()), int(label.max())
    if low < 0 or high >= classes:
        raise DataError(
            f"labels: expected classes 0..{classes - 1}, as many as logits, found {low}..{high};"
            " make a network of as many classes as the data has"
        )
    return logits, label.to(logits.device)


def _pair(logits: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    if logits.shape != teacher.shape:
        raise DataError(
            "fidelity to the teacher: expected logits of the same samples and classes,"
            f" found {tuple(logits.shape)} and the teacher's {tuple(teacher.shape)}"
        )
    return _finite(logits), _finite(teacher).to(logits.device)


def _finite(logits: Tensor) -> Tensor:
    if logits.ndim != 2 or 0 in logits.shape:
        raise DataError(f"logits: expected (N, K) of at least one sample and class, found {tuple(logits.shape)}")
    bad = int((~logits.isfinite().all(dim=1)).sum())
    if bad:
        raise DataError(
            f"logits: expected finite numbers, found NaN or infinity in {bad} of {len(logits)} samples;"
            " the images or the weights they come from are damaged"
        )
    return logits.detach().double()
