"""Label propagation: against the paper's iteration and a dense solve, by hand, and on what it was made for."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.sparse import csr_array
from torch import Tensor

from limbeck.baselines.classification.label_propagation import LabelPropagation, spread
from limbeck.errors import RecipeError


def moons(count: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return two interleaved half circles as images (N, 1, 2, 2) whose last two pixels are black: Zhou's figure 1.

    The first two points are one of each.
    """
    draw = torch.Generator().manual_seed(seed)
    label = torch.arange(count) % 2
    angle = torch.pi * torch.rand(count, generator=draw)
    x = torch.where(label == 0, angle.cos(), 1 - angle.cos())
    y = torch.where(label == 0, angle.sin(), 0.5 - angle.sin())
    point = torch.stack([x, y], dim=1) + 0.05 * torch.randn(count, 2, generator=draw)
    image = torch.zeros(count, 4)
    image[:, :2] = point / 2.5
    return image.view(count, 1, 2, 2), label


def accuracy(network: LabelPropagation, image: Tensor, label: Tensor) -> float:
    return float((network(image).argmax(1) == label).float().mean())


def test_spreading_is_the_limit_of_the_papers_iteration() -> None:
    """F(t + 1) = α S F(t) + (1 - α) Y, and (1 - α) (I - α S)^-1 Y solved densely."""
    rng = np.random.default_rng(0)
    weights = np.triu(rng.random((12, 12)) * (rng.random((12, 12)) < 0.4), 1)
    weights = weights + weights.T
    known, alpha = np.eye(3)[rng.integers(3, size=12)] * (np.arange(12) < 6)[:, None], 0.8
    degree = weights.sum(1)
    symmetric = weights / np.sqrt(degree[:, None] * degree[None])
    expected = known
    for _ in range(300):
        expected = alpha * symmetric @ expected + (1 - alpha) * known
    found = spread(csr_array(weights), known, alpha)
    np.testing.assert_allclose(found, expected, atol=1e-7)
    np.testing.assert_allclose(found, (1 - alpha) * np.linalg.solve(np.eye(12) - alpha * symmetric, known), atol=1e-7)


def test_two_nodes_by_hand() -> None:
    """S = [[0, 1], [1, 0]] and α = 1/2: (I - S/2)^-1 = 4/3 [[1, 1/2], [1/2, 1]], times 1/2."""
    found = spread(csr_array(np.array([[0.0, 3.0], [3.0, 0.0]])), np.array([[1.0], [0.0]]), 0.5)
    np.testing.assert_allclose(found, [[2 / 3], [1 / 3]], atol=1e-9)


def test_the_graph_is_symmetric_and_no_node_is_its_own_neighbour() -> None:
    """Four points on a line, each with the one before as its nearest: a chain, though no edge leads forward."""
    image = torch.tensor([0.0, 0.1, 0.21, 0.5]).view(4, 1, 1, 1)
    network = LabelPropagation(size=1, classes=2, neighbours=1, labelled=1)
    network.fit(image, torch.tensor([0, 1, 1, 1]))
    # The only label that is used reaches everyone.
    assert network.probability.tolist() == [[1, 0]] * 4
    # σ² is the mean of 0.1², 0.1², 0.11² and 0.29².
    assert float(network.variance) == pytest.approx((0.01 + 0.01 + 0.0121 + 0.0841) / 4)


def test_two_labels_are_enough_for_two_moons() -> None:
    image, label = moons(400)
    network = LabelPropagation(size=2, classes=2, alpha=0.99, labelled=2)
    network.fit(image, torch.cat([label[:2], 1 - label[2:]]))  # what is not `labelled` is not looked at
    new, truth = moons(200, seed=1)
    assert accuracy(network, new, truth) > 0.98
    # The nearest of the two labelled points says much less.
    nearest = torch.cdist(new.flatten(1), image[:2].flatten(1)).argmin(1)
    assert (nearest == truth).float().mean() < 0.9


def test_more_labels_are_better_on_classes_that_overlap() -> None:
    draw = torch.Generator().manual_seed(0)
    label = torch.arange(600) % 3
    image = (0.2 * torch.randn(600, 1, 4, 4, generator=draw) + 0.12 * (label - 1).view(-1, 1, 1, 1)).clamp(-1, 1)
    found = []
    for labelled in (6, 400):
        network = LabelPropagation(size=4, classes=3, labelled=labelled)
        network.fit(image[:400], label[:400])
        found.append(accuracy(network, image[400:], label[400:]))
    assert found[1] > found[0] + 0.03 and found[1] > 0.7


def test_outputs_are_log_probabilities_whatever_else_is_in_the_batch() -> None:
    network = LabelPropagation(size=2, classes=2, labelled=50)
    network.fit(*moons(300))
    image, _ = moons(50, seed=2)
    image[0] = -1  # far from everything
    output = network(image)
    assert output.isfinite().all() and output.dtype == torch.float32
    torch.testing.assert_close(output.exp().sum(1), torch.ones(50), atol=1e-5, rtol=0)
    alone = torch.cat([network(image[i : i + 1]) for i in range(50)])
    torch.testing.assert_close(alone, output, atol=1e-5, rtol=1e-5)


def test_its_memory_is_in_the_state_and_it_has_no_parameters() -> None:
    network = LabelPropagation(size=2, classes=2)
    network.fit(*moons(100))
    assert list(network.parameters()) == []
    shapes = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    assert shapes == {"nodes": (100, 4), "probability": (100, 2), "variance": ()}
    assert network.nodes.dtype == network.probability.dtype == torch.float32


def test_equal_images_and_nodes_that_no_label_reaches() -> None:
    """Two far groups of equal images, of which one has a label: the other knows nothing, and all stays finite."""
    image = torch.cat([torch.full((6, 1, 2, 2), -1.0), torch.full((6, 1, 2, 2), 1.0)])
    network = LabelPropagation(size=2, classes=2, neighbours=3, labelled=1)
    network.fit(image, torch.tensor([1] * 12))
    assert network.probability[0].tolist() == [0, 1]
    assert network.probability[11].tolist() == [0.5, 0.5]
    assert network(image).isfinite().all()


def test_bad_input_is_one_line() -> None:
    for options, says in (
        ({"neighbours": 0}, "LabelPropagation.neighbours"),
        ({"alpha": 1.0}, "alpha: expected a number above 0 and below 1, found 1.0"),
        ({"labelled": 0}, "LabelPropagation.labelled"),
        ({"classes": 1}, "LabelPropagation.classes"),
        ({"train_images": 0}, "LabelPropagation.train_images"),
    ):
        with pytest.raises(RecipeError, match=says):
            LabelPropagation(**options)  # type: ignore[arg-type]
    network = LabelPropagation(size=2, classes=2)
    with pytest.raises(RecipeError, match="expected to be fitted"):
        network(torch.zeros(1, 1, 2, 2))
    with pytest.raises(RecipeError, match="fewer than the 8 images"):
        network.fit(*moons(8))
    with pytest.raises(RecipeError, match="classes: expected more than 2, found 2"):
        network.fit(moons(30)[0], torch.arange(30) % 3)
    with pytest.raises(RecipeError, match=r"expected images \(1, 2, 2\), found \(1, 3, 3\)"):
        network.fit(torch.zeros(30, 1, 3, 3), torch.zeros(30).long())
