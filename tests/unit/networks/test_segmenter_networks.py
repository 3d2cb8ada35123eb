"""Networks that segment: parameters counted by hand, tap paths, the grid of dilated features, what is cut away."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from limbeck.errors import RecipeError, WeightsError
from limbeck.losses.tensors import pixel_classes
from limbeck.networks.classifiers.mobilenet_v2 import MobileNetV2
from limbeck.networks.classifiers.resnet import ResNet
from limbeck.networks.classifiers.shufflenet_v2 import ShuffleNetV2
from limbeck.networks.given.weights import save_weights
from limbeck.networks.handling.tap import features_at
from limbeck.networks.roles import Classifier
from limbeck.networks.segmenters.deeplab_v3 import LOW, DeepLabV3
from limbeck.networks.segmenters.fast_scnn import FastScnn
from limbeck.networks.segmenters.unet import UNet


def parameters(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def image(*size: int, count: int = 2, channels: int = 3) -> Tensor:
    return torch.rand(count, channels, *size, generator=torch.Generator().manual_seed(0)) * 2 - 1


# U-Net.


def test_the_parameters_of_a_small_unet_by_hand() -> None:
    """Width 4, two halvings, RGB, 5 classes; a batch normalisation has two numbers a channel.

    encoder.0: 3->4->4    27*4 + 36*4  + 2*8  =  268
    encoder.1: 4->8->8    36*8 + 72*8  + 2*16 =  896
    encoder.2: 8->16->16  72*16 + 144*16 + 2*32 = 3520
    decoder.0: 16+8->8->8  216*8 + 72*8 + 2*16 = 2336
    decoder.1: 8+4->4->4   108*4 + 36*4 + 2*8  =  592
    head: 4->5             4*5 + 5             =   25
    """
    network = UNet(4, 2, 3, 5)
    parts = [*network.encoder, *network.decoder, network.head]
    assert [parameters(part) for part in parts] == [268, 896, 3520, 2336, 592, 25]
    assert parameters(network) == sum([268, 896, 3520, 2336, 592, 25])


def test_separable_convolutions_of_a_unet_by_hand() -> None:
    """A 3x3 from a to b channels: 9 a, normalised (2 a), then a b, normalised (2 b).

    encoder.0: whole 27*4 + 8 = 116, then 36 + 8 + 16 + 8 = 68; encoder.1: 4->8 36+8+32+16, 8->8 72+16+64+16.
    """
    network = UNet(4, 1, 3, 5, separable=True)
    assert parameters(network.encoder[0]) == 116 + 68
    assert parameters(network.encoder[1]) == (36 + 8 + 32 + 16) + (72 + 16 + 64 + 16)
    assert parameters(network) < parameters(UNet(4, 1, 3, 5)) / 1.8


def test_the_papers_unet_has_its_31_million() -> None:
    """Of its usual form, padded and normalised; ours joins more maps instead of transposed convolutions."""
    network = UNet(64, 4, 1, 2)
    # The paper's decoder, doubled: a transposed 2x2 from 2c to c (with a bias), then 2c->c and c->c in 3x3.
    theirs = sum(4 * 2 * c * c + c + 9 * (2 * c * c + c * c) + 4 * c for c in (512, 256, 128, 64))
    shared = parameters(network.encoder) + parameters(network.head)
    assert shared + theirs == pytest.approx(31.03e6, rel=0.001)
    assert parameters(network.decoder) == sum(9 * (3 * c * c + c * c) + 4 * c for c in (512, 256, 128, 64))


def test_tap_paths_of_a_unet() -> None:
    network = UNet(4, 3, 3, 5)
    paths = [*(f"encoder.{i}" for i in range(4)), *(f"decoder.{i}" for i in range(3)), "head"]
    found = features_at(network, paths, image(36, 35))  # halved upwards
    assert [tuple(f.shape[1:]) for f in found] == [
        (4, 36, 35), (8, 18, 18), (16, 9, 9), (32, 5, 5), (16, 9, 9), (8, 18, 18), (4, 36, 35), (5, 36, 35),
    ]  # fmt: skip


def test_maps_of_a_unet_lie_over_the_mask_whatever_its_size() -> None:
    """CamVid's 180 rows are no multiple of 16: 180, 90, 45, 23, 12, and back, without a row that the image lacks."""
    maps = features_at(UNet(2, 4, 3, 3), [f"decoder.{i}" for i in range(4)], image(180, 240, count=1))
    assert [tuple(found.shape[2:]) for found in maps] == [(23, 30), (45, 60), (90, 120), (180, 240)]
    mask = torch.arange(180)[None, :, None].expand(1, 180, 240)
    assert torch.equal(pixel_classes(mask, maps[-1], "test"), mask)


def test_dropout_of_a_unet_is_for_training_alone() -> None:
    network = UNet(4, 2, dropout=0.5)
    assert not torch.equal(network(image(16, 16)), network(image(16, 16)))
    network.eval()
    assert torch.equal(network(image(16, 16)), network(image(16, 16)))


# Fast-SCNN.


