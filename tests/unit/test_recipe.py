from __future__ import annotations

import pickle
import re
from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
import yaml
from pydantic import TypeAdapter, ValidationError
from torch import Tensor, nn

from limbeck.data.base import Augmentation, Data
from limbeck.data.glyphs import Glyphs
from limbeck.errors import MissingExtra, RecipeError
from limbeck.losses.base import FeatureLoss, LogitLoss
from limbeck.methods.base import Method
from limbeck.methods.gan import Gan
from limbeck.networks.gan.dcgan import DcganDiscriminator, DcganGenerator
from limbeck.networks.roles import Classifier, Generator, VariationalAutoencoder
from limbeck.recipe.catalogue import arguments, catalogue, describe, resolve
from limbeck.recipe.marks import lines, shown
from limbeck.recipe.parts import Mistakes, Part, canonical, read_part
from limbeck.recipe.reader import ArmRecipe, FeatureArm, Recipe, read_recipe
from limbeck.recipe.rehearsal import rehearse
from limbeck.recipe.signatures import argument
from limbeck.recipe.words import type_text
from limbeck.terms.base import Term
from limbeck.training.options import Training
from limbeck.types import Draw
from limbeck.weighting.schedule import Schedule
from limbeck.weighting.scheduled import Scheduled

ROOT = Path(__file__).parents[2]
HERE = __name__
R1 = {"discriminator.penalty": {"class_path": "limbeck.terms.penalties.R1", "init_args": {}}}
UNSCALED = {"class_path": "ReconstructionLoss", "init_args": {"likelihood": "l1"}}

GOOD: dict[str, Any] = yaml.safe_load("""
name: toy
data: {class_path: Glyphs, init_args: {size: 32, channels: 1, classes: ABCDEFGHIJ}}
task: {class_path: Generation, init_args: {latent: [64]}}
method: {class_path: Gan, init_args: {critic_steps: 2}}
networks: {discriminator: {class_path: DcganDiscriminator, init_args: {width: 8}}}
teacher:
  network: {class_path: DcganGenerator, init_args: {width: 8}}
  training: {steps: 20, optimizers: {student: {class_path: Adam, init_args: {lr: 2.0e-4, betas: [0.0, 0.99]}}}}
student:
  network: {class_path: DcganGenerator, init_args: {width: 4}}
  training: {steps: 10, batch: 8, optimizers: {student: {class_path: Adam, init_args: {lr: 0.01}}}}
  start_from_teacher: [discriminator]
  weights: {student.output: 1, student.adversarial: {weight: 0.1, from: 0.5}}
""")


class Particular(nn.Module):
    """Makes 32x32 images of latents, in double precision, and asserts what it is given."""

    def __init__(self, length: int = 64) -> None:
        super().__init__()
        self.length, self.project = length, nn.Linear(length, 32 * 32, dtype=torch.float64)

    def forward(self, latent: Tensor) -> Tensor:
        assert latent.shape[1] == self.length, "another length"
        return self.project(latent.to(self.project.weight.dtype)).unflatten(1, (1, 32, 32))


