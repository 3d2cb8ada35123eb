"""methods/stylize.py and tasks/stylization.py: losses against their formulas, and that a student learns to paint."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from toys import toy_job, trained

from limbeck.baselines.style.reinhard import Reinhard
from limbeck.data.pictures import picture
from limbeck.data.tensors import TensorImages
from limbeck.errors import DataError, RecipeError
from limbeck.losses.hint import Hint
from limbeck.losses.style import gram, statistics_kl
from limbeck.methods.stylize import Stylize
from limbeck.networks.classifiers.vgg import Vgg16
from limbeck.networks.handling.tap import features_at
from limbeck.networks.stylizers.johnson import JohnsonStylizer
from limbeck.networks.stylizers.stylizer_per_style import StylizerPerStyle
from limbeck.tasks.stylization import Stylization
from limbeck.terms.painting import ChannelStatistics, Content, Style
from limbeck.types import Batch
from limbeck.weighting.scheduled import Scheduled

PATHS = ["relu1_2", "relu2_1"]
SEEN: dict[str, Any] = {"content_paths": ["relu1_2"], "style_paths": PATHS, "style_size": 32}
GRAVEL = "gravel.png"


def painter(student: nn.Module, teacher: nn.Module | None = None, **options: Any) -> Stylize:
    """Return a method that sees content and style at the paths of `SEEN`."""
    terms = {
        "student.content": Content(["relu1_2"]),
        "student.style": Style(PATHS),
        "student.perceptual": Content(PATHS, "teacher"),
        "student.gram": Style(PATHS, "teacher"),
        "student.statistics": ChannelStatistics(PATHS),
    } | options.pop("terms", {})
    return Stylize(student, teacher, terms=terms, **{"styles": [GRAVEL], "style_size": 32, **options})


def network(width: int = 2, seed: int = 0, **options: Any) -> JohnsonStylizer:
    torch.manual_seed(seed)
    return JohnsonStylizer(width, 1, **options)


def batch(styles: int = 1) -> Batch:
    draw = torch.Generator().manual_seed(0)
    image = torch.rand(4, 3, 16, 16, generator=draw) * 2 - 1
    return Batch(image=image, drawn={"stylize.style": torch.arange(4) % styles})


def losses(method: Stylize, given: Batch) -> dict[str, Tensor]:
    (update,) = method.updates(given, 0)
    return {name: (loss() if callable(loss) else loss).detach() for name, loss in update.losses.items()}


def test_every_loss_is_that_of_its_formula() -> None:
    student, teacher, vgg, given = network(), network(3, 1), Vgg16(), batch()
    found = losses(painter(student, teacher, feature_network=vgg), given)
    assert given.image is not None
    mine, taught = student(given.image), teacher.eval()(given.image)
    seen, goal, shown = (dict(zip(PATHS, features_at(vgg, PATHS, i), strict=True)) for i in (mine, taught, given.image))
    style = dict(zip(PATHS, features_at(vgg, PATHS, picture(GRAVEL, 32)), strict=True))

    def relative(one: Tensor, other: Tensor) -> Tensor:
        return (one - other).flatten(1).square().sum(1) / other.flatten(1).square().sum(1)

    expected = {
        "content": relative(seen["relu1_2"], shown["relu1_2"]).mean(),
        "style": sum(relative(gram(seen[p]), gram(style[p]).expand(4, -1, -1)).mean() for p in PATHS),
        "perceptual": sum(relative(seen[p], goal[p]).mean() for p in PATHS),
        "gram": sum(relative(gram(seen[p]), gram(goal[p])).mean() for p in PATHS),
        "statistics": sum(statistics_kl(goal[p], seen[p]).mean() for p in PATHS),
        "output": (mine - taught).abs().mean(),
    }
    for name, value in expected.items():
        torch.testing.assert_close(found[name], torch.as_tensor(value).detach(), rtol=1e-4, atol=1e-6, msg=name)
    assert set(found) == {*expected, "total_variation"}


def test_each_image_is_compared_with_its_own_style() -> None:
    method = painter(network(styles=2), styles=[GRAVEL, "brick.png"], feature_network=Vgg16())
    given = batch(2)
    both = losses(method, given)["style"]
    alone = [losses(method, given[i : i + 1])["style"] for i in range(4)]
    torch.testing.assert_close(both, torch.stack(alone).mean(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "says", "error"),
    [
        ({"styles": []}, "styles: expected at least one picture", RecipeError),
        ({"styles": [GRAVEL] * 2}, "styles: expected 1 pictures", RecipeError),
        ({"styles": ["nobody.png"]}, "no such picture: nobody.png", DataError),
        ({"size": 0}, "size: expected pixels of at least 1, found 0", RecipeError),
        ({"terms": {"student.style": Style(["relu9"])}}, "student.style: feature path 'relu9': no such", RecipeError),
    ],
)
def test_what_cannot_be_is_refused(options: dict[str, Any], says: str, error: type[Exception]) -> None:
    with pytest.raises(error, match=says):
        painter(network(), **{"feature_network": Vgg16(), **options})


VGG = Path(os.environ.get("LIMBECK_DATA", "nowhere")) / "weights" / "vgg16_relu3_3" / "vgg16_to_conv3_3_fp16.npz"


@pytest.mark.skipif(not VGG.is_file(), reason="needs weights/vgg16_relu3_3 of LIMBECK_DATA")
def test_given_weights_tell_textures_from_photographs() -> None:
    """Two cut-outs of one texture are nearer in style than cut-outs of two; the file is read in the right order."""
    vgg = Vgg16(str(VGG))
    gravel, brick = picture(GRAVEL, 256), picture("brick.png", 256)
    one, two, other = (gram(vgg(i)) for i in (gravel[..., :128, :128], gravel[..., 128:, 128:], brick[..., :128, :128]))
    assert float((one - two).norm()) < float((one - other).norm()) / 2


def data() -> TensorImages:
    draw = torch.Generator().manual_seed(0)
    coarse = torch.randint(60, 200, (40, 3, 4, 4), generator=draw).float()
    image = torch.nn.functional.interpolate(coarse, 24, mode="bilinear").round().to(torch.uint8)
    return TensorImages(image, validation=0.2, test=0.3)


def test_a_student_learns_to_paint_and_a_teacher_helps_it(tmp_path: Path) -> None:
    vgg = Vgg16(width=16)
    task = Stylization([GRAVEL], vgg, **SEEN)

    def taught(name: str, student: JohnsonStylizer, teacher: JohnsonStylizer | None, steps: int) -> JohnsonStylizer:
        method = painter(student, teacher, feature_network=vgg)
        job = toy_job(
            tmp_path / name,
            method,
            images=data().split("train"),
            task=task,
            weighting=Scheduled({"student.output": 20.0}, Stylize.losses()),
            steps=steps,
            batch=4,
            optimizers={"student": partial(torch.optim.Adam, lr=0.003)},
        )
        student.load_state_dict(trained(job)["student"])
        return student.eval()

    def total(one: JohnsonStylizer, teacher: JohnsonStylizer | None = None) -> dict[str, float]:
        return task.evaluate(one, data(), split="test", seed=0, teacher=teacher)

    start = total(network(4).eval())["total"]
    teacher = taught("teacher", network(4), None, 80)
    assert total(teacher)["total"] < start * 0.6
    control = taught("control", network(2, 1), None, 50)
    student = taught("student", network(2, 1), teacher, 50)
    assert total(student, teacher)["psnr_to_teacher"] > total(control, teacher)["psnr_to_teacher"] + 0.5


def test_one_student_learns_the_styles_of_several_teachers(tmp_path: Path) -> None:
    """It comes nearer to what they paint by 3 dB, and is nearer by 2 dB to each style's teacher than to the other."""
    vgg, styles = Vgg16(), [GRAVEL, "brick.png"]
    task = Stylization(styles, vgg, **SEEN)
    alone = [network(3, 1).eval(), network(4, 2).eval()]
    teacher, student = StylizerPerStyle(alone).eval(), network(4, 3, styles=2)

    def fidelity(other: torch.nn.Module) -> float:
        return task.evaluate(student.eval(), data(), split="test", seed=0, teacher=other)["psnr_to_teacher"]

    before = fidelity(teacher)
    paintings = {"student.content": 0.0, "student.style": 0.0, "student.output": 10.0}
    job = toy_job(
        tmp_path,
        painter(student, teacher, styles=styles, feature_network=vgg),
        images=data().split("train"),
        task=task,
        weighting=Scheduled(paintings, Stylize.losses()),
        steps=100,
        batch=8,
        optimizers={"student": partial(torch.optim.Adam, lr=0.005)},
    )
    student.load_state_dict(trained(job)["student"])
    assert fidelity(teacher) > before + 3
    assert fidelity(teacher) > fidelity(StylizerPerStyle(alone[::-1]).eval()) + 2