def test_fast_scnn_has_the_published_number_of_parameters() -> None:
    """1.11 M (section 4.2) for the 19 classes of Cityscapes."""
    assert parameters(FastScnn(1.0, 3, 19)) == pytest.approx(1.11e6, rel=0.03)


def test_tap_paths_of_fast_scnn() -> None:
    """The sizes of table 1, for an image of 64x128."""
    network = FastScnn().eval()
    paths = ["downsample.0", "downsample.1", "downsample.2", "extract.2", "extract.5", "extract.8", "pyramid", "fusion"]
    paths += ["classifier.0", "classifier.1", "head"]
    found = features_at(network, paths, image(64, 128))
    assert [tuple(f.shape[1:]) for f in found] == [
        (32, 32, 64), (48, 16, 32), (64, 8, 16), (64, 4, 8), (96, 2, 4), (128, 2, 4), (128, 2, 4), (128, 8, 16),
        (128, 8, 16), (128, 8, 16), (10, 8, 16),
    ]  # fmt: skip


def test_width_of_fast_scnn_is_rounded_to_eights() -> None:
    assert FastScnn(0.5).downsample[1][1].num_features == 24
    assert FastScnn(0.1).head.in_channels == 16
    assert parameters(FastScnn(0.5)) < parameters(FastScnn()) / 3


# DeepLabV3.


