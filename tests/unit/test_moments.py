"""What a training made on its way is kept small and evenly spread."""

import itertools

import torch
from torch import nn

from limbeck.training.watching import MOMENTS, SIDE, Validation, Watched, small


def test_looks_are_thinned_evenly_and_keep_both_ends():
    validation = Validation(lambda network: Watched({}, samples=torch.full((2, 1, 2, 2), 1.0)))
    for step in range(10, 1000, 10):
        validation.look(nn.Identity, step)
    steps = [row["step"] for row in validation.moments]
    gaps = [b - a for a, b in itertools.pairwise(steps)]
    assert len(steps) == MOMENTS and steps[0] == 10 and steps[-1] == 990
    assert max(gaps) <= 4 * min(gaps)


def test_samples_are_small_and_of_256_levels():
    images = small(torch.linspace(-2, 2, 3 * 200 * 300).view(1, 3, 200, 300))
    assert images.dtype == torch.uint8 and images.shape[2] == SIDE and images.shape[3] == 144
    assert images.min() == 0 and images.max() == 255
    assert small(torch.tensor([-1.0, 0.0, 1.0]).view(1, 1, 1, 3)).flatten().tolist() == [0, 128, 255]
