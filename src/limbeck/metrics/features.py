"""What distribution metrics compare images by: a classifier trained on the data, or the Inception network of FID."""

from __future__ import annotations

import hashlib
from abc import ABC
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limbeck.errors import DataError, RecipeError, WeightsError
from limbeck.metrics.base import FeatureExtractor

PROBED = 64  # height and width of the image that a network is shown to learn how many features it has


class _FrozenNetwork(FeatureExtractor, ABC):
    """Holds the network that computes the features: frozen, and in evaluation mode whatever its holder's mode."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network.requires_grad_(False)
        self.train(False)

    def train(self, mode: bool = True) -> Self:
        """Stay in evaluation mode."""
        return super().train(False)

    def fingerprint(self) -> str:
        """Return 16 hex digits of the SHA-256 of the names, shapes and bytes of all weights."""
        digest = hashlib.sha256()
        for name, value in sorted(self.network.state_dict().items()):
            if not name.endswith("num_batches_tracked"):  # does not change what the network computes
                digest.update(repr((name, tuple(value.shape), str(value.dtype))).encode())
                digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()[:16]


class ClassifierFeatures(_FrozenNetwork):
    """The features and logits of a classifier, e.g. one trained on the data that is measured.

    Args:
        classifier: A network in the role of `roles.Classifier`: `image_shape`, `features(image)` and a forward that
            returns logits.
        name: What the metrics are named after.
    """

    def __init__(self, classifier: nn.Module, name: str) -> None:
        super().__init__(classifier)
        self.name = name
        self.image_shape = tuple(cast(Any, classifier).image_shape)
        place = next((p.device for p in classifier.parameters()), torch.device("cpu"))
        with torch.no_grad():
            self.dimension = cast(Any, classifier).features(torch.zeros(1, *self.image_shape, device=place)).shape[1]

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return features (N, D) and logits (N, K) of images (N, C, H, W) in [-1, 1] of the classifier's shape."""
        if tuple(image.shape[1:]) != self.image_shape:
            raise DataError(f"features {self.name!r}: expected images {self.image_shape}, found {(*image.shape[1:],)}")
        return cast(Any, self.network).features(image), self.network(image)


class MapFeatures(_FrozenNetwork):
    """The mean over all places of a network's feature maps, such as those of `Vgg16`; it knows no classes.

    For data without labels, of any image size. The mean over places is what Inception's features are of its last maps.

    Args:
        network: Takes images (N, C, H, W) in [-1, 1] of any size and returns maps (N, D, h, w).
        name: What the metrics are named after, e.g. "vgg16-relu3_3".
        channels: Channels C of the images.
        scale: What the maps are divided by: the kernel of KID is made for features of about 1. Numbers of different
            scales do not compare.

    Raises:
        RecipeError: The scale is not above 0.
        DataError: The network returns no maps.
    """

    def __init__(self, network: nn.Module, name: str, channels: int = 3, scale: float = 1.0) -> None:
        super().__init__(network)
        if not scale > 0:
            raise RecipeError(f"MapFeatures.scale: expected a number above 0, found {scale}")
        self.name, self.scale = name, scale
        place = next((p.device for p in network.parameters()), torch.device("cpu"))
        with torch.no_grad():
            maps = network(torch.zeros(1, channels, PROBED, PROBED, device=place))
        if not isinstance(maps, Tensor) or maps.ndim != 4:
            found = tuple(maps.shape) if isinstance(maps, Tensor) else type(maps).__name__
            raise DataError(f"features {name!r}: expected a network that returns maps (N, D, h, w), found {found}")
        self.dimension = maps.shape[1]

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return features (N, D), and no logits (N, 0), of images (N, C, H, W) in [-1, 1]."""
        features = self.network(image).float().mean((2, 3)) / self.scale
        return features, features[:, :0]

    def fingerprint(self) -> str:
        """Return 16 hex digits of weights and scale."""
        return hashlib.sha256(f"{super().fingerprint()} {self.scale}".encode()).hexdigest()[:16]


class InceptionFeatures(_FrozenNetwork):
    """The Inception-v3 that FID, KID and IS are defined by (Heusel et al. 2017), with its 2048 pool3 features.

    Images are rounded to 0..255, resized to 299x299 in the way of TensorFlow 1 and scaled to (value - 128) / 128.
    Grey images are repeated into three channels. The logits leave out the last layer's bias, as the published
    Inception Score does. Numbers with the published weights have not been verified in this project, which
    does not ship them; the architecture, its parameter names and its preprocessing are tested.

    Args:
        weights: File with the converted TensorFlow weights of 2015-12-05, which pytorch-fid publishes as
            pt_inception-2015-12-05-6726825d.pth and torch-fidelity as weights-inception-2015-12-05-6726825d.pth.

    Raises:
        WeightsError: The file is missing, cannot be read safely, or holds another network.
    """

    name = "inception"
    dimension = 2048

    def __init__(self, weights: str) -> None:
        network = InceptionV3()
        _load(network, Path(weights))
        super().__init__(network)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return features (N, 2048) and logits (N, 1008) of images (N, 1 or 3, H, W) in [-1, 1]."""
        if image.ndim != 4 or image.shape[1] not in (1, 3):
            raise DataError(f"features 'inception': expected images (N, 1 or 3, H, W), found {(*image.shape,)}")
        level = (image.float() * 127.5 + 127.5).round().clamp(0, 255).expand(-1, 3, -1, -1)
        features = self.network((resize_like_tensorflow1(level, 299) - 128) / 128)
        return features, F.linear(features, self.network.get_parameter("fc.weight"))


