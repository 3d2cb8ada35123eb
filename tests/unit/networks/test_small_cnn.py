"""The small classifier: counts by hand, and that it learns what a linear classifier cannot."""

import torch
import torch.nn.functional as F

from limbeck.networks.classifiers.small_cnn import SmallCnn


def test_parameters_and_features_by_hand() -> None:
    net, w = SmallCnn(), 32
    convolutions = 9 * (w + w * 2 * w + 2 * w * 4 * w + 4 * w * 4 * w)
    by_hand = convolutions + 2 * (w + 2 * w + 4 * w + 4 * w) + 4 * w * 10 + 10
    assert sum(p.numel() for p in net.parameters()) == by_hand == 241_898
    assert net.features(torch.zeros(2, 1, 32, 32)).shape == (2, 128)


def test_it_works_on_any_size_from_8() -> None:
    for size in (8, 28, 45):
        assert SmallCnn(width=4, size=size)(torch.zeros(2, 1, size, size)).shape == (2, 10)


def test_it_tells_textures_apart_that_have_the_same_mean() -> None:
    """Horizontal against vertical stripes of random phase: every pixel has mean 0 in both classes."""
    torch.manual_seed(0)
    net = SmallCnn(width=4, size=16, classes=2)
    optimizer = torch.optim.Adam(net.parameters(), 1e-2)

    def draw(count: int) -> tuple[torch.Tensor, torch.Tensor]:
        label = torch.randint(2, (count,))
        wave = (
            torch.sin(torch.arange(16) * 1.5 + 6.3 * torch.rand(count, 1)).view(count, 1, 1, 16).expand(-1, 1, 16, -1)
        )
        return torch.where(label.view(-1, 1, 1, 1) == 1, wave, wave.mT) + 0.3 * torch.randn(count, 1, 16, 16), label

    for _ in range(30):
        image, label = draw(32)
        optimizer.zero_grad()
        F.cross_entropy(net(image), label).backward()
        optimizer.step()
    image, label = draw(256)
    assert (net.eval()(image).argmax(1) == label).float().mean() > 0.95
