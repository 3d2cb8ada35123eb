"""The separable generator: counts by hand, the plain sequence of its layers, shapes of the taps."""

import pytest
import torch
from torch import Tensor, nn

from limbeck.errors import RecipeError
from limbeck.metrics.cost import parameters
from limbeck.metrics.work import macs
from limbeck.networks.gan.dcgan import DcganGenerator
from limbeck.networks.gan.separable_gan import SeparableGenerator
from limbeck.networks.handling.tap import Tap


def test_parameters_by_hand() -> None:
    net = SeparableGenerator()
    width, first, latent = 54, 8, 64
    projection = latent * first * 16 + first * 16
    expansion = 2 * first + first * width + 2 * width
    layer = 9 * width + width * width + 2 * width
    output = width * 16 + 1
    assert parameters(net) == projection + expansion + 5 * layer + output == 27_291


def test_as_many_parameters_as_a_dcgan_take_twice_the_operations() -> None:
    dcgan, net = DcganGenerator(widths=[8, 33, 33]).eval(), SeparableGenerator(58).eval()
    assert 0.95 < parameters(net) / parameters(dcgan) < 1
    latent = torch.randn(1, 64)
    assert 1.9 < macs(net, (latent,)).count / macs(dcgan, (latent,)).count < 2.3


def test_it_is_the_plain_sequence_of_layers() -> None:
    """Convolutions of one channel each, built from dense ones with zeros elsewhere, and pixels repeated by indexing."""
    torch.manual_seed(0)
    net = SeparableGenerator(latent=8, channels=3, size=16, first=2, widths=[6, 4], depths=[1, 2]).eval()
    for norm in net.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.running_mean = torch.randn(norm.num_features)
            norm.running_var = torch.rand(norm.num_features) + 0.5
    latent = torch.randn(5, 8)
    linear = net.project[0]
    assert isinstance(linear, nn.Linear)
    hidden = net.expand((latent @ linear.weight.T + linear.bias).reshape(5, 2, 4, 4))

    def dense(each: nn.Conv2d, image: Tensor) -> Tensor:
        width = len(each.weight)
        weight = torch.zeros(width, width, 3, 3)
        weight[range(width), range(width)] = each.weight[:, 0]
        return torch.nn.functional.conv2d(image, weight, padding=1)

    for number, block in enumerate(net.blocks):
        if number:
            hidden = hidden[:, :, [0, 0, 1, 1, 2, 2, 3, 3]][..., [0, 0, 1, 1, 2, 2, 3, 3]]
        for conv, norm in zip(block.convolutions, block.norms, strict=True):  # type: ignore[arg-type]
            each, between, mixed = conv
            hidden = norm(torch.einsum("nchw,dc->ndhw", between(dense(each, hidden)), mixed.weight[..., 0, 0])).relu()
    torch.testing.assert_close(net(latent), net.output(hidden).tanh())


@pytest.mark.parametrize(("size", "depths"), [(8, [1]), (16, [1, 2]), (32, [1, 2, 2]), (64, [1, 2, 2, 2])])
def test_taps_and_depths_by_size(size: int, depths: list[int]) -> None:
    net = SeparableGenerator(4, latent=8, size=size)
    assert [len(block.convolutions) for block in net.blocks] == depths  # type: ignore[arg-type]
    with Tap(net, [f"blocks.{i}" for i in range(len(depths))]) as tap:
        assert net(torch.randn(2, 8)).shape == (2, 1, size, size)
    assert [tuple(tap[f"blocks.{i}"].shape) for i in range(len(depths))] == [
        (2, 4, 4 << i, 4 << i) for i in range(len(depths))
    ]


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"depths": [1, 2]}, "SeparableGenerator.depths: expected 3 numbers for images of 32 pixels"),
        ({"depths": [1, 0, 2]}, r"SeparableGenerator.depths\[1\]: expected a whole number of at least 1, found 0"),
        ({"widths": [8, 4]}, "SeparableGenerator.widths: expected 3 numbers for images of 32 pixels"),
    ],
)
def test_sizes_that_do_not_fit(sizes: dict[str, list[int]], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        SeparableGenerator(**sizes)  # type: ignore[arg-type]