def resize_like_tensorflow1(image: Tensor, size: int) -> Tensor:
    """Return images (N, C, H, W) resized to (N, C, size, size) by TensorFlow 1's bilinear rule.

    Output pixel i lies at i·H/size of the input, without the half-pixel shift that torch and TensorFlow 2 have, and
    nothing is smoothed before an image is made smaller. FID's published numbers depend on this.
    """
    for axis in (2, 3):
        length = image.shape[axis]
        place = torch.arange(size, dtype=image.dtype, device=image.device) * (length / size)
        low = place.long()
        high = (low + 1).clamp(max=length - 1)
        share = (place - low).view((-1, 1) if axis == 2 else (1, -1))
        image = torch.lerp(image.index_select(axis, low), image.index_select(axis, high), share)
    return image


def _load(network: nn.Module, path: Path) -> None:
    if not path.is_file():
        raise WeightsError(
            f"{path}: no such file; expected the Inception weights for FID: download"
            " pt_inception-2015-12-05-6726825d.pth (pytorch-fid) and name its place"
        )
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # what is no weight file can make the restricted unpickler raise anything
        reason = str(error).partition("\n")[0]
        raise WeightsError(f"{path}: expected a readable weight file without code, found: {reason}") from error
    if not isinstance(found, dict) or not all(isinstance(value, Tensor) for value in found.values()):
        raise WeightsError(f"{path}: expected a dictionary from names to tensors, found {type(found).__name__}")
    wanted, given = _shapes(network.state_dict()), _shapes(found)
    wrong = [name for name in wanted | given if wanted.get(name) != given.get(name)]
    if wrong:
        first = [f"{n}: expected {wanted.get(n, 'nothing')}, found {given.get(n, 'nothing')}" for n in wrong[:3]]
        raise WeightsError(f"{path}: not FID's Inception-v3; {len(wrong)} tensors differ, first {'; '.join(first)}")
    network.load_state_dict(found, strict=False)  # all but num_batches_tracked, which inference does not use


def _shapes(state: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in state.items() if not name.endswith("num_batches_tracked")}


class InceptionV3(nn.Module):
    """Inception-v3 (Szegedy et al. 2015) as in TensorFlow's release of 2015-12-05, up to pool3; 23,850,960 parameters.

    Parameter names are torchvision's, as in the converted weights. It differs from torchvision's network in three
    ways: average pools leave out the padding, the last block pools by maximum, and there are 1008 classes.
    """

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = _Conv(3, 32, 3, stride=2)
        self.Conv2d_2a_3x3 = _Conv(32, 32, 3)
        self.Conv2d_2b_3x3 = _Conv(32, 64, 3, padding=1)
        self.Conv2d_3b_1x1 = _Conv(64, 80, 1)
        self.Conv2d_4a_3x3 = _Conv(80, 192, 3)
        self.Mixed_5b = _BlockA(192, 32)
        self.Mixed_5c = _BlockA(256, 64)
        self.Mixed_5d = _BlockA(288, 64)
        self.Mixed_6a = _BlockB(288)
        self.Mixed_6b = _BlockC(768, 128)
        self.Mixed_6c = _BlockC(768, 160)
        self.Mixed_6d = _BlockC(768, 160)
        self.Mixed_6e = _BlockC(768, 192)
        self.Mixed_7a = _BlockD(768)
        self.Mixed_7b = _BlockE(1280)
        self.Mixed_7c = _BlockE(2048, pool="max")
        self.fc = nn.Linear(2048, 1008)

    def forward(self, image: Tensor) -> Tensor:
        """Return the features (N, 2048) of images (N, 3, 299, 299) in [-1, 1]."""
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(image)))
        x = F.max_pool2d(x, 3, stride=2)
        x = F.max_pool2d(self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(x)), 3, stride=2)
        x = self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(x)))
        x = self.Mixed_6e(self.Mixed_6d(self.Mixed_6c(self.Mixed_6b(self.Mixed_6a(x)))))
        x = self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(x)))
        features: Tensor = x.mean(dim=(2, 3))
        return features


