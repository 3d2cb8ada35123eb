"""recipe/rehearsal.py: terms, weights and optimisers that belong together, before anything is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from toys import ToyRestorer

from limbeck.api.given import described
from limbeck.attacks.pgd import Pgd
from limbeck.errors import RecipeError
from limbeck.methods.gan import Gan
from limbeck.methods.restore import Restore
from limbeck.networks.classifiers.small_cnn import SmallCnn
from limbeck.networks.gan.dcgan import DcganDiscriminator, DcganGenerator
from limbeck.recipe.content import content_of
from limbeck.recipe.plan import Recipe
from limbeck.recipe.reader import read_recipe
from limbeck.recipe.rehearsal import rehearse
from limbeck.terms.adversarial import Adversarial, RealFake
from limbeck.terms.output_distance import OutputDistance
from limbeck.terms.perceptual import Perceptual
from limbeck.terms.pixel_cross_entropy import PixelCrossEntropy
from limbeck.terms.worst import Worst
from limbeck.types import Batch
from limbeck.weighting.uncertainty import Uncertainty

NETWORK = "{class_path: SmallCnn, init_args: {width: 2, channels: 1, size: 16, classes: 3}}"
RECIPE = f"""
name: letters
data: {{class_path: Glyphs, init_args: {{size: 16, channels: 1, classes: ABC, train: 60, validation: 30, test: 30}}}}
task: Classification
method: Supervised
teacher: {{network: {NETWORK}, training: {{steps: 2, batch: 4}}}}
student: {{network: {NETWORK}, training: {{steps: 2, batch: 4}}}}
"""


def read(folder: Path, student: dict[str, Any], **more: Any) -> Recipe:
    tree = yaml.safe_load(RECIPE)
    tree["student"] |= student
    (folder / "recipe.yaml").write_text(yaml.safe_dump(tree | more))
    return read_recipe(folder / "recipe.yaml")


def supervised(**terms: Any) -> dict[str, Any]:
    return {
        "class_path": "Supervised",
        "init_args": {"terms": {f"student.{name}": term for name, term in terms.items()}},
    }


@pytest.mark.parametrize(
    ("student", "message"),
    [
        ({"method": supervised(cross_entropy=None)}, "student: there is nothing to learn"),
        ({"weights": {"student.cross_entropy": 0}}, "student: there is nothing to learn"),
        (
            {"method": supervised(cross_entropy=None, logits="Kd"), "weights": {"student.cross_entropy": 5}},
            r"student.weights.student.cross_entropy: there is no such term here: it was taken away",
        ),
    ],
)
def test_a_student_that_learns_nothing_or_not_what_it_was_told_to(
    student: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(RecipeError, match=message):
        rehearse(read(tmp_path, student))


def test_a_control_that_would_learn_nothing_is_refused_too(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="control: there is nothing to learn"):
        rehearse(read(tmp_path, {"method": supervised(cross_entropy=None, logits="Kd")}))


def test_a_control_weighs_terms_that_the_recipe_adds_as_its_student_does(tmp_path: Path) -> None:
    smooth = {"class_path": "CrossEntropy", "init_args": {"label_smoothing": 0.1}}
    student = {
        "method": supervised(smooth=smooth, logits="Kd"),
        "weights": {"student.smooth": 0.01, "student.cross_entropy": 0.5, "student.logits": 2},
    }
    recipe = read(tmp_path, student)
    rehearse(recipe)
    assert dict(recipe.controls["control"].weights) == {"student.smooth": 0.01}  # logits need a teacher


def test_an_optimiser_of_a_player_that_is_not_there_is_refused_before_any_training(tmp_path: Path) -> None:
    restorer = {"class_path": "toys.ToyRestorer"}
    training = {"steps": 2, "batch": 4, "optimizers": {"discriminator": "Adam"}}
    arm = {"network": restorer, "training": {"steps": 2, "batch": 4}}
    degraded = {"class_path": "Blur", "init_args": {"sigma": 1.0}}
    task = {"class_path": "Restoration", "init_args": {"degradation": degraded}}
    recipe = read(tmp_path, {**arm, "training": training}, teacher=arm, method="Restore", task=task)
    with pytest.raises(RecipeError, match=r"student.training.optimizers.discriminator: no such player"):
        rehearse(recipe)


def test_a_weighting_learns_for_the_players_that_are_there(tmp_path: Path) -> None:
    arm = {"network": {"class_path": "toys.ToyRestorer"}, "training": {"steps": 2, "batch": 4}}
    task = {
        "class_path": "Restoration",
        "init_args": {"degradation": {"class_path": "Blur", "init_args": {"sigma": 1.0}}},
    }
    recipe = read(tmp_path, arm, teacher=arm, method="Restore", task=task, weighting="Uncertainty")
    weighting = recipe.students["student"].weigh()
    assert isinstance(weighting, Uncertainty)
    assert weighting.state_dict() and all(name.startswith("log_variances.student:") for name in weighting.state_dict())


def test_a_discriminator_says_the_game_whatever_its_term_is_called() -> None:
    networks = DcganGenerator(2, latent=4, size=8), DcganDiscriminator(2, size=8)
    gan = Gan(*networks, terms={"discriminator.real_fake": None, "discriminator.mine": RealFake("hinge")})
    term = gan.terms["student.adversarial"]
    assert isinstance(term, Adversarial) and term.loss == "hinge"


def test_the_worst_of_a_perceptual_distance_is_sought_through_both_networks() -> None:
    """The gradient that the attack climbs is that of differences: also through what the teacher makes."""
    torch.manual_seed(0)
    eye = SmallCnn(2, channels=1, size=8, classes=3).double().eval()
    terms = {"student.worst": Worst(Perceptual(eye, ["blocks.0"]), Pgd(steps=1))}
    method = Restore(ToyRestorer(2), teacher=ToyRestorer(3), terms=terms, size=8).double()
    term, image = terms["student.worst"].term, torch.rand(1, 1, 8, 8, dtype=torch.float64) - 0.5
    scene = method.enter(Batch(image=image, target=image), 0)

    def at(x: torch.Tensor) -> torch.Tensor:
        return term.each(scene.elsewhere(image=x))

    assert torch.autograd.gradcheck(at, image.requires_grad_(), eps=1e-6, atol=1e-5)


def test_what_a_live_term_is_known_by_and_which_files_a_description_names(tmp_path: Path) -> None:
    one, other = (described(PixelCrossEntropy([1.0, 1.0, last])) for last in (1.0, 1000.0))
    assert one != other and one == described(PixelCrossEntropy([1.0, 1.0, 1.0]))
    assert described(torch.arange(2000.0)) != described(torch.arange(2000.0).index_fill(0, torch.tensor(999), 0.5))
    file = tmp_path / "w.safetensors"
    file.touch()
    network = {
        "class_path": "limbeck.networks.given.external.Import",
        "init_args": {"weights": str(file), "target": "a.py:B"},
    }
    terms = {"student.p": {"class_path": "Perceptual", "init_args": {"network": network}}}
    assert str(file) in content_of({"class_path": "limbeck.methods.restore.Restore", "init_args": {"terms": terms}})
    assert OutputDistance().wants == ("teacher",)


def test_a_term_that_is_spelt_out_and_off_wants_a_weight(tmp_path: Path) -> None:
    off = {"class_path": "Ard", "init_args": {"terms": {"student.cross_entropy": "CrossEntropy"}}}
    with pytest.raises(RecipeError, match=r"student.weights.student.cross_entropy: missing; this term is off unless"):
        rehearse(read(tmp_path, {"method": off}))
    rehearse(read(tmp_path, {"method": off, "weights": {"student.cross_entropy": 0.5}}))
