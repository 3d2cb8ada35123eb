"""GAN training of a generator, alone or from a teacher (Goodfellow et al. 2014; Aguinaldo et al. 2019)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property, partial
from typing import ClassVar, Literal, NamedTuple, final

import torch
from torch import Tensor, nn

from limbeck.attacks.base import Attack
from limbeck.attacks.boundary import BoundarySearch
from limbeck.attacks.latent import on_shell
from limbeck.attacks.strength import Strength
from limbeck.data.base import Augmentation
from limbeck.errors import RecipeError, require
from limbeck.losses import gan
from limbeck.losses.features import DISTANCES, feature_matching, mean_matching
from limbeck.losses.gather import gathered
from limbeck.losses.soft_label import soft_label
from limbeck.methods.base import Method
from limbeck.methods.perceptual import perceptual
from limbeck.networks.handling.adapters import adapters
from limbeck.networks.handling.frozen import Frozen
from limbeck.networks.handling.modes import evaluating
from limbeck.networks.handling.tap import Tap, features_at
from limbeck.networks.roles import Classifier
from limbeck.types import Batch, Draw, Loss, Update


@final
class Gan(Method):
    """Two players: the discriminator tells real from generated images, the student deceives it.

    Without a teacher this is plain GAN training, and so its own control arm: what concerns a teacher is then left
    aside, and `discriminator.soft_label` is the cross-entropy of the hard label alone. With one, the student also
    follows the teacher's image on the same latent and label, the teacher's features, and the features that the
    teacher's discriminator sees; the teacher's discriminator teaches the student's.

    Every loss is computed only where it has a weight, and what several need only once a step:

    * `discriminator.real_fake`: the adversarial loss of the discriminator.
    * `discriminator.soft_label`: α CE(hard) + (1 - α) T² KL(teacher ‖ student) on real plus generated images, seen
      alike (augmented) by both discriminators. It contains the hard label: to use it alone, set `real_fake` to 0.
    * `discriminator.penalty`: R1 or the gradient penalty, on every `penalty_interval`-th step and that many times
      as large (lazy regularisation, Karras et al. 2020, section 3.1); its own weight is `penalty_weight`.
    * `student.adversarial`: the adversarial loss of the generator.
    * `student.output`: L1 or L2 distance of the student's image from the teacher's.
    * `student.feature`: L1 distance of their intermediate features, the student's through learned 1x1 adapters.
    * `student.critic_feature`: L1 distance of the features that the teacher's discriminator has of both images.
    * `student.critic_mean`: L1 distance of these features' means over the batch: single images are free to differ.
    * `student.perceptual`: L1 distance of the features that `feature_network` has of both images.
    * `student.worst_output`: the distance of the images at latents that `attack` changed to make it large, each brought
      back to the length it had (see docs/decisions/0009): adversarial training of a generator.
    * `discriminator.boundary`: the soft-label loss, without the hard label, on images at which the teacher's
      discriminator cannot decide between real and generated, found by `boundary` from real and generated ones; one
      from which it was not reached counts as 0.

    Networks are called with the batch's label as their second input where it has one, unless their `classes` is 0.

    Args:
        student: Generator, latent (N, ...) to image (N, C, H, W) in [-1, 1].
        discriminator: Scores (N,) of images; may start from the teacher's, but is another module.
        teacher: Generator to follow; any callable module, so also one that hides its weights.
        teacher_discriminator: What the teacher was trained against.
        loss: Which adversarial loss.
        penalty: Penalty on the discriminator's gradient: "r1" at real images, or "gradient_penalty" between.
        penalty_weight: γ of R1, or λ of the gradient penalty.
        penalty_interval: Steps from one penalty to the next.
        critic_steps: Steps of the discriminator for one of the student, which moves on every n-th step.
        augment: Change of real and generated images in front of both discriminators (DiffAugment, Zhao et al.
            2020); a step draws it once, so the i-th real and the i-th generated image are changed alike.
        alpha: α in [0, 1], the share of the hard label in the soft-label loss.
        temperature: T > 0 of the soft-label loss.
        calibration: (scale, offset) of `losses.calibration.calibrate`, which make the scores of both
            discriminators log-odds; the soft-label loss needs it unless the loss is logistic.
        features: Module path in the student for each module path of the teacher that it has to match, as
            {student path: teacher path}; the networks must state their `latent_shape`.
        critic_features: Module paths of the teacher's discriminator.
        output: Distance of the images.
        feature_network: A trained classifier for the perceptual loss.
        perceptual_paths: Module paths of it.
        attack: What changes latents for `student.worst_output`, or None: for a PGD with `low: null, high: null`.
        strength: Replaces the attack's own radius in every step: fixed, scheduled, or steered by the student's distance
            from the teacher before and after the attack.
        boundary: Finds images at the boundary of the teacher's discriminator, with the threshold "half", or None.
        black_box: The data's `target` is the teacher's image for its `latent`: no teacher network is needed. Off
            in the control arm, which learns from `image` alone: the same pictures, where there are no real ones.

    Raises:
        RecipeError: Arguments that are out of range or exclude each other, or data without what is needed.
    """

    losses: ClassVar[Mapping[str, float]] = {
        "discriminator.real_fake": 1.0,
        "discriminator.soft_label": 0.0,
        "discriminator.penalty": 1.0,
        "discriminator.boundary": 1.0,
        "student.adversarial": 1.0,
        "student.output": 1.0,
        "student.feature": 1.0,
        "student.critic_feature": 1.0,
        "student.critic_mean": 0.0,
        "student.perceptual": 1.0,
        "student.worst_output": 1.0,
    }

    def __init__(
        self,
        student: nn.Module,
        discriminator: nn.Module,
        teacher: nn.Module | None = None,
        teacher_discriminator: nn.Module | None = None,
        *,
        loss: Literal["logistic", "hinge", "wasserstein"] = "logistic",
        penalty: Literal["none", "r1", "gradient_penalty"] = "none",
        penalty_weight: float = 10.0,
        penalty_interval: int = 1,
        critic_steps: int = 1,
        augment: Augmentation | None = None,
        alpha: float = 0.5,
        temperature: float = 1.0,
        calibration: tuple[float, float] | None = None,
        features: Mapping[str, str] | None = None,
        critic_features: Sequence[str] = (),
        output: Literal["l1", "l2"] = "l1",
        feature_network: Classifier | None = None,
        perceptual_paths: Sequence[str] = (),
        attack: Attack | None = None,
        strength: Strength | None = None,
        boundary: BoundarySearch | None = None,
        black_box: bool = False,
    ) -> None:
        super().__init__()
        require("gan.loss", loss in gan.LOSSES, f"one of {', '.join(gan.LOSSES)}", loss)
        require("gan.penalty", penalty in ("none", "r1", "gradient_penalty"), "none, r1 or gradient_penalty", penalty)
        require("gan.penalty_weight", penalty_weight >= 0, "a number of at least 0", penalty_weight)
        require("gan.penalty_interval", penalty_interval >= 1, "a whole number of at least 1", penalty_interval)
        require("gan.critic_steps", critic_steps >= 1, "a whole number of at least 1", critic_steps)
        require("gan.alpha", 0 <= alpha <= 1, "a number in [0, 1]", alpha)
        require("gan.temperature", temperature > 0, "a number above 0", temperature)
        require("gan.output", output in DISTANCES, f"one of {', '.join(DISTANCES)}", output)
        require("gan.black_box", not (black_box and teacher is not None), "no teacher network beside it", True)
        require("gan.teacher", teacher is not student, "another network than the student", "the same")
        other = teacher_discriminator is not discriminator
        require("gan.teacher_discriminator", other, "another network than the discriminator (a copy)", "the same")
        paired = (feature_network is None) == (not perceptual_paths)
        require(
            "gan.perceptual_paths", paired, "paths if and only if there is a feature_network", list(perceptual_paths)
        )
        self.taught = teacher is not None or black_box
        unread = self.taught and bool(critic_features) and teacher_discriminator is None
        require("gan.teacher_discriminator", not unread, "one to read critic_features from", None)
        require("gan.features", not (features and black_box), "none of a black box", features)
        require("gan.attack", not (attack is not None and black_box), "none of a black box", attack)
        require("gan.strength", strength is None or attack is not None, "an attack whose strength it is", None)
        shown = attack is None or teacher is None or hasattr(teacher, "latent_shape")
        require("gan.attack", shown, "a teacher that states its latent_shape", type(teacher).__name__)
        judged = boundary is None or not self.taught or teacher_discriminator is not None
        require("gan.boundary", judged, "a teacher_discriminator whose boundary it is", None)
        for network, paths in ((teacher_discriminator, critic_features), (feature_network, perceptual_paths)):
            if network is not None:
                Tap(network, paths)  # names a wrong path before anything is trained

        self.student, self.discriminator = student, discriminator
        self.teacher = None if teacher is None else Frozen(teacher)
        self.teacher_discriminator = None if teacher_discriminator is None else Frozen(teacher_discriminator)
        self.feature_network = None if feature_network is None else Frozen(feature_network)
        self.loss, self.penalty, self.output = loss, penalty, output
        self.penalty_weight, self.penalty_interval = penalty_weight, penalty_interval
        self.critic_steps, self.augment = critic_steps, augment
        self.alpha, self.temperature, self.calibration = alpha, temperature, calibration
        self.features = dict(features or {}) if teacher is not None else {}
        self.critic_features, self.perceptual_paths = list(critic_features), list(perceptual_paths)
        self.adapters = nn.ModuleList() if teacher is None else adapters(student, teacher, self.features)
        self.attack = None if teacher is None else attack
        self.strength = None if teacher is None else strength
        self.boundary = None if teacher_discriminator is None else boundary
        self.differentiates = "once" if penalty == "none" else "twice"

    def draws(self) -> Mapping[str, Draw]:
        """Return what augmentation and attack draw, and where between real and fake the gradient penalty looks."""
        drawn = dict(self.augment.draws()) if self.augment else {}
        if self.attack is not None and self.teacher is not None:
            drawn |= self.attack.draws(self.teacher.network.latent_shape)  # type: ignore[arg-type]
        return drawn | ({"gan.epsilon": Draw((), "uniform")} if self.penalty == "gradient_penalty" else {})

    def players(self) -> Mapping[str, nn.Module]:
        """Return the discriminator, and the student together with its adapters, where it has any."""
        student = nn.ModuleList([self.student, self.adapters]) if self.adapters else self.student
        return {"discriminator": self.discriminator, "student": student}

    def updates(self, batch: Batch, step: int) -> Iterator[Update]:
        """Yield the discriminator's update and, on every `critic_steps`-th step, the student's."""
        student_moves = (step + 1) % self.critic_steps == 0
        scene = _Scene(self, batch, student_moves, step)
        yield Update("discriminator", self._judge(scene, step))
        if student_moves:
            yield Update("student", self._deceive_and_follow(scene))

    def _judge(self, scene: _Scene, step: int) -> dict[str, Loss]:
        tell_apart, _ = gan.LOSSES[self.loss]
        losses: dict[str, Loss] = {
            "real_fake": lambda: tell_apart(scene.real_score, scene.fake_score),
            "soft_label": lambda: self._soft_label(scene),
        }
        if self.penalty != "none" and step % self.penalty_interval == 0:
            losses["penalty"] = lambda: self.penalty_interval * self.penalty_weight * self._penalty(scene)
        if self.boundary is not None:
            losses["boundary"] = lambda: self._at_boundary(scene)
        return losses

    def _deceive_and_follow(self, scene: _Scene) -> dict[str, Loss]:
        _, deceive = gan.LOSSES[self.loss]
        losses: dict[str, Loss] = {"adversarial": lambda: deceive(scene.score(self.discriminator, scene.student.image))}
        if not self.taught:
            return losses
        losses["output"] = lambda: DISTANCES[self.output](scene.student.image, scene.teacher.image).mean()
        if self.features:
            losses["feature"] = lambda: feature_matching(self._adapted(scene), scene.teacher.features).mean()
        if self.teacher_discriminator is not None and self.critic_features:
            losses["critic_feature"] = lambda: feature_matching(*scene.critic_features).mean()
            losses["critic_mean"] = lambda: mean_matching(*scene.critic_features)
        if (network := self.feature_network) is not None:
            paths = self.perceptual_paths
            losses["perceptual"] = lambda: perceptual(network.network, paths, scene.student.image, scene.teacher.image)
        if self.attack is not None:
            losses["worst_output"] = lambda: self._worst_output(scene)
        return losses

    def _worst_output(self, scene: _Scene) -> Tensor:
        assert self.attack is not None and self.teacher is not None
        start, teacher = _need(scene.batch.latent, "latents"), self.teacher

        def apart(latent: Tensor) -> Tensor:
            latent = on_shell(latent, start)
            mine: Tensor = self.student(latent, *scene.condition(self.student))
            theirs: Tensor = teacher(latent, *scene.condition(teacher))
            return DISTANCES[self.output](mine, theirs)

        strength = None if self.strength is None else self.strength.value(scene.step)
        with evaluating(self.student):
            latent = self.attack(apart, start, scene.batch.drawn, strength)
        found = apart(latent)
        if self.strength is not None:
            before = DISTANCES[self.output](scene.student.image.detach(), scene.teacher.image)
            self.strength.observe(gathered(before).mean(), gathered(found.detach()).mean())
        return found.mean()

    def _at_boundary(self, scene: _Scene) -> Tensor:
        """Return the mean KL(teacher ‖ student) at the teacher's boundary, 0 where that was not reached."""
        assert self.boundary is not None and self.teacher_discriminator is not None
        critic = self.teacher_discriminator
        images = torch.cat([scene.real, scene.student.image.detach()])
        condition = tuple(torch.cat([label, label]) for label in scene.condition(critic))
        samples, reached = self.boundary(lambda x: self._log_odds(critic(x, *condition)), images)
        with torch.no_grad():
            label = self._log_odds(critic(samples, *condition).flatten())
        own = tuple(torch.cat([label, label]) for label in scene.condition(self.discriminator))
        score = self._log_odds(self.discriminator(samples, *own).flatten())
        return (soft_label(score, label, alpha=0.0, temperature=self.temperature, real=True) * reached).mean()

    def _adapted(self, scene: _Scene) -> list[Tensor]:
        return [fit(feature) for fit, feature in zip(self.adapters, scene.student.features, strict=True)]

    def _penalty(self, scene: _Scene) -> Tensor:
        critic = partial(scene.score, self.discriminator)
        if self.penalty == "r1":
            return gan.r1_penalty(critic, scene.real)
        return gan.gradient_penalty(critic, scene.real, scene.student.image.detach(), scene.batch.drawn["gan.epsilon"])

    def _soft_label(self, scene: _Scene) -> Tensor:
        real, fake = self._log_odds(scene.real_score), self._log_odds(scene.fake_score)
        if self.teacher_discriminator is None:
            require("gan.teacher_discriminator", not self.taught, "one for discriminator.soft_label, or weight 0", None)
            return gan.logistic_discriminator(real, fake)
        with torch.no_grad():
            real_label = self._log_odds(scene.score(self.teacher_discriminator, scene.real))
            fake_label = self._log_odds(scene.score(self.teacher_discriminator, scene.student.image))
        teach = partial(soft_label, alpha=self.alpha, temperature=self.temperature)
        return teach(real, real_label, real=True).mean() + teach(fake, fake_label, real=False).mean()

    def _log_odds(self, score: Tensor) -> Tensor:
        if self.calibration is not None:
            scale, offset = self.calibration
            return scale * score + offset
        if self.loss != "logistic":
            raise RecipeError(
                f"soft_label and boundary need scores that are log-odds, and those of the {self.loss} loss are not:"
                " use loss: logistic, or give calibration: [scale, offset] from limbeck.losses.calibration.calibrate"
            )
        return score


