"""`limbeck apply`: a run's student on images of one's own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from limbeck.baselines.style.fourier_style import FourierStyle
from limbeck.cli import main
from limbeck.data.pictures import picture
from limbeck.errors import RecipeError
from limbeck.networks.roles import Restorer, Segmenter
from limbeck.networks.stylizers.johnson import JohnsonStylizer
from limbeck.networks.translators.translation_resnet import TranslationResnet
from limbeck.recipe.reader import read_recipe
from limbeck.run.applying import apply_to, exported, in_style
from limbeck.run.estimate import estimate

RECIPE = """
name: tiny
data: {class_path: Glyphs, init_args: {size: 32, train: 32, validation: 8, test: 12}}
task: {class_path: Restoration, init_args: {degradation: {class_path: Downscale, init_args: {scale: 2}}}}
method: Restore
teacher:
  network: {class_path: Imdn, init_args: {width: 8, blocks: 1, scale: 2}}
  training: {steps: 2, batch: 4}
student:
  network: {class_path: Imdn, init_args: {width: 4, blocks: 1, scale: 2}}
  training: {steps: 2, batch: 4}
baselines:
  bicubic: {class_path: Interpolation, init_args: {scale: 2}}
"""


PAINTING = """
name: painted
data: {class_path: EmbeddedPhotos, init_args: {size: 32, stride: 96}}
task:
  class_path: Stylization
  init_args:
    styles: [gravel.png, brick.png]
    style_size: 32
    feature_network: &seen {class_path: Vgg16, init_args: {width: 2}}
    samples: 4
method: {class_path: Stylize, init_args: {styles: [gravel.png, brick.png], style_size: 32}}
networks: {feature_network: *seen}
student:
  network: {class_path: JohnsonStylizer, init_args: {width: 2, blocks: 1, styles: 2}}
  training: {steps: 2, batch: 4}
students:
  numbered: {}
  any:
    network:
      class_path: AdaptiveStylizer
      init_args: {encoder: {class_path: Vgg16, init_args: {width: 2, until: relu2_1, trained: true}}}
control: false
baselines:
  fourier: FourierStyle
