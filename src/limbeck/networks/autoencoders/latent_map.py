"""A fixed linear map from the latents of a teacher to the smaller ones of a student."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from limbeck.errors import RecipeError


class LatentMap(nn.Module):
    """z ↦ A z over the first axis of a latent, A with orthonormal rows: the principal directions of what it has seen.

    It is fitted once to means of the teacher's posteriors and then frozen: a map that were trained along with the
    student could discard what is hard to learn. Where both latents are of one shape it is the identity, at once.

    Args:
        teacher: Shape of the teacher's latent, (D, ...).
        student: Shape of the student's, (d, ...), d at most D and the further axes the same.

    Attributes:
        basis: A, (d, D); zeros until it is fitted.

    Raises:
        RecipeError: The shapes do not fit.
    """

    basis: Tensor
    count: Tensor
    total: Tensor
    products: Tensor
    fitted: Tensor

    def __init__(self, teacher: tuple[int, ...], student: tuple[int, ...]) -> None:
        super().__init__()
        if not student or not teacher or student[1:] != teacher[1:] or student[0] > teacher[0]:
            raise RecipeError(
                f"latent: expected a student's latent like the teacher's {tuple(teacher)}, or shorter along its first"
                f" axis, found {tuple(student)}"
            )
        self.identity = teacher == student
        big, small = teacher[0], student[0]
        self.register_buffer("basis", torch.eye(small, big))
        self.register_buffer("count", torch.zeros((), dtype=torch.float64))
        self.register_buffer("total", torch.zeros(0 if self.identity else big, dtype=torch.float64))
        size = 0 if self.identity else big
        self.register_buffer("products", torch.zeros(size, size, dtype=torch.float64))
        self.register_buffer("fitted", torch.tensor(self.identity))

    @property
    def ready(self) -> bool:
        """Whether it is fitted."""
        return bool(self.fitted)

    @torch.no_grad()
    def observe(self, mean: Tensor) -> None:
        """Take means (N, D, ...) into account; in several processes each has to be given those of all of them."""
        rows = mean.detach().flatten(2).movedim(1, -1).flatten(0, 1) if mean.ndim > 2 else mean.detach()
        rows = rows.double()
        self.count += len(rows)
        self.total += rows.sum(0)
        self.products += rows.T @ rows

    @torch.no_grad()
    def fit(self) -> None:
        """Fix A: the eigenvectors of the largest eigenvalues of the covariance of what was observed.

        Raises:
            RecipeError: Nothing was observed.
        """
        if self.ready:
            return
        if self.count == 0:
            raise RecipeError("latent map: expected posteriors to be fitted to, found none")
        mean = self.total / self.count
        covariance = self.products / self.count - torch.outer(mean, mean)
        vectors = torch.linalg.eigh(covariance.cpu()).eigenvectors.flip(1)[:, : len(self.basis)].T
        largest = vectors.gather(1, vectors.abs().argmax(1, keepdim=True))
        self.basis.copy_(vectors * largest.sign())  # an eigenvector has no sign of its own
        self.fitted.fill_(True)

    def forward(self, latent: Tensor) -> Tensor:
        """Return latents (N, d, ...) from latents (N, D, ...)."""
        return latent if self.identity else torch.einsum("ij,nj...->ni...", self.basis.to(latent), latent)
