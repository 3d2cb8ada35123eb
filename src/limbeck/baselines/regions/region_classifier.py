"""Segmentation without a network that sees pixels: regions are found first, then told apart by what they look like."""

from __future__ import annotations

from typing import ClassVar, Literal, final

import torch
from torch import Tensor, nn

from limbeck.baselines.base import Fitted, Regions
from limbeck.baselines.regions.region_features import FEATURES, region_features
from limbeck.baselines.regions.region_maps import votes
from limbeck.errors import RecipeError
from limbeck.losses.tensors import not_negative
from limbeck.networks.blocks.building import check_choice, check_sizes, sides
from limbeck.types import VOID

SEED = 0  # of the hidden layer's first weights: fitting is the same every time
STEPS = 200  # the most iterations of L-BFGS


@final
class RegionClassifier(Fitted):
    """Gives every region of an image a class by its colours, texture, place and size (after Hoiem et al. 2005).

    A classifier with one hidden layer learns from the regions of training images what part of their pixels is of which
    class. It minimises the cross-entropy, the mean over pixels that are not void, plus a penalty. Nothing is
    expected of where regions begin and end: `OracleRegions` tells how far the best classifier would come.

    Args:
        regions: Makes the regions, e.g. `Slic` or `Felzenszwalb`.
        channels: Channels C of the image, 1 or 3.
        size: Height and width of the data's images, or one number for both; it takes others, too.
        classes: Number of classes K, at least 2.
        hidden: Width of the hidden layer.
        penalty: λ of λ/2 ||W||², at least 0.
        train_images: The most training images that it is fitted to.

    Raises:
        RecipeError: An argument cannot be used.
    """

    truth: ClassVar[Literal["label", "mask"]] = "mask"
    mean: Tensor
    spread: Tensor

    def __init__(
        self,
        regions: Regions,
        channels: int = 3,
        size: int | tuple[int, int] = 64,
        classes: int = 2,
        *,
        hidden: int = 64,
        penalty: float = 1e-3,
        train_images: int = 200,
    ) -> None:
        super().__init__()
        height, width = sides(self, size)
        check_choice(self, (1, 3), channels=channels)
        check_sizes(self, hidden=hidden, train_images=train_images)
        check_sizes(self, at_least=2, classes=classes)
        not_negative(penalty, "RegionClassifier.penalty")
        self.regions, self.penalty = regions, penalty
        self.image_shape = (channels, height, width)
        self.channels, self.classes, self.train_images = channels, classes, train_images
        self.register_buffer("mean", torch.zeros(FEATURES))
        self.register_buffer("spread", torch.ones(FEATURES))
        self.layers = nn.Sequential(nn.Linear(FEATURES, hidden), nn.Tanh(), nn.Linear(hidden, classes))
        self.layers.requires_grad_(False)

    def fit(self, image: Tensor, label: Tensor) -> None:
        """Fit the classifier to the regions of images (N, C, H, W) in [-1, 1] with masks (N, H, W).

        Raises:
            RecipeError: Images or masks of another shape, classes that it has not, or none but void.
        """
        self._check(image, label)
        features, counts = [], []
        for one, mask in zip(image, label, strict=True):
            regions = self.divided(one[None])[0]
            features.append(region_features(one, regions))
            counts.append(votes(regions, mask, self.classes))
        self._learn(torch.cat(features), torch.cat(counts).float())

    def forward(self, image: Tensor) -> Tensor:
        """Return log-probabilities (N, K, H, W), the same all over a region, from images (N, C, H, W) in [-1, 1]."""
        regions = self.divided(image)
        found = [self.log_probabilities(*pair).T[:, pair[1]] for pair in zip(image, regions, strict=True)]
        return torch.stack(found)

    def divided(self, image: Tensor) -> Tensor:
        """Return the regions (N, H, W) of images (N, C, H, W) in [-1, 1].

        Raises:
            RecipeError: The images have another number of channels.
        """
        if image.ndim != 4 or image.shape[1] != self.channels:
            expected = f"(N, {self.channels}, H, W)"
            raise RecipeError(f"RegionClassifier: expected images {expected}, found {tuple(image.shape)}")
        found: Tensor = self.regions(image)
        return found

    def log_probabilities(self, image: Tensor, regions: Tensor) -> Tensor:
        """Return the log-probabilities (R, K) of the regions (H, W) of one image (C, H, W) in [-1, 1]."""
        logits: Tensor = self.layers((region_features(image.detach(), regions) - self.mean) / self.spread)
        return logits.float().log_softmax(1)

    def _check(self, image: Tensor, mask: Tensor) -> None:
        if mask.shape != (len(image), *image.shape[2:]):
            raise RecipeError(
                f"RegionClassifier: expected masks (N, H, W) of images (N, C, H, W), found {tuple(mask.shape)} of"
                f" {tuple(image.shape)}"
            )
        known = mask[mask != VOID]
        if len(known) == 0:
            raise RecipeError("RegionClassifier: expected pixels with a class to be fitted to, found none but void")
        if int(known.max()) >= self.classes:
            raise RecipeError(f"RegionClassifier.classes: expected more than {int(known.max())}, found {self.classes}")

    def _learn(self, features: Tensor, counts: Tensor) -> None:
        self.mean.copy_(features.mean(0))
        self.spread.copy_(features.std(0, correction=0).clamp(min=1e-3))
        draw = torch.Generator().manual_seed(SEED)
        for layer in self.layers:
            if isinstance(layer, nn.Linear):
                weight = torch.randn(layer.weight.shape, generator=draw) / layer.in_features**0.5
                layer.weight.copy_(weight)
                layer.bias.zero_()
        fitted((features - self.mean) / self.spread, counts / counts.sum(), self.layers, self.penalty)


@torch.enable_grad()
def fitted(features: Tensor, share: Tensor, layers: nn.Module, penalty: float) -> None:
    """Move the layers to a minimum of -Σ_rk t_rk log p_k(x_r) + λ/2 ||W||², by L-BFGS (Liu and Nocedal 1989).

    Args:
        features: x (R, D).
        share: t (R, K), which sums to 1: the part of all pixels that is in region r and of class k.
        layers: Gives logits (R, K) of x. Its biases have no penalty, and it is left without gradients.
        penalty: λ, at least 0.
    """
    weights = [p for p in layers.parameters() if p.ndim > 1]
    layers.requires_grad_(True)
    solver = torch.optim.LBFGS(layers.parameters(), max_iter=STEPS, history_size=10, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        solver.zero_grad()
        fit = -(share * layers(features).log_softmax(1)).sum()
        loss: Tensor = fit + penalty / 2 * torch.stack([w.square().sum() for w in weights]).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    solver.step(closure)  # type: ignore[no-untyped-call]
    solver.zero_grad()
    layers.requires_grad_(False)