"""


class Fill(Restorer):
    """Paints holes white."""

    def __init__(self) -> None:
        super().__init__()
        self.channels, self.inputs, self.scale = 3, 4, 1

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return torch.where(image[:, 3:] > 0, torch.ones_like(image[:, :3]), image[:, :3])


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    (folder / "recipe.yaml").write_text(RECIPE)
    assert main(["run", str(folder / "recipe.yaml"), "--out", str(folder / "tiny"), "--accelerator", "cpu"]) == 0
    report = (folder / "tiny" / "report.html").read_text()
    assert all(f"{name}" in report for name in ("bicubic", "cut-outs, enlarged three times", "truth", "input"))
    return folder / "tiny" / "student.safetensors"


@pytest.fixture(scope="module")
def painters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run with a stylizer of two styles, and one that takes any."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "recipe.yaml").write_text(PAINTING)
    assert main(["run", str(folder / "recipe.yaml"), "--out", str(folder / "run"), "--accelerator", "cpu"]) == 0
    return folder / "run"


def test_what_takes_the_style_as_a_picture_can_be_estimated(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(PAINTING)
    rows = {row.arm: row for row in estimate(read_recipe(tmp_path / "recipe.yaml"), "cpu")}
    assert rows["any"].macs > 0 and rows["numbered"].macs > 0


def photograph(path: Path, size: tuple[int, int] = (41, 30), mode: str = "RGB") -> np.ndarray:
    path.parent.mkdir(parents=True, exist_ok=True)
    channels = len(Image.new(mode, (1, 1)).getbands())
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], channels), dtype=np.uint8)
    Image.fromarray(pixels[..., 0] if channels == 1 else pixels, mode).save(path)
    return pixels


def test_a_folder_with_subfolders_and_grey_images(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photograph(tmp_path / "in" / "a.png")
    photograph(tmp_path / "in" / "deep" / "b.jpg", mode="L")
    photograph(tmp_path / "in" / "deep" / "b.png", (9, 7))
    assert main(["apply", str(model), str(tmp_path / "in"), "--out", str(tmp_path / "out")]) == 0
    made = {file.relative_to(tmp_path / "out"): Image.open(file) for file in (tmp_path / "out").rglob("*.*")}
    sizes = {str(file): image.size for file, image in made.items()}
    assert sizes == {"a.png": (82, 60), "deep/b.jpg.png": (82, 60), "deep/b.png.png": (18, 14)}
    assert {image.mode for image in made.values()} == {"RGB"} and len(capsys.readouterr().out.splitlines()) == 3


def test_what_is_written_is_what_the_student_makes_and_tiles_do_not_show(model: Path, tmp_path: Path) -> None:
    pixels = photograph(tmp_path / "a.png", (90, 70))
    network = exported(model)
    image = torch.from_numpy(pixels).permute(2, 0, 1)[None] / 127.5 - 1
    with torch.no_grad():
        expected = ((network(image).clamp(-1, 1) + 1) * 127.5).round()[0].permute(1, 2, 0).numpy()
    for tile in (None, 33):
        (file,) = apply_to(network, tmp_path / "a.png", tmp_path / str(tile), torch.device("cpu"), tile)
        assert np.abs(np.asarray(Image.open(file), np.int32) - expected).max() <= (1 if tile else 0)


def test_a_segmenter_writes_the_numbers_of_classes_in_the_colours_of_the_report(tmp_path: Path) -> None:
    class Bright(Segmenter):
        channels, classes = 3, 2

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return torch.cat([-image.mean(1, True), image.mean(1, True)], 1)

    pixels = photograph(tmp_path / "a.png")
    (file,) = apply_to(Bright(), tmp_path / "a.png", tmp_path / "out", torch.device("cpu"))
    mask = Image.open(file)
    assert mask.mode == "P" and np.array_equal(np.asarray(mask), pixels.astype(float).mean(2) > 127.5)
    colours = {tuple(colour) for colour in np.asarray(mask.convert("RGB")).reshape(-1, 3).tolist()}
    assert colours == {(0xE6, 0x9F, 0x00), (0x56, 0xB4, 0xE9)}


def test_transparency_is_kept_or_is_the_hole(model: Path, tmp_path: Path) -> None:
    pixels = photograph(tmp_path / "a.png", mode="RGBA")
    pixels[..., 3] = 255
    pixels[5:9, 5:9, 3] = 0
    Image.fromarray(pixels).save(tmp_path / "a.png")
    (file,) = apply_to(exported(model), tmp_path / "a.png", tmp_path / "larger", torch.device("cpu"))
    larger = Image.open(file)
    assert larger.mode == "RGBA" and larger.size == (82, 60)
    alpha = np.asarray(larger)[..., 3]
    assert (alpha[12:16, 12:16] == 0).all() and (alpha[30:, 30:] == 255).all()
    (file,) = apply_to(Fill(), tmp_path / "a.png", tmp_path / "filled", torch.device("cpu"))
    filled = np.asarray(Image.open(file))
    assert filled.shape == (30, 41, 3) and (filled[5:9, 5:9] == 255).all()
    assert np.array_equal(filled[10:], pixels[10:, :, :3])


def test_images_are_upright_and_say_so_no_more(model: Path, tmp_path: Path) -> None:
    image = Image.fromarray(np.zeros((10, 20, 3), np.uint8))
    exif = image.getexif()
    exif[0x0112], exif[0x010E] = 6, "a day at sea"  # orientation: turn by a quarter; description
    image.save(tmp_path / "a.jpg", exif=exif)
    (file,) = apply_to(exported(model), tmp_path / "a.jpg", tmp_path / "out", torch.device("cpu"))
    with Image.open(file) as made:
        assert made.size == (20, 40)
        assert made.getexif().get(0x0112, 1) == 1 and made.getexif()[0x010E] == "a day at sea"


def test_grey_of_16_bits_is_as_dark_as_it_was(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 65536, (12, 9), dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / "a.png")
    (file,) = apply_to(torch.nn.Identity(), tmp_path / "a.png", tmp_path / "out", torch.device("cpu"))
    with Image.open(file) as made:
        assert np.array_equal(np.asarray(made), np.rint(values / 257).astype(np.uint8)[..., None].repeat(3, 2))


@pytest.mark.parametrize(
    ("mode", "ending", "kept"), [("RGB", "jpg", True), ("CMYK", "jpg", False), ("L", "png", False)]
)
def test_a_colour_profile_is_kept_where_it_speaks_of_the_colours(
    tmp_path: Path, mode: str, ending: str, kept: bool
) -> None:
    Image.new(mode, (9, 12)).save(tmp_path / f"a.{ending}", icc_profile=b"a profile")
    (file,) = apply_to(torch.nn.Identity(), tmp_path / f"a.{ending}", tmp_path / "out", torch.device("cpu"))
    with Image.open(file) as made:
        assert made.mode == "RGB" and made.info.get("icc_profile") == (b"a profile" if kept else None)


def test_a_network_that_normalises_over_the_image_sees_all_of_it(tmp_path: Path) -> None:
    pixels = photograph(tmp_path / "a.png", (300, 12))
    torch.manual_seed(0)
    network = TranslationResnet(2, 1).eval()
    image = torch.from_numpy(pixels).permute(2, 0, 1)[None] / 127.5 - 1
    with torch.no_grad():
        expected = levels(network(image))
    (whole,) = apply_to(network, tmp_path / "a.png", tmp_path / "whole", torch.device("cpu"))
    (tiles,) = apply_to(network, tmp_path / "a.png", tmp_path / "tiles", torch.device("cpu"), 256)
    found = [np.abs(np.asarray(Image.open(file), np.int32) - expected).max() for file in (whole, tiles)]
    assert found[0] <= 1 < found[1]


def test_originals_are_never_overwritten(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photograph(tmp_path / "a.png")
    before = (tmp_path / "a.png").read_bytes()
    assert main(["apply", str(model), str(tmp_path), "--out", str(tmp_path)]) == 2
    assert "would overwrite an original; choose another folder with --out" in capsys.readouterr().err
    assert (tmp_path / "a.png").read_bytes() == before and len(list(tmp_path.iterdir())) == 1


def test_nor_is_a_picture_beside_them_nor_a_result_of_another(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a.jpg", "a.png", "more/b.jpg", "more/b.png", "more/b.jpg.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        photograph(tmp_path / name)
    before = {file: file.read_bytes() for file in tmp_path.rglob("*.*")}
    assert main(["apply", str(model), str(tmp_path / "a.jpg"), "--out", str(tmp_path)]) == 2
    assert "a.png: would overwrite an original" in capsys.readouterr().err
    assert main(["apply", str(model), str(tmp_path / "more"), "--out", str(tmp_path / "out")]) == 2
    assert "b.jpg.png: two results would have this name; rename one of the images" in capsys.readouterr().err
    assert {file: file.read_bytes() for file in tmp_path.rglob("*.*")} == before


BAD = {
    "missing.safetensors: no such file": ["missing.safetensors", "."],
    "nowhere: no such image or folder": ["MODEL", "nowhere"],
    "expected images, found none": ["MODEL", "."],
    "--tile: expected a whole number of at least 1, found 0": ["MODEL", ".", "--tile", "0"],
    "--tile: expected a whole number, null or auto, found 'small'": ["MODEL", ".", "--tile", "small"],
}


@pytest.mark.parametrize("says", BAD)
def test_bad_words_are_one_line(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["apply", *(str(model) if w == "MODEL" else w for w in BAD[says]), "--out", "out"]) == 2
    line = capsys.readouterr().err
    assert says in line and len(line.splitlines()) == 1 and not (tmp_path / "out").exists()


def test_weights_without_their_run_are_refused(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    alone = tmp_path / "student.safetensors"
    alone.write_bytes(model.read_bytes())
    assert main(["apply", str(alone), str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    assert "expected the run's result beside student.safetensors" in capsys.readouterr().err


def levels(image: torch.Tensor) -> np.ndarray:
    return ((image.clamp(-1, 1) + 1) * 127.5).round()[0].permute(1, 2, 0).numpy()


def test_a_stylizer_paints_whole_images_in_the_style_that_is_named(painters: Path, tmp_path: Path) -> None:
    pixels = photograph(tmp_path / "in" / "a.png", (301, 260))
    small = photograph(tmp_path / "in" / "small.png", (9, 5))
    image = torch.from_numpy(pixels).permute(2, 0, 1)[None] / 127.5 - 1
    wanted = {"numbered": ("1", torch.tensor([1])), "any": ("brick.png", picture("brick.png", 256))}
    for name, (word, style) in wanted.items():
        model = painters / f"{name}.safetensors"
        out = tmp_path / name
        assert main(["apply", str(model), str(tmp_path / "in"), "--style", word, "--out", str(out)]) == 0
        with torch.no_grad():
            expected = levels(exported(model)(image, style))
        assert np.abs(np.asarray(Image.open(out / "a.png"), np.int32) - expected).max() <= 1
        assert np.asarray(Image.open(out / "small.png")).shape == small.shape
    squares = tmp_path / "squares"
    model = painters / "numbered.safetensors"
    assert main(["apply", str(model), str(tmp_path / "in"), "--style", "1", "--tile", "64", "--out", str(squares)]) == 0
    made = [np.asarray(Image.open(folder / "a.png"), np.int32) for folder in (squares, tmp_path / "numbered")]
    assert made[0].shape == made[1].shape and np.abs(made[0] - made[1]).max() > 1  # each sees only its square


def test_what_is_clear_stays_clear_in_a_painting(painters: Path, tmp_path: Path) -> None:
    pixels = photograph(tmp_path / "a.png", mode="RGBA")
    network = in_style(exported(painters / "numbered.safetensors"), "0")
    (file,) = apply_to(network, tmp_path / "a.png", tmp_path / "out", torch.device("cpu"))
    painted = np.asarray(Image.open(file))
    assert np.array_equal(painted[..., 3], pixels[..., 3]) and not np.array_equal(painted, pixels)
    one = in_style(JohnsonStylizer(2, 1), None)
    assert one(torch.zeros(2, 3, 7, 30)).shape == (2, 3, 7, 30)


@pytest.mark.parametrize(
    ("network", "style", "says"),
    [
        (JohnsonStylizer(2, 1, 3), None, "expected a number from 0 to 2, a style of JohnsonStylizer, found none"),
        (JohnsonStylizer(2, 1, 3), "3", "expected a number from 0 to 2, a style of JohnsonStylizer, found 3"),
        (JohnsonStylizer(2, 1, 3), "brick.png", "expected a number from 0 to 2, .* found brick.png"),
        (JohnsonStylizer(2, 1), "0", "expected none, as JohnsonStylizer has one style, found 0"),
        (FourierStyle(), None, "expected a picture, as FourierStyle takes any style, found none"),
        (Fill(), "0", "expected none, as Fill has no style, found 0"),
    ],
)
def test_a_style_that_is_not_there_is_refused(network: torch.nn.Module, style: str | None, says: str) -> None:
    with pytest.raises(RecipeError, match=f"--style: {says}"):
        in_style(network, style)


def test_a_missing_picture_of_a_style_is_one_line(
    painters: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, source = painters / "any.safetensors", tmp_path / "a.png"
    photograph(source)
    assert main(["apply", str(model), str(source), "--style", "no.png", "--out", str(tmp_path / "out")]) == 2
    line = capsys.readouterr().err
    assert "no such picture: no.png" in line and len(line.splitlines()) == 1 and not (tmp_path / "out").exists()
