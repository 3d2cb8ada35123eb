"""How far images are apart in the eyes of a given network: a part of tasks that compare images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, final

import torch
from torch import Tensor, nn

from limbeck.errors import RecipeError
from limbeck.metrics.perceptual import perceptual_distance
from limbeck.networks.given.weights import load_weights, weights_hash
from limbeck.networks.handling.tap import features_at
from limbeck.networks.roles import unwrap

SIDE = 64  # height and width of the image that the network is shown to learn the shapes of its features


@final
class PerceptualDistance:
    """The distance of LPIPS (Zhang et al. 2018, arXiv:1801.03924, eq. 1) over any network that sees images.

    It is LPIPS itself only with the network, all the layers and the 1x1 weights of its authors: torchvision's VGG-16
    with features.3, .8, .15, .22 and .29, and their file, its inputs scaled by ImageNet's mean and std (arguments of
    `Import`). Those weights are of that network's channels; `Vgg16`, whose
    weights are older, goes without.

    Args:
        network: A trained network that sees RGB images, such as `Vgg16`. Its numbers compare with no other network's.
        paths: Module paths of it.
        weights: A file of 1x1 weights, lin0.model.1.weight (1, C, 1, 1), lin1... for each of `paths` and no others, as
            the authors publish them; null for 1 everywhere.
        name: What the metric is filed under; null for the network's class and the number of layers.

    Raises:
        RecipeError: A path names no module, or the features are not (N, C, H, W).
        WeightsError: The file cannot be read, or holds other weights.
    """

    room: ClassVar[str] = "perceptual distance"

    def __init__(
        self,
        network: nn.Module,
        paths: Sequence[str] = ("relu1_2", "relu2_2", "relu3_3"),
        weights: str | None = None,
        *,
        name: str | None = None,
    ) -> None:
        self.paths, self._network = list(paths), network.eval()
        with torch.no_grad():
            shapes = [tuple(f.shape) for f in features_at(network, self.paths, torch.zeros(1, 3, SIDE, SIDE))]
        if not shapes or any(len(shape) != 4 for shape in shapes):
            raise RecipeError(f"PerceptualDistance.paths: expected layers of (N, C, H, W), found {shapes or 'none'}")
        self.weights = None if weights is None else _read([shape[1] for shape in shapes], Path(weights))
        kind = f"{type(unwrap(network)).__name__.lower()}-{len(shapes)}"
        self.name = name or (kind if weights is None else f"{kind}-weighted")
        self.hash = weights_hash(network)[:12]

    def __repr__(self) -> str:
        """Return the class with what it depends on, by which evaluations are remembered."""
        sums = None if self.weights is None else [float(weight.double().sum()) for weight in self.weights]
        return f"PerceptualDistance({self.hash}, {self.paths}, {sums}, name={self.name!r})"

    @torch.no_grad()
    def __call__(self, image: Tensor, reference: Tensor) -> Tensor:
        """Return the distance (N,) of images (N, C, H, W) in [-1, 1]; grey ones, C = 1, are shown as RGB."""
        shown = (i.expand(-1, 3, -1, -1) if i.shape[1] == 1 else i for i in (image, reference))
        found, goal = (features_at(self._network, self.paths, i) for i in shown)
        return perceptual_distance(found, goal, self.weights)


def _read(channels: Sequence[int], file: Path) -> list[Tensor]:
    """Return the weights (C,) of each layer."""
    holder = nn.Module()  # named as in the authors' file
    for number, inputs in enumerate(channels):
        layer = nn.Module()
        layer.model = nn.Sequential(nn.Identity(), nn.Conv2d(inputs, 1, 1, bias=False))
        holder.add_module(f"lin{number}", layer)
    load_weights(holder, file)
    return [parameter.detach().flatten() for parameter in holder.parameters()]
