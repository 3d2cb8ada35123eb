"""What every Data and Augmentation of the package keeps to. A new one that needs arguments or files adds an example."""

from __future__ import annotations

import importlib
import inspect
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from toys import every_module, toy_scene, write_camvid, write_facades

from limbeck.data.augmentations.augmentation import AugmentationSequence, Flip
from limbeck.data.augmentations.diffaugment import DiffAugment
from limbeck.data.augmentations.warp import Crop, Rotation
from limbeck.data.base import Augmentation, Data, Split
from limbeck.data.camvid import CamVid
from limbeck.data.cifar import CIFAR10, CIFAR100
from limbeck.data.embedded_photos import EmbeddedPhotos
from limbeck.data.few import FewImages
from limbeck.data.folder import ImageFolder
from limbeck.data.glyphs import Glyphs
from limbeck.data.idx import MNIST, FashionMNIST, IdxData
from limbeck.data.mask_folder import MaskFolder
from limbeck.data.pairs import LatentPairs
from limbeck.data.partly_labelled import PartlyLabelled
from limbeck.data.photo_crops import PhotoCrops
from limbeck.data.side_by_side import Facades, SideBySide
from limbeck.data.tensors import TensorImages
from limbeck.types import KINDS, VOID, Kind

MASK, TARGET = KINDS["mask"], KINDS["target"]

SPLITS: tuple[Split, ...] = ("train", "validation", "test")


def found(base: type) -> list[type]:
    modules = [importlib.import_module(name) for name in every_module("data")]
    classes = {c for m in modules for c in vars(m).values() if inspect.isclass(c) and issubclass(c, base)}
    return sorted((c for c in classes if not inspect.isabstract(c)), key=lambda c: c.__name__)


