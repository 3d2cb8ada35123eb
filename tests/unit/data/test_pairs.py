"""Pairs of latent and image: the files, the splits, real images beside, and a student that learns from them."""

from __future__ import annotations

import copy
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from limbeck.data.base import to_float
from limbeck.data.pairs import LatentPairs, beside
from limbeck.data.tensors import TensorImages
from limbeck.errors import DataError, RecipeError
from limbeck.ground.arrays import read_arrays, read_shapes, write_arrays
from limbeck.methods.gan import Gan
from limbeck.networks.gan.dcgan import DcganDiscriminator, DcganGenerator
from limbeck.tasks.generation import Generation
from limbeck.terms.output_distance import OutputDistance
from limbeck.training.checkpoint import load
from limbeck.training.feed import Material
from limbeck.training.job import Job, Place
from limbeck.training.launch import fit
from limbeck.training.options import Training
from limbeck.types import Batch
from limbeck.weighting.scheduled import Scheduled


def made(count: int = 40, seed: int = 0, *, label: int = 0, **shape: Any) -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    pairs = {
        "latent": torch.randn(count, *shape.get("latent", (4,)), generator=draw),
        "image": torch.randint(256, (count, *shape.get("image", (1, 8, 6))), generator=draw, dtype=torch.uint8),
    }
    return pairs | ({"label": torch.arange(count) % label} if label else {})


def written(file: Path, pairs: Mapping[str, Tensor]) -> str:
    if file.suffix == ".npz":
        np.savez_compressed(file, **{name: tensor.numpy() for name, tensor in pairs.items()})
    else:
        save_file(dict(pairs), file)
    return str(file)


def everything(data: LatentPairs, split: Any = "train") -> Batch:
    images = data.split(split)
    return images.read(torch.arange(len(images)))


@pytest.mark.parametrize("ending", ["safetensors", "npz"])
@pytest.mark.parametrize("label", [0, 3])
def test_a_file_comes_back_as_it_was_written(tmp_path: Path, ending: str, label: int) -> None:
    pairs = made(label=label)
    data = LatentPairs(written(tmp_path / f"teacher.{ending}", pairs))
    assert (data.name, data.image_shape, data.count) == ("teacher", (1, 8, 6), 40)
    assert data.classes == tuple("012"[:label])
    rows = {}
    for split in ("train", "validation", "test"):
        batch = everything(data, split)
        assert batch.latent is not None and batch.target is not None and batch.image is not None
        assert torch.equal(batch.image, batch.target) and batch.image is not batch.target
        assert (batch.label is None) == (not label)
        for i, latent in enumerate(batch.latent):
            rows[tuple(latent.tolist())] = (batch.target[i], None if batch.label is None else int(batch.label[i]))
    assert len(rows) == 40
    for i, latent in enumerate(pairs["latent"]):
        image, found = rows[tuple(latent.tolist())]
        assert torch.equal(image, to_float(pairs["image"][i]))
        assert found == (int(pairs["label"][i]) if label else None)
    assert [len(data.split(s)) for s in ("train", "validation", "test")] == [32, 4, 4]


def test_a_folder_of_files_is_one_set_and_floats_are_kept(tmp_path: Path) -> None:
    first, second = made(10, 1), made(20, 2)
    second["image"] = to_float(second["image"])
    written(tmp_path / "b.npz", second)
    written(tmp_path / "a.safetensors", first)
    (tmp_path / "README.md").write_text("not pairs")
    data = LatentPairs(str(tmp_path), name="mine")
    assert (data.count, data.name) == (30, "mine")
    batch = everything(data)
    both = torch.cat([to_float(first["image"]), second["image"]])
    assert batch.target is not None and batch.latent is not None
    order = torch.cat([first["latent"], second["latent"]])
    place = (batch.latent[:, None] == order[None]).all(2).int().argmax(1)
    assert torch.equal(batch.target, both[place]) and torch.equal(place, place.sort().values)


def test_splits_are_the_same_every_time_and_follow_the_parts(tmp_path: Path) -> None:
    path = written(tmp_path / "p.npz", made())
    one, other = (everything(LatentPairs(path, validation=0.25, test=0.5), "validation").latent for _ in range(2))
    assert one is not None and other is not None and torch.equal(one, other) and len(one) == 10


