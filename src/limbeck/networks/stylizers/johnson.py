"""Feed-forward style transfer (Johnson et al. 2016, arXiv:1603.08155): a network that paints in one pass."""

from __future__ import annotations

from typing import Any, cast, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limbeck.errors import RecipeError
from limbeck.losses.tensors import precise
from limbeck.networks.blocks.building import check_sizes
from limbeck.networks.blocks.convolutional import convolution
from limbeck.networks.roles import Stylizer

CONTRAST = 0.5  # of the normalised colours at which a residual one begins, before the tanh


@final
class JohnsonStylizer(Stylizer):
    """Two halvings, residual blocks, two doublings, with instance normalisation (Ulyanov et al. 2016) and ReLU.

    Enlarging repeats pixels and convolves, which leaves no checkerboard (Odena et al. 2016). With several styles each
    has gains and offsets of its own in every normalisation (Dumoulin et al. 2017, arXiv:1610.07629, eq. 5). down.{i},
    blocks.{i} and up.{i} are tap paths.

    Args:
        width: Channels at the whole size; 32 in the paper, which has 5 blocks.
        blocks: Residual blocks.
        styles: Number of styles S.
        depthwise: All but the first and last convolution are one for each channel and a 1x1 (Howard et al. 2017), at
            an eighth of the cost.
        residual: Paint tanh(f(x) + c n(x)): n(x) the image with mean 0 and standard deviation 1 in each channel, c
            learnt for each style and channel, 0.5 at first, and f the network, 0 at first. So it begins at the
            image, whatever its brightness and contrast: for short trainings.

    Raises:
        RecipeError: A size cannot be used.
    """

    def __init__(
        self, width: int = 32, blocks: int = 5, styles: int = 1, *, depthwise: bool = False, residual: bool = False
    ) -> None:
        super().__init__()
        check_sizes(self, width=width, blocks=blocks, styles=styles)
        self.styles, self.residual = styles, residual
        self.input = Painted(3, width, 9, styles)
        self.down = nn.ModuleList(
            Painted(width * before, width * before * 2, 3, styles, stride=2, depthwise=depthwise) for before in (1, 2)
        )
        self.blocks = nn.ModuleList(Repainted(4 * width, styles, depthwise) for _ in range(blocks))
        self.up = nn.ModuleList(
            Painted(width * before, width * before // 2, 3, styles, depthwise=depthwise) for before in (4, 2)
        )
        self.output = nn.Conv2d(width, 3, 9, padding=4, padding_mode="reflect")
        if residual:
            nn.init.zeros_(self.output.weight)
            nn.init.zeros_(cast(Tensor, self.output.bias))
            self.contrast = nn.Parameter(torch.full((styles, 3), CONTRAST))

    def forward(self, image: Tensor, style: Tensor | None = None) -> Tensor:
        """Return stylized images (N, 3, H, W) in [-1, 1]; H and W are at least 16.

        Raises:
            RecipeError: There are several styles, and `style` (N,) does not say which.
        """
        if style is None:
            if self.styles > 1:
                raise RecipeError(f"JohnsonStylizer: expected which of its {self.styles} styles, found none")
            style = torch.zeros(len(image), dtype=torch.int64, device=image.device)
        height, width = image.shape[2:]
        hidden = F.pad(image, (0, -width % 4, 0, -height % 4), mode="replicate")
        for layer in (self.input, *self.down, *self.blocks):
            hidden = layer(hidden, style)
        for layer in self.up:
            hidden = layer(F.interpolate(hidden, scale_factor=2), style)
        found: Tensor = self.output(hidden)[..., :height, :width]
        if self.residual:
            found = found + F.instance_norm(image) * self.contrast[style][..., None, None]
        return precise(found).tanh()


class Painted(nn.Module):
    """A convolution, normalised by style, and a ReLU where `active`."""

    def __init__(
        self, inputs: int, outputs: int, side: int, styles: int, stride: int = 1, *, depthwise: bool = False,
        active: bool = True,
    ) -> None:  # fmt: skip
        super().__init__()
        padding: dict[str, Any] = {"stride": stride, "padding": side // 2, "padding_mode": "reflect"}
        self.convolution = convolution(nn.Conv2d, inputs, outputs, side, separable=depthwise, **padding)
        self.normalization = nn.InstanceNorm2d(outputs)
        self.gain = nn.Parameter(torch.ones(styles, outputs))
        self.offset = nn.Parameter(torch.zeros(styles, outputs))
        self.active = active

    def forward(self, hidden: Tensor, style: Tensor) -> Tensor:
        """Return (N, outputs, h, w)."""
        gain, offset = (table[style][..., None, None] for table in (self.gain, self.offset))
        found: Tensor = self.normalization(self.convolution(hidden)) * gain + offset
        return found.relu() if self.active else found


class Repainted(nn.Module):
    """Two of them, added to the input."""

    def __init__(self, width: int, styles: int, depthwise: bool) -> None:
        super().__init__()
        self.first = Painted(width, width, 3, styles, depthwise=depthwise)
        self.second = Painted(width, width, 3, styles, depthwise=depthwise, active=False)

    def forward(self, hidden: Tensor, style: Tensor) -> Tensor:
        """Return (N, width, h, w)."""
        found: Tensor = hidden + self.second(self.first(hidden, style), style)
        return found
