"""Every recipe that ships is read and rehearsed: all its networks and methods can be built."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from toys import write_camvid, write_facades

from limbeck.errors import RecipeError
from limbeck.ground.arrays import write_arrays
from limbeck.networks.classifiers.cifar_resnet import CifarResNet
from limbeck.networks.classifiers.small_cnn import SmallCnn
from limbeck.networks.classifiers.vgg import Vgg16
from limbeck.networks.given.weights import save_weights
from limbeck.networks.restorers.imdn import Imdn
from limbeck.networks.segmenters.unet import UNet
from limbeck.networks.stylizers.fast_style import FastStyle
from limbeck.recipe.plan import FeatureArm
from limbeck.recipe.reader import read_recipe
from limbeck.recipe.rehearsal import rehearse

ROOT = Path(__file__).parents[1] / "recipes"
RECIPES = [str(path.relative_to(ROOT)) for path in sorted(ROOT.rglob("*.y*ml"))]
COUNT = 44  # changes with every recipe that is added, so that none gets lost


SETS = [(f"sr/{name}", "RGB") for name in ("Set5/HR", "Set5/LR_x4", "Set14/HR", "Set14/LR_x4")]


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the recipes and with what they ask their reader to bring."""
    folder = tmp_path_factory.mktemp("place")
    (folder / "recipes").symlink_to(ROOT)
    for name, mode in (
        ("photographs", "RGB"),
        ("digits", "L"),
        ("sr/train_BSDS100", "RGB"),
        ("sr/BSD100", "RGB"),
        *SETS,
    ):
        (folder / name).mkdir(parents=True)
        for number in range(5):
            Image.new(mode, (100, 100)).save(folder / name / f"{number}.png")
    pairs = {"latent": torch.zeros(10, 64), "image": torch.zeros(10, 1, 32, 32, dtype=torch.uint8)}
    write_arrays(folder / "fashion-pairs.safetensors", pairs)
    generator = runpy.run_path(str(ROOT / "gan" / "mlp_generator.py"))["MlpGenerator"]()
    torch.save(generator.state_dict(), folder / "digits_generator.pth")
    published = {f"module.{name}": tensor for name, tensor in CifarResNet(depth=56).state_dict().items()}
    torch.save({"state_dict": published}, folder / "resnet56-4bfd9763.th")
    torch.save(Imdn().state_dict(), folder / "imdn_baseline.pth")
    write_camvid(folder)
    write_facades(folder)
    vgg = {name.replace("conv", "block", 1).replace("_", "_conv", 1): w for name, w in Vgg16().state_dict().items()}
    np.savez(folder / "vgg16_to_conv3_3_fp16.npz", **{name: w.numpy() for name, w in vgg.items()})
    painter = {name: w.detach().numpy() for name, w in FastStyle().named_parameters()}
    np.savez(folder / "udnie_fp16.npz", **painter)
    (folder / "style").mkdir()
    Image.new("RGB", (64, 64)).save(folder / "style" / "picabia_udnie_1913.jpg")
    save_weights(UNet(width=16, depth=4, classes=12), folder / "facades-segmenter.safetensors")
    for number in range(3):
        save_weights(SmallCnn(width=12), folder / f"teacher-{number}.safetensors")
    return folder


