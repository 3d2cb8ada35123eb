"""What a teacher made of which latents: all that a black box gives away."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from limbeck.data.base import Data, Images, Split, data_root, to_float
from limbeck.data.ranges import SIGNED, Range, check_values, checked_range, signed
from limbeck.errors import DataError, RecipeError, nearest
from limbeck.ground.arrays import ENDINGS, Shape, hash_bytes, read_arrays, read_shapes
from limbeck.ground.randomness import generator
from limbeck.types import Batch


class LatentPairs(Data):
    """Latents with the images that a teacher made of them, for distilling a teacher whose weights nobody shows.

    A sample has `latent`, `target` (the teacher's image) and `image`: a real one where there is a set of them beside,
    else the teacher's again. Real images are those of the same split of their own set. In training the fewer of the
    two, pairs or real images, come again and again; a held-out split has every real image once, as it is what
    results are measured against.

    Pairs with labels meet real images of the same class; classes without pairs are left out. For pairs without, the
    label is that of the real image, which a feature network can learn and a class-conditional generator cannot.

    Args:
        path: A .safetensors or .npz file, or a folder of them, with `latent` (N, ...), `image` (N, C, H, W) of uint8
            0..255 or floats in `image_range`, and perhaps `label` (N,), class numbers from 0; a relative path is looked
            for here, then in the data root. `limbeck sample --pairs` writes such a file.
        images: Real images beside them; null when there are none.
        validation: Part of the pairs held out for validation, in (0, 1), at least one; drawn with a fixed seed.
        test: Part of the pairs held out for testing, as `validation`.
        name: What results are filed under; null for the file's name, after that of the real images.
        image_range: (low, high) of the images in the files where they are floats, as `Import` has it; uint8 is 0..255.

    Raises:
        DataError: The files are missing, damaged, or hold something else; on reading, images have another range, or
            look as if they had: floats that never go below 0 are not in [-1, 1].
        RecipeError: Arguments that cannot be used together.
    """

    def __init__(
        self,
        path: str,
        images: Data | None = None,
        *,
        validation: float = 0.1,
        test: float = 0.1,
        name: str | None = None,
        image_range: tuple[float, float] = SIGNED,
    ) -> None:
        self.image_range = checked_range("LatentPairs.image_range", image_range)
        if not (0 < validation < 1 and 0 < test < 1 and validation + test < 1):
            raise RecipeError(
                "LatentPairs: expected parts in (0, 1) that leave some for training, found"
                f" validation {validation} and test {test}"
            )
        self.path, self.images = _existing(path), images
        self.name = name or "-".join([*([images.name] if images else []), self.path.resolve().stem])
        self._files = _files(self.path)
        shapes = [_checked_shapes(file) for file in self._files]
        _agree(self._files, shapes)
        self.image_shape = (shapes[0]["image"][1], shapes[0]["image"][2], shapes[0]["image"][3])
        self.count = sum(shape["image"][0] for shape in shapes)
        self.labelled = "label" in shapes[0]
        self.classes = self._classes()
        self._parts = _parts(self.path, self.count, validation, test)
        self._whole: dict[str, Tensor] = {}
        self._splits: dict[Split, PairImages] = {}

    def gives(self) -> tuple[str, ...]:
        """Return the fields of its batches, the latents and the teacher's images among them."""
        return (*super().gives(), "target", "latent")

    def split(self, name: Split) -> PairImages:
        """Return the samples of a split; the files are read on the first call."""
        if not self._whole:
            self._whole = _load(self.path, self._files, self.image_range)
        if name not in self._splits:
            pairs = {key: tensor[self._parts[name]] for key, tensor in self._whole.items()}
            real = self.images.split(name) if self.images else None
            self._splits[name] = PairImages(pairs, real, every_pair=name == "train")
        return self._splits[name]

    def _classes(self) -> tuple[str, ...]:
        """Return the names of the classes, after checking that real images fit the pairs."""
        real = self.images
        if real is not None and real.image_shape != self.image_shape:
            raise RecipeError(
                f"LatentPairs.images: expected real images {self.image_shape} (C, H, W) as in {self.path}, found"
                f" {real.image_shape}; set their size and channels"
            )
        if not self.labelled:
            return real.classes if real else ()
        highest = max(int(_label(file).max()) for file in self._files)
        if real is None:
            return tuple(str(k) for k in range(highest + 1))
        if highest >= len(real.classes):
            raise RecipeError(
                f"LatentPairs.images: expected real images with labels up to {highest}, as in {self.path}, found"
                f" {len(real.classes)} classes"
            )
        return real.classes


class PairImages(Images):
    """Pairs in memory, perhaps with real images beside them.

    Args:
        pairs: `latent` (N, ...), float32; `image` (N, C, H, W), uint8 or float32 in [-1, 1]; perhaps `label` (N,).
        real: Real images, or None.
        every_pair: Let every pair occur, even where there are fewer real images.
    """

    def __init__(self, pairs: Mapping[str, Tensor], real: Images | None, *, every_pair: bool) -> None:
        self.pairs, self.real = dict(pairs), real
        self.streaming = real is not None and real.streaming
        count = len(self.pairs["image"])
        self.pair_of = self.real_of = torch.arange(count)
        if real is not None:
            own, theirs = torch.zeros(count), torch.zeros(len(real))
            if "label" in self.pairs and (label := real.labels()) is not None:
                own, theirs = self.pairs["label"], label
            self.pair_of, self.real_of = beside(own, theirs, every_pair=every_pair)

    def __len__(self) -> int:
        return len(self.pair_of)

    def read(self, indices: Tensor) -> Batch:
        """Return the samples at `indices`."""
        pair = self.pair_of[indices]
        target, label = self.pairs["image"][pair], self.pairs.get("label")
        target = to_float(target) if target.dtype == torch.uint8 else target
        real = None if self.real is None else self.real.read(self.real_of[indices])
        if label is not None:
            label = label[pair]
        elif real is not None:
            label = real.label
        return Batch(
            image=target.clone() if real is None else real.image,
            label=label,
            target=target,
            latent=self.pairs["latent"][pair],
            index=indices,
        )

    def fingerprint(self) -> str:
        """Return a hash of the pairs and of the real images."""
        digest = hashlib.sha256(self.real.fingerprint().encode() if self.real else b"")
        for name, tensor in self.pairs.items():
            digest.update(repr((name, tuple(tensor.shape), str(tensor.dtype))).encode())
            hash_bytes(digest, tensor)
        return digest.hexdigest()[:16]


def beside(pair: Tensor, real: Tensor, *, every_pair: bool) -> tuple[Tensor, Tensor]:
    """Return which pair and which real image each sample has: (M,) numbers of pairs, (M,) numbers of real images.

    They are of the same class, in the order of the real images. Of each class there are as many samples as real
    images, or as pairs if these are more and `every_pair`; the fewer of the two are cycled.

    Args:
        pair: Class of every pair (P,).
        real: Class of every real image (R,).
        every_pair: Whether no pair may be left out.

    Raises:
        DataError: A class has pairs but no real images.
    """
    order, pairs, reals = [], [], []
    for k in torch.unique(pair):
        ours, theirs = (pair == k).nonzero()[:, 0], (real == k).nonzero()[:, 0]
        if not len(theirs):
            raise DataError(
                f"LatentPairs.images: expected real images of class {int(k)}, as the pairs have, found none"
            )
        turn = torch.arange(max(len(ours), len(theirs)) if every_pair else len(theirs))
        pairs.append(ours[turn % len(ours)])
        reals.append(theirs[turn % len(theirs)])
        order.append(reals[-1] + turn // len(theirs) * len(real))  # one round of the real images after another
    sorted_ = torch.cat(order).argsort()
    return torch.cat(pairs)[sorted_], torch.cat(reals)[sorted_]


def _parts(path: Path, count: int, validation: float, test: float) -> dict[Split, Tensor]:
    tested, validated = max(1, round(test * count)), max(1, round(validation * count))
    if tested + validated >= count:
        raise DataError(f"{path}: {count} pairs leave none for training; give more, or hold out less")
    order = torch.randperm(count, generator=generator("pairs", "split"))
    parts = order.split_with_sizes([tested, validated, count - tested - validated])
    names: tuple[Split, ...] = ("test", "validation", "train")
    return {name: part.sort().values for name, part in zip(names, parts, strict=True)}


def _existing(path: str) -> Path:
    """Return the file or folder `path`, here or in the data root."""
    here = Path(path).expanduser()
    places = [here] if here.is_absolute() else [here, data_root() / here]
    found = next((place for place in places if place.exists()), None)
    if found is None:
        raise DataError(f"no such file or folder of pairs: {' or '.join(map(str, places))}")
    return found


def _files(path: Path) -> list[Path]:
    files = [path]
    if path.is_dir():
        files = sorted(p for p in path.iterdir() if p.suffix in ENDINGS and not p.name.startswith("."))
    if not files or files[0].suffix not in ENDINGS:
        raise DataError(f"{path}: expected pairs of latent and image in {' or '.join(ENDINGS)} files, found none")
    return files


def _checked_shapes(file: Path) -> dict[str, Shape]:
    """Return the shapes of `latent`, `image` and perhaps `label` in a file, of which nothing else is read."""
    found = read_shapes(file)
    for name in ("latent", "image"):
        if name not in found:
            there = ", ".join(found) or "nothing"
            raise DataError(
                f"{file}: expected `latent`, `image` and perhaps `label`, found {there}{nearest(name, found)}"
            )
    shapes: dict[str, Shape] = {name: found[name] for name in ("latent", "image", "label") if name in found}
    _check_shapes(file, shapes)
    return shapes


def _check_shapes(file: Path, shapes: dict[str, Shape]) -> None:
    """Refuse images that are none, and latents and labels of another number than images."""
    count = shapes["image"][0] if shapes["image"] else 0
    if len(shapes["image"]) != 4 or 0 in shapes["image"]:
        raise DataError(f"{file}: expected `image` (N, C, H, W), found {shapes['image']}")
    if len(shapes["latent"]) < 2 or shapes["latent"][0] != count:
        raise DataError(f"{file}: expected `latent` ({count}, ...), one for each image, found {shapes['latent']}")
    if shapes.get("label", (count,)) != (count,):
        raise DataError(f"{file}: expected `label` ({count},), one for each image, found {shapes['label']}")


def _agree(files: list[Path], shapes: list[dict[str, Shape]]) -> None:
    """Check that the samples of all files have the same shapes."""
    first, *others = ({name: shape[1:] for name, shape in some.items()} for some in shapes)
    for file, other in zip(files[1:], others, strict=True):
        if other != first:
            raise DataError(f"{file}: expected samples as in {files[0].name}, {first}, found {other}")


def _load(path: Path, files: list[Path], image_range: Range) -> dict[str, Tensor]:
    """Return all pairs, checked; images are uint8, or float32 in [-1, 1] where any file has floats."""
    parts = [_checked(file) for file in files]
    images = [part["image"] for part in parts]
    check_values(f"{path}: image", images, image_range, "image_range: [{}]")
    if any(image.dtype != torch.uint8 for image in images):
        parts = [part | {"image": signed(part["image"], image_range)} for part in parts]
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def _checked(file: Path) -> dict[str, Tensor]:
    """Return the pairs of a file: latents as float32, images as they are, and labels where there are any."""
    pairs = read_arrays(file, ["latent", "image"])
    latent, image = pairs["latent"], pairs["image"]
    if not latent.is_floating_point() or not latent.isfinite().all():
        raise DataError(f"{file}: expected finite floats as `latent`, found {_values(latent)}")
    if image.dtype != torch.uint8 and not (image.is_floating_point() and image.isfinite().all()):
        raise DataError(f"{file}: expected `image` as uint8 0..255 or as floats, found {_values(image)}")
    pairs = {"latent": latent.float(), "image": image}
    return pairs | ({"label": _label(file)} if "label" in read_shapes(file) else {})


def _label(file: Path) -> Tensor:
    label = read_arrays(file, ["label"])["label"]
    if label.dtype in (torch.uint16, torch.uint32, torch.uint64):  # torch can hold them, and little else
        label = label.long()
    if label.is_floating_point() or label.dtype == torch.bool or label.min() < 0:
        raise DataError(f"{file}: expected whole numbers from 0 as `label`, found {_values(label)}")
    return label.long()


def _values(tensor: Tensor) -> str:
    """Return the type and the range of a tensor, or that it holds what is no number."""
    if not tensor.isfinite().all():
        return f"{tensor.dtype} with {int((~tensor.isfinite()).sum())} values that are NaN or infinite"
    return f"{tensor.dtype} in [{tensor.min().item():.4g}, {tensor.max().item():.4g}]"
