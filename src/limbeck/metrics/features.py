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
from limbeck.metrics.inception import InceptionV3

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
        """Return 16 hex digits of the SHA-256 of the layers, and of names, shapes and bytes of weights and buffers."""
        digest = hashlib.sha256(repr(self.network).encode())
        for name, value in sorted((dict(self.network.named_buffers()) | self.network.state_dict()).items()):
            if not name.endswith("num_batches_tracked"):  # does not change what the network computes
                digest.update(repr((name, tuple(value.shape), str(value.dtype))).encode())
                digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()[:16]


class ClassifierFeatures(_FrozenNetwork):
    """The features and logits of a classifier, e.g. one trained on the data that is measured.

    Both come from one pass if the features are what a module of the network is given, as a last linear layer is.

    Args:
        classifier: A network in the role of `roles.Classifier`: `image_shape`, `features(image)` and a forward that
            returns logits.
        name: What the metrics are named after.
    """

    def __init__(self, classifier: nn.Module, name: str) -> None:
        super().__init__(classifier)
        self.name = name
        self.image_shape = tuple(cast(Any, classifier).image_shape)
        self._given: str | None
        self._given, self.dimension = _given_features(classifier, self.image_shape)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return features (N, D) and logits (N, K) of images (N, C, H, W) in [-1, 1] of the classifier's shape."""
        if tuple(image.shape[1:]) != self.image_shape:
            raise DataError(f"features {self.name!r}: expected images {self.image_shape}, found {(*image.shape[1:],)}")
        if self._given is None:
            return cast(Any, self.network).features(image), self.network(image)
        seen: list[Tensor] = []
        last = self.network.get_submodule(self._given)
        handle = last.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
        try:
            logits = self.network(image)
        finally:
            handle.remove()
        return seen[0], logits


@torch.no_grad()
def _given_features(classifier: nn.Module, image_shape: tuple[int, ...]) -> tuple[str | None, int]:
    """Return the path of a module that is given the features and nothing else, once a pass, and their number D.

    Found by a pass of two random images; None where there is no such module.
    """
    place = next((p.device for p in classifier.parameters()), torch.device("cpu"))
    image = torch.rand(2, *image_shape, generator=torch.Generator().manual_seed(0)).mul_(2).sub_(1).to(place)
    seen: dict[str, list[Any]] = {}

    def note(path: str) -> Any:
        return lambda module, inputs: seen.setdefault(path, []).append(inputs)

    handles = [m.register_forward_pre_hook(note(path)) for path, m in classifier.named_modules() if path]
    try:
        classifier(image)
    finally:
        for handle in handles:
            handle.remove()
    features: Tensor = cast(Any, classifier).features(image)
    # Compared after the pass: a module may have written into what it was given.
    given = [path for path, calls in seen.items() if len(calls) == 1 and _is(calls[0], features)]
    return given[0] if given else None, features.shape[1]


def _is(inputs: tuple[Any, ...], features: Tensor) -> bool:
    return len(inputs) == 1 and isinstance(inputs[0], Tensor) and torch.equal(inputs[0], features)


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
