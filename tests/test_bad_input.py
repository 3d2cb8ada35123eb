"""Bad input gives one clear line: the key or file, what was expected, what was found. One row of `CASES` each.

A row is a name, something that a user does in an empty folder, and words that the message must have. To add a subject,
add a list of rows to `CASES`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image

from limbeck.data.mask_folder import MaskFolder
from limbeck.errors import DataError, LimbeckError, RecipeError
from limbeck.recipe.reader import read_recipe
from limbeck.recipe.rehearsal import rehearse

GOOD = """
name: toy
data: {class_path: Glyphs, init_args: {size: 32, channels: 1, classes: ABCDEFGHIJ}}
task: {class_path: Generation, init_args: {latent: [64]}}
features:
  name: glyph-cnn
  network: {class_path: SmallCnn, init_args: {width: 8}}
  method: {class_path: Supervised}
  training: {steps: 20}
method:
  class_path: Gan
  init_args: {terms: {discriminator.real_fake: {class_path: RealFake, init_args: {loss: hinge}}}}
networks: {discriminator: {class_path: DcganDiscriminator, init_args: {width: 8}}}
teacher:
  network: {class_path: DcganGenerator, init_args: {width: 8}}
  training: {steps: 20, optimizers: {student: {class_path: Adam, init_args: {lr: 2.0e-4, betas: [0.0, 0.99]}}}}
student:
  network: {class_path: DcganGenerator, init_args: {width: 4}}
  training: {steps: 10, batch: 8}
  start_from_teacher: [discriminator]
  weights: {student.output: 1.0}
control: true
"""


@dataclass(frozen=True)
class Case:
    """What a user does wrong, and what the message has to say.

    Attributes:
        name: Names the test.
        act: Does it, in an empty folder.
        words: Parts of the message.
        error: The kind of error.
    """

    name: str
    act: Callable[[Path], object]
    words: tuple[str, ...]
    error: type[LimbeckError] = RecipeError


def flag(key: str, value: str, *words: str, rehearsed: bool = False) -> Case:
    """A good recipe with one bad flag; `rehearsed` when the mistake shows in building."""

    def act(folder: Path) -> object:
        recipe = read_recipe(written(folder, GOOD), [(key, value)])
        return rehearse(recipe) if rehearsed else recipe

    return Case(f"--{key} {value}", act, words)


def theirs(target: str, arguments: str, how: str) -> str:
    """Return the YAML of somebody else's network."""
    return f"{{class_path: Import, init_args: {{target: {target}, arguments: {{{arguments}}}, {how}}}}}"


def text(name: str, content: str | bytes, *words: str) -> Case:
    """A recipe with this content."""
    return Case(name, lambda folder: read_recipe(written(folder, content)), ("recipe.yaml", *words))


def changed(name: str, old: str, new: str, *words: str) -> Case:
    """The good recipe with `old` replaced."""
    assert old in GOOD
    return text(name, GOOD.replace(old, new), *words)


def written(folder: Path, content: str | bytes) -> Path:
    path = folder / "recipe.yaml"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


FILES = [
    Case("no recipe", lambda folder: read_recipe(folder / "absent.yaml"), ("absent.yaml: no such recipe",)),
    Case("a folder as recipe", read_recipe, ("expected a recipe, a YAML file, found a folder",)),
    text("an empty file", "", "expected a recipe, a mapping of sections, found an empty file"),
    text("a list", "- 1\n- 2\n", "expected a recipe, a mapping of sections, found a list"),
    text("a word", "hello", "found a str"),
    text("no text at all", b"\xff\xfe\x00\x01", "expected a YAML recipe in UTF-8"),
    text("control characters", "name: a\x00b", "cannot be read as YAML"),
    text("a tab", "name: toy\nteacher:\n\tsteps: 1\n", "line 3", "cannot be read as YAML"),
    text("an open bracket", "name: toy\ndata: [1, 2\n", "cannot be read as YAML"),
    text("a key given twice", "name: toy\ntask: {}\nname: other\n", "line 3", "key 'name' given twice"),
    text(
        "a nested key given twice", "student:\n  training: {steps: 1, steps: 2}\n", "line 2", "key 'steps' given twice"
    ),
    text("code", "name: !!python/object/apply:os.getcwd []\n", "line 1", "could not determine a constructor"),
    text("an anchor in itself", "student: &a {network: *a}\n", "an anchor that contains itself"),
    text(
        "a key that is a number", "name: toy\nstudents: {18: {}}\n", "students: expected keys that are text, found 18"
    ),
    text("a list as key", "[1, 2]: toy\n", "line 1", "cannot be read as YAML"),
    text("a date", "name: 2024-01-01\n", "name: expected text", "found a date", "quote it"),
    text("not a number", "seed: .nan\n", "seed: expected a number, found NaN"),
]

