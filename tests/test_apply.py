"""`limbeck apply`: a run's student on images of one's own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from limbeck.applying import apply_to, exported
from limbeck.cli import main
from limbeck.networks.roles import Restorer

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


def test_originals_are_never_overwritten(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photograph(tmp_path / "a.png")
    before = (tmp_path / "a.png").read_bytes()
    assert main(["apply", str(model), str(tmp_path), "--out", str(tmp_path)]) == 2
    assert "would overwrite an original; choose another folder with --out" in capsys.readouterr().err
    assert (tmp_path / "a.png").read_bytes() == before and len(list(tmp_path.iterdir())) == 1


BAD = {
    "missing.safetensors: no such file": ["missing.safetensors", "."],
    "nowhere: no such image or folder": ["MODEL", "nowhere"],
    "expected images, found none": ["MODEL", "."],
    "--tile: expected a whole number of at least 1, found 0": ["MODEL", ".", "--tile", "0"],
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