class Looks(nn.Module):
    """A network of features that counts how often it is called."""

    def __init__(self) -> None:
        super().__init__()
        self.relu1_2, self.count = nn.Conv2d(3, 4, 3), 0

    def forward(self, image: Tensor) -> Tensor:
        self.count += 1
        found: Tensor = self.relu1_2(image)
        return found


def test_the_feature_network_sees_every_picture_once() -> None:
    """The student's painting, the teacher's and the image, whatever the number of terms; the styles never again."""
    seen = Looks()
    terms: dict[str, Any] = {
        "student.content": Content(["relu1_2"]),
        "student.style": Style(["relu1_2"]),
        "student.perceptual": Content(["relu1_2"], "teacher"),
        "student.gram": Style(["relu1_2"], "teacher"),
        "student.statistics": ChannelStatistics(["relu1_2"]),
    }
    method = painter(network(), network(3, 1), feature_network=seen, terms=terms)
    seen.count = 0
    assert len(losses(method, batch())) == 7 and seen.count == 3


def test_layers_that_the_feature_network_lacks_are_not_left_out_in_silence() -> None:
    """Without content and style a student would learn nothing of the picture; what is off by default may be missing."""
    with pytest.raises(RecipeError, match=r"^terms\.student\.content: feature path 'relu3_3': no such module in Looks"):
        Stylize(network(), styles=[GRAVEL], style_size=32, feature_network=Looks())
    terms = {"student.content": Content(["relu1_2"]), "student.style": Style(["relu1_2"])}
    method = Stylize(network(), network(3), styles=[GRAVEL], style_size=32, feature_network=Looks(), terms=terms)
    assert set(method.left_out) == {"student.perceptual", "student.gram", "student.statistics"}
    paintings = {"student.content": None, "student.style": None}
    method = Stylize(network(), network(3), styles=[GRAVEL], style_size=32, feature_network=Looks(), terms=paintings)
    assert set(losses(method, batch())) == {"output", "total_variation"}


def test_features_that_only_one_style_passes_cannot_be_followed() -> None:
    teacher = StylizerPerStyle([network(3, 1), network(3, 2)])
    for number in range(2):
        follow = Hint({"blocks.0": f"members.{number}.blocks.0"})
        with pytest.raises(
            RecipeError, match=f"'members.{number}.blocks.0': StylizerPerStyle does not run this module"
        ):
            painter(
                network(2, styles=2),
                teacher,
                styles=[GRAVEL, "brick.png"],
                feature_network=Vgg16(),
                terms={"student.features": follow},
            )


def test_metrics_of_what_is_known() -> None:
    task, images = Stylization([GRAVEL], Vgg16(), **SEEN), data()
    same = task.evaluate(torch.nn.Identity(), images, split="test", seed=0)
    assert same["content"] == 0 and same["stability"] == 100 and same["total"] == same["style"] > 0
    colours = task.evaluate(Reinhard(), images, split="test", seed=0)
    assert colours["style"] < same["style"] and colours["content"] > 0
    with pytest.raises(RecipeError, match=r"task\.styles: expected at least 1, found 0"):
        Stylization([], Vgg16())