def test_real_images_beside_are_those_of_the_split_and_the_fewer_are_cycled(tmp_path: Path) -> None:
    few, many = (TensorImages(made(count, 5)["image"]) for count in (20, 100))
    path = written(tmp_path / "p.safetensors", made())
    data = LatentPairs(path, few)
    assert data.name == "tensors-p"
    own, real = everything(data), few.split("train")
    assert own.image is not None and own.latent is not None and len(own) == 32  # every pair; 16 real images twice
    assert torch.equal(own.image, real.read(torch.arange(32) % 16).image)
    assert len({tuple(latent.tolist()) for latent in own.latent}) == 32
    data = LatentPairs(path, many)
    own, real = everything(data), many.split("train")
    assert torch.equal(own.image, real.read(torch.arange(80)).image)
    assert own.latent is not None and torch.equal(own.latent[:32], own.latent[32:64])
    for images in (few, many):  # what is measured against: every real image once
        held_out = everything(LatentPairs(path, images), "test")
        expected = images.split("test").read(torch.arange(len(images.split("test"))))
        assert torch.equal(held_out.image, expected.image)
    assert LatentPairs(path, few).split("train").fingerprint() != LatentPairs(path, many).split("train").fingerprint()


def test_labels_of_pairs_meet_real_images_of_their_class(tmp_path: Path) -> None:
    real = TensorImages(made(90, 7)["image"], torch.arange(90) % 4)
    data = LatentPairs(written(tmp_path / "p.npz", made(60, label=3)), real)
    train = data.split("train")
    label = train.read(torch.arange(len(train))).label
    assert label is not None and data.classes == ("0", "1", "2", "3")
    assert torch.equal(real.split("train").read(train.real_of).label, label)
    assert torch.equal(train.pairs["label"][train.pair_of], label)
    assert set(train.pair_of.tolist()) == set(range(48))
    unlabelled = LatentPairs(written(tmp_path / "q.npz", made(60)), real)
    found = everything(unlabelled, "test").label
    assert found is not None and torch.equal(found, real.split("test").read(torch.arange(9)).label)