def noise(*shape: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def idx(cls: type[IdxData]) -> Callable[[Path, int], Data]:
    def make(root: Path, seed: int) -> Data:
        folder = root / cls.source().folders[0]
        folder.mkdir()
        for stem, count in (("train", 40), ("t10k", 12)):
            image, label = noise(count, 28, 28, seed=seed + count), np.arange(count, dtype=np.uint8) % 10
            head = bytes([0, 0, 8, 3]) + b"".join(n.to_bytes(4, "big") for n in image.shape)
            (folder / f"{stem}-images-idx3-ubyte").write_bytes(head + image.tobytes())
            head = bytes([0, 0, 8, 1]) + count.to_bytes(4, "big")
            (folder / f"{stem}-labels-idx1-ubyte").write_bytes(head + label.tobytes())
        return cls(validation=8, root=str(root))

    return make


def cifar(root: Path, seed: int) -> Data:
    folder = root / "cifar-10-batches-py"
    folder.mkdir()
    for k, name in enumerate(["data_batch_1", "test_batch"]):
        batch = {b"data": noise(20, 3072, seed=seed + k), b"labels": [i % 10 for i in range(20)]}
        (folder / name).write_bytes(pickle.dumps(batch, protocol=2))
    return CIFAR10(root=str(root))


def cifar100(root: Path, seed: int, *, coarse: bool = False) -> Data:
    folder = root / "cifar-100-python"
    folder.mkdir()
    for k, (name, count) in enumerate({"train": 30, "test": 15}.items()):
        batch = {
            b"data": noise(count, 3072, seed=seed + k),
            b"fine_labels": [*range(count)],
            b"coarse_labels": [3] * count,
        }
        (folder / name).write_bytes(pickle.dumps(batch, protocol=2))
    return CIFAR100(coarse=coarse, root=str(root))


def image_folder(*, streaming: bool) -> Callable[[Path, int], Data]:
    def make(root: Path, seed: int) -> Data:
        for i in range(24):
            file = root / "ab"[i % 2] / f"{i}.png"
            file.parent.mkdir(exist_ok=True)
            Image.fromarray(noise(20, 16, 3, seed=seed + i)).save(file)
        return ImageFolder(str(root), size=12, streaming=streaming, test=0.2, validation=0.2)

    return make


def tensors(root: Path, seed: int, *, as_float: bool = False) -> Data:
    image = torch.from_numpy(noise(20, 3, 8, 6, seed=seed))
    return TensorImages(image / 127.5 - 1 if as_float else image, torch.arange(20) % 4)


def pairs(root: Path, seed: int, *, beside: bool = False) -> Data:
    latent = np.random.default_rng(seed).normal(size=(30, 5)).astype(np.float32)
    np.savez(root / "pairs.npz", latent=latent, image=noise(30, 3, 8, 6, seed=seed))
    return LatentPairs(str(root / "pairs.npz"), tensors(root, seed + 7) if beside else None)


def crops(root: Path, seed: int, *, test: bool = True) -> Data:
    for i in range(20):
        file = root / ("test" if i < 6 and test else "photos") / f"{i}.png"
        file.parent.mkdir(exist_ok=True)
        Image.fromarray(noise(23, 17, 3, seed=seed + i)).save(file)
    return PhotoCrops(str(root / "photos"), 8, test=str(root / "test") if test else 0.3, validation=0.2, stride=6)


def degraded_crops(root: Path, seed: int) -> Data:
    for i in range(20):
        for folder, name, side in (("whole", f"{i}", 22), ("small", f"{i}x2", 11)):
            (root / folder).mkdir(exist_ok=True)
            Image.fromarray(noise(side, side, 3, seed=seed + i)).save(root / folder / f"{name}.png")
    return PhotoCrops(str(root / "whole"), 8, degraded=str(root / "small"), test=0.3, validation=0.2, stride=6)


def camvid(root: Path, seed: int) -> Data:
    write_camvid(root, seed, train=14)
    return CamVid(validation=5, size=(18, 24), root=str(root))


def mask_folder(root: Path, seed: int, *, streaming: bool = False) -> Data:
    for i in range(20):
        image, mask = toy_scene(100 * seed + i, 20, 16, classes=3)
        for folder, pixels in (("images", image), ("masks", mask)):
            (root / folder).mkdir(exist_ok=True)
            Image.fromarray(pixels).save(root / folder / f"{i}.png")
    return MaskFolder(str(root), ["left", "middle", "right"], (12, 10), streaming=streaming)


def facades(root: Path, seed: int, *, reverse: bool = False) -> Data:
    write_facades(root, seed)
    return Facades(reverse=reverse, size=16, root=str(root))


def side_by_side(root: Path, seed: int) -> Data:
    for i in range(20):
        Image.fromarray(noise(8, 20, 3, seed=seed + i)).save(root / f"{i}.png")
    return SideBySide(str(root), (8, 10))


def partly(root: Path, seed: int, *, drop: bool = False) -> Data:
    return PartlyLabelled(mask_folder(root, seed, streaming=drop), 0.5, drop=drop)


# Class -> examples, each made from an empty folder and a seed that decides the content.
EXAMPLES: dict[type, dict[str, Callable[[Path, int], Data]]] = {
    Glyphs: {
        "glyphs": lambda _, seed: Glyphs(train=80 + seed, validation=20, test=20),
        "twins": lambda _, seed: Glyphs(16, train=40 + seed, validation=9, test=9, target=True, channels=1),
    },
    FashionMNIST: {"fashion": idx(FashionMNIST)},
    MNIST: {"mnist": idx(MNIST)},
    CamVid: {"archive": camvid},
    CIFAR10: {"cifar": cifar},
    CIFAR100: {"fine": cifar100, "coarse": lambda root, seed: cifar100(root, seed, coarse=True)},
    EmbeddedPhotos: {"photographs": lambda _, seed: EmbeddedPhotos(size=60 + seed)},
    FewImages: {
        "memory": lambda root, seed: FewImages(tensors(root, seed), 3),
        "streaming": lambda root, seed: FewImages(image_folder(streaming=True)(root, seed), 4),
        "twins": lambda _, seed: FewImages(
            Glyphs(16, train=80 + seed, validation=9, test=9, classes="ABC", target=True), 4 + seed
        ),
    },
    Facades: {"facades": facades, "reverse": lambda root, seed: facades(root, seed, reverse=True)},
    ImageFolder: {"memory": image_folder(streaming=False), "streaming": image_folder(streaming=True)},
    MaskFolder: {
        "memory": mask_folder,
        "streaming": lambda root, seed: mask_folder(root, seed, streaming=True),
    },
    PartlyLabelled: {
        "void": partly,
        "dropped": lambda root, seed: partly(root, seed, drop=True),
        "pairs": lambda root, seed: PartlyLabelled(facades(root, seed), 0.5),
    },
    SideBySide: {"folder": side_by_side},
    LatentPairs: {"alone": pairs, "beside": lambda root, seed: pairs(root, seed, beside=True)},
    PhotoCrops: {
        "own folders": crops,
        "held out": lambda root, seed: crops(root, seed, test=False),
        "degraded": degraded_crops,
    },
    TensorImages: {"bytes": tensors, "floats": lambda root, seed: tensors(root, seed, as_float=True)},
}
ROWS = [
    pytest.param(make, id=f"{cls.__name__}-{name}") for cls, some in EXAMPLES.items() for name, make in some.items()
]


def test_every_data_has_an_example() -> None:
    assert found(Data) and set(found(Data)) == set(EXAMPLES)


@pytest.fixture(params=ROWS, scope="module")
def make(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Data]:
    """Makes the data of a seed from fresh files."""
    return lambda seed: request.param(tmp_path_factory.mktemp("data"), seed)


@pytest.fixture(scope="module")
def data(make: Callable[[int], Data]) -> Data:
    return make(0)


def pixels(data: Data, split: Split) -> set[bytes]:
    images = data.split(split)
    image = images.read(torch.arange(len(images))).image
    assert image is not None
    return {one.numpy().tobytes() for one in image}


class TestData:
    def test_shapes_types_and_ranges(self, data: Data) -> None:
        for split in SPLITS:
            images = data.split(split)
            index = torch.arange(len(images))
            batch = images.read(index)
            assert len(images) > 0 and batch.image is not None and batch.index is not None
            assert batch.image.shape == (len(images), *data.image_shape) and batch.image.dtype == torch.float32
            assert -1 <= batch.image.min() < batch.image.max() <= 1
            assert torch.equal(batch.index, index)
            assert set(batch.fields) == set(data.gives()) <= {*KINDS, *data.kinds}
            assert (batch.label is not None) == bool(data.classes)
            assert (images.labels() is None) == (batch.label is None)
            if batch.label is not None:
                assert torch.equal(batch.label, images.labels())
                assert batch.label.shape == (len(images),) and batch.label.dtype == torch.int64
                assert batch.label.min() >= 0 and batch.label.max() < len(data.classes)
            assert (batch.mask is not None) == bool(data.mask_classes)
            if batch.mask is not None:
                assert ((batch.mask >= 0) & (batch.mask < len(data.mask_classes)) | (batch.mask == VOID)).all()
                assert (batch.mask != VOID).any()
                assert batch.mask.shape == (len(images), *data.image_shape[1:]) and batch.mask.dtype == torch.int64
            if batch.target is not None:
                assert batch.target.ndim == 4 and batch.target.dtype == torch.float32
                assert batch.target.min() >= -1 and batch.target.max() <= 1

    def test_all_classes_have_different_names_and_there_is_a_name_for_the_set(self, data: Data) -> None:
        assert data.name and len(set(data.classes)) == len(data.classes)
        assert len(set(data.mask_classes)) == len(data.mask_classes) <= VOID
        assert data.reference_split in SPLITS

    def test_reading_keeps_the_order_and_is_the_same_every_time(self, data: Data) -> None:
        images = data.split("train")
        order = torch.tensor([5, 0, 3, 3])
        together, again = images.read(order), images.read(order)
        single = [images.read(order[i : i + 1]) for i in range(4)]
        for field in ("image", "label", "mask", "target", "latent", "index"):
            value = getattr(together, field)
            if value is not None:
                assert torch.equal(value, getattr(again, field))
                assert torch.equal(value, torch.cat([getattr(one, field) for one in single]))

    def test_a_split_is_loaded_once(self, data: Data) -> None:
        assert all(data.split(split) is data.split(split) for split in SPLITS)

    def test_what_was_read_can_be_changed_without_changing_the_data(self, data: Data) -> None:
        images, index = data.split("test"), torch.tensor([0])
        first = images.read(index).image
        assert first is not None
        before = first.clone()
        first.zero_()
        again = images.read(index).image
        assert again is not None and torch.equal(again, before)

    def test_splits_do_not_overlap(self, data: Data) -> None:
        train, validation, test = (pixels(data, split) for split in SPLITS)
        assert not train & validation and not train & test and not validation & test

    def test_fingerprint_tells_content_apart_and_nothing_else(self, make: Callable[[int], Data], data: Data) -> None:
        prints = {split: data.split(split).fingerprint() for split in SPLITS}
        same, other = make(0), make(1)
        assert {split: same.split(split).fingerprint() for split in SPLITS} == prints
        assert len(set(prints.values())) == 3
        assert other.split("train").fingerprint() != prints["train"]

    def test_pickles(self, data: Data) -> None:
        images = data.split("test")
        copies = pickle.loads(pickle.dumps(images)), pickle.loads(pickle.dumps(data)).split("test")
        index = torch.arange(len(images))
        for copy in copies:
            assert copy.fingerprint() == images.fingerprint()
            assert torch.equal(copy.read(index).image, images.read(index).image)


# Class -> example; its result has to stay in [-1, 1]. Classes that need no argument are made without.
AUGMENTATIONS: dict[type, Callable[[], Augmentation]] = {
    AugmentationSequence: lambda: AugmentationSequence([Flip(), Rotation(20), Crop(2)]),
    DiffAugment: lambda: DiffAugment("translation,cutout"),  # "color" leaves the range on purpose
}


@pytest.fixture(params=[pytest.param(c, id=c.__name__) for c in found(Augmentation)])
def augmentation(request: pytest.FixtureRequest) -> Iterator[Augmentation]:
    return AUGMENTATIONS.get(request.param, request.param)()


def drawn(augmentation: Augmentation, count: int, seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name: draw.sample(count, generator) for name, draw in augmentation.draws().items()}


def images(count: int = 16, channels: int = 3) -> Tensor:
    return torch.rand(count, channels, 12, 10, generator=torch.Generator().manual_seed(1)) * 2 - 1


class TestAugmentation:
    def test_keeps_shape_type_and_range(self, augmentation: Augmentation) -> None:
        for channels in (1, 3):
            image = images(channels=channels)
            result = augmentation(image, drawn(augmentation, 16))
            assert result.shape == image.shape and result.dtype == image.dtype
            assert result.abs().max() <= 1 + 1e-6
        half = images().bfloat16()
        assert augmentation(half, drawn(augmentation, 16)).dtype == torch.bfloat16

    def test_depends_on_its_draws_only_and_leaves_its_input(self, augmentation: Augmentation) -> None:
        image = images()
        before = image.clone()
        result = augmentation(image, drawn(augmentation, 16))
        torch.manual_seed(99)
        assert torch.equal(augmentation(image, drawn(augmentation, 16)), result)
        assert torch.equal(image, before)
        assert not torch.equal(result, image)
        assert not torch.equal(augmentation(image, drawn(augmentation, 16, seed=1)), result)

    def test_a_part_of_the_batch_gives_that_part_of_the_result(self, augmentation: Augmentation) -> None:
        image, draws = images(), drawn(augmentation, 16)
        part = augmentation(image[4:9], {name: value[4:9] for name, value in draws.items()})
        torch.testing.assert_close(part, augmentation(image, draws)[4:9], rtol=0, atol=1e-6)

    def test_is_differentiable(self, augmentation: Augmentation) -> None:
        image = images(2)[:, :1, :8, :7].double().requires_grad_()
        draws = {n: v.double() if v.is_floating_point() else v for n, v in drawn(augmentation, 2).items()}
        assert torch.autograd.gradcheck(lambda x: augmentation(x, draws).float().double(), image, eps=1e-2, atol=1e-3)

    def test_masks_move_without_new_classes(self, augmentation: Augmentation) -> None:
        mask = torch.randint(0, 3, (16, 12, 10), generator=torch.Generator().manual_seed(1)) * 100
        before = mask.clone()
        moved = augmentation.move(mask, drawn(augmentation, 16), MASK)
        assert moved.shape == mask.shape and moved.dtype == torch.int64
        assert {0, 100, 200} <= set(moved.unique().tolist()) <= {0, 100, 200, VOID}
        assert torch.equal(mask, before)
        other = augmentation.move(mask, drawn(augmentation, 16), Kind("nearest", void=7))
        assert torch.equal(other, moved.where(moved != VOID, 7))  # what comes in is void as the kind has it
        part = augmentation.move(mask[4:9], {n: value[4:9] for n, value in drawn(augmentation, 16).items()}, MASK)
        assert torch.equal(part, moved[4:9])

    def test_targets_move_as_masks_do(self, augmentation: Augmentation) -> None:
        # A target that says where the left half is has to stay over the mask that says the same.
        mask = (torch.arange(10) < 5).long().expand(16, 12, 10)
        draws = drawn(augmentation, 16)
        moved = augmentation.move(mask, draws, MASK)
        target = augmentation.move(mask[:, None].float(), draws, TARGET)[:, 0]
        sure = (moved != VOID) & ((target - 0.5).abs() > 0.49)  # away from the border, where targets are interpolated
        assert sure.float().mean() > 0.5 and torch.equal(target[sure].round().long(), moved[sure])

    def test_copies_of_other_names_draw_apart(self, augmentation: Augmentation) -> None:
        if "name" in inspect.signature(type(augmentation)).parameters:
            other = type(augmentation)(name="other")  # type: ignore[call-arg]
            assert not augmentation.draws().keys() & other.draws().keys()
            assert all(name.split(".")[0] == "other" for name in other.draws())

    def test_pickles(self, augmentation: Augmentation) -> None:
        image, draws = images(), drawn(augmentation, 16)
        assert torch.equal(pickle.loads(pickle.dumps(augmentation))(image, draws), augmentation(image, draws))


def test_names_are_unique_among_augmentations() -> None:
    names = [
        name for c in found(Augmentation) if c is not AugmentationSequence for name in AUGMENTATIONS.get(c, c)().draws()
    ]
    assert len(names) > 6 and len(set(names)) == len(names)