SECTIONS = [
    changed("a misspelt section", "teacher:\n", "techer:\n", "techer: unknown key (did you mean 'teacher'?)"),
    flag("student.trainig.steps", "5", "student.trainig: unknown key (did you mean 'training'?)"),
    flag("student", "5", "student: expected a mapping, found 5"),
    flag("name", "null", "name: expected a name of letters", "found nothing"),
    flag("name", "../../etc", "name: expected a name of letters", "found '../../etc'"),
    flag("seed", "-1", "seed: expected a whole number of at least 0, found -1"),
    flag("seeds", "0", "seeds: expected a whole number of at least 1, found 0"),
    flag("seeds", "many", "seeds: expected whole number, found 'many'"),
    flag("settings_tried", "{teacher: 3}", "settings_tried.teacher: unknown key", "there are student, control"),
    flag("students", "[x18, x45]", "students: expected a mapping of names"),
    flag("students", "{a/b: {}}", "students: 'a/b' cannot be a student's name"),
    flag("students", "{teacher: {}}", "students: 'teacher' cannot be a student's name"),
    flag("features.name", "null", "features.name: expected a name"),
    flag("control", "5", "control: expected true, false or its own training, method, weights, weighting, found 5"),
    flag("control", "{network: {}}", "control.network: unknown key", "there are training, method, weights, weighting"),
    flag("student.training.steps.more", "5", "--student.training.steps.more: student.training.steps is 10"),
    flag("student..steps", "5", "--student..steps: expected a dotted path"),
    flag("student.training", "{steps: 1", "--student.training", "cannot be read as YAML"),
    changed("no student", "student:\n  network", "other:\n  network", "student: missing", "other: unknown key"),
]

CLASSES = [
    flag("data", "null", "data: expected a Data, as {class_path: Name, init_args: {...}}, found nothing"),
    flag("data", "7", "data: expected a Data", "found 7"),
    flag("data.class_path", "Glyph", "data.class_path: expected a Data, found 'Glyph' (did you mean 'Glyphs'?)"),
    flag("method", "Gann", "method: expected a Method, found 'Gann' (did you mean 'Gan'?)", "Supervised"),
    flag(
        "method.class_path", "no.such.Thing", "method.class_path: no.such.Thing: cannot import 'no.such'", "PYTHONPATH"
    ),
    flag("method.class_path", "limbeck.methods.gan.Gann", "limbeck.methods.gan has no 'Gann' (did you mean 'Gan'?)"),
    flag("method.class_path", "collections.OrderedDict", "expected a Method, found collections.OrderedDict"),
    flag("method.class_path", "math.pi", "expected a Method, found math.pi: it is Python's own"),
    flag("method.class_path", "limbeck.methods.base.Method", "which is abstract"),
    flag("method.class_path", "..Gan", "expected a dotted import path such as package.module.Class, found '..Gan'"),
    flag("student.network.width", "4", "student.network.width: unknown key; there are class_path, init_args"),
    flag(
        "student.network.init_args",
        "[4]",
        "student.network.init_args: expected the arguments of DcganGenerator by name",
    ),
    flag(
        "student.network.init_args.widht", "4", "init_args.widht: DcganGenerator has no argument 'widht' (did you mean"
    ),
    flag(
        "student.network.init_args.width",
        "wide",
        "student.network.init_args.width: expected whole number, found 'wide'",
    ),
    flag("student.network.init_args.width", "4.5", "width: expected whole number, found 4.5"),
    flag("student.network.init_args.width", "true", "width: expected whole number, found true"),
    flag("student.network.init_args.width", "null", "width: expected whole number, found nothing"),
    flag("student.network.init_args.width", "[4]", "width: expected whole number, found [4]"),
    flag(
        "method.init_args.terms.discriminator.real_fake.init_args.loss",
        "hing",
        "method.init_args.terms.discriminator.real_fake.init_args.loss: expected 'logistic' or 'hinge'",
        "did you mean 'hinge'?",
    ),
    flag("method.init_args.terms.student.more", "Vidd", "terms.student.more: expected a Term or", "mean 'Vid'?"),
    flag("method.init_args.terms.student.more", "5", "terms.student.more: expected a Term or", "found 5"),
    flag(
        "method.init_args.loss",
        "hinge",
        "method.init_args.loss: now written as a term: terms: {discriminator.real_fake: {class_path: RealFake",
    ),
    flag("method.init_args.student", "{}", "method.init_args.student: Gan gets 'student' from elsewhere in the recipe"),
    flag("task.init_args.latent", "[a]", 'task.init_args.latent: expected list of whole number, found ["a"]'),
    flag("task.init_args", "{}", "task.init_args.latent: missing; Generation needs it (list of whole number)"),
    flag("task.init_args.latent", "[0]", "task.latent: expected sizes of at least 1", "found [0]"),
    flag("data.init_args.size", "0", "data", "size", "found 0"),
    flag("augmentation", "Spin", "augmentation: expected a Augmentation, found 'Spin'"),
    flag(
        "augmentation",
        "{class_path: Scale, init_args: {low: 2.0, high: 1.0}}",
        "Scale: expected 0 < low <= high, found (2.0, 1.0)",
        rehearsed=True,
    ),
]

