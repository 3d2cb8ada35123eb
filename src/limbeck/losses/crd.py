"""Contrastive representation distillation, with a memory bank (Tian et al. 2020)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import ClassVar, final

import torch
from torch import Tensor, nn

from limbeck.errors import RecipeError, require
from limbeck.losses.base import FeatureLoss, check_paths, pairs
from limbeck.losses.gather import gathered
from limbeck.losses.tensors import embedding, full_precision, precise, unit
from limbeck.types import Draw

EPSILON = 1e-7


def crd(log_probability: Tensor, count: int) -> Tensor:
    """Return -log h(x⁺) - Σ_k log(1 - h(x⁻_k)) of each sample (N,), in [0, ∞) (Tian et al. 2020, eq. 10).

    h = p / (p + K/M + ε), for K negatives out of M images (eq. 19), and p = exp(uᵀv / τ) / Z the similarity of two
    embeddings; the code's second term is log((K/M) / (p + K/M + ε)). Everything is taken from log p, which neither
    overflows nor vanishes. ε = 1e-7 as in the code.

    Args:
        log_probability: log p (N, 1 + K): of the positive, then of the negatives.
        count: M, the number of training images.
    """
    log_p = precise(log_probability)
    noise = (log_p.shape[1] - 1) / count
    below = torch.logaddexp(log_p, log_p.new_tensor(noise + EPSILON).log())
    return (below[:, 0] - log_p[:, 0]) + (below[:, 1:] - math.log(noise)).sum(1)


class _Memory(nn.Module):
    """The projections of a student and a teacher layer, and the last projection of every training image."""

    student_bank: Tensor
    teacher_bank: Tensor

    def __init__(
        self, student: int, teacher: int, *, count: int, width: int, temperature: float, momentum: float
    ) -> None:
        super().__init__()
        self.student, self.teacher = nn.Linear(student, width), nn.Linear(teacher, width)
        self.count, self.temperature, self.momentum = count, temperature, momentum
        bound = math.sqrt(3 / width)  # length 1 on average
        for name in ("student", "teacher"):
            self.register_buffer(f"{name}_bank", (2 * torch.rand(count, width) - 1) * bound)
            self.register_buffer(f"{name}_log_z", torch.tensor(0.0))
            self.register_buffer(f"{name}_log_z_known", torch.tensor(False))  # from the first batch on

    def forward(self, student: Tensor, teacher: Tensor, index: Tensor, negatives: Tensor) -> Tensor:
        """Return the loss of each sample (N,): the student against the teacher's bank, and the other way round."""
        mine, goal = unit(precise(self.student(student))), unit(precise(self.teacher(teacher)))
        rows = torch.cat([index[:, None], negatives], 1)
        loss = crd(self._log_p(mine, self.teacher_bank, rows, "student_log_z"), self.count)
        loss = loss + crd(self._log_p(goal, self.student_bank, rows, "teacher_log_z"), self.count)
        if self.training:
            everywhere = gathered(index)
            self._remember(self.student_bank, everywhere, gathered(mine.detach()))
            self._remember(self.teacher_bank, everywhere, gathered(goal.detach()))
        return loss

    def _log_p(self, anchor: Tensor, bank: Tensor, rows: Tensor, log_z: str) -> Tensor:
        with full_precision(anchor):
            # All products, then the rows: (N, M) numbers where gathering rows first takes (N, 1 + K, D). The bank is
            # copied because it moves before the backward pass.
            score = (anchor @ bank.clone().T).gather(1, rows) / self.temperature
        with torch.no_grad():
            here = score.flatten().logsumexp(0, keepdim=True) - math.log(score.numel())
            means = gathered(here)  # log of the mean of exp(score), of each process
            mean = means.logsumexp(0) - math.log(len(means))
            held, known = self.get_buffer(log_z), self.get_buffer(f"{log_z}_known")
            estimate = held.where(known, mean + math.log(self.count))
            if self.training:
                held.copy_(estimate)
                known.fill_(True)
        return score - estimate

    @torch.no_grad()
    def _remember(self, bank: Tensor, index: Tensor, rows: Tensor) -> None:
        moved = unit(self.momentum * bank[index] + (1 - self.momentum) * rows)
        # An image that a batch holds twice writes the same values twice: the outcome does not depend on the order.
        first = (index[:, None] == index).int().argmax(1)
        bank[index] = moved[first]


