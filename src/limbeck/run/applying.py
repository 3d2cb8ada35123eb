"""A trained network on images of one's own: files in, files out."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from io import BytesIO
from pathlib import Path
from typing import Literal

import torch
from PIL import Image
from torch import Tensor, nn

from limbeck.data.image_files import list_images
from limbeck.data.pictures import picture
from limbeck.data.pixels import PLAIN, Reading, check_depth
from limbeck.errors import DataError, LimbeckError, RecipeError, WeightsError, in_a_line
from limbeck.export.safetensors import Safetensors
from limbeck.ground.files import write_atomically
from limbeck.ground.progress import tracked
from limbeck.networks.handling.tiling import tiled
from limbeck.networks.roles import Classifier, Denoiser, Discriminator, Generator, Wrapper, segments, stated, unwrap
from limbeck.recipe.reader import network_of
from limbeck.run.photographs import palette_of, picture_of, read_picture, to_tensor

TILE, OVERLAP = 256, 32  # side of a square in which large images are processed, and pixels around it
LEAST = 16  # height and width that a stylizer needs
STYLE_SIZE = 256  # at which a picture of a style is looked at
# Roles that make no image of an image, and which verb to choose instead.
INSTEAD: Mapping[type[nn.Module], str] = {
    Generator: "`limbeck sample RECIPE` writes what it makes",
    Denoiser: "it takes noise away step by step, and makes nothing of a photograph",
    Classifier: "`limbeck evaluate RECIPE` measures it",
    Discriminator: "it only gives scores",
}


def exported(weights: Path, *, trust: bool = False) -> nn.Module:
    """Return the network that a run exported as RUN/NAME.safetensors, built as the run's `result.json` says.

    Args:
        weights: The file.
        trust: Run code outside Limbeck that the result names; without it a network of such code is refused.

    Raises:
        LimbeckError: There is no such file, or no result beside it that knows it, or its code is not trusted.
    """
    if not weights.is_file():
        raise WeightsError(f"{weights}: no such file; expected the NAME.safetensors of a student in a run's folder")
    result = weights.parent / "result.json"
    try:
        tree = json.loads(result.read_text(encoding="utf-8"))["recipe"]
    except (OSError, ValueError, KeyError) as error:
        raise WeightsError(f"{result}: expected the run's result beside {weights.name}, found none") from error
    return Safetensors(lambda: network_of(tree, weights.stem, trust=trust)).load(weights)


class Painter(Wrapper):
    """A stylizer that always paints in one style.

    Args:
        module: The stylizer.
        style: What it takes for one image, a number (1,) or a picture (1, 3, h, w); None where it knows one style.
    """

    style: Tensor | None

    def __init__(self, module: nn.Module, style: Tensor | None) -> None:
        super().__init__()
        self.module = module
        self.register_buffer("style", style, persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        """Return paintings (N, 3, H, W) of images (N, 3, H, W) of any size; small ones are continued at the edges."""
        height, width = image.shape[2:]
        around = (0, max(0, LEAST - width), 0, max(0, LEAST - height))
        style = [] if self.style is None else [self.style.expand(len(image), *self.style.shape[1:])]
        painted: Tensor = self.module(nn.functional.pad(image, around, mode="replicate"), *style)
        return painted[..., :height, :width]


def in_style(network: nn.Module, style: str | None) -> nn.Module:
    """Return a network that takes nothing but images: a stylizer with its style, and any other one as it is.

    Args:
        network: A network.
        style: Which of its styles a stylizer is to paint in, by number; a picture for one that takes any.

    Raises:
        LimbeckError: The network does not know that style, or the picture cannot be read.
    """
    inner = unwrap(network)
    known, name = getattr(inner, "styles", None), type(inner).__name__
    if known is None or known == 1:
        if style is not None:
            raise RecipeError(f"--style: expected none, as {name} has {'one' if known else 'no'} style, found {style}")
        return Painter(network, None) if known else network
    if known == 0:
        if style is None:
            raise RecipeError(f"--style: expected a picture, as {name} takes any style, found none")
        return Painter(network, picture(style, STYLE_SIZE))
    return Painter(network, torch.tensor([_number(style, known, name)]))


def _number(style: str | None, known: int, name: str) -> int:
    """Return the number of one of the styles that a network knows."""
    if style is None or not style.isdecimal() or int(style) >= known:
        found = "none" if style is None else style
        raise RecipeError(f"--style: expected a number from 0 to {known - 1}, a style of {name}, found {found}")
    return int(style)


def check_role(network: nn.Module) -> None:
    """Refuse a network that makes no image of an image.

    Raises:
        RecipeError: It is one.
    """
    inner, said = unwrap(network), stated(network, "role")
    for kind, instead in INSTEAD.items():
        role = kind.__name__.lower()
        if isinstance(inner, kind) or said == role:
            raise RecipeError(
                "limbeck apply: expected a network that makes images of images, such as a restorer, a stylizer or a"
                f" segmenter, found {type(inner).__name__}, a {role}; {instead}"
            )


def apply_to(
    network: nn.Module,
    source: Path,
    out: Path,
    device: torch.device,
    tile: int | Literal["auto"] | None = "auto",
    *,
    reading: Reading = PLAIN,
) -> Iterator[Path]:
    """Write what a network makes of an image, or of all images below a folder, as PNG files, and yield their paths.

    Images are turned upright as their EXIF data say; their other EXIF data are kept, and their colour profile where the
    result has their colours (not of CMYK, nor of grey that a network of RGB gets).
    Transparency is kept, enlarged with the image; for a network that fills holes the transparent pixels are the holes.
    What a segmenter writes are masks: palette images whose values are the numbers of the classes.

    Args:
        network: Takes images (N, C, H, W) in [-1, 1]: a restorer, a segmenter, a stylizer `in_style`, or another
            network of any size of image.
        source: A file or a folder.
        out: Folder of the results, which has the subfolders of the source.
        device: Where to compute.
        tile: Side of the squares in which larger images are processed, in pixels; None for the whole image at once.
            "auto" is 256, and the whole image for stylizers and networks with instance normalisation: what they make
            depends on all of it.
        reading: What the numbers of the files mean, and how large an image may be.

    Raises:
        LimbeckError: A result cannot be written or would overwrite something; the network makes no images of images;
            or images cannot be read or processed, which is told when all others are done.
    """
    check_role(network)
    if tile == "auto":
        tile = None if _sees_all(network) else TILE
    if tile is not None and tile < 1:
        raise RecipeError(f"--tile: expected a whole number of at least 1, found {tile}")
    files = _sources(source)
    check_depth([*files.values()], reading)
    targets = _targets(files, out)
    network = network.to(device).eval()
    described = tracked(list(files), type(unwrap(network)).__name__)
    bad: list[LimbeckError] = []
    for file in described:
        try:
            made = _processed(network, files[file], device, tile, reading)
        except LimbeckError as error:
            bad.append(error)
            continue
        content = BytesIO()
        made.save(content, "PNG", **{name: made.info[name] for name in ("exif", "icc_profile") if name in made.info})
        try:
            write_atomically(targets[file], content.getvalue())
        except OSError as error:
            raise DataError(f"{targets[file]}: cannot be written ({error.strerror}); choose another --out") from error
        yield targets[file]
    if bad:
        left = "" if len(files) == 1 else f"{len(bad)} of {len(files)} images are left out, the others are done: "
        raise DataError(left + "; ".join(str(error) for error in bad))


def _sources(source: Path) -> dict[Path, Path]:
    """Return the images by their path inside the source."""
    if source.is_file():
        return {Path(source.name): source}
    if not source.is_dir():
        raise DataError(f"{source}: no such image or folder")
    found = {file: source / file for file in list_images(source, source)}
    if not found:
        raise DataError(f"{source}: expected images, found none")
    return found


def _targets(files: dict[Path, Path], out: Path) -> dict[Path, Path]:
    """Return where each result goes; a name that two images share gets the ending of each.

    Raises:
        DataError: A result would take the place of a picture in a folder that is read, or of another result.
    """
    alike = Counter(file.with_suffix("") for file in files)
    targets = {
        file: out / (file.with_suffix(".png") if alike[file.with_suffix("")] == 1 else Path(f"{file}.png"))
        for file in files
    }
    folders = {path.parent.resolve() for path in files.values()}
    for target, count in Counter(targets.values()).items():
        if target.parent.resolve() in folders and target.exists():
            raise DataError(f"{target}: would overwrite an original; choose another folder with --out")
        if count > 1:
            raise DataError(f"{target}: two results would have this name; rename one of the images")
    return targets


def _sees_all(network: nn.Module) -> bool:
    """Return whether what a network makes of a pixel depends on the whole image."""
    return isinstance(network, Painter) or any(isinstance(part, nn.InstanceNorm2d) for part in network.modules())


def _processed(network: nn.Module, file: Path, device: torch.device, tile: int | None, reading: Reading) -> Image.Image:
    """Return what a network makes of an image.

    Raises:
        LimbeckError: The image cannot be read, or the network cannot be run on it.
    """
    try:
        return _made(network, file, device, tile, reading)
    except LimbeckError:
        raise
    except Exception as error:  # whatever somebody's own network raises
        raise RecipeError(
            f"{file}: {type(unwrap(network)).__name__} cannot be run on it: {in_a_line(error)}"
        ) from error


@torch.no_grad()
def _made(network: nn.Module, file: Path, device: torch.device, tile: int | None, reading: Reading) -> Image.Image:
    channels = int(stated(network, "channels", 3))
    inputs, scale = int(stated(network, "inputs", channels)), int(stated(network, "scale", 1))
    picture, alpha, kept = read_picture(file, channels, reading)
    image = to_tensor(picture)
    if inputs > channels:
        hole = torch.zeros_like(image[:, :1]) if alpha is None else (to_tensor(alpha) < 0).float()
        image = torch.cat([torch.where(hole > 0, torch.zeros_like(image), image), hole * 2 - 1], 1)
        alpha = None
    whole = tile is None or max(image.shape[2:]) <= tile
    image = image.to(device)
    made = network(image) if tile is None or whole else tiled(network, image, tile, OVERLAP, scale)
    if made.ndim != 4:
        raise RecipeError(
            f"{type(unwrap(network)).__name__}: expected one image of an image, found {tuple(made.shape)}"
        )
    classes = segments(network)
    result = palette_of(made.cpu()) if classes else picture_of(made.cpu())
    if alpha is not None and not classes:
        result.putalpha(alpha.resize(result.size, Image.Resampling.BICUBIC))
    result.info.update(kept)
    return result
