"""A restorer that says how sure it is: any restorer with a small network for the scale around its output."""

from __future__ import annotations

from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limbeck.networks.blocks.building import check_sizes
from limbeck.networks.roles import ProbabilisticRestorer, Restorer

LEAST, MOST = -7.0, 1.0  # logarithms of the scale: a tenth of a grey level, and more than the whole range


@final
class UncertainRestorer(ProbabilisticRestorer):
    """The mean is what the network restores; three convolutions read the logarithm of the scale from it and the input.

    So the survey's soft label as a distribution (Kendall & Gal 2017, arXiv:1703.04977, eq. 5, heteroscedastic) needs no
    change of the network. As there, the scale depends on the input: how noisy it is, and where its holes are. Through
    the scale no gradient reaches the network, which the mean alone trains. `forward` is the network alone: what is
    exported costs no more.

    Args:
        network: What restores.
        width: Channels of the convolutions, which run at the size of the output.

    Raises:
        RecipeError: The width cannot be used.
    """

    def __init__(self, network: Restorer, width: int = 16) -> None:
        super().__init__()
        check_sizes(self, width=width)
        self.channels, self.inputs, self.scale = network.channels, network.inputs, network.scale
        self.network = network
        self.uncertainty = nn.Sequential(
            nn.Conv2d(self.channels + self.inputs, width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, self.channels, 3, padding=1),
        )

    def forward(self, image: Tensor) -> Tensor:
        """Return what the network restores, (N, C, scale H, scale W), of degraded images (N, inputs, H, W)."""
        found: Tensor = self.network(image)
        return found

    def distribution(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mean and the logarithm of the scale, in (-7, 1), each (N, C, scale H, scale W)."""
        mean = self.network(image)
        seen = F.interpolate(image, mean.shape[2:])  # to the nearest pixel, so that a mask stays one
        share = self.uncertainty(torch.cat([mean.detach(), seen], 1)).sigmoid()
        return mean, LEAST + (MOST - LEAST) * share
