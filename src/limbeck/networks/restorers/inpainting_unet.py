"""A U-Net that fills holes, by plain, partial or gated convolutions."""

from __future__ import annotations

from itertools import pairwise
from typing import Literal, cast, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limbeck.errors import require
from limbeck.networks.blocks.building import check_choice, check_sizes
from limbeck.networks.blocks.contextual_attention import ContextualAttention
from limbeck.networks.blocks.harmonic_start import harmonic_start
from limbeck.networks.roles import Restorer

MOST = 4  # maps of half the size have twice the channels, up to this many times
QUARTER = 2  # halvings before features are taken from elsewhere, as in the paper of the attention


@final
class InpaintingUnet(Restorer):
    """An encoder and a decoder that are joined at every size; what is known of the image passes through unchanged.

    down.{i} and up.{i} are tap paths, and `attention` where there is one.

    Args:
        width: Channels at the whole size.
        channels: Channels C of the image; it takes C + 1, the last of them 1 in the holes and -1 elsewhere.
        halvings: How often the size is halved.
        convolution: "plain"; "partial", which sees known pixels only and grows what is known with every layer (Liu et
            al. 2018, arXiv:1804.07723, eq. 1 and 2); or "gated", which learns what to pass on (Yu et al. 2019,
            arXiv:1806.03589, eq. 3).
        residual: The network sees the holes filled smoothly, nearly as `DiffusionInpainting` would, and what it gives
            is added to that, at first nothing: short trainings begin where diffusion ends.
        attention: At a quarter of the size, features are also taken from known places that look alike (Yu et al. 2018,
            arXiv:1801.07892); memory grows with the square of the number of pixels.

    Raises:
        RecipeError: An argument cannot be used.
    """

    def __init__(
        self,
        width: int = 32,
        channels: int = 3,
        *,
        halvings: int = 3,
        convolution: Literal["plain", "partial", "gated"] = "gated",
        residual: bool = False,
        attention: bool = False,
    ) -> None:
        super().__init__()
        check_sizes(self, width=width, channels=channels, halvings=halvings)
        check_choice(self, tuple(CONVOLUTIONS), convolution=convolution)
        self.channels, self.inputs, self.scale = channels, channels + 1, 1
        layer = CONVOLUTIONS[convolution]
        counts = [width * min(1 << stage, MOST) for stage in range(halvings + 1)]
        self.down = nn.ModuleList([layer(channels + 1, width)])
        self.down.extend(layer(before, after, 2) for before, after in pairwise(counts))
        self.up = nn.ModuleList(layer(below + beside, beside) for below, beside in pairwise(counts[::-1]))
        self.output = nn.Conv2d(width, channels, 3, padding=1)
        self.residual = residual
        if residual:  # nothing is added at first
            nn.init.zeros_(self.output.weight)
            nn.init.zeros_(cast(Tensor, self.output.bias))
        require("InpaintingUnet.attention", not attention or halvings >= QUARTER, "at least 2 halvings", halvings)
        self.attention = ContextualAttention(counts[QUARTER]) if attention else None

    def forward(self, image: Tensor) -> Tensor:
        """Return filled images (N, C, H, W) of images with holes (N, C + 1, H, W)."""
        height, width = image.shape[2:]
        step = 1 << len(self.up)
        padded = F.pad(image, (0, -width % step, 0, -height % step), mode="replicate")
        known = whole = (padded[:, -1:] < 0).to(image)
        start = harmonic_start(padded[:, :-1], known) if self.residual else padded[:, :-1]
        hidden = torch.cat([start, padded[:, -1:]], 1)
        passed: list[tuple[Tensor, Tensor]] = []
        for stage, layer in enumerate(self.down):
            hidden, known = layer(hidden, known)
            if stage == QUARTER and self.attention is not None:
                hidden = self.attention(hidden, -F.max_pool2d(-whole, 1 << QUARTER))
            passed.append((hidden, known))
        passed.pop()
        for layer in self.up:
            beside, known_there = passed.pop()
            hidden, known = (F.interpolate(t, scale_factor=2) for t in (hidden, known))
            hidden, known = layer(torch.cat([hidden, beside], 1), torch.maximum(known, known_there))
        made = self.output(hidden) + start if self.residual else self.output(hidden)
        return torch.where(image[:, -1:] > 0, made[..., :height, :width], image[:, :-1])


class Plain(nn.Module):
    """A 3x3 convolution with leaky ReLU, for which known pixels are as good as others.

    Args:
        inputs: Channels of what it takes.
        outputs: Channels of what it returns.
        stride: 2 to halve the size.
    """

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.stride = stride
        self.convolution = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1)

    def forward(self, hidden: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
        """Return features (N, outputs, h, w) and where something is known (N, 1, h, w), 0 or 1."""
        return F.leaky_relu(self.convolution(hidden), 0.2), F.max_pool2d(known, self.stride)


class Partial(nn.Module):
    """As `Plain`, of known pixels alone, scaled up where few are known (Liu et al. 2018, eq. 1)."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.stride = stride
        self.convolution = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.bias = nn.Parameter(torch.zeros(outputs, 1, 1))

    def forward(self, hidden: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
        """Return features (N, outputs, h, w) and where something is known (N, 1, h, w), 0 or 1."""
        window = known.new_ones(1, 1, 3, 3)
        count = F.conv2d(known, window, stride=self.stride, padding=1)
        there = (count > 0).to(hidden)
        ratio = there * 9 / count.clamp(min=1)
        return F.leaky_relu(self.convolution(hidden * known) * ratio + self.bias * there, 0.2), there


class Gated(nn.Module):
    """φ(features) σ(gates), each a 3x3 convolution of its own (Yu et al. 2019, eq. 3)."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.stride = stride
        self.convolution = nn.Conv2d(inputs, 2 * outputs, 3, stride=stride, padding=1)

    def forward(self, hidden: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
        """Return features (N, outputs, h, w) and where something is known (N, 1, h, w), 0 or 1."""
        features, gates = self.convolution(hidden).chunk(2, 1)
        return F.elu(features) * gates.sigmoid(), F.max_pool2d(known, self.stride)


CONVOLUTIONS: dict[str, type[Plain | Partial | Gated]] = {"plain": Plain, "partial": Partial, "gated": Gated}
