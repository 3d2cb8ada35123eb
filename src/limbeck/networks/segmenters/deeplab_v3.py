"""DeepLabV3 and V3+ (Chen et al. 2017, arXiv:1706.05587; 2018, arXiv:1802.02611) on any classifier of the package."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, final, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limbeck.errors import RecipeError
from limbeck.networks.blocks.building import check_choice, check_dropout, check_sizes, initialise_convolutions
from limbeck.networks.blocks.convolutional import convolution
from limbeck.networks.given.weights import load_weights
from limbeck.networks.handling.copying import copied
from limbeck.networks.handling.tap import features_at, module_at
from limbeck.networks.roles import Classifier, Segmenter

OutputStride = Literal[4, 8, 16, 32]
SIDE = 64  # pixels of the image that strides are measured with
LOW = 48  # channels to which the features of `skip` are reduced (2018, section 4.1)


@final
class DeepLabV3(Segmenter):
    """Atrous spatial pyramid pooling over the features of a classifier, whose last strides are made dilations.

    The backbone is a copy of the classifier up to `path`; what comes later, its last layer above all, is cut away.
    Strides beyond `output_stride` become 1 and the kernels after them are spread instead, so that the weights see what
    they saw (2017, section 3.1; `dilate`). The logits are enlarged bilinearly to the size of the image, which may be
    any. `backbone.{path}` of the classifier's own paths, `aspp`, `aspp.branches.0` (the 1x1) and so on, `refine` (with
    `skip`) and `head` are tap paths. It trains with two images a batch or more, as the mean of an image is normalised.

    Args:
        backbone: A classifier; it is left as it is.
        path: Module of it whose maps (N, D, h, w) are taken: `layer4` of ResNet, `features.17` of MobileNetV2.
        backbone_weights: File with the weights of the whole classifier; null keeps those that it has.
        classes: Number of classes K.
        output_stride: Pixels of the image, in height, that one row of the features stands for, at most.
        rates: Dilations of the 3x3 branches; null for the paper's, 6, 12 and 18 at 16 pixels a feature and twice those
            at 8. Small images want smaller ones. [] leaves the 1x1 and the mean (Sandler et al. 2018, section 6.3).
        width: Channels of each branch and of what follows; 256 in the paper.
        skip: Module of the backbone whose finer maps join the enlarged ones (V3+: 2018, figure 2), such as `layer1` of
            ResNet and `features.3` of MobileNetV2; null for V3.
        separable: Each 3x3 convolution of the head is one for each channel and a 1x1 (2018, section 3.1).
        dropout: Probability with which a feature is left out before the last layer, in training.

    Raises:
        RecipeError: An argument cannot be used, or the classifier cannot be cut or dilated.
        WeightsError: The weights cannot be loaded.
    """

    def __init__(
        self,
        backbone: Classifier,
        path: str = "layer4",
        backbone_weights: str | None = None,
        classes: int = 10,
        *,
        output_stride: OutputStride = 16,
        rates: Sequence[int] | None = None,
        width: int = 256,
        skip: str | None = None,
        separable: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        check_choice(self, get_args(OutputStride), output_stride=output_stride)
        check_sizes(self, classes=classes, width=width, **{f"rates[{i}]": rate for i, rate in enumerate(rates or ())})
        check_dropout(self, dropout)
        self.channels, self.classes = backbone.image_shape[0], classes
        self.paths = [path] if skip is None else [path, skip]
        self.backbone = copied(backbone).eval()  # so that looking at it moves no statistics
        if backbone_weights is not None:
            load_weights(self.backbone, backbone_weights)
        cut(self.backbone, self.paths)
        dilate(self.backbone, self.paths, output_stride)
        deep, *low = maps_at(self.backbone, self.paths)
        stride = SIDE // deep.shape[2]
        rates = [max(1, rate * 16 // stride) for rate in (6, 12, 18)] if rates is None else rates
        self.aspp = _Aspp(deep.shape[1], width, rates, separable)
        self.refine = _Refine(low[0].shape[1], width, separable) if low else None
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Conv2d(width, classes, 1)
        for new in (self.aspp, self.refine, self.head):
            if new is not None:
                initialise_convolutions(new)
        self.train()

    def forward(self, image: Tensor) -> Tensor:
        """Return logits (N, K, H, W) from images (N, C, H, W) in [-1, 1].

        Raises:
            RecipeError: It trains, and there is but one image.
        """
        if self.training and len(image) == 1:
            raise RecipeError("DeepLabV3: expected two images a batch or more to train with, found 1; raise `batch`")
        deep, *low = features_at(self.backbone, self.paths, image)
        hidden = self.aspp(deep)
        if self.refine is not None:
            hidden = self.refine(hidden, low[0])
        return _resized(self.head(self.dropout(hidden)), image)


class _Aspp(nn.Module):
    """A 1x1, dilated 3x3 convolutions, and the mean of the image, all joined by a 1x1 (2017, section 3.3)."""

    def __init__(self, inputs: int, width: int, rates: Sequence[int], separable: bool) -> None:
        super().__init__()
        spread = (_layer(inputs, width, 3, separable=separable, rate=rate) for rate in rates)
        mean = nn.Sequential(nn.AdaptiveAvgPool2d(1), _layer(inputs, width, 1))
        self.branches = nn.ModuleList([_layer(inputs, width, 1), *spread, mean])
        self.mix = _layer(width * len(self.branches), width, 1)

    def forward(self, hidden: Tensor) -> Tensor:
        *maps, mean = (branch(hidden) for branch in self.branches)
        mixed: Tensor = self.mix(torch.cat([*maps, mean.expand(-1, -1, *hidden.shape[2:])], 1))
        return mixed


class _Refine(nn.Module):
    """The enlarged maps joined by finer ones of few channels, and two 3x3 convolutions (2018, section 4.1)."""

    def __init__(self, low: int, width: int, separable: bool) -> None:
        super().__init__()
        self.reduce = _layer(low, LOW, 1)
        self.mix = nn.Sequential(
            _layer(width + LOW, width, 3, separable=separable), _layer(width, width, 3, separable=separable)
        )

    def forward(self, hidden: Tensor, low: Tensor) -> Tensor:
        low = self.reduce(low)
        mixed: Tensor = self.mix(torch.cat([_resized(hidden, low), low], 1))
        return mixed


def _layer(inputs: int, outputs: int, side: int, *, separable: bool = False, rate: int = 1) -> nn.Sequential:
    between = (nn.BatchNorm2d(inputs), nn.ReLU()) if separable else ()
    options = {"padding": side // 2 * rate, "dilation": rate}
    layer = convolution(nn.Conv2d, inputs, outputs, side, *between, separable=separable, bias=False, **options)
    return nn.Sequential(layer, nn.BatchNorm2d(outputs), nn.ReLU())


def _resized(hidden: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(hidden, like.shape[2:], mode="bilinear", align_corners=False)


def cut(backbone: Classifier, paths: Sequence[str]) -> None:
    """Put the identity in the place of every module of a classifier that does not begin before all of `paths` end.

    Raises:
        RecipeError: There is no such module.
    """
    left = {module_at(backbone, path, "DeepLabV3: path") for path in paths}
    used: set[nn.Module] = set()

    def begins(module: nn.Module, inputs: Any) -> None:
        if left:
            used.add(module)

    def ends(module: nn.Module, inputs: Any, output: Any) -> None:
        left.discard(module)

    modules = list(backbone.modules())
    handles = [module.register_forward_pre_hook(begins) for module in modules]
    handles += [module.register_forward_hook(ends) for module in modules]
    with torch.no_grad():
        backbone(torch.zeros(1, *backbone.image_shape))
    for handle in handles:
        handle.remove()
    for parent in modules:
        for name, child in list(parent.named_children()):
            if used.isdisjoint(child.modules()):
                parent._modules[name] = nn.Identity()


def dilate(backbone: Classifier, paths: Sequence[str], output_stride: int) -> None:
    """Turn the strides of a cut classifier into dilations where there is one feature for more than T pixels.

    Where a layer's input had one feature for q pixels, it now has one for min(q, T): its kernel is spread by
    q / min(q, T), so that it lies on the same pixels, and its stride s becomes min(q s, T) / min(q, T). The features
    that there were are still there, with new ones between them.

    Raises:
        RecipeError: A layer cannot be dilated, or the classifier does not run without what was cut away.
    """
    for layer, side in _sides(backbone, paths).items():
        before, stride = SIDE // side, _pair(layer.stride)[0]
        now, after = min(before, output_stride), min(before * stride, output_stride)
        if after == before * stride:
            continue
        if SIDE % side or not _dilatable(layer):
            raise RecipeError(
                f"DeepLabV3.output_stride: {type(layer).__name__} of {type(backbone).__name__} cannot be dilated:"
                f" expected {before * stride} or more, found {output_stride}"
            )
        layer.stride = after // now, after // now
        layer.padding, layer.dilation = (
            tuple(before // now * old for old in _pair(value)) for value in (layer.padding, layer.dilation)
        )


def _sides(backbone: Classifier, paths: Sequence[str]) -> dict[Any, int]:
    """Return the height of what each layer with a kernel takes, of images of SIDE pixels."""
    sides: dict[Any, int] = {}

    def begins(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        sides[layer] = inputs[0].shape[2]

    layers = [module for module in backbone.modules() if getattr(module, "kernel_size", None) is not None]
    handles = [layer.register_forward_pre_hook(begins) for layer in layers]
    maps_at(backbone, paths)
    for handle in handles:
        handle.remove()
    return sides


def maps_at(backbone: Classifier, paths: Sequence[str]) -> list[Tensor]:
    """Return the maps (1, D, h, w) that a cut classifier makes at `paths` of an image of 64x64 pixels.

    Raises:
        RecipeError: It makes none.
    """
    try:
        with torch.no_grad():
            maps = features_at(backbone, paths, torch.zeros(1, backbone.image_shape[0], SIDE, SIDE))
    except (RuntimeError, AttributeError, LookupError) as error:
        raise RecipeError(
            f"DeepLabV3.path: {type(backbone).__name__} does not run without what comes after {' and '.join(paths)};"
            " name a module that ends a stage, as layer4 of ResNet does"
        ) from error
    for path, found in zip(paths, maps, strict=True):
        if found.ndim != 4:
            raise RecipeError(f"DeepLabV3.path: expected maps (N, D, h, w) at {path!r}, found {tuple(found.shape)}")
    return maps


def _dilatable(layer: nn.Module) -> bool:
    if isinstance(layer, nn.Conv2d):
        return layer.padding_mode == "zeros" and not isinstance(layer.padding, str)
    return isinstance(layer, nn.MaxPool2d)


def _pair(value: Any) -> tuple[int, int]:
    return value if isinstance(value, tuple) else (value, value)