@final
class Crd(FeatureLoss):
    """Tell the teacher's embedding of the same image from those of others (CRD, Tian et al. 2020, section 3.1).

    Each pair owns two linear projections to length 1, and for each of them a memory bank with the last projection of
    every training image, its running mean with `momentum`; the normalisation Z of each is estimated at the first
    batch and kept. Maps are averaged over their positions. The loss is the sum over pairs of both directions,
    averaged over samples; it reads `index`. Banks and Z are buffers: they are checkpointed, and all processes write
    the same. They move in training mode only.

    It differs from the paper's CIFAR-100 numbers in the negatives: there an image's negatives are drawn from the
    other classes, with the labels; here from all images, as the code's own sampler does, so that no label is needed.

    Args:
        paths: Module path in the student for each module path of the teacher, {student path: teacher path}.
        count: M, the number of training images; every index is below it.
        negatives: K, negatives of each image, drawn with replacement.
        width: Length of the projections.
        temperature: τ > 0.
        momentum: What a bank keeps of its old value, in [0, 1).

    Raises:
        RecipeError: A number is out of its range.
    """

    needs_index: ClassVar[bool] = True

    def __init__(
        self,
        paths: Mapping[str, str],
        count: int,
        *,
        negatives: int = 16384,
        width: int = 128,
        temperature: float = 0.07,
        momentum: float = 0.5,
    ) -> None:
        super().__init__()
        self.paths = check_paths(self, paths)
        for name, value in {"count": count, "negatives": negatives, "width": width}.items():
            require(f"Crd.{name}", value >= 1, "a whole number of at least 1", value)
        require("Crd.temperature", 0 < temperature < math.inf, "a number above 0", temperature)
        require("Crd.momentum", 0 <= momentum < 1, "a number in [0, 1)", momentum)
        self.count, self.negatives, self.width = count, negatives, width
        self.temperature, self.momentum = temperature, momentum
        self.memories = nn.ModuleList()

    def fit_to(self, student: Sequence[tuple[int, ...]], teacher: Sequence[tuple[int, ...]]) -> None:
        """Make projections and banks for each pair of maps or vectors."""
        self.memories = nn.ModuleList(
            _Memory(
                mine[0],
                goal[0],
                count=self.count,
                width=self.width,
                temperature=self.temperature,
                momentum=self.momentum,
            )
            for mine, goal in pairs(self, student, teacher, "any")
        )

    def draws(self) -> Mapping[str, Draw]:
        """Return the negatives: positions in the data set."""
        return {"negatives": Draw((self.negatives,), "integers", self.count)}

    def forward(
        self,
        student: Sequence[Tensor],
        teacher: Sequence[Tensor],
        label: Tensor | None = None,
        index: Tensor | None = None,
        drawn: Mapping[str, Tensor] | None = None,
    ) -> Tensor:
        """Return the sum over pairs; in training mode the banks take in the batch.

        Raises:
            RecipeError: An index is not below `count`.
        """
        assert index is not None and drawn is not None, "Crd needs the index and what it declares in draws"
        if int(index.max()) >= self.count:
            raise RecipeError(
                f"Crd.count: expected the number of training images, above every index, found {self.count} and an"
                f" image {int(index.max())}"
            )
        triples = zip(self.memories, map(embedding, student), map(embedding, teacher), strict=True)
        terms = [memory(s, t, index, drawn["negatives"]).mean() for memory, s, t in triples]
        return torch.stack(terms).sum()