class Unscaled(VariationalAutoencoder):
    """Has no scale of its pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.latent_shape, self.image_shape = (32,), (1, 32, 32)

    def posterior(self, image: Tensor) -> tuple[Tensor, Tensor]:
        return image.flatten(1)[:, :32], image.flatten(1)[:, :32]

    def decode(self, latent: Tensor) -> Tensor:
        return latent[:, :1, None, None].expand(-1, 1, 32, 32)


class Twirl(Augmentation):
    """Turns.

    Args:
        turns: How often.
    """

    def __init__(self, turns: int = 1) -> None:
        self.turns = turns

    def draws(self) -> Mapping[str, Draw]:
        return {}

    def __call__(self, image: Tensor, drawn: Mapping[str, Tensor]) -> Tensor:
        return image.rot90(self.turns, (2, 3))


class Several(Augmentation):
    """One after the other."""

    def __init__(self, steps: Sequence[Augmentation], first: Augmentation | None = None) -> None:
        self.steps, self.first = steps, first

    def draws(self) -> Mapping[str, Draw]:
        return {}

    def __call__(self, image: Tensor, drawn: Mapping[str, Tensor]) -> Tensor:
        for step in self.steps:
            image = step(image, drawn)
        return image


class Named(Augmentation):
    """Several by name, of which one may be left out.

    Args:
        terms: By name.
        others: Or none.
    """

    def __init__(self, terms: Mapping[str, Augmentation | None], others: Sequence[Augmentation] | None = None) -> None:
        self.terms, self.others = terms, others

    def draws(self) -> Mapping[str, Draw]:
        return {}

    def __call__(self, image: Tensor, drawn: Mapping[str, Tensor]) -> Tensor:
        return image


class Halved(Scheduled):
    """A weighting of somebody's own.

    Args:
        weights: Weights.
        defaults: Defaults.
        factor: What everything is multiplied by.
    """

    def __init__(
        self, weights: Mapping[str, float | Schedule], defaults: Mapping[str, float], factor: float = 0.5
    ) -> None:
        super().__init__(weights, defaults)
        self.factor = factor


class Open(nn.Module):
    """Takes anything."""

    def __init__(self, **anything: Any) -> None:
        super().__init__()
        self.anything = anything


def read(folder: Path, changes: Mapping[str, Any] | None = None, flags: Mapping[str, str] | None = None) -> Recipe:
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump({**deepcopy(GOOD), **(changes or {})}, sort_keys=False))
    return read_recipe(path, list((flags or {}).items()))


def mistakes_of(
    folder: Path, changes: Mapping[str, Any] | None = None, flags: Mapping[str, str] | None = None
) -> list[str]:
    with pytest.raises(RecipeError) as caught:
        read(folder, changes, flags)
    return [line.strip() for line in str(caught.value).splitlines()]


class TestReading:
    def test_parts_build_new_objects_with_their_arguments(self, tmp_path: Path) -> None:
        recipe = read(tmp_path)
        data = recipe.data.build()
        assert isinstance(data, Glyphs) and data.image_shape == (1, 32, 32)
        first, second = (recipe.students["student"].network.build() for _ in range(2))
        assert isinstance(first, DcganGenerator) and first is not second
        assert next(first.parameters()) is not next(second.parameters())
        assert first.output.weight.shape[0] == 4

    def test_descriptions_are_plain_json_with_full_paths_and_given_arguments(self, tmp_path: Path) -> None:
        assert read(tmp_path).students["student"].description() == {
            "network": {"class_path": "limbeck.networks.gan.dcgan.DcganGenerator", "init_args": {"width": 4}},
            "networks": {
                "discriminator": {
                    "class_path": "limbeck.networks.gan.dcgan.DcganDiscriminator",
                    "init_args": {"width": 8},
                }
            },
            "method": {"class_path": "limbeck.methods.gan.Gan", "init_args": {"critic_steps": 2}},
            "training": {
                "steps": 10,
                "batch": 8,
                "optimizers": {"student": {"class_path": "torch.optim.adam.Adam", "init_args": {"lr": 0.01}}},
            },
            "weights": {
                "student.output": 1.0,
                "student.adversarial": {"weight": 0.1, "from": 0.5, "until": 1.0, "ramp": 0.0},
            },
            "load": None,
            "start_from_teacher": ["discriminator"],
            "augmentation": None,
        }

    def test_weights_become_numbers_and_schedules(self, tmp_path: Path) -> None:
        weights = read(tmp_path).students["student"].weights
        assert weights == {"student.output": 1.0, "student.adversarial": Schedule(0.1, start=0.5)}

    def test_optimizers_are_made_from_the_players_parameters(self, tmp_path: Path) -> None:
        training = read(tmp_path).teacher.training  # type: ignore[union-attr]
        parameter = nn.Parameter(torch.ones(3))
        optimizer = training.optimizers["student"]([parameter])  # type: ignore[union-attr]
        group = optimizer.param_groups[0]
        assert type(optimizer) is torch.optim.Adam
        assert group["params"] == [parameter] and (group["lr"], group["betas"]) == (2e-4, (0.0, 0.99))

    def test_seeds_count_from_the_first(self, tmp_path: Path) -> None:
        assert read(tmp_path).seeds == (0,)
        assert read(tmp_path, flags={"seed": "5", "seeds": "3"}).seeds == (5, 6, 7)

    def test_a_feature_arm_is_an_arm_with_a_name(self, tmp_path: Path) -> None:
        arm = {"name": "cnn", "network": "SmallCnn", "method": "Supervised", "training": {"steps": 5}}
        features = read(tmp_path, {"features": arm}).features
        assert isinstance(features, FeatureArm) and features.name == "cnn"
        assert features.arm.training == Training(5) and features.arm.networks == {}

    def test_a_loaded_teacher_is_not_trained_and_known_by_its_content(self, tmp_path: Path) -> None:
        file = tmp_path / "teacher.safetensors"
        file.write_bytes(b"one")
        teacher = {"network": "DcganGenerator", "load": str(file)}
        first = read(tmp_path, {"teacher": teacher}, {"student.start_from_teacher": "[]"}).teacher
        assert first is not None and first.training is None and first.load == file
        before = first.description()
        file.write_bytes(b"two")
        assert first.description()["load"] != before["load"]

    def test_only_a_network_with_weights_of_its_own_serves_untrained(self, tmp_path: Path) -> None:
        target = {"target": "torch.nn.Identity"}
        with_weights = {"class_path": "Import", "init_args": {**target, "weights": "some.pth"}}
        without = {"class_path": "Import", "init_args": target}
        off = {"student.start_from_teacher": "[]"}
        brought = {"network": with_weights, "networks": {"discriminator": without}}
        teacher = read(tmp_path, {"teacher": brought}, off).teacher
        assert teacher is not None and teacher.training is None and teacher.networks == {}
        brought["networks"] = {"discriminator": with_weights}
        teacher = read(tmp_path, {"teacher": brought}, off).teacher
        assert teacher is not None and list(teacher.networks) == ["discriminator"]
        with pytest.raises(RecipeError, match=r"teacher\.training: missing"):
            read(tmp_path, {"teacher": {"network": without}}, off)

    def test_a_recipe_can_be_sent_to_another_process(self, tmp_path: Path) -> None:
        recipe = pickle.loads(pickle.dumps(read(tmp_path)))
        assert isinstance(recipe.teacher.training.optimizers["student"]([nn.Parameter()]), torch.optim.Adam)

    def test_without_teacher_the_student_stands_alone(self, tmp_path: Path) -> None:
        recipe = read(tmp_path, {"teacher": None}, {"student.start_from_teacher": "null"})
        assert recipe.teacher is None and recipe.controls == {} and list(recipe.students) == ["student"]


class TestFlags:
    def test_a_flag_replaces_one_value_and_makes_sections_on_the_way(self, tmp_path: Path) -> None:
        recipe = read(tmp_path, flags={"student.network.init_args.width": "12", "control.training.steps": "30"})
        assert recipe.students["student"].network.description["init_args"] == {"width": 12}
        assert recipe.controls["control"].training.steps == 30  # type: ignore[union-attr]

    @pytest.mark.parametrize("text", ["1e-3", "1E-3", "1.0e-3", "0.001", "+1e-3"])
    def test_numbers_in_every_spelling(self, tmp_path: Path, text: str) -> None:
        arm = read(tmp_path, flags={"student.training.optimizers.student.init_args.lr": text}).students["student"]
        assert arm.training_description["optimizers"]["student"]["init_args"] == {"lr": 0.001}

    def test_the_name_of_a_loss_has_a_dot_of_its_own(self, tmp_path: Path) -> None:
        flags = {"student.weights.student.output": "2", "student.weights.student.adversarial.ramp": "0.25"}
        weights = read(tmp_path, flags=flags).students["student"].weights
        assert weights == {"student.output": 2.0, "student.adversarial": Schedule(0.1, start=0.5, ramp=0.25)}

    def test_a_class_can_be_given_by_name_and_its_arguments_after_it(self, tmp_path: Path) -> None:
        flags = {"student.network": "ResnetGenerator", "student.network.init_args.width": "8"}
        network = read(tmp_path, flags=flags).students["student"].network
        path = "limbeck.networks.gan.resnet_gan.ResnetGenerator"
        assert network.description == {"class_path": path, "init_args": {"width": 8}}

    def test_precision_may_be_a_number(self, tmp_path: Path) -> None:
        training = read(tmp_path, flags={"student.training.precision": "32"}).students["student"].training
        assert training is not None and training.precision == "32"

    def test_null_takes_a_value_away(self, tmp_path: Path) -> None:
        recipe = read(tmp_path, flags={"student.weights.student.output": "null", "student.training.batch": "null"})
        assert "student.output" not in recipe.students["student"].weights
        assert recipe.students["student"].training.batch == Training(1).batch  # type: ignore[union-attr]

    def test_null_takes_away_what_an_arm_would_take_over(self, tmp_path: Path) -> None:
        flags = {
            "augmentation": "Flip",
            "teacher.augmentation": "null",
            "students.a": "{}",
            "students.b.weights": "null",
        }
        recipe = read(tmp_path, flags=flags)
        assert recipe.teacher is not None and recipe.teacher.augmentation is None
        assert recipe.students["a"].augmentation is not None and recipe.students["a"].weights
        assert not recipe.students["b"].weights

    def test_the_effective_recipe_reads_as_the_same_recipe(self, tmp_path: Path) -> None:
        recipe = read(
            tmp_path, flags={"student.network.init_args.width": "12", "students.a.weights.student.output": "3"}
        )
        (tmp_path / "again.yaml").write_text(recipe.to_yaml())
        again = read_recipe(tmp_path / "again.yaml")
        assert {n: a.description() for n, a in again.arms().items()} == {
            n: a.description() for n, a in recipe.arms().items()
        }
        assert again.tree == recipe.tree and again.students["a"].weights["student.output"] == 3.0

    @pytest.mark.parametrize(
        ("flags", "message"),
        [
            ({"students.floor": "{}"}, "'floor' cannot be a student's name"),
            ({"students.control": "{}"}, "'control' cannot be a student's name"),
            ({"baselines.student": "Reinhard"}, "baselines.student: an arm of the run has this name; choose another"),
            ({"students.a.taught_by": "[b]"}, r"students.a.taught_by: no student \["),
            (
                {"student.training.clip": ".inf"},
                "found infinity; where there is no bound, write null",
            ),
            ({"teacher.load": "~nobody-here/t.pth"}, "teacher.load: no such file"),
        ],
    )
    def test_what_would_only_show_after_the_training(self, tmp_path: Path, flags: dict[str, str], message: str) -> None:
        with pytest.raises(RecipeError, match=message):
            read(tmp_path, flags=flags)

    def test_text_that_looks_like_a_number_stays_text(self, tmp_path: Path) -> None:
        (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(GOOD).replace("name: toy", 'name: "12e4"'))
        recipe = read_recipe(tmp_path / "recipe.yaml")
        (tmp_path / "again.yaml").write_text(recipe.to_yaml())
        assert read_recipe(tmp_path / "again.yaml").name == "12e4"


class TestArms:
    def test_a_control_is_the_student_without_anything_of_the_teacher(self, tmp_path: Path) -> None:
        recipe = read(tmp_path)
        student, control = recipe.students["student"].description(), recipe.controls["control"].description()
        assert control == {**student, "weights": {}, "start_from_teacher": []}

    def test_a_control_trains_what_its_student_holds_as_the_teacher_left_it(self, tmp_path: Path) -> None:
        """Held as it was drawn it would be no fair control."""

        def held(start: Any, control: Any = True, **given: Any) -> tuple[str | None, str | None]:
            training = {"freeze": "blocks.0", "steps": 10}
            student = GOOD["student"] | {"start_from_teacher": start, "training": training} | given
            student |= {"network": GOOD["teacher"]["network"]}
            recipe = read(tmp_path, {"student": student, "control": control})
            arms = (recipe.students["student"], recipe.controls["control"])
            return arms[0].training.freeze, arms[1].training.freeze  # type: ignore[union-attr]

        for start in (["student"], ["discriminator", "student.blocks.0"]):
            assert held(start) == ("blocks.0", None)
            assert held(start, {"training": {"freeze": "project"}}) == ("blocks.0", "project")
        assert held(["discriminator"]) == ("blocks.0", "blocks.0")
        (tmp_path / "weights.safetensors").touch()
        assert held(["discriminator"], load=str(tmp_path / "weights.safetensors")) == ("blocks.0", "blocks.0")

    def test_somebody_elses_network_is_called_once_as_its_task_calls_it(self, tmp_path: Path) -> None:
        def call(**given: Any) -> None:
            init_args = {"target": f"{HERE}.Particular", **given}
            student = GOOD["student"] | {"network": {"class_path": "Import", "init_args": init_args}}
            rehearse(read(tmp_path, {"student": student}))

        call()
        with pytest.raises(RecipeError, match=r"student.network: Particular cannot .*: AssertionError: another length"):
            call(arguments={"length": 63})
        with pytest.raises(RecipeError, match="student: Gan: expected data with labels, found images"):
            call(classes=10)  # of which it would be told none here

    def test_a_control_has_settings_of_its_own(self, tmp_path: Path) -> None:
        own = {
            "training": {"optimizers": {"student": {"init_args": {"lr": 0.5}}}},
            "weights": {"student.adversarial": 2.0},
            "method": {"init_args": {"terms": {"discriminator.penalty": "R1"}}},
        }
        recipe = read(tmp_path, {"control": own})
        student, control = recipe.students["student"], recipe.controls["control"]
        assert control.training.steps == student.training.steps  # type: ignore[union-attr]
        assert control.training_description["optimizers"]["student"]["init_args"] == {"lr": 0.5}
        assert control.weights == {"student.adversarial": 2.0}
        assert control.method.description["init_args"] == {"critic_steps": 2, "terms": R1}
        assert student.method.description["init_args"] == {"critic_steps": 2}

    def test_no_control(self, tmp_path: Path) -> None:
        assert read(tmp_path, {"control": False}).controls == {}

    def test_an_arm_lays_its_method_and_networks_over_those_of_all(self, tmp_path: Path) -> None:
        flags = {"teacher.method.init_args.terms.discriminator.penalty": "R1"}
        flags |= {"teacher.networks.discriminator.init_args.size": "32"}
        teacher = read(tmp_path, flags=flags | {"student.start_from_teacher": "[]"}).teacher
        assert teacher is not None
        assert teacher.method.description["init_args"] == {"critic_steps": 2, "terms": R1}
        assert teacher.networks["discriminator"].description["init_args"] == {"width": 8, "size": 32}

    def test_another_class_takes_no_arguments_over(self, tmp_path: Path) -> None:
        flags = {"student.method": "{class_path: Supervised}", "student.start_from_teacher": "[]"}
        arm = read(tmp_path, flags=flags | {"student.weights": "null"}).students["student"]
        assert arm.method.description == {"class_path": "limbeck.methods.supervised.Supervised", "init_args": {}}
        assert arm.networks == {}  # it takes no discriminator, though the recipe gives one to all

    def test_several_students_are_changes_of_one(self, tmp_path: Path) -> None:
        students = {
            "x18": None,
            "x45": {"network": {"init_args": {"width": 2}}, "control": {"training": {"steps": 7}}},
            "no-output": {"weights": {"student.output": 0}},
        }
        recipe = read(tmp_path, {"students": students})
        assert list(recipe.students) == ["x18", "x45", "no-output"]
        assert recipe.students["x18"].description()["network"]["init_args"] == {"width": 4}
        assert recipe.students["x45"].description()["network"]["init_args"] == {"width": 2}
        assert recipe.students["no-output"].weights["student.output"] == 0.0
        both = "control of x18, no-output"  # equal without a teacher: trained once
        assert recipe.control_of == {"x18": both, "x45": "control of x45", "no-output": both}
        assert list(recipe.controls) == [both, "control of x45"]
        assert recipe.controls["control of x45"].training.steps == 7  # type: ignore[union-attr]

    def test_a_student_can_be_measured_against_another(self, tmp_path: Path) -> None:
        students = {"plain": None, "more": {"training": {"steps": 9}, "control": "plain"}, "own": {"weights": None}}
        recipe = read(tmp_path, {"students": students})
        assert recipe.control_of == {"plain": "control", "more": "plain", "own": "control"}
        assert list(recipe.arms()) == ["teacher", "plain", "more", "own", "control"]
        for wrong in ("more", "later", "plian"):
            lines = mistakes_of(tmp_path, {"students": students}, {"students.more.control": wrong})
            assert any("students.more.control: no student" in line for line in lines)

    def test_augmentation_holds_for_every_arm_but_the_features(self, tmp_path: Path) -> None:
        arm = {"name": "cnn", "network": "SmallCnn", "method": "Supervised", "training": {"steps": 5}}
        spin = {"class_path": f"{HERE}.Twirl", "init_args": {"turns": 3}}
        recipe = read(tmp_path, {"augmentation": spin, "features": arm})
        found = {name: a.augmentation is not None for name, a in recipe.arms().items()}
        assert found == {"features": False, "teacher": True, "student": True, "control": True}


class TestWeighting:
    def test_it_is_scheduled_unless_the_recipe_says_otherwise(self, tmp_path: Path) -> None:
        arm = read(tmp_path).students["student"]
        weighting = arm.weigh()
        assert type(weighting) is Scheduled and "weighting" not in arm.description()
        assert weighting.weight("student.output", 0.0) == 1.0
        assert [weighting.weight("student.adversarial", at) for at in (0.0, 0.5)] == [0.0, 0.1]
        said = read(tmp_path, {"weighting": "Scheduled"}).students["student"]
        assert said.description() == arm.description()  # saying the default changes no arm

    def test_it_holds_for_every_arm_and_a_control_takes_it_over(self, tmp_path: Path) -> None:
        halved = {"class_path": f"{HERE}.Halved", "init_args": {"factor": 0.25}}
        recipe = read(tmp_path, {"weighting": f"{HERE}.Halved"}, {"student.weighting": yaml.safe_dump(halved)})
        arms = recipe.arms()
        assert {name: arm.weighting.description["init_args"] for name, arm in arms.items()} == {
            "teacher": {}, "student": {"factor": 0.25}, "control": {"factor": 0.25},
        }  # fmt: skip
        assert arms["student"].weigh().factor == 0.25 and arms["teacher"].description()["weighting"]["init_args"] == {}
        own = read(tmp_path, {"control": {"weighting": "Scheduled"}}, {"student.weighting": f"{HERE}.Halved"})
        assert own.controls["control"].weighting.cls is Scheduled and own.students["student"].weighting.cls is Halved

    def test_its_weights_come_from_the_arm(self, tmp_path: Path) -> None:
        lines = mistakes_of(
            tmp_path, {"weighting": {"class_path": "Scheduled", "init_args": {"weights": {}, "fact": 1}}}
        )
        assert any("weighting.init_args.weights: Scheduled gets 'weights' from elsewhere" in line for line in lines)
        assert any("weighting.init_args.fact: Scheduled has no argument 'fact'; it has none" in line for line in lines)
        (line,) = mistakes_of(tmp_path, {"weighting": "Gan"})
        assert "weighting: expected a Weighting, found 'Gan'" in line


def check_spelling(place: str, told: Any) -> None:
    """Check that a part may be spelt so, the dots apart: its class is there and has these arguments."""
    if not isinstance(told, Mapping):
        return
    assert set(told) <= {"class_path", "init_args"}, place
    for name in told["class_path"].split(" or "):
        cls = resolve((Term, LogitLoss, FeatureLoss), name)
        for key, value in told.get("init_args", {}).items():
            assert key in arguments(cls), f"{place}: {name} has no {key}"
            check_spelling(f"{place}.{key}", value)


class TestMistakes:
    @pytest.mark.parametrize("method", [cls for cls in catalogue(Method) if cls.moved_arguments])
    def test_old_arguments_are_told_as_recipes_spell_them_now(self, method: type[Method]) -> None:
        for old, text in method.moved_arguments.items():
            assert old not in arguments(method)
            for name, told in yaml.safe_load(f"{{{text}}}").items():
                assert re.fullmatch(r"(student|discriminator)\.[a-z_]+", name), f"{old}: {name}"
                check_spelling(f"{method.__name__}.{old}: {name}", told)

    @pytest.mark.parametrize(
        ("flags", "key"),
        [
            ({"student.method": "Stylize"}, "student.method.init_args.styles"),
            ({"student.method": "{class_path: Stylize}"}, "student.method.init_args.styles"),
            ({"student.method.init_args": "{critic_steps: x}"}, "student.method.init_args.critic_steps"),
            ({"method.init_args.critic_steps": "x"}, "method.init_args.critic_steps"),
            (
                {"students.a.network": "{class_path: ResnetGenerator, init_args: {widht: 3}}"},
                "students.a.network.init_args.widht",
            ),
            ({"students.a.network.init_args.size": "x"}, "students.a.network.init_args.size"),
            ({"student.network.init_args.size": "x", "students.a.network.init_args.width": "2"},
             "student.network.init_args.size"),
            (
                {"control.method": "{class_path: Stylize, init_args: {steps: 2}}"},
                "control.method.init_args.styles",
            ),
        ],
    )  # fmt: skip
    def test_after_a_change_of_class_they_are_those_of_the_section_that_changes_it(
        self, tmp_path: Path, flags: dict[str, str], key: str
    ) -> None:
        lines = mistakes_of(tmp_path, {"weights": None}, flags)
        assert key in {line.removeprefix(f"{tmp_path}/recipe.yaml: ").split(": ")[0] for line in lines}
        assert not any(re.match(r"(.*yaml: )?method\.init_args\.styles", line) for line in lines)

    def test_flags_and_mistakes_know_that_the_name_of_a_term_has_a_dot(self, tmp_path: Path) -> None:
        flags = {
            "method.init_args.terms.student.output": "null",
            "student.method.init_args.terms.discriminator.real_fake.class_path": "RealFake",
            "student.method.init_args.terms.discriminator.real_fake.init_args.loss": "hinge",
            "student.weights": "null",
        }
        arms = read(tmp_path, flags=flags).arms()
        given = {name: arm.method.description["init_args"]["terms"] for name, arm in arms.items()}
        assert given["teacher"] == {"student.output": None}
        real_fake = {"class_path": "limbeck.terms.adversarial.RealFake", "init_args": {"loss": "hinge"}}
        assert given["student"] == {"student.output": None, "discriminator.real_fake": real_fake}
        flags["student.method.init_args.terms.discriminator.real_fake.init_args.loss"] = "hing"
        (line,) = mistakes_of(tmp_path, flags=flags)
        assert "yaml: student.method.init_args.terms.discriminator.real_fake.init_args.loss: expected" in line

    def test_all_come_out_at_once_under_the_keys_where_they_were_written(self, tmp_path: Path) -> None:
        changes: dict[str, Any] = {
            "sed": 1,
            "task": {"class_path": "Generation", "init_args": {"latent": "x", "samplez": 5}},
            "students": {"a": {}, "b": {"training": {"steps": 0}}, "c": {"network": {"init_args": {"width": "w"}}}},
        }
        lines = mistakes_of(tmp_path, changes, {"student.training.ema": "2", "method.init_args.critic_steps": "none"})
        assert lines[0].endswith("recipe.yaml: 7 mistakes")
        keys = {line.split(":")[0] for line in lines[1:]}
        assert keys == {
            "sed",
            "task.init_args.latent",
            "task.init_args.samplez",
            "students.b.training.steps",
            "students.c.network.init_args.width",
            "student.training.ema",
            "method.init_args.critic_steps",
        }

    def test_a_mistake_that_arms_share_is_told_once(self, tmp_path: Path) -> None:
        lines = mistakes_of(tmp_path, {"students": {"a": {}, "b": {}}}, {"student.training.batch": "x"})
        assert len(lines) == 1 and "student.training.batch: expected whole number, found 'x'" in lines[0]

    def test_an_unusable_network_is_told_before_anything_is_trained(self, tmp_path: Path) -> None:
        flags = {"student.network.init_args.width": "0", "teacher.network.init_args.size": "33"}
        recipe = read(tmp_path, flags=flags)
        state = torch.get_rng_state()
        with pytest.raises(RecipeError) as caught:
            rehearse(recipe)
        assert "student.network" in str(caught.value) and "teacher.network" in str(caught.value)
        assert torch.equal(torch.get_rng_state(), state)

    @pytest.mark.parametrize("classes", [3, 10])
    def test_a_segmenter_with_classes_too_few_or_too_many(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, classes: int
    ) -> None:
        """Ten are the default of a U-Net: all of them would be trained, and the evaluation would then refuse it."""
        monkeypatch.chdir(tmp_path)
        network = {"class_path": "UNet", "init_args": {"width": 2, "depth": 1, "channels": 1, "classes": classes}}
        data = {"class_path": "Glyphs", "init_args": {"size": 32, "channels": 1, "classes": "ABC"}}
        arm = {"network": network, "training": {"steps": 1}}
        tree = {"name": "letters", "data": data, "task": "Segmentation", "method": "Segment", "student": arm}
        Path("recipe.yaml").write_text(yaml.safe_dump(tree | {"control": False}))
        with pytest.raises(RecipeError, match=rf"student\.network: expected the 4 classes of glyphs, found {classes}"):
            rehearse(read_recipe("recipe.yaml"))

    @pytest.mark.parametrize(
        ("channels", "condition", "says"),
        [
            (5, None, ""),
            (4, 1, ""),
            (1, None, "expected 5 channels, the image's 1 and one for each of 4 classes, found 1"),
        ],
    )
    def test_a_discriminator_of_masks_sees_image_and_probabilities(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, channels: int, condition: int | None, says: str
    ) -> None:
        monkeypatch.chdir(tmp_path)
        seen = {"width": 2, "channels": channels, "condition": condition}
        tree = {
            "name": "letters",
            "data": {"class_path": "Glyphs", "init_args": {"size": 32, "channels": 1, "classes": "ABC"}},
            "task": "Segmentation",
            "method": "Segment",
            "networks": {"discriminator": {"class_path": "PatchDiscriminator", "init_args": seen}},
            "student": {
                "network": {"class_path": "UNet", "init_args": {"width": 2, "depth": 1, "channels": 1, "classes": 4}},
                "training": {"steps": 1},
            },
            "control": False,
        }
        Path("recipe.yaml").write_text(yaml.safe_dump(tree))
        if not says:
            rehearse(read_recipe("recipe.yaml"))
            return
        with pytest.raises(RecipeError, match=f"student.networks.discriminator: {says}"):
            rehearse(read_recipe("recipe.yaml"))

    @pytest.mark.parametrize(
        ("changes", "lines"),
        [
            ({}, []),
            (
                {"method": {"class_path": "Vae", "init_args": {"terms": {"student.reconstruction": UNSCALED}}}},
                ["teacher", "student", "control"],
            ),
            ({"control": {"weights": {"student.reconstruction": 0}}}, ["control"]),
            ({"teacher": {"network": {"class_path": f"{HERE}.Unscaled"}, "load": "weights.safetensors"}}, ["teacher"]),
        ],
    )
    def test_bits_under_a_scale_that_nothing_trains_are_told_before_anything_is_trained(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], lines: list[str]
    ) -> None:
        monkeypatch.chdir(tmp_path)
        Path("weights.safetensors").touch()
        arm = {"network": {"class_path": "ConvVae", "init_args": {"width": 2}}, "training": {"steps": 1}}
        task = {"class_path": "Reconstruction", "init_args": {"bits": True}}
        tree = {"name": "bits", "data": GOOD["data"], "task": task, "method": "Vae", "teacher": arm, "student": arm}
        Path("recipe.yaml").write_text(yaml.safe_dump(tree | changes))
        recipe = read_recipe("recipe.yaml")
        if not lines:
            rehearse(recipe)
            return
        with pytest.raises(RecipeError) as caught:
            rehearse(recipe)
        told = [line for line in str(caught.value).splitlines() if "expected a scale trained by a Gaussian" in line]
        assert len(told) == len(lines) and all(any(f"{name}: " in line for line in told) for name in lines)

    def test_rehearsing_draws_nothing_from_the_global_generator(self, tmp_path: Path) -> None:
        recipe = read(tmp_path)
        state = torch.get_rng_state()
        rehearse(recipe)
        assert torch.equal(torch.get_rng_state(), state)


class TestAssembling:
    def test_the_method_gets_its_networks_and_the_teachers_by_name(self, tmp_path: Path) -> None:
        arm = read(tmp_path).students["student"]
        own = {"student": DcganGenerator(4), "discriminator": DcganDiscriminator(8)}
        theirs = {"student": DcganGenerator(8), "discriminator": DcganDiscriminator(8), "other": nn.Identity()}
        method = arm.assemble(own, theirs)
        assert isinstance(method, Gan)
        assert method.student is own["student"] and method.discriminator is own["discriminator"]
        held = [m.network for m in (method.teacher, method.teacher_discriminator)]  # type: ignore[union-attr]
        assert held == [theirs["student"], theirs["discriminator"]]
        assert arm.assemble({"student": DcganGenerator(4), "discriminator": DcganDiscriminator(8)}).teacher is None

    def test_an_arm_can_be_made_from_live_objects(self) -> None:
        live = DcganGenerator(4)
        arm = ArmRecipe(
            network=Part({"class_path": "live"}, lambda: deepcopy(live)),
            method=Part({"class_path": "Gan"}, Gan, Gan),
            training=Training(1),
        )
        built = arm.network.build()
        assert built is not live and torch.equal(built.output.weight, live.output.weight)  # type: ignore[union-attr,arg-type]
        assert arm.description()["network"] == {"class_path": "live"}


class TestParts:
    def test_arguments_that_are_objects_of_ours_are_parts_themselves(self) -> None:
        spec = {
            "class_path": f"{HERE}.Several",
            "init_args": {
                "steps": [f"{HERE}.Twirl", {"class_path": f"{HERE}.Twirl", "init_args": {"turns": 2}}],
                "first": f"{HERE}.Twirl",
            },
        }
        mistakes = Mistakes()
        part = read_part(Augmentation, spec, "augmentation", mistakes)
        assert mistakes.lines == []
        built, other = part.build(), part.build()
        assert [step.turns for step in built.steps] == [1, 2] and isinstance(built.first, Twirl)
        assert built.steps[0] is not other.steps[0] and built.first is not other.first
        twirl = f"{HERE}.Twirl"
        assert part.description["init_args"]["steps"][1] == {"class_path": twirl, "init_args": {"turns": 2}}

    def test_mistakes_inside_them_carry_the_whole_key(self) -> None:
        spec = {
            "class_path": f"{HERE}.Several",
            "init_args": {"steps": [{"class_path": f"{HERE}.Twirl", "init_args": {"turns": "x"}}]},
        }
        mistakes = Mistakes()
        read_part(Augmentation, spec, "augmentation", mistakes)
        assert mistakes.lines == ["augmentation.init_args.steps.0.init_args.turns: expected whole number, found 'x'"]

    def test_a_mapping_of_names_to_parts_may_leave_one_out(self) -> None:
        twirl = {"class_path": f"{HERE}.Twirl", "init_args": {"turns": "2"}}
        terms = {"student.first": f"{HERE}.Twirl", "student.second": twirl, "student.third": None}
        mistakes = Mistakes()
        part = read_part(Augmentation, {"class_path": f"{HERE}.Named", "init_args": {"terms": terms}}, "a", mistakes)
        assert mistakes.lines == []
        built, other = part.build(), part.build()
        assert {name: term and term.turns for name, term in built.terms.items()} == {
            "student.first": 1, "student.second": 2, "student.third": None,
        }  # fmt: skip
        assert built.terms["student.first"] is not other.terms["student.first"] and built.others is None
        told = part.description["init_args"]["terms"]
        assert told["student.second"]["init_args"] == {"turns": 2} and told["student.third"] is None

    def test_mistakes_in_a_mapping_of_parts_carry_the_name(self) -> None:
        terms = {"student.a": {"class_path": f"{HERE}.Twirl", "init_args": {"turns": "x"}}, "student.b": 5}
        spec = {"class_path": f"{HERE}.Named", "init_args": {"terms": terms, "others": [f"{HERE}.Twirl", "Flap"]}}
        mistakes = Mistakes()
        read_part(Augmentation, spec, "a", mistakes)
        first, second, third = mistakes.lines
        assert first == "a.init_args.terms.student.a.init_args.turns: expected whole number, found 'x'"
        assert second.startswith("a.init_args.terms.student.b: expected a Augmentation, as {class_path")
        assert third.startswith("a.init_args.others.1: expected a Augmentation, found 'Flap' (did you mean 'Flip'?)")

    def test_a_mistake_in_building_names_the_part_inside(self) -> None:
        crop = {"class_path": "Scale", "init_args": {"low": 2.0, "high": 1.0}}
        spec = {"class_path": f"{HERE}.Named", "init_args": {"terms": {"student.a": crop}}}
        part = read_part(Augmentation, spec, "augmentation", Mistakes())
        with pytest.raises(RecipeError, match=r"augmentation\.init_args\.terms\.student\.a: Scale: expected"):
            part.build()

    def test_a_class_that_takes_any_keyword_gets_any(self) -> None:
        mistakes = Mistakes()
        part = read_part(nn.Module, {"class_path": f"{HERE}.Open", "init_args": {"depth": 3}}, "network", mistakes)
        assert mistakes.lines == [] and part.build().anything == {"depth": 3}

    def test_what_comes_from_elsewhere_is_refused_even_by_a_class_that_takes_any_keyword(self) -> None:
        mistakes = Mistakes()
        spec = {"class_path": f"{HERE}.Open", "init_args": {"student": 3}}
        read_part(nn.Module, spec, "network", mistakes, lambda _: ("student",))
        (line,) = mistakes.lines
        assert line == (
            "network.init_args.student: Open gets 'student' from elsewhere in the recipe; leave it out here"
        )

    @pytest.mark.parametrize(
        ("annotation", "value"),
        [
            (int, True),
            (int, 1.0),
            (int | None, 1e4),
            (float, False),
            (float, "inf"),
            (bool, 1),
            (str, 5),
            (Sequence[str], "abc"),
            (tuple[float, float], [1.0]),
            (Literal[1, 2], True),
            (Tensor, [1]),
        ],
    )
    def test_values_of_another_kind_are_refused(self, annotation: Any, value: Any) -> None:
        kind = TypeAdapter(argument(annotation), config={"arbitrary_types_allowed": True})
        with pytest.raises(ValidationError) as caught:
            kind.validate_python(value)
        ((place, text),) = lines(caught.value)
        assert place == () and text == f"expected {type_text(annotation)}, found {shown(value)}"

    @pytest.mark.parametrize(
        ("annotation", "value", "expected"),
        [
            (int, "12", 12),
            (Any, "1e-3", "1e-3"),  # text stays text where any value may stand
            (dict[str, Any], {"a": "true"}, {"a": "true"}),
            (int | tuple[int, int], [3, 4], (3, 4)),
            (Literal["32", "bf16"], 32, "32"),
            (Literal[18, 34], "18", 18),
            (float, 1, 1.0),
            (float, "1e-3", 1e-3),
            (tuple[int, ...], [1, 2], (1, 2)),
            (int | None, None, None),
            (Path, "a/b", Path("a/b")),
            (Mapping[str, str], {"a": "b"}, {"a": "b"}),
            (float | Tensor, 1e-3, 1e-3),
        ],
    )
    def test_values_become_what_their_type_wants(self, annotation: Any, value: Any, expected: Any) -> None:
        result = TypeAdapter(argument(annotation)).validate_python(value)
        assert result == expected and type(result) is type(expected)

    def test_the_hash_depends_on_content_not_on_order(self) -> None:
        assert canonical({"a": 1, "b": [1, 2]}) == canonical({"b": [1, 2], "a": 1})
        assert len({canonical(x) for x in ({"a": 1}, {"a": 2}, {"b": 1}, {"a": [1]}, {"a": "1"})}) == 5
        # echo -n '{"a":1,"b":"x"}' | sha256sum
        assert canonical({"b": "x", "a": 1}) == "ecf9e98ec0641e23113ff3ce8bdc78d0ddd249886517fd4a7f68cc83d4e65667"


class TestCatalogue:
    def test_a_room_offers_its_concrete_classes_only(self) -> None:
        assert {Gan, resolve(Method, "Supervised")} <= set(catalogue(Method))
        assert Method not in catalogue(Method) and Generator not in catalogue(nn.Module)
        assert DcganGenerator in catalogue(Generator) and DcganGenerator not in catalogue(Classifier)
        assert Twirl not in catalogue(Augmentation)  # a class outside the package goes by its dotted path
        assert resolve(Augmentation, f"{HERE}.Twirl") is Twirl

    def test_a_description_has_what_the_docstring_says(self) -> None:
        entry = describe(Twirl)
        assert (entry.name, entry.path, entry.summary) == ("Twirl", f"{HERE}.Twirl", "Turns.")
        (turns,) = entry.arguments
        assert (turns.name, turns.type, turns.required, turns.default, turns.doc) == (
            "turns",
            "whole number",
            False,
            1,
            "How often.",
        )

    @pytest.mark.parametrize("base", [Data, Augmentation, Method, Generator], ids=lambda c: c.__name__)
    def test_everything_offered_documents_its_arguments(self, base: type) -> None:
        for cls in catalogue(base):
            entry = describe(cls)
            assert entry.summary, cls
            assert [a.name for a in entry.arguments if not a.doc] == [], cls

    def test_a_module_whose_extra_is_missing_is_left_out_and_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        import limbeck.recipe.catalogue as module  # noqa: PLC0415

        real = module.importlib.import_module

        def without_gan(name: str) -> Any:
            if name == "limbeck.methods.gan":
                raise MissingExtra("kornia", "aug")
            return real(name)

        monkeypatch.setattr(module.importlib, "import_module", without_gan)
        assert Gan not in catalogue(Method)
        with pytest.raises(RecipeError, match=r"not available: limbeck\.methods\.gan needs kornia.*limbeck\[aug\]"):
            resolve(Method, "Gan")

    def test_torch_modules_and_plain_classes_have_only_their_own_arguments(self) -> None:
        assert arguments(nn.Identity) == {}
        assert list(arguments(nn.Linear))[:2] == ["in_features", "out_features"]
        assert type_text(float | Tensor | None) == "number or null"
        assert type_text(Mapping[str, int | None] | None) == "mapping of text to (whole number or null) or null"


@pytest.mark.parametrize("path", sorted((ROOT / "recipes").rglob("*.yaml")), ids=lambda path: path.stem)
def test_a_shipped_recipe_says_what_it_shows(path: Path) -> None:
    assert path.read_text().startswith("# ")