class _Made(NamedTuple):
    image: Tensor
    features: list[Tensor]


class _Scene:
    """What the losses of one step share, each computed when it is first asked for."""

    def __init__(self, method: Gan, batch: Batch, student_moves: bool, step: int) -> None:
        self.method, self.batch, self.student_moves, self.step = method, batch, student_moves, step

    @property
    def real(self) -> Tensor:
        return _need(self.batch.image, "images")

    @cached_property
    def student(self) -> _Made:
        """What the student makes of the latents; with gradient when it moves in this step."""
        with torch.set_grad_enabled(self.student_moves):
            return self._run(self.method.student, list(self.method.features))

    @cached_property
    def teacher(self) -> _Made:
        """What the teacher makes of the same latents and labels."""
        if self.method.teacher is None:
            return _Made(_need(self.batch.target, "targets (the teacher's images)"), [])
        with torch.no_grad():
            return self._run(self.method.teacher.network, list(self.method.features.values()))

    def _run(self, generator: nn.Module, paths: list[str]) -> _Made:
        with Tap(generator, paths) as tap:
            image = generator(_need(self.batch.latent, "latents"), *self.condition(generator))
        return _Made(image, [tap[path] for path in paths])

    @cached_property
    def real_score(self) -> Tensor:
        """The discriminator's scores of real images."""
        return self.score(self.method.discriminator, self.real)

    @cached_property
    def fake_score(self) -> Tensor:
        """The discriminator's scores of generated images, without gradient to the student."""
        return self.score(self.method.discriminator, self.student.image.detach())

    def score(self, discriminator: nn.Module, image: Tensor) -> Tensor:
        """Return the scores of augmented images as one row, (N,) or (N * patches,)."""
        if self.method.augment is not None:
            image = self.method.augment(image, self.batch.drawn)
        score: Tensor = discriminator(image, *self.condition(discriminator))
        return score.flatten()

    @cached_property
    def critic_features(self) -> tuple[list[Tensor], list[Tensor]]:
        """What the teacher's discriminator sees in the student's images, and in the teacher's."""
        assert self.method.teacher_discriminator is not None
        critic, paths = self.method.teacher_discriminator, self.method.critic_features
        look = partial(features_at, critic.network, paths)
        with torch.no_grad():
            goal = look(self.teacher.image, *self.condition(critic))
        return look(self.student.image, *self.condition(critic)), goal

    def condition(self, network: nn.Module) -> tuple[Tensor, ...]:
        """Return what a generator or discriminator is called with after its first input: the label, or nothing."""
        inner = network.network if isinstance(network, Frozen) else network
        if not getattr(inner, "classes", self.batch.label is not None):
            return ()
        return (_need(self.batch.label, f"labels, which {type(inner).__name__} is conditioned on"),)


def _need(tensor: Tensor | None, what: str) -> Tensor:
    if tensor is None:
        raise RecipeError(f"gan: expected batches with {what}, found none; choose another data set or task")
    return tensor