ARMS = [
    flag("student.network", "null", "student.network: expected a Module, as {class_path", "found nothing"),
    flag("networks", "null", "networks.discriminator: missing; Gan needs it"),
    flag("networks.critic", "SmallCnn", "networks.critic: no such network; Gan takes discriminator"),
    flag("features.method", "Vae", "features.network: expected a VariationalAutoencoder, found SmallCnn, a Classifier"),
    flag("student.training", "null", "student.training: missing; expected at least {steps: ...}"),
    flag("student.training", "{batch: 8}", "student.training.steps: missing"),
    flag("student.training.steps", "0", "student.training.steps: expected a whole number of at least 1, found 0"),
    flag("student.training.steps", "-5", "student.training.steps: expected a whole number of at least 1, found -5"),
    flag("student.training.steps", "1e4", "student.training.steps: expected whole number, found 10000.0"),
    flag("student.training.stepz", "5", "student.training.stepz: unknown key (did you mean 'steps'?)"),
    flag("student.training.micro_batches", "3", "student.training.batch: 8 samples cannot be split evenly"),
    flag("teacher.training.ema", "1.0", "teacher.training.ema: expected a number in [0, 1), found 1.0"),
    flag(
        "teacher.training.schedule",
        "cosin",
        "teacher.training.schedule: expected 'constant' or 'cosine'",
        "mean 'cosine'",
    ),
    flag("teacher.training.precision", "16", "teacher.training.precision: expected '32' or 'bf16' or 'auto', found"),
    flag("teacher.training.optimizers.studnt", "Adam", "optimizers.studnt: no such player (did you mean 'student'?)"),
    flag(
        "teacher.training.optimizers.student",
        "Adamm",
        "teacher.training.optimizers.student: expected a Optimizer",
        "Adam",
    ),
    flag("teacher.training.optimizers.student", "LBFGS", "teacher.training.optimizers.student: LBFGS", "closure"),
    flag(
        "teacher.training.optimizers.student.init_args.lr",
        "-1",
        "optimizers.student: Adam refuses these arguments (ValueError: Invalid learning rate: -1",
    ),
    flag("teacher.training.optimizers.student.init_args.betas", "[0.9]", "betas: expected list of 2 (number, number)"),
    flag("teacher.training.optimizers.student.init_args.params", "[]", "params: Adam gets 'params' from elsewhere"),
    flag(
        "student.weights.student.ouput",
        "1",
        "student.weights.student.ouput: no such loss (did you mean 'student.output'?)",
    ),
    flag(
        "student.weights.student.output",
        "-1",
        "student.weights.student.output: weight: expected a number of at least 0",
    ),
    flag("student.weights.student.output", "much", "student.weights.student.output: expected number, found 'much'"),
    flag("student.weights.student.output", "{from: 0.5}", "student.weights.student.output.weight: missing"),
    flag("student.weights.student.output", "{weight: 1, form: 0.5}", "output.form: unknown key (did you mean 'from'?)"),
    flag("student.weights.student.output", "{weight: 1, from: 0.5, until: 0.5}", "expected 0 <= from < until <= 1"),
    flag(
        "student.start_from_teacher",
        "[discriminater]",
        "start_from_teacher: no network",
        "did you mean 'discriminator'?",
    ),
    flag(
        "student.start_from_teacher",
        "[student]",
        "student.start_from_teacher: expected the teacher's student to be the same",
    ),
    flag(
        "teacher.networks.discriminator.init_args.width",
        "16",
        "student.start_from_teacher: expected the teacher's disc",
    ),
    flag(
        "student.start_from_teacher",
        "[student.blocks.7]",
        "start_from_teacher 'blocks.7': no such module in DcganGenerator",
        rehearsed=True,
    ),
    flag(
        "student.start_from_teacher",
        "[student.blocks.0]",
        "start_from_teacher 'blocks.0': expected the same module in the teacher's network, found conv.weight: (",
        rehearsed=True,
    ),
    flag("teacher", "null", "student.start_from_teacher: there is no teacher", "so the student is its own control"),
    flag("teacher.load", "teacher.safetensors", "teacher.load: no such file"),
    flag("teacher.new_layers", "[blocks.0]", "teacher.new_layers: expected a network that has `load` and `training`"),
    flag(
        "teacher.training.freeze", "blocks.9", "training.freeze 'blocks.9': no such module", "blocks.0", rehearsed=True
    ),
    flag("teacher.training.freeze", "output", "training.freeze: 'output' leaves nothing", rehearsed=True),
    flag("teacher.training.rates", "{blocks.9: 2}", "training.rates 'blocks.9': no such module", rehearsed=True),
    flag("teacher.training.rates", "{blocks.0: 0}", "training.rates.blocks.0: expected a factor above 0, found 0"),
    flag("students", "{small: {taught_by: middle}}", "students.small.taught_by: no student 'middle' before this one"),
    flag("teacher.load", "5", "teacher.load: expected text, found 5"),
]

