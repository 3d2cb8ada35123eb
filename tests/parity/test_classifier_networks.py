"""Classifiers against what their authors published: names, shapes, counts, work, and accuracy on real data."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch

from limbeck.data.cifar import CIFAR10
from limbeck.metrics.cost import parameters
from limbeck.metrics.work import macs
from limbeck.networks.classifiers.cifar_resnet import CifarResNet
from limbeck.networks.classifiers.inception_v3 import InceptionV3Classifier
from limbeck.networks.classifiers.mobilenet_v2 import MobileNetV2
from limbeck.networks.classifiers.resnet import ResNet
from limbeck.networks.classifiers.shufflenet_v2 import ShuffleNetV2
from limbeck.networks.classifiers.wide_resnet import WideResNet
from limbeck.networks.given.weights import load_weights
from limbeck.networks.roles import Classifier

IMAGENET: dict[str, Any] = {"size": 224, "classes": 1000, "stem": "imagenet"}
X4: dict[str, Any] = {"width": 64, "stem_width": 32, "shortcut": "B", "classes": 100}
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def _build(network: type[Any], **options: Any) -> Classifier:
    with torch.device("meta"):  # names, shapes and counts need no numbers
        built: Classifier = network(**options)
    return built


@pytest.mark.parametrize(
    ("network", "options", "count", "tensors"),
    [
        # torchvision's documentation. In a state_dict a convolution is 1 tensor, a normalisation 5, a linear layer 2.
        (ResNet, {"depth": 18, **IMAGENET}, 11_689_512, 122),
        (ResNet, {"depth": 34, **IMAGENET}, 21_797_672, 218),
        (ResNet, {"depth": 50, **IMAGENET}, 25_557_032, 320),
        (MobileNetV2, IMAGENET, 3_504_872, 314),
        (ShuffleNetV2, {"width": 0.5, **IMAGENET}, 1_366_792, 338),
        (ShuffleNetV2, {"width": 1.0, **IMAGENET}, 2_278_604, 338),
        (ShuffleNetV2, {"width": 1.5, **IMAGENET}, 3_503_624, 338),
        (ShuffleNetV2, {"width": 2.0, **IMAGENET}, 7_393_996, 338),
        (InceptionV3Classifier, {**IMAGENET, "size": 299, "aux_logits": True}, 27_161_264, 580),
        (InceptionV3Classifier, {**IMAGENET, "size": 299}, 23_834_568, 566),
        # akamaster's pytorch_resnet_cifar10 (option A).
        (CifarResNet, {"depth": 20}, 269_722, 116),
        (CifarResNet, {"depth": 32}, 464_154, 188),
        (CifarResNet, {"depth": 56}, 853_018, 332),
        (CifarResNet, {"depth": 110}, 1_727_962, 656),
        # Tian et al. 2020 (RepDistiller), CIFAR-100.
        (CifarResNet, {"depth": 8, **X4}, 1_233_540, 62),
        (CifarResNet, {"depth": 32, **X4}, 7_433_860, 206),
        (CifarResNet, {"depth": 20, "shortcut": "B", "classes": 100}, 278_324, 128),
        # n blocks a group: 6 n + 4 convolutions (one less with width 1) and 6 n + 1 normalisations.
        (WideResNet, {"depth": 40, "width": 2, "classes": 100}, 2_255_156, 227),
        (WideResNet, {"depth": 16, "width": 2, "classes": 100}, 703_284, 83),
        (WideResNet, {"depth": 40, "width": 1, "classes": 100}, 569_780, 226),
        (WideResNet, {"depth": 28, "width": 10}, 36_479_194, 155),
    ],
)
def test_counts(network: type[Any], options: dict[str, Any], count: int, tensors: int) -> None:
    built = _build(network, **options)
    assert parameters(built) == count
    assert len(built.state_dict()) == tensors


@pytest.mark.parametrize(
    ("network", "options", "billions"),
    [
        # GFLOPS of torchvision's documentation, which counts a multiply-accumulate as one.
        (ResNet, {"depth": 18, **IMAGENET}, 1.814),
        (ResNet, {"depth": 34, **IMAGENET}, 3.664),
        (ResNet, {"depth": 50, **IMAGENET}, 4.089),
        (MobileNetV2, IMAGENET, 0.301),
        (ShuffleNetV2, {"width": 1.0, **IMAGENET}, 0.145),
        (ShuffleNetV2, {"width": 1.5, **IMAGENET}, 0.296),
        (ShuffleNetV2, {"width": 2.0, **IMAGENET}, 0.583),
        (InceptionV3Classifier, {**IMAGENET, "size": 299}, 5.713),
        # By hand: 32² (27·16 + k1·16·160 + 7·9·160²) + 16² (k1·160·320 + 7·9·320²) + 8² (k1·320·640 + 7·9·640²) + 6400
        # with k1 = 9 + 1, the first convolution of a group and its projection.
        (WideResNet, {"depth": 28, "width": 10}, 5.243),
    ],
)
def test_multiply_accumulates(network: type[Any], options: dict[str, Any], billions: float) -> None:
    built = _build(network, **options)
    image = torch.zeros(1, *built.image_shape, device="meta")
    assert macs(built, (image,)).count == pytest.approx(billions * 1e9, abs=0.0006e9)


NAMES: list[tuple[type[Any], dict[str, Any], dict[str, tuple[int, ...]]]] = [
    (
        ResNet,
        {"depth": 18, **IMAGENET},
        {
            "conv1.weight": (64, 3, 7, 7),
            "bn1.running_mean": (64,),
            "bn1.num_batches_tracked": (),
            "layer1.0.conv1.weight": (64, 64, 3, 3),
            "layer1.1.bn2.bias": (64,),
            "layer2.0.conv1.weight": (128, 64, 3, 3),
            "layer2.0.downsample.0.weight": (128, 64, 1, 1),
            "layer2.0.downsample.1.running_var": (128,),
            "layer4.1.conv2.weight": (512, 512, 3, 3),
            "fc.weight": (1000, 512),
            "fc.bias": (1000,),
        },
    ),
    (
        ResNet,
        {"depth": 50, **IMAGENET},
        {
            "layer1.0.conv1.weight": (64, 64, 1, 1),
            "layer1.0.conv3.weight": (256, 64, 1, 1),
            "layer1.0.downsample.0.weight": (256, 64, 1, 1),
            "layer1.1.conv1.weight": (64, 256, 1, 1),
            "layer3.5.conv2.weight": (256, 256, 3, 3),
            "layer4.0.downsample.0.weight": (2048, 1024, 1, 1),
            "layer4.2.bn3.weight": (2048,),
            "fc.weight": (1000, 2048),
        },
    ),
    (
        MobileNetV2,
        IMAGENET,
        {
            "features.0.0.weight": (32, 3, 3, 3),
            "features.0.1.running_var": (32,),
            "features.1.conv.0.0.weight": (32, 1, 3, 3),
            "features.1.conv.1.weight": (16, 32, 1, 1),
            "features.1.conv.2.bias": (16,),
            "features.2.conv.0.0.weight": (96, 16, 1, 1),
            "features.2.conv.1.0.weight": (96, 1, 3, 3),
            "features.2.conv.1.1.weight": (96,),
            "features.2.conv.2.weight": (24, 96, 1, 1),
            "features.2.conv.3.weight": (24,),
            "features.17.conv.2.weight": (320, 960, 1, 1),
            "features.18.0.weight": (1280, 320, 1, 1),
            "features.18.1.num_batches_tracked": (),
            "classifier.1.weight": (1000, 1280),
            "classifier.1.bias": (1000,),
        },
    ),
    (
        ShuffleNetV2,
        {"width": 1.0, **IMAGENET},
        {
            "conv1.0.weight": (24, 3, 3, 3),
            "conv1.1.bias": (24,),
            "stage2.0.branch1.0.weight": (24, 1, 3, 3),
            "stage2.0.branch1.2.weight": (58, 24, 1, 1),
            "stage2.0.branch1.3.weight": (58,),
            "stage2.0.branch2.0.weight": (58, 24, 1, 1),
            "stage2.0.branch2.3.weight": (58, 1, 3, 3),
            "stage2.0.branch2.6.running_mean": (58,),
            "stage2.3.branch2.5.weight": (58, 58, 1, 1),
            "stage3.7.branch2.7.weight": None,
            "stage4.3.branch2.5.weight": (232, 232, 1, 1),
            "conv5.0.weight": (1024, 464, 1, 1),
            "fc.weight": (1000, 1024),
        },
    ),
    (
        InceptionV3Classifier,
        {**IMAGENET, "size": 299, "aux_logits": True},
        {
            "Conv2d_1a_3x3.conv.weight": (32, 3, 3, 3),
            "Conv2d_1a_3x3.bn.running_mean": (32,),
            "Conv2d_2b_3x3.conv.weight": (64, 32, 3, 3),
            "Conv2d_3b_1x1.conv.weight": (80, 64, 1, 1),
            "Conv2d_4a_3x3.conv.weight": (192, 80, 3, 3),
            "Mixed_5b.branch_pool.conv.weight": (32, 192, 1, 1),
            "Mixed_5c.branch5x5_2.conv.weight": (64, 48, 5, 5),
            "Mixed_5d.branch3x3dbl_3.bn.bias": (96,),
            "Mixed_6a.branch3x3.conv.weight": (384, 288, 3, 3),
            "Mixed_6b.branch7x7_2.conv.weight": (128, 128, 1, 7),
            "Mixed_6c.branch7x7dbl_2.conv.weight": (160, 160, 7, 1),
            "Mixed_6e.branch7x7dbl_5.conv.weight": (192, 192, 1, 7),
            "AuxLogits.conv0.conv.weight": (128, 768, 1, 1),
            "AuxLogits.conv1.conv.weight": (768, 128, 5, 5),
            "AuxLogits.fc.weight": (1000, 768),
            "Mixed_7a.branch7x7x3_4.conv.weight": (192, 192, 3, 3),
            "Mixed_7b.branch3x3_2a.conv.weight": (384, 384, 1, 3),
            "Mixed_7c.branch3x3dbl_1.conv.weight": (448, 2048, 1, 1),
            "Mixed_7c.branch3x3dbl_3b.conv.weight": (384, 384, 3, 1),
            "fc.weight": (1000, 2048),
        },
    ),
    (
        CifarResNet,
        {"depth": 56},
        {
            "conv1.weight": (16, 3, 3, 3),
            "layer1.0.conv1.weight": (16, 16, 3, 3),
            "layer1.8.bn2.weight": (16,),
            "layer2.0.conv1.weight": (32, 16, 3, 3),
            "layer2.0.shortcut.0.weight": None,  # option A has no parameters
            "layer3.8.conv2.weight": (64, 64, 3, 3),
            "linear.weight": (10, 64),
            "linear.bias": (10,),
        },
    ),
    (
        CifarResNet,
        {"depth": 8, **X4},
        {
            "conv1.weight": (32, 3, 3, 3),
            "layer1.0.shortcut.0.weight": (64, 32, 1, 1),
            "layer3.0.shortcut.0.weight": (256, 128, 1, 1),
            "layer3.0.shortcut.1.bias": (256,),
            "linear.weight": (100, 256),
        },
    ),
    (
        WideResNet,
        {"depth": 28, "width": 10},
        {
            "conv1.weight": (16, 3, 3, 3),
            "block1.layer.0.bn1.weight": (16,),
            "block1.layer.0.conv1.weight": (160, 16, 3, 3),
            "block1.layer.0.convShortcut.weight": (160, 16, 1, 1),
            "block1.layer.1.convShortcut.weight": None,
            "block2.layer.3.conv2.weight": (320, 320, 3, 3),
            "block3.layer.3.bn2.running_var": (640,),
            "bn1.weight": (640,),
            "fc.weight": (10, 640),
        },
    ),
]


@pytest.mark.parametrize(("network", "options", "published"), NAMES)
def test_names_and_shapes(network: type[Any], options: dict[str, Any], published: dict[str, Any]) -> None:
    for statistics in ({}, {"mean": MEAN, "std": STD}):  # which add no names
        state = _build(network, **options, **statistics).state_dict()
        found = {name: tuple(state[name].shape) if name in state else None for name in published}
        assert found == published


def _real(depth: int, file: str) -> CifarResNet:
    root = Path(os.environ.get("LIMBECK_DATA") or "none")
    path = root / "weights" / "cifar10" / file
    if not path.is_file() or not (root / "cifar10").is_dir():
        pytest.skip(f"LIMBECK_DATA holds no cifar10 with weights/cifar10/{file}")
    network = CifarResNet(depth=depth, mean=MEAN, std=STD)
    load_weights(network, path)  # nested under "state_dict", every name begins with "module."
    return network.eval()


def _correct(network: Classifier, count: int) -> int:
    """Return how many of the first `count` test images are classified correctly."""
    images = CIFAR10().split("test")
    correct = 0
    with torch.no_grad():
        for indices in torch.arange(count).split(500):
            batch = images.read(indices)
            assert batch.image is not None and batch.label is not None
            correct += int((network(batch.image).argmax(1) == batch.label).sum())
    return correct


def test_published_resnet56_on_the_first_images_of_the_cifar10_test_set() -> None:
    assert _correct(_real(56, "resnet56-4bfd9763.th"), 500) == pytest.approx(470, abs=1)  # 94.0 %


@pytest.mark.slow
@pytest.mark.parametrize(
    ("depth", "file", "published"), [(20, "resnet20-12fca82f.th", 0.9173), (56, "resnet56-4bfd9763.th", 0.9339)]
)
def test_published_accuracy_on_the_cifar10_test_set(depth: int, file: str, published: float) -> None:
    assert _correct(_real(depth, file), 10_000) / 10_000 == pytest.approx(published, abs=1e-4)
