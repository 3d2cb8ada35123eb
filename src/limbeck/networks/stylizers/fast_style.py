"""Trained painters of others: the network and file layout of the widely used TensorFlow form of Johnson's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limbeck.errors import RecipeError, require
from limbeck.losses.tensors import precise
from limbeck.networks.blocks.building import check_sizes
from limbeck.networks.blocks.folded_conv import fold_conv, fold_doubling
from limbeck.networks.blocks.low_rank import kept_channels, second_moment, tucker2
from limbeck.networks.given.weights import load_npz
from limbeck.networks.roles import Stylizer

EPSILON = 1e-3  # in the variance of an instance
STIMULI = (16, 3, 192, 192)  # noise that a larger network is shown to be cut down


@final
class FastStyle(Stylizer):
    """Johnson's network with zero padding, transposed convolutions and a normalised output.

    It is for weights that exist, and for what is cut out of them: with `start_from_teacher: [student]` a smaller one
    begins as the larger one's best channels and ranks (`start_from`), and paints at once. `JohnsonStylizer` is the one
    to train from nothing. conv1, conv2, conv3, res1_1 to res5_2, up1, up2 and out are tap paths; of the last two every
    channel is four, for two by two pixels (`folded_conv`).

    Args:
        weights: A .npz file that holds {layer}.weight (outputs, inputs, h, w; for up1 and up2 inputs, outputs, h, w),
            {layer}.scale and {layer}.shift (outputs,) of each; relative to the working directory. Null for random ones.
        widths: Channels at the whole, the half and the quarter size.
        blocks: Residual blocks.
        rank: Convolutions to and from the quarter size become three: 1x1 to `rank` channels, 3x3 among them, 1x1 from
            them. Null for whole ones.
        between: Channels between the two convolutions of a block, which then need no 1x1 on that side. Null for as many
            as around it.

    Raises:
        RecipeError: A size cannot be used.
        WeightsError: The file cannot be read, or holds other weights.
    """

    def __init__(
        self,
        weights: str | None = None,
        *,
        widths: Sequence[int] = (32, 64, 128),
        blocks: int = 5,
        rank: int | None = None,
        between: int | None = None,
    ) -> None:
        super().__init__()
        require(
            "FastStyle.widths", len(widths) == 3, "three, for the whole, the half and the quarter size", list(widths)
        )
        outer, middle, inner = self.widths = tuple(widths)
        check_sizes(self, **dict(zip(("widths[0]", "widths[1]", "widths[2]"), widths, strict=True)), blocks=blocks)
        if rank is not None:
            most = min(middle, inner)
            require("FastStyle.rank", 1 <= rank < most, f"a number of at least 1 and below {most}, or null", rank)
        within = inner if between is None else between
        require(
            "FastStyle.between", 1 <= within <= inner, f"a number of at least 1 and at most {inner}, or null", between
        )
        full = rank is None or rank <= within * 3 * 3
        require("FastStyle.between", full, f"at least a ninth of rank {rank}, as more needs no such rank", between)
        inside = rank if between is None else None
        self.styles, self.blocks, self.rank, self.between = 1, blocks, rank, between
        self.conv1 = _Layer(3, outer, 9)
        self.conv2 = _Layer(outer, middle, 3, stride=2)
        self.conv3 = _Layer(middle, inner, 3, stride=2, ranks=(rank, rank))
        for number in range(1, blocks + 1):
            self.add_module(f"res{number}_1", _Layer(inner, within, 3, ranks=(rank, inside)))
            self.add_module(f"res{number}_2", _Layer(within, inner, 3, ranks=(inside, rank)))
        self.up1 = _Layer(inner, middle, 3, enlarge=True, ranks=(rank, rank))
        self.up2 = _Layer(middle, outer, 3, enlarge=True, folded=True)
        self.out = _Layer(outer, 3, 9, folded=True)
        if weights is not None:
            load_npz(self, weights)

    def forward(self, image: Tensor, style: Tensor | None = None) -> Tensor:
        """Return stylized images (N, 3, H, W) in [-1, 1] of images (N, 3, H, W); there is one style."""
        height, width = image.shape[2:]
        hidden = F.pad((image + 1) * 127.5, (0, -width % 4, 0, -height % 4), mode="replicate")
        if image.device.type == "cpu":
            hidden = hidden.contiguous(memory_format=torch.channels_last)  # faster there
        for layer in (self.conv1, self.conv2, self.conv3):
            hidden = layer(hidden).relu()
        for number in range(1, self.blocks + 1):
            first, second = (self.get_submodule(f"res{number}_{half}") for half in (1, 2))
            hidden = hidden + second(first(hidden).relu())
        for layer in (self.up1, self.up2):
            hidden = layer(hidden).relu()
        found: Tensor = (precise(F.pixel_shuffle(self.out(hidden), 2)).tanh() * (150 / 127.5)).clamp(-1, 1)
        return found[..., :height, :width]

    @torch.no_grad()
    def start_from(self, larger: nn.Module) -> None:
        """Take the weights of a larger one, as far as there is room for them.

        At the whole and the half size and inside a block the channels are kept that say most about the others; at the
        quarter size, around which the residual blocks pass, the directions; of the blocks the first. What matters is
        measured on uniform noise, so no data are needed (docs/decisions/0011).

        Raises:
            RecipeError: The other is no whole FastStyle of at least these widths and blocks, the last width the same.
        """
        if not isinstance(larger, FastStyle) or not self._fits_into(larger):
            raise RecipeError(_refusal(self, larger))
        moments = _moments(larger)
        mine, layers = _layers(self), {name: _Trained.of(layer) for name, layer in _layers(larger).items()}
        blocks = [(f"res{number}_1", f"res{number}_2") for number in range(1, self.blocks + 1)]
        for name, reader in (("conv1", "conv2"), ("conv2", "conv3"), *blocks, ("up1", "up2"), ("up2", "out")):
            count = mine[name].scale.numel()
            kept, layers[reader].weight = kept_channels(layers[reader].weight, count, moments[reader])
            layers[name] = layers[name].only(kept)
            moments[reader] = moments[reader][kept][:, kept]
        for name, layer in mine.items():
            layer.take(layers[name], moments[name])

    def _fits_into(self, larger: FastStyle) -> bool:
        """Return whether this can be cut out of a larger one, which is a whole one."""
        return (
            larger.rank is larger.between is None
            and larger.blocks >= self.blocks
            and larger.widths[2] == self.widths[2]
            and all(theirs >= mine for theirs, mine in zip(larger.widths, self.widths, strict=True))
        )


class _Layer(nn.Module):
    """A convolution with TensorFlow's "SAME" padding, alone or with a 1x1 on either side, and instance normalisation.

    If `folded`, its outputs are, and its inputs too unless it enlarges (`folded_conv`).
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        side: int,
        *,
        stride: int = 1,
        enlarge: bool = False,
        folded: bool = False,
        ranks: tuple[int | None, int | None] = (None, None),
    ) -> None:
        super().__init__()
        taken, given = ranks[0] or inputs, ranks[1] or outputs
        self.before = None if ranks[0] is None else _drawn(taken, inputs, 1)
        self.weight = _drawn(*((taken, given) if enlarge else (given, taken)), side)
        self.after = None if ranks[1] is None else _drawn(outputs, given, 1)
        self.scale, self.shift = nn.Parameter(torch.ones(outputs)), nn.Parameter(torch.zeros(outputs))
        self.stride, self.enlarge, self.folded = stride, enlarge, folded

    def forward(self, hidden: Tensor) -> Tensor:
        if self.before is not None:
            hidden = F.conv2d(hidden, self.before)
        if self.folded and self.enlarge:
            hidden = F.conv2d(F.pad(hidden, (1, 0, 1, 0)), fold_doubling(self.weight))
        elif self.folded:
            hidden = F.conv2d(hidden, fold_conv(self.weight), padding="same")
        elif self.enlarge:
            hidden = F.conv_transpose2d(hidden, self.weight, stride=2)[..., :-1, :-1]
        else:
            around = self.weight.shape[2] - self.stride  # of an even side; the odd pixel lies at the end
            before, after = around // 2, around - around // 2
            hidden = F.conv2d(F.pad(hidden, (before, after) * 2), self.weight, stride=self.stride)
        if self.after is not None:
            hidden = F.conv2d(hidden, self.after)
        # A group for every channel is instance normalisation, which torch computes faster so on a CPU.
        groups = len(self.scale)
        scale, shift = (each.repeat_interleave(hidden.shape[1] // groups) for each in (self.scale, self.shift))
        return F.group_norm(hidden, groups, scale, shift, EPSILON)

    def take(self, trained: _Trained, moment: Tensor) -> None:
        """Take the weights of a trained layer, at the ranks that this one has."""
        weight = trained.weight
        if self.before is not None or self.after is not None:
            weight = self._take_outer(weight, moment)
        self.weight.copy_(weight.transpose(0, 1) if self.enlarge else weight)
        self.scale.copy_(trained.scale)
        self.shift.copy_(trained.shift)

    def _take_outer(self, weight: Tensor, moment: Tensor) -> Tensor:
        """Take the 1x1 convolutions of a weight, and return what is left between them."""
        outputs, inputs = weight.shape[:2]
        inner = inputs if self.before is None else len(self.before)
        outer = outputs if self.after is None else self.after.shape[1]
        before, weight, after = tucker2(weight, inner, outer, moment)
        if self.before is None:
            weight = torch.einsum("srhw,ri->sihw", weight, before)
        else:
            self.before.copy_(before[..., None, None])
        if self.after is None:
            weight = torch.einsum("srhw,os->orhw", weight, after)
        else:
            self.after.copy_(after[..., None, None])
        return weight


@dataclass
class _Trained:
    """The weights of a layer, (outputs, inputs, h, w) also where it enlarges, (outputs,) and (outputs,)."""

    weight: Tensor
    scale: Tensor
    shift: Tensor

    @staticmethod
    def of(layer: _Layer) -> _Trained:
        return _Trained(layer.weight.transpose(0, 1) if layer.enlarge else layer.weight, layer.scale, layer.shift)

    def only(self, outputs: list[int]) -> _Trained:
        return _Trained(self.weight[outputs], self.scale[outputs], self.shift[outputs])


def _drawn(*shape: int) -> nn.Parameter:
    """Return random weights; the last of `shape` is the side of the kernel."""
    weight = nn.Parameter(torch.empty(*shape, shape[-1]))
    nn.init.kaiming_normal_(weight, mode="fan_in", nonlinearity="relu")
    return weight


def _layers(network: FastStyle) -> dict[str, _Layer]:
    return {name: layer for name, layer in network.named_children() if isinstance(layer, _Layer)}


def _moments(network: FastStyle) -> dict[str, Tensor]:
    """Return the second moment of what each layer takes, by its name."""
    seen: dict[str, Tensor] = {}

    def watch(name: str, layer: _Layer) -> Callable[[nn.Module, tuple[Tensor]], None]:
        factor = 2 if layer.folded and not layer.enlarge else 1
        return lambda _, taken: seen.update({name: second_moment(F.pixel_shuffle(taken[0], factor))})

    handles = [layer.register_forward_pre_hook(watch(name, layer)) for name, layer in _layers(network).items()]
    try:
        noise = torch.rand(STIMULI, generator=torch.Generator().manual_seed(0)) * 2 - 1
        network(noise.to(network.conv1.weight))
    finally:
        for handle in handles:
            handle.remove()
    return seen


def _refusal(mine: FastStyle, larger: nn.Module) -> str:
    found = type(larger).__name__
    if isinstance(larger, FastStyle):
        found += f" with widths {list(larger.widths)}, {larger.blocks} blocks, rank {larger.rank}"
        found += f" and between {larger.between}"
    return (
        f"start_from_teacher: expected a FastStyle without rank and between, with at least the widths"
        f" {list(mine.widths)}, the last the same, and {mine.blocks} blocks, found {found}"
    )