BUILDING = [
    flag("student.network.init_args.width", "0", "student.network: DcganGenerator.width", "found 0", rehearsed=True),
    flag(
        "student.network",
        theirs(
            "torch.nn.ConvTranspose2d", "in_channels: 64, out_channels: 1, kernel_size: 28", "latent_shape: [64, 1, 1]"
        ),
        "student.network: expected images (1, 32, 32) (C, H, W) as in glyphs, found (1, 28, 28)",
        rehearsed=True,
    ),
    flag(
        "student.network",
        theirs("torch.nn.Linear", "in_features: 63, out_features: 1024", "image_shape: [1, 32, 32]"),
        "student.network: Linear cannot be called with latents of shape (2, 64): RuntimeError: mat1 and mat2",
        rehearsed=True,
    ),
    flag(
        "networks.discriminator",
        theirs("torch.nn.Conv2d", "in_channels: 3, out_channels: 1, kernel_size: 32", "role: discriminator"),
        "teacher.networks.discriminator: Conv2d cannot be called with images of shape (2, 1, 32, 32): ",
        rehearsed=True,
    ),
    flag(
        "teacher.network.init_args.size", "33", "teacher.network: DcganGenerator.size", "power of two", rehearsed=True
    ),
    flag(
        "student.method.init_args.critic_steps",
        "0",
        "student.method.init_args.critic_steps: expected a whole number of at least 1, found 0",
        rehearsed=True,
    ),
    flag(
        "student.method.init_args.terms.student.classes",
        "CrossEntropy",
        "student.method.init_args.terms.student.classes: CrossEntropy is about logits, and this student says images",
        rehearsed=True,
    ),
    flag(
        "student.method.init_args.terms.student.penalty",
        "R1",
        "student.method.init_args.terms.student.penalty: expected a term of the student, found R1, one of the discrim",
        rehearsed=True,
    ),
    flag("features.method.init_args.label_smoothing", "2", "features.method", "label_smoothing", rehearsed=True),
    flag(
        "baselines",
        "{mine: {class_path: Import, init_args: {target: no.Such}}}",
        "baselines.mine",
        "no",
        rehearsed=True,
    ),
]


def baseline(network: str, *words: str) -> Case:
    """The good recipe with this network as a baseline."""
    return flag("baselines", f"{{given: {network}}}", "baselines.given", *words, rehearsed=True)


def imported(target: str, *words: str, options: str = "role: classifier") -> Case:
    """A network imported from `target`."""
    return baseline(f"{{class_path: Import, init_args: {{target: '{target}', {options}}}}}", *words)


