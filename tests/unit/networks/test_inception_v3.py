"""Inception-v3: the grids of the paper, widths, the auxiliary classifier, options that cannot be."""

from typing import Any

import pytest
import torch

from limbeck.errors import RecipeError
from limbeck.networks.classifiers.inception_v3 import InceptionV3Classifier
from limbeck.networks.handling.tap import Tap

PATHS = ["Mixed_5d", "Mixed_6e", "Mixed_7c"]


def _grids(size: int, **options: Any) -> list[tuple[int, ...]]:
    network = InceptionV3Classifier(size=size, **options)
    with Tap(network, PATHS) as tap, torch.no_grad():
        network(torch.zeros(2, 3, size, size))
    return [tuple(tap[path].shape[1:]) for path in PATHS]


def test_the_grids_of_the_paper() -> None:
    """35x35, 17x17 and 8x8 (table 1), here with an eighth of the channels 288, 768 and 2048."""
    assert _grids(299, width=4, stem="imagenet") == [(36, 35, 35), (96, 17, 17), (256, 8, 8)]


def test_the_small_stem_keeps_the_size() -> None:
    assert _grids(32, width=4) == [(36, 32, 32), (96, 15, 15), (256, 7, 7)]


def test_widths_that_do_not_divide_evenly_and_the_smallest_sizes() -> None:
    for width in (1, 3, 5):
        assert InceptionV3Classifier(width=width, size=8)(torch.zeros(2, 3, 8, 8)).shape == (2, 10)
    small = InceptionV3Classifier(width=1, size=75, stem="imagenet")
    assert small.eval()(torch.zeros(2, 3, 75, 75)).shape == (2, 10)


@pytest.mark.parametrize(("stem", "size"), [("small", 16), ("small", 32), ("imagenet", 299)])
def test_auxiliary_logits(stem: Any, size: int) -> None:
    torch.manual_seed(0)
    network = InceptionV3Classifier(width=2, size=size, stem=stem, aux_logits=True)
    logits = network.auxiliary_logits(torch.randn(4, 3, size, size))
    assert logits.shape == (4, 10)
    logits.square().sum().backward()
    named = dict(network.named_parameters())
    before = [name for name in named if not name.startswith(("Mixed_7", "fc."))]
    assert all(named[name].grad is not None for name in before)
    assert all(named[name].grad is None for name in named.keys() - set(before))


def test_the_auxiliary_classifier_changes_no_logits() -> None:
    torch.manual_seed(0)
    with_it = InceptionV3Classifier(width=2, size=16, aux_logits=True).eval()
    without = InceptionV3Classifier(width=2, size=16).eval()
    without.load_state_dict({k: v for k, v in with_it.state_dict().items() if not k.startswith("AuxLogits.")})
    image = torch.randn(2, 3, 16, 16)
    assert torch.equal(with_it(image), without(image))


def test_dropout_acts_in_training_alone() -> None:
    network, image = InceptionV3Classifier(width=2, size=16, dropout=0.5), torch.randn(4, 3, 16, 16)
    assert not torch.equal(network(image), network(image))
    network.eval()
    assert torch.equal(network(image), network(image))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"stem": "imagenet"}, "InceptionV3Classifier.size: expected a whole number of at least 75, found 32"),
        ({"size": 7}, "InceptionV3Classifier.size: expected a whole number of at least 8, found 7"),
        ({"stem": "tiny"}, "InceptionV3Classifier.stem: expected one of 'imagenet', 'small', found 'tiny'"),
        ({"dropout": 1}, "InceptionV3Classifier.dropout: expected at least 0 and below 1, found 1"),
    ],
)
def test_options_that_cannot_be(options: dict[str, Any], says: str) -> None:
    with pytest.raises(RecipeError) as caught:
        InceptionV3Classifier(**options)
    assert str(caught.value) == says


def test_auxiliary_logits_that_were_not_built() -> None:
    with pytest.raises(RecipeError, match=r"InceptionV3Classifier\.aux_logits: expected true for auxiliary logits"):
        InceptionV3Classifier(width=1, size=8).auxiliary_logits(torch.zeros(2, 3, 8, 8))