@pytest.fixture
def place(filled: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same as working directory and as the folder of data sets."""
    monkeypatch.setenv("LIMBECK_DATA", str(filled))
    monkeypatch.chdir(filled)
    return filled


def test_none_is_lost() -> None:
    assert len(RECIPES) == COUNT, RECIPES


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_can_be_built(place: Path, name: str) -> None:
    recipe = read_recipe(Path("recipes") / name)
    rehearse(recipe)
    assert recipe.students and set(recipe.control_of) <= set(recipe.students)
    assert set(recipe.control_of.values()) <= {*recipe.controls, *recipe.students}


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_says_on_top_what_it_shows(name: str) -> None:
    first = (ROOT / name).read_text(encoding="utf-8").splitlines()[0]
    assert first.startswith("# ") and len(first) > 20


@pytest.mark.parametrize(
    ("name", "old", "new", "says"),
    [
        ("quickstart.yaml", "width: 8", "widht: 8", "has no argument 'widht'"),
        ("quickstart.yaml", "DcganDiscriminator", "DcganDiscriminater", "networks.discriminator"),
        ("quickstart.yaml", "width: 32", "width: 0", "teacher.network: DcganGenerator.width"),
        ("gan/import.yaml", "width: 32", "widht: 32", "student.network.init_args.arguments.widht: "),
        ("gan/import.yaml", "digits_generator.pth", "another.pth", "another.pth: no such weight file"),
        ("gan/black-box.yaml", "fashion-pairs", "another", "data: no such file"),
        ("classification/losses-fashion-mnist.yaml", "temperature: 2.0", "temperature: 0", "Kd.temperature"),
        ("classification/losses-fashion-mnist.yaml", "blocks.2: blocks.2", "blocks.2: block.2", "path 'block.2'"),
        (
            "classification/losses-fashion-mnist.yaml",
            "Dkd",
            "Dkb",
            "or LogitLoss or FeatureLoss, found 'Dkb' (did you mean 'Dkd'?)",
        ),
        ("classification/kd-cifar10-10k.yaml", "depth: 8", "depth: 9", "student.network: CifarResNet.depth"),
        ("classification/kd-cifar10-10k.yaml", "resnet56-", "resnet20-", "teacher.load: no such file: resnet20-"),
        ("classification/cifar100-resnet32x4-resnet8x4.yaml", "classes: 100", "classes: 10", "found 10"),
        ("classification/cifar100-resnet32x4-resnet8x4.yaml", "multistep", "cosine", "teacher.training.milestones"),
        ("classification/assistants-fashion-mnist.yaml", "taught_by: middle", "taught_by: high", "low.taught_by"),
        ("classification/ensemble-fashion-mnist.yaml", "teacher-2", "teacher-3", "teacher-3.safetensors"),
        ("classification/mutual-fashion-mnist.yaml", "  peer:", "  pier:", "networks.pier: no such network"),
        ("vae/fashion-mnist.yaml", "width: 7", "width: 0", "student.network: ConvVae.width"),
        ("vae/decoder-bsds.yaml", "[student.encoder]", "[student.decoder]", "start_from_teacher 'decoder'"),
        ("vae/adversarial-fashion-mnist.yaml", "low: null, high: null", "low: 1, high: 0", "Pgd.low"),
        ("gan/adversarial-fashion-mnist.yaml", "control: plain", "control: plane", "no student 'plane'"),
        ("translation/pix2pix-facades.yaml", "facades-segmenter.s", "another.s", "another.safetensors"),
        ("translation/pix2pix-facades.yaml", "classes: 12}", "classes: 11}", "head.weight"),
        ("robustness/robust-fashion-mnist.yaml", "radius: 0.2, step: 0.1", "radius: 0.2, step: 0.3", "Pgd.step"),
        ("robustness/strength-fashion-mnist.yaml", "low: 0.05", "low: -0.05", "found -0.05"),
    ],
)
def test_a_broken_recipe_is_found_out(place: Path, name: str, old: str, new: str, says: str) -> None:
    whole = (ROOT / name).read_text(encoding="utf-8")
    lines = [line if line.startswith("#") else line.replace(old, new) for line in whole.splitlines()]
    assert lines != whole.splitlines()
    (place / "broken.yaml").write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(RecipeError, match=re.escape(says)):
        rehearse(read_recipe("broken.yaml"))


def test_students_of_the_main_run_are_as_small_as_their_names_say() -> None:
    main = read_recipe(ROOT / "gan" / "fashion-mnist.yaml")
    assert main.teacher is not None
    size = {arm: sum(p.numel() for p in recipe.network.build().parameters()) for arm, recipe in main.students.items()}
    teacher = sum(p.numel() for p in main.teacher.network.build().parameters())
    assert "x18" in size
    assert all(teacher >= int(arm.removeprefix("x")) * parameters for arm, parameters in size.items())


def test_the_study_of_losses_takes_over_the_teacher_and_the_features_of_the_main_run() -> None:
    main, study = (read_recipe(ROOT / "gan" / name) for name in ("fashion-mnist.yaml", "losses-fashion-mnist.yaml"))
    assert main.teacher is not None and study.teacher is not None
    assert study.teacher.description() == main.teacher.description()
    assert main.data.description == study.data.description
    assert isinstance(main.features, FeatureArm) and isinstance(study.features, FeatureArm)
    assert study.features.name == main.features.name
    assert study.features.arm.description() == main.features.arm.description()
