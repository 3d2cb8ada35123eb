"""A graph-based classifier: labels spread from a few images over the graph of nearest neighbours."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from limbeck.baselines.base import Fitted
from limbeck.errors import RecipeError
from limbeck.networks.blocks.building import check_sizes

if TYPE_CHECKING:
    from scipy.sparse import csr_array

ROWS = 1000  # rows of a distance matrix held at once
LEAST = 1e-6  # the least probability, so that logits are finite


@final
class LabelPropagation(Fitted):
    """Learning with local and global consistency (Zhou et al. 2004) on a graph of nearest neighbours, in pixels.

    Of the images that it is fitted to the first `labelled` keep their labels; the others join the graph without.
    With W the weights of the edges, D their sums by node and S = D^-1/2 W D^-1/2, the scores of all nodes are
    F = (1 - α) (I - α S)^-1 Y (their section 2), where Y is 1 at the known labels. Their W is a full matrix; here only
    the nearest nodes have edges, of weight exp(-d² / 2σ²) where σ² is the mean square distance to the farthest of
    them.

    A new image does not join the graph, so what it is called does not depend on the others in its batch: its
    probabilities are those of its nearest nodes, weighted alike (the inductive formula of Delalleau, Bengio and
    Le Roux 2005). Smoothing over neighbours makes them less sure than they could be.

    Args:
        channels: Channels C of the image.
        size: Height and width of the image.
        classes: Number of classes K, at least 2.
        neighbours: Edges of a node.
        alpha: α in (0, 1), how much of a score comes from the neighbours; near 1 labels spread far, and blur.
        labelled: Images whose labels are used; null for all.
        train_images: The most training images that it is fitted to.

    Raises:
        RecipeError: An argument cannot be used.
    """

    nodes: Tensor
    probability: Tensor
    variance: Tensor

    def __init__(
        self,
        channels: int = 1,
        size: int = 32,
        classes: int = 10,
        *,
        neighbours: int = 10,
        alpha: float = 0.5,
        labelled: int | None = None,
        train_images: int = 10000,
    ) -> None:
        super().__init__()
        check_sizes(self, channels=channels, size=size, neighbours=neighbours, train_images=train_images)
        check_sizes(self, at_least=2, classes=classes)
        if labelled is not None:
            check_sizes(self, labelled=labelled)
        if not 0 < alpha < 1:
            raise RecipeError(f"LabelPropagation.alpha: expected a number above 0 and below 1, found {alpha}")
        self.image_shape = (channels, size, size)
        self.classes, self.train_images = classes, train_images
        self.neighbours, self.alpha, self.labelled = neighbours, alpha, labelled
        self.register_buffer("nodes", torch.empty(0, channels * size * size))
        self.register_buffer("probability", torch.empty(0, classes))
        self.register_buffer("variance", torch.ones(()))

    def fit(self, image: Tensor, label: Tensor) -> None:
        """Build the graph of images (N, C, H, W) in [-1, 1] and spread the first labels of (N,) over it.

        Raises:
            RecipeError: Images of another shape, not more of them than neighbours, or classes that it has not.
        """
        nodes = self._flat(image)
        if len(nodes) <= self.neighbours:
            raise RecipeError(f"LabelPropagation.neighbours: expected fewer than the {len(nodes)} images to fit to")
        if int(label.max()) >= self.classes:
            raise RecipeError(f"LabelPropagation.classes: expected more than {int(label.max())}, found {self.classes}")
        known = F.one_hot(label, self.classes).double()
        known[self.labelled or len(label) :] = 0
        square, nearest = _nearest(nodes, nodes, self.neighbours, apart=True)
        self.nodes, self.variance = nodes, square[:, -1].mean().clamp(min=torch.finfo(square.dtype).tiny)
        scores = spread(_graph(nearest, self._weight(square)), known.cpu().numpy(), self.alpha)
        share = torch.from_numpy(scores).clamp(min=0)
        # A node that no label reaches knows nothing: every class is as likely.
        share = torch.where(share.sum(dim=1, keepdim=True) > 0, share, 1.0)
        self.probability = (share / share.sum(dim=1, keepdim=True)).to(nodes)

    def forward(self, image: Tensor) -> Tensor:
        """Return log-probabilities (N, K), at least log 1e-6, from images (N, C, H, W) in [-1, 1].

        Raises:
            RecipeError: Images of another shape, or it is not fitted yet.
        """
        if len(self.nodes) == 0:
            raise RecipeError("LabelPropagation: expected to be fitted before it is called; use it as a baseline")
        square, nearest = _nearest(self._flat(image), self.nodes, self.neighbours)
        weight = self._weight(square - square[:, :1])  # a factor common to all: far images do not underflow
        weight = weight / weight.sum(dim=1, keepdim=True)
        return (weight[..., None] * self.probability[nearest]).sum(dim=1).clamp(min=LEAST).log()

    def _weight(self, square: Tensor) -> Tensor:
        return (-square / (2 * self.variance)).exp()

    def _flat(self, image: Tensor) -> Tensor:
        if image.shape[1:] != self.image_shape:
            raise RecipeError(f"LabelPropagation: expected images {self.image_shape}, found {tuple(image.shape[1:])}")
        return image.detach().float().flatten(1)


def spread(weights: csr_array, known: np.ndarray, alpha: float) -> np.ndarray:
    """Return F = (1 - α) (I - α D^-1/2 W D^-1/2)^-1 Y by conjugate gradients, a class at a time (Zhou et al. 2004).

    Args:
        weights: W (N, N), symmetric, at least 0, with zeros on the diagonal.
        known: Y (N, K), 1 where a label is known.
        alpha: α in (0, 1).
    """
    from scipy.sparse import diags_array, eye_array  # noqa: PLC0415 (heavy, and only needed here)
    from scipy.sparse.linalg import cg  # noqa: PLC0415

    degree = weights.sum(axis=1)
    root = diags_array(1 / np.sqrt(np.where(degree > 0, degree, 1.0)))
    system = eye_array(len(known)) - alpha * (root @ weights @ root)
    return (1 - alpha) * np.stack([cg(system, column, rtol=1e-8)[0] for column in known.T], axis=1)


def _graph(nearest: Tensor, weight: Tensor) -> csr_array:
    """Return W (N, N): two nodes have an edge if either is among the other's nearest."""
    from scipy.sparse import csr_array  # noqa: PLC0415

    count, edges = nearest.shape
    start, end = np.repeat(np.arange(count), edges), nearest.cpu().numpy().ravel()
    directed = csr_array((weight.double().cpu().numpy().ravel(), (start, end)), shape=(count, count))
    return directed.maximum(directed.T)


def _nearest(image: Tensor, nodes: Tensor, count: int, *, apart: bool = False) -> tuple[Tensor, Tensor]:
    """Return the square distances (N, count) to the nearest nodes, and which they are.

    Args:
        image: (N, D).
        nodes: (M, D).
        count: How many nodes.
        apart: The images are the nodes, and none is its own neighbour.
    """
    found = []
    length = nodes.square().sum(dim=1)
    for start in range(0, len(image), ROWS):
        part = image[start : start + ROWS]
        rough = torch.addmm(length, part, nodes.T, alpha=-2)  # less |image|², which orders nothing
        if apart:
            rough.diagonal(start).fill_(torch.inf)
        nearest = rough.topk(count, largest=False).indices
        # By differences, so that equal images are at a distance of exactly 0.
        found.append(((part[:, None] - nodes[nearest]).square().sum(dim=2), nearest))
    square, index = (torch.cat(parts) for parts in zip(*found, strict=True))
    square, order = square.sort(dim=1)
    return square, index.gather(1, order)
