"""Alpha-expansion against every labelling there is, and what a graph cut makes of an image."""

from __future__ import annotations

from itertools import pairwise, product

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from region_scenes import Tiles, accuracy, scenes

from limbeck.baselines.regions.graph_cut import GraphCut, energy_of, expanded, expansion, of_every_class, whole
from limbeck.baselines.regions.kmeans_regions import KMeansRegions
from limbeck.baselines.regions.region_maps import neighbours
from limbeck.errors import RecipeError

Whole = NDArray[np.int64]


def grid(seed: int, height: int, width: int, classes: int, strength: int) -> tuple[Whole, Whole, Whole]:
    """Return random energies (R, K) of the pixels of a grid, its edges (E, 2), and their weights (E,)."""
    rng = np.random.default_rng(seed)
    pairs = neighbours(torch.arange(height * width).view(height, width))[0].numpy()
    unary = rng.integers(0, 100, (height * width, classes))
    return unary, pairs, rng.integers(0, strength, len(pairs))


def every_energy(unary: Whole, pairs: Whole, weight: Whole, choices: list[tuple[int, ...]]) -> Whole:
    """Return the energies of all labellings that take one of its choices for each region, written as a sum."""
    return np.array(
        [
            sum(int(unary[r, k]) for r, k in enumerate(found))
            + sum(int(w) for (r, s), w in zip(pairs.tolist(), weight, strict=True) if found[r] != found[s])
            for found in product(*choices)
        ]
    )


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("strength", [10, 60, 300])
def test_two_classes_are_cut_as_well_as_can_be(seed: int, strength: int) -> None:
    graph = grid(seed, 3, 4, 2, strength)
    found = expanded(*graph)
    assert energy_of(found, *graph) == every_energy(*graph, [(0, 1)] * 12).min()


@pytest.mark.parametrize("seed", range(4))
def test_an_expansion_is_the_best_of_all_that_there_are(seed: int) -> None:
    graph = grid(seed, 2, 4, 4, 60)
    start = np.random.default_rng(seed).integers(0, 4, 8)
    for alpha in range(4):
        moved = expansion(start, alpha, *graph)
        assert ((moved == start) | (moved == alpha)).all()
        choices = [(int(own), alpha) for own in start]
        assert energy_of(moved, *graph) == every_energy(*graph, choices).min()


@pytest.mark.parametrize("strength", [5, 50, 500])
def test_energy_never_rises_and_ends_where_no_expansion_lowers_it(strength: int) -> None:
    graph = grid(0, 12, 15, 7, strength)
    found = graph[0].argmin(1)
    energies = [energy_of(found, *graph)]
    for _ in range(3):
        for alpha in range(7):
            found = expansion(found, alpha, *graph)
            energies.append(energy_of(found, *graph))
    assert all(after <= before for before, after in pairwise(energies))
    assert energies[-1] < energies[0]
    best = expanded(*graph)
    lowest = energy_of(best, *graph)
    assert lowest <= energies[-1]
    assert all(energy_of(expansion(best, alpha, *graph), *graph) >= lowest for alpha in range(7))
    # Nor does a change of one region; and what these would cost is what `of_every_class` says.
    alone = of_every_class(best, *graph)
    for region, alpha in product(range(0, len(best), 17), range(7)):
        other = best.copy()
        other[region] = alpha
        change = energy_of(other, *graph) - lowest
        assert change == alone[region, alpha] - alone[region, best[region]] >= 0


def test_without_borders_or_with_endless_ones_the_cut_is_known() -> None:
    unary, pairs, weight = grid(1, 4, 4, 3, 10)
    assert (expanded(unary, pairs, weight * 0) == unary.argmin(1)).all()
    assert (expanded(unary, pairs, weight * 0 + 10**6) == unary.sum(0).argmin()).all()
    lone = np.zeros((0, 2), dtype=np.int64)
    assert expanded(unary[:1], lone, lone[:, 0]).tolist() == [unary[0].argmin()]


