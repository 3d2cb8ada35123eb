"""tasks/segmentation.py: figures worked out by hand, and what edge detectors, oracles and tiles are measured by."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from toys import ToySegmenter

from limbeck.attacks.mixture import AttackMixture
from limbeck.attacks.noise import GaussianNoise
from limbeck.attacks.pgd import Pgd
from limbeck.baselines.base import EdgeDetector, Fitted, Regions
from limbeck.baselines.regions.oracle_regions import OracleRegions
from limbeck.data.base import Data, InMemory, Split
from limbeck.errors import DataError, RecipeError
from limbeck.networks.roles import Segmenter
from limbeck.tasks.segmentation import Segmentation
from limbeck.types import VOID

SIDE = 16


class Halves(Data):
    """Two images whose left half is dark and whose right half is bright; a column of the second is void."""

    name, image_shape, mask_classes = "halves", (1, SIDE, SIDE), ("left", "right")

    def split(self, name: Split) -> InMemory:
        image = torch.zeros(2, 1, SIDE, SIDE, dtype=torch.uint8)
        image[..., SIDE // 2 :] = 255
        mask = (image[:, 0] > 0).to(torch.uint8)
        mask[1, :, 0] = VOID
        return InMemory(image, None, mask)


class Fixed(Segmenter):
    """Class 1 from a column on."""

    channels, classes = 1, 2

    def __init__(self, column: int) -> None:
        super().__init__()
        self.column = column

    def forward(self, image: Tensor) -> Tensor:
        right = (torch.arange(image.shape[3]) >= self.column).float().expand(len(image), 1, *image.shape[2:])
        return torch.cat([1 - right, right], 1)


def evaluate(network: nn.Module, **options: object) -> dict[str, float]:
    return Segmentation(**options).evaluate(network, Halves(), split="test", seed=0)  # type: ignore[arg-type]


class Nameless(Halves):
    """Nobody said what is in these images."""

    def split(self, name: Split) -> InMemory:
        images = super().split(name)
        return InMemory(images.image, None, torch.full_like(images.mask, VOID))  # type: ignore[arg-type]


def test_masks_without_a_class_are_refused() -> None:
    """Trained on them, a network learns nothing; measured on them, it has no figure."""
    says = r"halves: expected classes in the {} masks, found void \(255\) alone"
    with pytest.raises(DataError, match=says.format("train")):
        Segmentation().example(Nameless(), 1)
    with pytest.raises(DataError, match=says.format("test")):
        Segmentation().evaluate(Fixed(3), Nameless(), split="test", seed=0)
    assert Segmentation().example(Halves(), 1)[0].shape == (1, 1, SIDE, SIDE)


def test_figures_by_hand() -> None:
    """Two of eight left columns are called right; of the second image one left column is void."""
    found = evaluate(Fixed(SIDE // 2 - 2))
    left, right = (6 + 5) / (8 + 7), (8 + 8) / (10 + 10)
    assert found["miou"] == pytest.approx((left + right) / 2)
    assert found["pixel_accuracy"] == pytest.approx((14 + 13) / (16 + 15))
    assert found["boundary_f1"] == 0  # two pixels off, one allowed
    assert found["edge_f1"] == 0.5  # a border has a pixel on either side, and one of the two is near enough
    near = evaluate(Fixed(SIDE // 2 - 2), tolerance=3)
    assert near["boundary_f1"] == near["edge_f1"] == 1
    perfect = evaluate(Fixed(SIDE // 2))
    assert set(perfect.values()) == {1.0}


def test_chance_is_the_most_frequent_class_everywhere() -> None:
    """It is what `evaluate` says of a network that always answers it."""
    assert Segmentation().chance(Halves()) == pytest.approx({"miou": (16 / 31) / 2, "pixel_accuracy": 16 / 31})
    found = evaluate(Fixed(0))
    assert Segmentation().chance(Halves()) == pytest.approx({name: found[name] for name in ("miou", "pixel_accuracy")})


def test_agreement_is_with_the_teacher() -> None:
    found = Segmentation().evaluate(Fixed(4), Halves(), split="test", seed=0, teacher=Fixed(8))
    assert found["agreement"] == pytest.approx((12 / 16 + 11 / 15) / 2)  # a void pixel of the second image is left out


def test_tiles_are_equal_to_the_whole() -> None:
    torch.manual_seed(0)
    network = ToySegmenter(classes=2)
    assert evaluate(network, tile=5, overlap=2) == evaluate(network)
    assert evaluate(network, tile=5, overlap=0) != evaluate(network)  # it sees two pixels around each


def test_what_was_fitted_to_whole_images_sees_whole_images() -> None:
    class Upper(Fitted):
        """Class 1 in the lower half of what it is shown."""

        classes = 2

        def fit(self, image: Tensor, label: Tensor) -> None: ...

        def forward(self, image: Tensor) -> Tensor:
            lower = (
                (torch.arange(image.shape[2]) >= image.shape[2] // 2)
                .float()[:, None]
                .expand(len(image), 1, *image.shape[2:])
            )
            return torch.cat([1 - lower, lower], 1)

    assert evaluate(Upper(), tile=4) == evaluate(Upper())


def test_an_evaluation_under_attack_is_remembered_by_what_the_attack_is() -> None:
    assert repr(Pgd(steps=3)) == repr(Pgd(steps=3)) != repr(Pgd(steps=4))
    assert " object at " not in repr(AttackMixture([Pgd(), GaussianNoise()]))


def test_an_edge_detector_has_edges_alone() -> None:
    class Steps(EdgeDetector):
        def forward(self, image: Tensor) -> Tensor:
            steps = (image[..., 1:] - image[..., :-1]).abs() / 2
            return nn.functional.pad(steps, (1, 0))

    assert evaluate(Steps()) == {"edge_f1": 1.0}
    (picture,) = Segmentation().preview(Steps(), Halves(), 0)
    assert picture.images[0, :, :, SIDE // 2].eq(-1).all() and picture.images[0, :, :, 0].eq(1).all()


def test_an_oracle_sees_the_mask() -> None:
    class Columns(Regions):
        def forward(self, image: Tensor) -> Tensor:
            return (torch.arange(image.shape[3]) // 4).expand(len(image), *image.shape[2:])

    assert evaluate(OracleRegions(Columns(), classes=2))["miou"] == 1.0


def test_only_what_passes_a_gradient_is_attacked() -> None:
    assert "robust_miou" not in evaluate(Fixed(8), attack=Pgd(steps=2))
    torch.manual_seed(0)
    assert "robust_miou" in evaluate(ToySegmenter(classes=2), attack=Pgd(steps=2))


def test_an_attack_makes_it_worse() -> None:
    torch.manual_seed(0)
    network = ToySegmenter(classes=2)
    optimizer = torch.optim.Adam(network.parameters(), 0.03)
    batch = Halves().split("train").read(torch.arange(2))
    assert batch.image is not None and batch.mask is not None
    for _ in range(60):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(batch.image), batch.mask, ignore_index=VOID).backward()
        optimizer.step()
    found = evaluate(network, attack=Pgd(1.0, 0.3, 10))
    assert found["robust_miou"] < found["miou"] - 0.3 and found["miou"] > 0.9


def test_bad_input() -> None:
    with pytest.raises(DataError, match=r"ToySegmenter: expected logits \(2, 16, 16\) .* found \(3, 16, 16\)"):
        evaluate(ToySegmenter(classes=3))

    class Unmasked(Halves):
        mask_classes = ()

        def split(self, name: Split) -> InMemory:
            return InMemory(super().split(name).image)

    with pytest.raises(DataError, match="halves: expected data with masks, found none; choose a set with masks"):
        Segmentation().evaluate(Fixed(8), Unmasked(), split="test", seed=0)
    for options in ({"samples": 0}, {"tile": 0}, {"overlap": -1}, {"tolerance": 0}, {"attacked": 0}):
        with pytest.raises(RecipeError, match=f"{next(iter(options))}: expected a whole number of at least"):
            Segmentation(**options)  # type: ignore[arg-type]