class _Conv(nn.Module):
    """Convolution, batch norm, ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int | tuple[int, int], **options: Any) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, bias=False, **options)
        self.bn = nn.BatchNorm2d(outputs, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)))


def _row(inputs: int, outputs: int, width: int) -> _Conv:
    return _Conv(inputs, outputs, (1, width), padding=(0, width // 2))


def _column(inputs: int, outputs: int, height: int) -> _Conv:
    return _Conv(inputs, outputs, (height, 1), padding=(height // 2, 0))


def _average(x: Tensor) -> Tensor:
    return F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)


class _BlockA(nn.Module):
    """35x35 (figure 5 of the paper)."""

    def __init__(self, inputs: int, pool: int) -> None:
        super().__init__()
        self.branch1x1 = _Conv(inputs, 64, 1)
        self.branch5x5_1 = _Conv(inputs, 48, 1)
        self.branch5x5_2 = _Conv(48, 64, 5, padding=2)
        self.branch3x3dbl_1 = _Conv(inputs, 64, 1)
        self.branch3x3dbl_2 = _Conv(64, 96, 3, padding=1)
        self.branch3x3dbl_3 = _Conv(96, 96, 3, padding=1)
        self.branch_pool = _Conv(inputs, pool, 1)

    def forward(self, x: Tensor) -> Tensor:
        five = self.branch5x5_2(self.branch5x5_1(x))
        three = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch1x1(x), five, three, self.branch_pool(_average(x))], dim=1)


class _BlockB(nn.Module):
    """35x35 to 17x17."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.branch3x3 = _Conv(inputs, 384, 3, stride=2)
        self.branch3x3dbl_1 = _Conv(inputs, 64, 1)
        self.branch3x3dbl_2 = _Conv(64, 96, 3, padding=1)
        self.branch3x3dbl_3 = _Conv(96, 96, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        three = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch3x3(x), three, F.max_pool2d(x, 3, stride=2)], dim=1)


class _BlockC(nn.Module):
    """17x17 (figure 6)."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.branch1x1 = _Conv(inputs, 192, 1)
        self.branch7x7_1 = _Conv(inputs, width, 1)
        self.branch7x7_2 = _row(width, width, 7)
        self.branch7x7_3 = _column(width, 192, 7)
        self.branch7x7dbl_1 = _Conv(inputs, width, 1)
        self.branch7x7dbl_2 = _column(width, width, 7)
        self.branch7x7dbl_3 = _row(width, width, 7)
        self.branch7x7dbl_4 = _column(width, width, 7)
        self.branch7x7dbl_5 = _row(width, 192, 7)
        self.branch_pool = _Conv(inputs, 192, 1)

    def forward(self, x: Tensor) -> Tensor:
        seven = self.branch7x7_3(self.branch7x7_2(self.branch7x7_1(x)))
        double = self.branch7x7dbl_3(self.branch7x7dbl_2(self.branch7x7dbl_1(x)))
        double = self.branch7x7dbl_5(self.branch7x7dbl_4(double))
        return torch.cat([self.branch1x1(x), seven, double, self.branch_pool(_average(x))], dim=1)


class _BlockD(nn.Module):
    """17x17 to 8x8."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.branch3x3_1 = _Conv(inputs, 192, 1)
        self.branch3x3_2 = _Conv(192, 320, 3, stride=2)
        self.branch7x7x3_1 = _Conv(inputs, 192, 1)
        self.branch7x7x3_2 = _row(192, 192, 7)
        self.branch7x7x3_3 = _column(192, 192, 7)
        self.branch7x7x3_4 = _Conv(192, 192, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        three = self.branch3x3_2(self.branch3x3_1(x))
        seven = self.branch7x7x3_4(self.branch7x7x3_3(self.branch7x7x3_2(self.branch7x7x3_1(x))))
        return torch.cat([three, seven, F.max_pool2d(x, 3, stride=2)], dim=1)


class _BlockE(nn.Module):
    """8x8 (figure 7)."""

    def __init__(self, inputs: int, pool: str = "average") -> None:
        super().__init__()
        self.pool = pool
        self.branch1x1 = _Conv(inputs, 320, 1)
        self.branch3x3_1 = _Conv(inputs, 384, 1)
        self.branch3x3_2a = _row(384, 384, 3)
        self.branch3x3_2b = _column(384, 384, 3)
        self.branch3x3dbl_1 = _Conv(inputs, 448, 1)
        self.branch3x3dbl_2 = _Conv(448, 384, 3, padding=1)
        self.branch3x3dbl_3a = _row(384, 384, 3)
        self.branch3x3dbl_3b = _column(384, 384, 3)
        self.branch_pool = _Conv(inputs, 192, 1)

    def forward(self, x: Tensor) -> Tensor:
        three = self.branch3x3_1(x)
        double = self.branch3x3dbl_2(self.branch3x3dbl_1(x))
        pooled = F.max_pool2d(x, 3, stride=1, padding=1) if self.pool == "max" else _average(x)
        parts = [self.branch1x1(x), self.branch3x3_2a(three), self.branch3x3_2b(three)]
        parts += [self.branch3x3dbl_3a(double), self.branch3x3dbl_3b(double), self.branch_pool(pooled)]
        return torch.cat(parts, dim=1)
