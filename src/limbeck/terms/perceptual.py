"""How far images are apart in the eyes of a network: a classifier, or the teacher's discriminator."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, final

import torch
from torch import Tensor, nn

from limbeck.errors import require
from limbeck.losses.features import feature_matching, mean_matching
from limbeck.networks.handling.frozen import Frozen
from limbeck.networks.handling.tap import Tap, features_at
from limbeck.terms.base import Answers, Cast, SampleTerm, Term
from limbeck.terms.goal import Goal, check_goal, goal_image, has_goal
from limbeck.terms.scene import Scene


@final
class Perceptual(SampleTerm):
    """L1 distance of the features that a trained network has of the student's image and of another one.

    Every layer counts alike (Johnson et al. 2016, arXiv:1603.08155, eq. 2, with L1).

    Args:
        network: A trained network that sees images; held frozen.
        paths: Module paths of it.
        to: Whose image the student's is compared with: the "teacher"'s, or the batch's "target" or "image".

    Raises:
        RecipeError: A path names no module.
    """

    about: ClassVar[Sequence[Answers]] = ("images",)

    def __init__(self, network: nn.Module, paths: Sequence[str], to: Goal = "teacher") -> None:
        super().__init__()
        require("Perceptual.paths", len(paths) > 0, "module paths of the network", list(paths))
        Tap(network, paths)  # names a wrong path before anything is trained
        self.network, self.at = Frozen(network), list(paths)
        self.goal = check_goal("Perceptual", to)
        self.wants = ("teacher",) if to == "teacher" else ()

    def due(self, scene: Scene) -> bool:
        """Return whether there is an image to compare with."""
        return has_goal(scene, self.goal)

    def each(self, scene: Scene) -> Tensor:
        """Return the distance of each image (N,)."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and scene.moved):
            expected = features_at(self.network.network, self.at, goal_image(scene, self.goal))
        return feature_matching(features_at(self.network.network, self.at, scene.student_output), expected)


@final
class CriticFeatures(Term):
    """L1 distance of the features that the teacher's discriminator has of the student's image and of another one.

    Args:
        paths: Module paths of the teacher's discriminator.
        means: Compare the features' means over the batch (Salimans et al. 2016, section 3.1): single images are then
            free to differ.
        to: Whose image: the "teacher"'s, or the batch's "target", or "image".

    Raises:
        RecipeError: A path names no module.
    """

    about: ClassVar[Sequence[Answers]] = ("images",)

    def __init__(self, paths: Sequence[str], means: bool = False, to: Goal = "teacher") -> None:
        super().__init__()
        require("CriticFeatures.paths", len(paths) > 0, "module paths of the teacher's discriminator", list(paths))
        self.at, self.means, self.couples = list(paths), means, means
        self.goal = check_goal("CriticFeatures", to)
        self.wants = ("teacher", "teacher_discriminator") if to == "teacher" else ("teacher_discriminator",)

    def join(self, cast: Cast) -> None:
        """Name a wrong path before anything is trained."""
        Tap(cast.network("teacher_discriminator"), self.at)

    def due(self, scene: Scene) -> bool:
        """Return whether there is an image to compare with."""
        return has_goal(scene, self.goal)

    def forward(self, scene: Scene) -> Tensor:
        """Return the distance of the features, or of their means."""
        critic = scene.stage.network("teacher_discriminator")

        def seen(image: Tensor) -> list[Tensor]:
            return features_at(critic, self.at, *scene.shown("teacher_discriminator", image))

        with torch.no_grad():
            goal = scene.once(("critic", self.goal, *self.at), lambda: seen(goal_image(scene, self.goal)))
        mine = scene.once(("critic", "student", *self.at), lambda: seen(scene.student_output))
        return mean_matching(mine, goal) if self.means else feature_matching(mine, goal).mean()