def settled(network: Classifier) -> Classifier:
    """Return a classifier whose normalisations know their inputs, so that its features tell one place from another."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
            nn.init.normal_(module.bias, std=0.2)
    with torch.no_grad():
        network.train()(image(96, 64, count=4))
    return network.eval()


BACKBONES = [
    (lambda: ResNet(18, 4, stem="imagenet"), "layer4", 32),
    (lambda: ResNet(50, 4, stem="imagenet"), "layer4", 32),
    (lambda: ResNet(18, 4, stem="imagenet"), "layer3", 16),
    (lambda: ResNet(18, 4), "layer4", 8),
    (lambda: MobileNetV2(0.2, stem="imagenet"), "features.17", 32),
    (lambda: ShuffleNetV2(0.5, stem="imagenet"), "stage4", 32),
]


@pytest.mark.parametrize("output_stride", [4, 8, 16, 32])
@pytest.mark.parametrize(("make", "path", "strides"), BACKBONES)
def test_dilation_adds_features_and_keeps_those_that_were_there(
    make: Any, path: str, strides: int, output_stride: int
) -> None:
    """The backbone sees every pixel of the grid that it saw before, and gives the same there."""
    torch.manual_seed(1)
    backbone = settled(make())
    network = DeepLabV3(backbone, path, output_stride=output_stride, width=4).eval()  # type: ignore[arg-type]
    with torch.no_grad():
        (before,) = features_at(backbone, [path], image(96, 64))
        (after,) = features_at(network.backbone, [path], image(96, 64))
    factor = max(1, strides // output_stride)
    assert after.shape[2:] == (96 * factor // strides, 64 * factor // strides)
    variation = float(before.std((2, 3)).mean())
    assert variation > 0.1
    torch.testing.assert_close(after[..., ::factor, ::factor], before, rtol=1e-3, atol=1e-3)
    if factor > 1:  # what lies between is new
        assert (after[..., 1::factor, ::factor] - before).abs().mean() > 0.1 * variation


def test_output_stride_8_gives_an_eighth_of_the_size() -> None:
    network = DeepLabV3(ResNet(width=4, stem="imagenet"), output_stride=8, width=4).eval()
    maps = features_at(network, ["backbone.layer4", "aspp", "head"], image(72, 104))
    assert [tuple(m.shape[2:]) for m in maps] == [(9, 13)] * 3
    assert [branch[0].dilation[0] for branch in network.aspp.branches[1:-1]] == [12, 24, 36]


@pytest.mark.parametrize(
    ("stem", "output_stride", "rates"),
    [("imagenet", 16, [6, 12, 18]), ("imagenet", 32, [3, 6, 9]), ("small", 16, [12, 24, 36])],
)
def test_rates_go_with_the_stride_that_there_is(stem: Any, output_stride: Any, rates: list[int]) -> None:
    network = DeepLabV3(ResNet(width=4, stem=stem), output_stride=output_stride, width=4)
    assert [branch[0].dilation[0] for branch in network.aspp.branches[1:-1]] == rates


def test_the_parameters_of_the_head_by_hand() -> None:
    """ResNet-18 of width 4 ends in 32 channels; width 8, 5 classes, rates 1 and 2.

    1x1: 32*8 + 16 = 272; each 3x3: 288*8 + 16 = 2320; the mean: 272; the mix of 4 branches: 32*8 + 16 = 272;
    head: 8*5 + 5 = 45. With `skip`: 4 channels to 48, (4 + 2)*48 = 288, then 9*56*8 + 16 and 9*8*8 + 16.
    """
    network = DeepLabV3(ResNet(width=4), classes=5, width=8, rates=[1, 2])
    assert [parameters(branch) for branch in network.aspp.branches] == [272, 2320, 2320, 272]
    assert parameters(network.aspp) == 272 + 2 * 2320 + 272 + 272
    assert parameters(network.head) == 45 and network.refine is None
    joined = DeepLabV3(ResNet(width=4), classes=5, width=8, rates=[1, 2], skip="layer1")
    assert LOW == 48
    assert parameters(joined) - parameters(network) == 288 + (4032 + 16) + (576 + 16)
    cheap = DeepLabV3(ResNet(width=4), classes=5, width=8, rates=[1, 2], separable=True)
    assert parameters(cheap.aspp.branches[1]) == 288 + 64 + 256 + 16


def test_what_comes_after_the_path_is_cut_away_and_the_classifier_left_alone() -> None:
    classifier = ResNet(width=4)
    count, state = parameters(classifier), {n: t.clone() for n, t in classifier.state_dict().items()}
    network = DeepLabV3(classifier, "layer3", width=4, output_stride=4)
    gone = parameters(classifier.layer4) + parameters(classifier.fc)
    assert parameters(network.backbone) == count - gone
    assert parameters(classifier) == count and classifier.layer3[0].conv1.stride == (2, 2)
    network(image(16, 16)).sum().backward()
    assert all(torch.equal(t, state[n]) for n, t in classifier.state_dict().items())
    assert all(p.grad is None for p in classifier.parameters())
    mobile = DeepLabV3(MobileNetV2(0.2), "features.17", width=4)
    assert not any("features.18" in n or "classifier" in n for n, _ in mobile.named_parameters())


def test_building_moves_no_statistics_and_leaves_it_ready_to_train() -> None:
    classifier = ResNet(width=4)
    network = DeepLabV3(classifier, width=4)
    assert torch.equal(network.backbone.bn1.running_mean, torch.zeros(4)) and network.backbone.bn1.training
    assert int(network.backbone.bn1.num_batches_tracked) == 0 and classifier.training
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in network.modules())


def test_weights_of_the_classifier(tmp_path: Path) -> None:
    torch.manual_seed(1)
    classifier = ResNet(width=4, classes=7)
    save_weights(classifier, tmp_path / "classifier.safetensors")
    network = DeepLabV3(ResNet(width=4, classes=7), backbone_weights=str(tmp_path / "classifier.safetensors"), width=4)
    assert torch.equal(network.backbone.layer4[1].conv2.weight, classifier.layer4[1].conv2.weight)
    with pytest.raises(WeightsError, match=r"fc\.weight expected \(9, 32\), found \(7, 32\)"):
        DeepLabV3(ResNet(width=4, classes=9), backbone_weights=str(tmp_path / "classifier.safetensors"))


class Pooling(Classifier):
    """Halves by means, which have no dilation."""

    def __init__(self) -> None:
        super().__init__()
        self.image_shape, self.classes = (3, 32, 32), 2
        self.conv, self.pool, self.last = nn.Conv2d(3, 4, 3, padding=1), nn.AvgPool2d(8), nn.Conv2d(4, 4, 1)
        self.fc = nn.Linear(4, 2)

    def features(self, image: Tensor) -> Tensor:
        found: Tensor = self.last(self.pool(self.conv(image))).mean((2, 3))
        return found

    def forward(self, image: Tensor) -> Tensor:
        logits: Tensor = self.fc(self.features(image))
        return logits


def test_a_mean_cannot_be_dilated() -> None:
    assert DeepLabV3(Pooling(), "last", output_stride=8, width=4)(image(32, 40)).shape == (2, 10, 32, 40)
    says = "DeepLabV3.output_stride: AvgPool2d of Pooling cannot be dilated: expected 8 or more, found 4"
    with pytest.raises(RecipeError) as caught:
        DeepLabV3(Pooling(), "last", output_stride=4)
    assert str(caught.value) == says


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"path": "layer5"}, "DeepLabV3: path 'layer5': no such module in ResNet (did you mean 'layer"),
        ({"skip": "layer0"}, "DeepLabV3: path 'layer0': no such module in ResNet"),
        ({"path": "fc"}, "DeepLabV3.path: expected maps (N, D, h, w) at 'fc', found (1, 10)"),
        (
            {"path": "layer4.0.conv1"},
            "DeepLabV3.path: ResNet does not run without what comes after layer4.0.conv1; name",
        ),
        ({"output_stride": 12}, "DeepLabV3.output_stride: expected one of 4, 8, 16, 32, found 12"),
        ({"rates": [6, 0]}, "DeepLabV3.rates[1]: expected a whole number of at least 1, found 0"),
        ({"backbone_weights": "no.safetensors"}, "no.safetensors: no such weight file"),
    ],
)
def test_backbones_and_options_that_cannot_be(options: dict[str, Any], says: str) -> None:
    with pytest.raises((RecipeError, WeightsError)) as caught:
        DeepLabV3(ResNet(width=4), **options)
    assert says in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "network", [FastScnn(0.1), DeepLabV3(ResNet(width=4), width=4)], ids=lambda n: type(n).__name__
)
def test_a_single_image_cannot_be_normalised(network: nn.Module) -> None:
    with pytest.raises(RecipeError, match="expected two images a batch or more to train with, found 1; raise `batch`"):
        network.train()(image(32, 32, count=1))
    assert network.eval()(image(32, 32, count=1)).shape == (1, 10, 32, 32)
