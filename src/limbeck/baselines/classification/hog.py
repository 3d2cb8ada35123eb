"""A classical classifier: histograms of oriented gradients, and a linear classifier on them."""

from __future__ import annotations

from importlib.util import find_spec
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limbeck.baselines.base import Fitted
from limbeck.errors import MissingExtra, RecipeError
from limbeck.networks.blocks.building import check_sizes

BLOCK = 2  # cells along the side of a block


@final
class HogClassifier(Fitted):
    """Histograms of oriented gradients (Dalal and Triggs 2005), then multinomial logistic regression.

    The image is cut into square cells; in each, gradients vote for their orientation by their strength. Blocks of
    2x2 cells, which overlap, are normalised by L2-Hys (their section 6.4). The histograms are scikit-image's.

    Args:
        channels: Channels C of the image; of several, each pixel votes by the one of the strongest gradient.
        size: Height and width of the image, at least two cells.
        classes: Number of classes K, at least 2.
        cell: Side of a cell in pixels.
        orientations: Number of orientations over 180 degrees.
        penalty: λ of the L2 penalty, at least 0; see `logistic_regression`.
        train_images: The most training images that it is fitted to.

    Raises:
        RecipeError: An argument cannot be used.
        MissingExtra: scikit-image is not installed.
    """

    def __init__(
        self,
        channels: int = 1,
        size: int = 32,
        classes: int = 10,
        *,
        cell: int = 4,
        orientations: int = 9,
        penalty: float = 1e-3,
        train_images: int = 10000,
    ) -> None:
        super().__init__()
        check_sizes(self, channels=channels, cell=cell, orientations=orientations, train_images=train_images)
        check_sizes(self, at_least=2, classes=classes)
        check_sizes(self, at_least=BLOCK * cell, size=size)
        if penalty < 0:
            raise RecipeError(f"HogClassifier.penalty: expected at least 0, found {penalty}")
        if find_spec("skimage") is None:
            raise MissingExtra("scikit-image", "classic")
        self.image_shape = (channels, size, size)
        self.classes, self.train_images = classes, train_images
        self.cell, self.orientations, self.penalty = cell, orientations, penalty
        blocks = size // cell - BLOCK + 1
        self.output = nn.Linear(blocks**2 * BLOCK**2 * orientations, classes).requires_grad_(False)

    def features(self, image: Tensor) -> Tensor:
        """Return the histograms (N, D), in [0, 1], of images (N, C, H, W) in [-1, 1]; computed on the CPU."""
        from skimage.feature import hog  # noqa: PLC0415 (heavy, and an extra)

        if image.shape[1:] != self.image_shape:
            raise RecipeError(f"HogClassifier: expected images {self.image_shape}, found {tuple(image.shape[1:])}")
        cells, block = (self.cell, self.cell), (BLOCK, BLOCK)
        found = [
            torch.from_numpy(hog(one, self.orientations, cells, block, block_norm="L2-Hys", channel_axis=0))
            for one in image.detach().cpu().double().numpy()
        ]
        return torch.stack(found).to(image.device, torch.float32)

    def fit(self, image: Tensor, label: Tensor) -> None:
        """Fit the linear classifier to the histograms of images (N, C, H, W) in [-1, 1] with classes (N,).

        Raises:
            RecipeError: Images of another shape, or classes that it has not.
        """
        if int(label.max()) >= self.classes:
            raise RecipeError(f"HogClassifier.classes: expected more than {int(label.max())}, found {self.classes}")
        weight, bias = logistic_regression(self.features(image), label, self.classes, self.penalty)
        self.output.weight.copy_(weight)
        self.output.bias.copy_(bias)

    def forward(self, image: Tensor) -> Tensor:
        """Return logits (N, K) from images (N, C, H, W) in [-1, 1]."""
        logits: Tensor = self.output(self.features(image))
        return logits


@torch.enable_grad()
def logistic_regression(
    features: Tensor, label: Tensor, classes: int, penalty: float, steps: int = 200
) -> tuple[Tensor, Tensor]:
    """Return the weight (K, D) and bias (K,) that minimise mean CE(W x + b, y) + λ/2 ||W||², a convex function.

    Found by L-BFGS from zero (Liu and Nocedal 1989). The bias has no penalty.

    Args:
        features: x (N, D).
        label: y (N,), int64, in 0..K-1.
        classes: K.
        penalty: λ, at least 0.
        steps: The most iterations; fewer where the gradient vanishes.
    """
    weight = features.new_zeros(classes, features.shape[1], requires_grad=True)
    bias = features.new_zeros(classes, requires_grad=True)
    solver = torch.optim.LBFGS([weight, bias], max_iter=steps, history_size=10, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        solver.zero_grad()
        loss = F.cross_entropy(features @ weight.T + bias, label) + penalty / 2 * weight.square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    solver.step(closure)  # type: ignore[no-untyped-call]
    return weight.detach(), bias.detach()