GIVEN = [
    baseline("{class_path: OnnxClassifier, init_args: {weights: no.onnx}}", "no.onnx: no such ONNX file"),
    baseline("{class_path: OnnxClassifier, init_args: {weights: recipe.yaml}}", "recipe.yaml: not an ONNX file"),
    imported("tim:resnet18", "no file", "did you mean 'timm'?"),
    imported("timm:", "expected 'package.module.Class'", "'timm:NAME', 'torchvision:NAME', 'transformers:NAME'"),
    imported("transformers:no/such/folder", "target 'transformers:no/such/folder': cannot be built"),
    imported(
        "transformers:model",
        "arguments.trust_remote_code: transformers is always called with trust_remote_code=False; leave it out",
        options="arguments: {trust_remote_code: true}",
    ),
    baseline(
        "{class_path: Import, init_args: {target: no.Such, latent_shap: [8]}}",
        "Import has no argument 'latent_shap' (did you mean 'latent_shape'?)",
    ),
    imported("no.Such", "role: expected one of classifier", "(did you mean 'segmenter'?)", options="role: segmentor"),
    imported("torch.nn.Flatten", "image_size: expected a whole number", options="role: classifier, image_size: 0"),
    imported("torch.nn.Flatten", "std: expected 3 numbers beside mean", options="role: classifier, mean: [0, 0, 0]"),
    imported("torch.nn.Flatten", "image_size: expected an argument of a generator", options="image_size: 8"),
    imported(
        "torch.nn.Flatten",
        "image_range: expected none beside mean and std",
        options="role: classifier, mean: [0.5], std: [0.5], image_range: [0, 1]",
    ),
    Case(
        "a network without parameters is trained",
        lambda folder: rehearse(
            read_recipe(
                written(folder, GOOD),
                [("student.network", "{class_path: Import, init_args: {target: torch.nn.Identity}}")],
            )
        ),
        ("has no parameters to train; leave out `training`",),
    ),
]


def bad_data(name: str, arguments: str, *words: str) -> Case:
    """The good recipe with this data."""
    return flag("data", f"{{class_path: {name}, init_args: {{{arguments}}}}}", "data: ", *words)


def folder_of_masks(name: str, image: str, mask: tuple[int, int], *words: str) -> Case:
    """A folder of one image, 8x6, and one black mask of the given width and height, with this name of the image."""

    def act(folder: Path) -> object:
        for part, file, size in (("images", image, (8, 6)), ("masks", "a.png", mask)):
            (folder / part).mkdir()
            Image.new("L", size, 9 if part == "masks" else 0).save(folder / part / file)
        return MaskFolder(".", ["sky", "road"], validation=0, test=0).split("train")

    return Case(name, act, words, DataError)


DATA = [
    flag("data", "{class_path: CamVid, init_args: {part: half}}", "data.init_args.part: expected 'full' or 'pack' or"),
    bad_data("CamVid", "validation: 0", "CamVid.validation: expected at least 1 scene, found 0"),
    bad_data("Facades", "root: .", "facades: expected facades/train", "facades_110.zip, found none"),
    bad_data("SideBySide", "path: maps.zip, input: right", "no such folder or archive of pairs: maps.zip"),
    bad_data("MaskFolder", "path: scenes, classes: [sky]", "no such folder of images: scenes"),
    bad_data("MaskFolder", "path: ., classes: [sky]", "expected subfolders images and masks, found no images"),
    bad_data("MaskFolder", "path: ., classes: [sky, sky]", "MaskFolder.classes: expected 1 to 255 different names"),
    bad_data("PartlyLabelled", "data: Glyphs, share: 2", "PartlyLabelled.share: expected a part in (0, 1], found 2"),
    bad_data("PartlyLabelled", "data: FashionMNIST, share: 0.5", "PartlyLabelled.data: expected data with masks"),
    folder_of_masks("a mask of another size", "a.png", (8, 5), "masks/a.png: expected a mask of 8x6", "found 8x5"),
    folder_of_masks("a label that is no class", "a.png", (8, 6), "masks/a.png: expected the values 0..1", "found 9"),
    folder_of_masks("a mask without image", "b.png", (8, 6), "masks/a.png: expected an image of this name, found none"),
]

CASES = [*FILES, *SECTIONS, *CLASSES, *ARMS, *BUILDING, *GIVEN, *DATA]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_bad_input_is_told_in_a_clear_line(case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(case.error) as caught:
        case.act(tmp_path)
    message = str(caught.value)
    for word in case.words:
        assert word in message
    assert all(len(line) < 400 for line in message.splitlines())


def test_the_table_is_large_and_its_names_are_unique() -> None:
    assert len(CASES) >= 40
    assert len({case.name for case in CASES}) == len(CASES)


def test_the_recipe_that_the_cases_spoil_is_good(tmp_path: Path) -> None:
    rehearse(read_recipe(written(tmp_path, GOOD)))