def test_matching_by_hand() -> None:
    pair, real = torch.tensor([1, 0, 1, 1]), torch.tensor([0, 1, 2, 0])
    pairs, reals = beside(pair, real, every_pair=True)
    # Class 0: pair 1 with real 0 and 3. Class 1: pairs 0, 2, 3 with real 1, three rounds. Class 2 has no pair.
    assert reals.tolist() == [0, 1, 3, 1, 1] and pairs.tolist() == [1, 0, 1, 2, 3]
    pairs, reals = beside(pair, real, every_pair=False)
    assert reals.tolist() == [0, 1, 3] and pairs.tolist() == [1, 0, 1]
    with pytest.raises(DataError, match="real images of class 5"):
        beside(torch.tensor([5]), real, every_pair=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"latent": None}, "expected `latent`, `image` and perhaps `label`, found image"),
        ({"image": torch.zeros(40, 8, 6)}, r"expected `image` \(N, C, H, W\), found \(40, 8, 6\)"),
        ({"latent": torch.zeros(39, 4)}, r"`latent` \(40, ...\), one for each image, found \(39, 4\)"),
        ({"latent": torch.zeros(40)}, r"found \(40,\)"),
        ({"label": torch.zeros(40, 2, dtype=torch.int64)}, r"`label` \(40,\), one for each image, found \(40, 2\)"),
        ({"label": torch.full((40,), -1)}, r"whole numbers from 0 as `label`, found torch.int64 in \[-1, -1\]"),
        ({"label": torch.zeros(40)}, "whole numbers from 0 as `label`, found torch.float32"),
        ({"latent": torch.full((40, 4), torch.nan)}, "finite floats as `latent`, found torch.float32 with 160 values"),
        ({"latent": torch.zeros(40, 4, dtype=torch.int64)}, "finite floats as `latent`, found torch.int64"),
        ({"image": torch.full((40, 1, 8, 6), 255.0)}, r"in \[-1, 1\], found 255..255; say image_range: \[0, 255\]"),
        ({"image": torch.full((40, 1, 8, 6), torch.nan)}, "values that are NaN or infinite"),
    ],
)
@pytest.mark.parametrize("ending", ["safetensors", "npz"])
def test_files_that_hold_something_else(
    tmp_path: Path, ending: str, change: dict[str, Tensor | None], message: str
) -> None:
    pairs = {name: tensor for name, tensor in (made() | change).items() if tensor is not None}
    path = written(tmp_path / f"p.{ending}", pairs)
    with pytest.raises(DataError, match=rf"p\.{ending}: .*{message}"):
        LatentPairs(path).split("train")


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no such file or folder of pairs: .*absent\.npz"):
        LatentPairs(str(tmp_path / "absent.npz"))
    with pytest.raises(DataError, match=r"in \.safetensors or \.npz files, found none"):
        LatentPairs(str(tmp_path))
    for ending in ("safetensors", "npz"):
        file = tmp_path / f"p.{ending}"
        written(file, made())
        whole = file.read_bytes()
        for content in (b"", b"nothing of the kind", whole[: len(whole) // 2]):
            file.write_bytes(content)
            with pytest.raises(DataError, match=rf"p\.{ending}: damaged, or no \.{ending} file"):
                LatentPairs(str(file)).split("train")
    np.savez(tmp_path / "p.npz", latent=np.array([{}], dtype=object), image=np.array([{}], dtype=object))
    with pytest.raises(DataError, match=r"p\.npz"):
        LatentPairs(str(tmp_path / "p.npz")).split("train")


def test_a_pickle_in_an_archive_is_not_loaded(tmp_path: Path) -> None:
    pairs = made()
    np.savez(tmp_path / "p.npz", image=pairs["image"].numpy(), latent=np.full((40, 4), print, dtype=object))
    with pytest.raises(DataError, match=r"damaged, or no \.npz file of arrays .*pickle"):
        LatentPairs(str(tmp_path / "p.npz")).split("train")
    with zipfile.ZipFile(tmp_path / "p.npz") as archive:
        assert "latent.npy" in archive.namelist()  # the shape alone is no harm


def test_arguments_that_do_not_fit(tmp_path: Path) -> None:
    path = written(tmp_path / "p.npz", made(label=3))
    with pytest.raises(RecipeError, match=r"parts in \(0, 1\) that leave some for training, found validation 0.5"):
        LatentPairs(path, validation=0.5, test=0.5)
    with pytest.raises(RecipeError, match=r"real images \(1, 8, 6\) .* found \(1, 9, 9\); set their size"):
        LatentPairs(path, TensorImages(made(image=(1, 9, 9))["image"]))
    with pytest.raises(RecipeError, match=r"real images with labels up to 2, .* found 0 classes"):
        LatentPairs(path, TensorImages(made()["image"]))
    with pytest.raises(DataError, match="2 pairs leave none for training"):
        LatentPairs(written(tmp_path / "few.npz", made(2)))
    written(tmp_path / "r.npz", made(latent=(5,)))
    with pytest.raises(DataError, match=r"r\.npz: expected samples as in few.npz, .* found .*\(5,\)"):
        (tmp_path / "p.npz").unlink()
        LatentPairs(str(tmp_path))


def test_written_arrays_are_read_again_and_other_endings_refused(tmp_path: Path) -> None:
    pairs = made()
    write_arrays(tmp_path / "new" / "p.safetensors", {"latent": pairs["latent"][::2], "image": pairs["image"]})
    assert read_shapes(tmp_path / "new" / "p.safetensors") == {"latent": (20, 4), "image": (40, 1, 8, 6)}
    found = read_arrays(tmp_path / "new" / "p.safetensors", ["latent"])["latent"]
    assert torch.equal(found, pairs["latent"][::2])
    assert set(load_file(tmp_path / "new" / "p.safetensors")) == {"latent", "image"}
    with pytest.raises(DataError, match=r"p\.npz: expected a file that ends in \.safetensors"):
        write_arrays(tmp_path / "p.npz", pairs)


# A student of a black box


def generator(width: int, seed: int) -> DcganGenerator:
    torch.manual_seed(seed)
    return DcganGenerator(width, latent=4, size=16)


def distance(student: nn.Module, teacher: nn.Module, seed: int = 9) -> float:
    latent = torch.randn(64, 4, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        return float((student.eval()(latent) - teacher.eval()(latent)).abs().mean())


@pytest.fixture
def one_thread() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def teacher() -> DcganGenerator:
    """A teacher with some contrast; an untrained one makes grey pictures, which are no feat to follow."""
    network = generator(8, 1)
    with torch.no_grad():
        network.output.weight.mul_(20)
        for _ in range(40):  # fills in the statistics of batch normalisation
            network(torch.randn(64, 4))
    return network.eval()


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("real", [False, True], ids=["alone", "with real images"])
def test_a_student_of_a_black_box_comes_near_it(tmp_path: Path, real: bool) -> None:
    box = teacher()
    latent = torch.randn(400, 4, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        path = written(tmp_path / "box.npz", {"latent": latent, "image": box(latent)})
    data = LatentPairs(path, TensorImages(made(90, image=(1, 16, 16))["image"]) if real else None)
    torch.manual_seed(3)
    student = generator(4, 3)
    method = Gan(student, DcganDiscriminator(4, size=16), terms={"student.output": OutputDistance("target")})
    before = distance(copy.deepcopy(student), box)
    job = Job(
        method=method,
        material=Material(data.split("train"), Generation((4,))),
        training=Training(60, 32, {"student": lambda p: torch.optim.Adam(p, 1e-2)}, checkpoint_every=60),
        weighting=Scheduled({"student.adversarial": 0.05}, Gan.losses(["student.output"])),
        seed=0,
        place=Place(tmp_path / "arm", accelerator="cpu"),
    )
    fit(job)
    trained = generator(4, 3)
    trained.load_state_dict(load(job.place.final)["student"])
    # On latents that are in no file: the student has learnt the function, not the pairs.
    assert distance(trained, box) < 0.6 * before
    fidelity = Generation((4,), samples=32).evaluate(trained, data, split="test", seed=0)
    untrained = Generation((4,), samples=32).evaluate(generator(4, 3).eval(), data, split="test", seed=0)
    assert fidelity["psnr_to_teacher"] > untrained["psnr_to_teacher"] + 1


def test_the_task_keeps_the_latents_of_the_data_for_training_and_draws_them_for_evaluation(tmp_path: Path) -> None:
    pairs = made(image=(1, 16, 16))
    data, task = LatentPairs(written(tmp_path / "p.npz", pairs)), Generation((4,), samples=20)
    batch = data.split("train").read(torch.arange(8))
    drawn = {"latent": torch.zeros(8, 4)}
    given = task.prepare(Batch(image=batch.image, latent=batch.latent, target=batch.target, drawn=drawn))
    assert given.latent is batch.latent and given.target is batch.target
    assert task.prepare(Batch(image=batch.image, drawn=drawn)).latent is drawn["latent"]
    with pytest.raises(RecipeError, match=r"task\.latent: expected the shape of the data's own latents, \[4\], found"):
        Generation((5,)).prepare(batch)

    class Seen(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.latents: list[Tensor] = []

        def forward(self, latent: Tensor) -> Tensor:
            self.latents.append(latent)
            return latent.mean(1)[:, None, None, None].expand(-1, 1, 16, 16)

    network = Seen()
    found = task.evaluate(network, data, split="test", seed=0)
    prior, held_out = network.latents  # first the samples for every distribution metric, then the split's own latents
    known = {tuple(latent.tolist()) for latent in pairs["latent"]}
    assert len(prior) == 20 and not {tuple(latent.tolist()) for latent in prior} & known
    assert torch.equal(held_out, everything(data, "test").latent)
    assert {"psnr_to_teacher", "ssim_to_teacher"} < set(found)
    beside_teacher = task.evaluate(network, data, split="test", seed=0, teacher=Seen())
    assert beside_teacher["ssim_to_teacher"] == pytest.approx(1)
