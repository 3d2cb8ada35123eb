"""A convolution with fewer weights answers as the whole one did where nothing is lost, and loses little elsewhere."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from limbeck.networks.blocks.low_rank import kept_channels, second_moment, tucker2


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def whole(before: Tensor, core: Tensor, after: Tensor) -> Tensor:
    return torch.einsum("or,rshw,si->oihw", after, core, before)


def test_a_weight_of_that_rank_and_one_at_full_rank_stay_what_they_are() -> None:
    low = whole(drawn(3, 8), drawn(3, 3, 3, 3, seed=1), drawn(10, 3, seed=2))
    moment = second_moment(drawn(4, 8, 6, 6, seed=3))
    torch.testing.assert_close(whole(*tucker2(low, 3, 3, moment)), low, rtol=1e-3, atol=1e-3)
    full = drawn(8, 8, 3, 3, seed=4)
    torch.testing.assert_close(whole(*tucker2(full, 8, 8, moment)), full, rtol=1e-3, atol=1e-3)


def test_what_is_lost_lies_between_the_best_one_sided_loss_and_both_together() -> None:
    """The bound of De Lathauwer et al. 2000, property 10, in the two modes that are cut."""
    weight = drawn(9, 7, 3, 3)
    sides = [weight.flatten(1), weight.transpose(0, 1).flatten(1)]
    for rank in range(1, 7):
        tails = [torch.linalg.svdvals(side)[rank:].square().sum() for side in sides]
        lost = (whole(*tucker2(weight, rank, rank, torch.eye(7))) - weight).square().sum()
        assert max(tails) * 0.999 <= lost <= sum(tails) * 1.001


def test_ranks_go_where_the_inputs_are() -> None:
    image = drawn(4, 6, 12, 12)
    image[:, 2:] *= 0.01  # hardly ever there
    weight = drawn(6, 6, 3, 3, seed=1)
    expected = F.conv2d(image, weight)

    def lost(moment: Tensor) -> float:
        before, core, after = tucker2(weight, 4, 4, moment)
        found = F.conv2d(image, whole(before, core, after))
        return float((found - expected).square().mean() / expected.square().mean())

    assert lost(second_moment(image)) < lost(torch.eye(6)) / 2


def test_channels_that_others_tell_are_left_out_without_loss() -> None:
    image = drawn(4, 6, 12, 12)
    image[:, 1] = image[:, 0]
    image[:, 4] = 2 * image[:, 3] - image[:, 5]
    weight = drawn(5, 6, 3, 3, seed=1)
    kept, left = kept_channels(weight, 4, second_moment(image))
    assert kept == sorted(kept) and len({0, 1} & set(kept)) == 1 and len({3, 4, 5} & set(kept)) == 2 and 2 in kept
    torch.testing.assert_close(F.conv2d(image[:, kept], left), F.conv2d(image, weight), rtol=1e-3, atol=1e-3)


def test_the_correction_is_least_squares() -> None:
    image = drawn(2, 5, 9, 9) + drawn(2, 1, 9, 9, seed=1)
    weight = drawn(4, 5, 1, 1, seed=2)
    kept, left = kept_channels(weight, 2, second_moment(image))
    seen, goal = (t.transpose(0, 1).flatten(1) for t in (image[:, kept], F.conv2d(image, weight)))
    best = torch.linalg.lstsq(seen.T, goal.T).solution.T
    torch.testing.assert_close(left.flatten(1), best, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("count", [1, 3])
def test_the_second_moment_is_the_mean_over_images_and_places(count: int) -> None:
    image = drawn(count, 3, 2, 5)
    expected = sum(
        torch.outer(image[n, :, i, j], image[n, :, i, j]) for n in range(count) for i in range(2) for j in range(5)
    ) / (count * 10)
    torch.testing.assert_close(second_moment(image), expected)