def test_whole_numbers_keep_proportions_and_fit_in_32_bits() -> None:
    unary = torch.tensor([[3.5, 1.0], [0.0, 1e4]], dtype=torch.float64)
    fit, pairs, cost, unit = whole(unary, torch.tensor([[0, 1]]), torch.tensor([2.5]).double())
    assert fit.max() + cost.sum() < 2**30 and fit.dtype == cost.dtype == np.int64
    np.testing.assert_allclose(fit / unit, [[2.5, 0.0], [0.0, 1e4]], atol=1e-4)
    assert cost / unit == pytest.approx([2.5], abs=1e-4) and pairs.tolist() == [[0, 1]]
    assert whole(unary * 0, torch.tensor([[0, 1]]), torch.zeros(1).double())[0].tolist() == [[0, 0], [0, 0]]


@pytest.mark.parametrize("channels", [1, 3])
def test_cuts_of_images_are_smoother_than_what_the_classifier_says(channels: int) -> None:
    image, mask = scenes(10, channels=channels)
    noisy = (image + 0.9 * torch.randn(image.shape, generator=torch.Generator().manual_seed(0))).clamp(-1, 1)
    network = GraphCut(Tiles(), channels, (24, 32), 3, smoothness=4.0, train_images=8)
    network.fit(noisy[:6], mask[:6])
    logits, told = network(noisy[6:]), network.classifier(noisy[6:])
    assert network.image_shape == (channels, 24, 32) and network.truth == "mask" and logits.dtype == torch.float32
    torch.testing.assert_close(logits.logsumexp(1), torch.zeros(4, 24, 32), atol=1e-5, rtol=0)

    def borders(found: torch.Tensor) -> int:
        return int((found.diff(dim=1) != 0).sum() + (found.diff(dim=2) != 0).sum())

    assert 0 < borders(logits.argmax(1)) < borders(told.argmax(1))
    assert accuracy(logits, mask[6:]) > accuracy(told, mask[6:]) - 0.02
    assert torch.equal(network(noisy[7:8]), logits[1:2])
    network.smoothness = 0.0
    torch.testing.assert_close(network(noisy[6:]), told.clamp(min=np.log(1e-6)).log_softmax(1), atol=1e-3, rtol=1e-3)


def test_the_class_of_the_largest_logit_is_that_of_the_cut() -> None:
    image, mask = scenes(5)
    network = GraphCut(Tiles(), 3, (24, 32), 3, smoothness=3.0)
    network.fit(image[:4], mask[:4])
    regions = network.classifier.divided(image[4:])[0]
    pairs, weight = network._borders(image[4], regions)
    log_p = network.classifier.log_probabilities(image[4], regions).double().clamp(min=np.log(1e-6))
    unary = -log_p * regions.flatten().bincount()[:, None]
    # Borders: λ, by their length, and less where colours differ.
    assert weight.max() <= 3.0 * 4 and weight.min() < 0.7 * weight.max() and len(pairs) == 5 * 8 + 6 * 7
    graph = whole(unary, pairs, weight)[:3]
    best = expanded(*graph)
    found = network(image[4:]).argmax(1)[0, ::4, ::4].flatten().numpy()
    assert (found == best).all() and len(np.unique(best)) == 3


def test_plain_images_and_bad_arguments() -> None:
    network = GraphCut(KMeansRegions(4), 3, 16, 2)
    assert network(torch.zeros(2, 3, 16, 16)).isfinite().all()  # one region without a border
    assert GraphCut(Tiles(), 3, 16, 2)(torch.zeros(1, 3, 16, 16)).isfinite().all()  # borders without contrast
    with pytest.raises(RecipeError, match=r"GraphCut.smoothness: expected a number of at least 0, found -1\.0"):
        GraphCut(Tiles(), smoothness=-1.0)
    with pytest.raises(RecipeError, match="classes"):
        GraphCut(Tiles(), classes=1)
