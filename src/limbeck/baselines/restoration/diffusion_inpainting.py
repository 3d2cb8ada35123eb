"""Filling holes by diffusion: the smoothest image that agrees with what is known."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from limbeck.networks.blocks.building import check_choice, check_sizes
from limbeck.networks.roles import Restorer

if TYPE_CHECKING:
    from scipy.sparse import csr_array

BELIEF = 1e-8  # in zero, which decides where a hole has no border


@final
class DiffusionInpainting(Restorer):
    """Solves Δu = 0 (harmonic) or Δ²u = 0 (biharmonic) in the holes, the known pixels held (Bertalmio et al. 2000).

    The first has no more extrema than its border, the second continues slopes. At the edge of the image nothing flows
    (Neumann). It has no parameters, and passes no gradient.

    Args:
        channels: Channels C of the image; it takes C + 1, the last of them 1 in the holes and -1 elsewhere.
        order: "harmonic" or "biharmonic".

    Raises:
        RecipeError: An argument cannot be used.
    """

    def __init__(self, channels: int = 3, order: Literal["harmonic", "biharmonic"] = "harmonic") -> None:
        super().__init__()
        check_sizes(self, channels=channels)
        check_choice(self, ("harmonic", "biharmonic"), order=order)
        self.channels, self.inputs, self.scale = channels, channels + 1, 1
        self.order = order

    def forward(self, image: Tensor) -> Tensor:
        """Return filled images (N, C, H, W) in [-1, 1] of images with holes (N, C + 1, H, W)."""
        laplacian = _laplacian(*image.shape[2:])
        operator = laplacian if self.order == "harmonic" else laplacian @ laplacian
        filled = [self._filled(one, operator) for one in image.detach().double().cpu().numpy()]
        return torch.from_numpy(np.stack(filled)).to(image).clamp(-1, 1)

    def _filled(self, image: NDArray[np.float64], operator: csr_array) -> NDArray[np.float64]:
        from scipy.sparse import csr_array, eye_array  # noqa: PLC0415 (heavy, and only needed here)
        from scipy.sparse.linalg import spsolve  # noqa: PLC0415

        hole = image[-1].ravel() > 0
        found: NDArray[np.float64] = image[:-1].reshape(self.channels, -1).copy()
        if hole.any():
            rows = operator[hole]
            inside = csr_array(rows[:, hole] - BELIEF * eye_array(int(hole.sum())) * _sign(self.order))
            found[:, hole] = np.atleast_2d(spsolve(inside.tocsc(), -(rows[:, ~hole] @ found[:, ~hole].T)).T)
        return found.reshape(image[:-1].shape)


def _sign(order: str) -> int:
    """Return 1 where the operator is negative, else -1, so that what is added never makes it singular."""
    return 1 if order == "harmonic" else -1


def _laplacian(height: int, width: int) -> csr_array:
    """Return the sum of differences to the neighbours of every pixel (HW, HW); fewer at the edge of the image."""
    from scipy.sparse import csr_array, eye_array, kron  # noqa: PLC0415

    rows, columns = (_differences(side) for side in (height, width))
    return csr_array(kron(rows, eye_array(width)) + kron(eye_array(height), columns))


def _differences(count: int) -> csr_array:
    """Return the second differences along a line with mirrored ends (count, count)."""
    from scipy.sparse import csr_array, diags_array  # noqa: PLC0415

    if count == 1:
        return csr_array((1, 1))
    slope = diags_array([-np.ones(count - 1), np.ones(count - 1)], offsets=[0, 1], shape=(count - 1, count))
    return csr_array(-(slope.T @ slope))
