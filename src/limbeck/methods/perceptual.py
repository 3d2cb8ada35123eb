"""How far images are apart in the eyes of a network: the loss that several methods share."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from limbeck.losses.features import feature_matching
from limbeck.networks.handling.tap import features_at


def perceptual(network: nn.Module, paths: Sequence[str], image: Tensor, goal: Tensor, *condition: Tensor) -> Tensor:
    """Return the L1 distance of the features that a network has of two batches of images, a scalar.

    Args:
        network: Held frozen; gradients reach `image` through it.
        paths: Module paths whose outputs are compared; each counts alike (Johnson et al. 2016, arXiv:1603.08155, eq. 2,
            with L1).
        image: (N, C, H, W).
        goal: The same shape; no gradient reaches it.
        condition: What the network takes besides, such as labels.
    """
    with torch.no_grad():
        expected = features_at(network, paths, goal, *condition)
    return feature_matching(features_at(network, paths, image, *condition), expected).mean()
