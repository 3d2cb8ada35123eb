"""A student that is attacked while it learns: adversarial training, with a teacher or without.

x' is the image x as an attack changes it to make a goal large; S and T are student and teacher. While the attack
searches for x', the student is in evaluation mode, as in the published code of TRADES and RSLAD; its losses are then
computed in training mode. In place of a teacher that is not there, the label itself is the soft label: then ARD is
plain adversarial training.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import ClassVar, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limbeck.attacks import objectives
from limbeck.attacks.base import Attack
from limbeck.attacks.pgd import Pgd
from limbeck.attacks.strength import Strength
from limbeck.errors import RecipeError
from limbeck.losses.gather import gathered
from limbeck.losses.kd import cross_entropy, softened_kl
from limbeck.losses.tensors import kl_divergence, positive, precise
from limbeck.methods.legacy import Legacy
from limbeck.networks.handling.frozen import Frozen
from limbeck.networks.handling.modes import evaluating
from limbeck.types import Batch, Draw, Loss, Update


class AdversarialMethod(Legacy):
    """One player, the student, that is attacked in every step. Subclasses say with which goal, and what it learns.

    Args:
        student: A classifier, (N, C, H, W) to logits (N, K), that states its `image_shape`.
        teacher: Another one with the same classes, or None.
        attack: What changes the images; null for `Pgd()`, ten steps within 16/255 (the literature's 8/255).
        strength: Replaces the attack's own radius in every step: fixed, scheduled, or steered by the student's losses
            on the label before and after the attack. To steer it, the student sees the clean images in every step.
        label_smoothing: ε in [0, 1), of the labels that the student learns; the attack's goal keeps the hard label.

    Raises:
        RecipeError: A number is out of its range, or the student does not say which images it takes, or is its own
            teacher; while training, the data has no labels.
    """

    def __init__(
        self,
        student: nn.Module,
        teacher: nn.Module | None = None,
        *,
        attack: Attack | None = None,
        strength: Strength | None = None,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__()
        if not 0 <= label_smoothing < 1:
            raise RecipeError(f"{self._name}.label_smoothing: expected a number in [0, 1), found {label_smoothing}")
        if teacher is student:
            raise RecipeError(f"{self._name}.teacher: expected another network than the student (a copy), found it")
        if getattr(student, "image_shape", None) is None:
            raise RecipeError(
                f"{self._name}: expected {type(student).__name__} to state its image_shape (C, H, W), found none"
            )
        self.student = student
        self.teacher = None if teacher is None else Frozen(teacher)
        self.attack = Pgd() if attack is None else attack
        self.strength = strength
        self.label_smoothing = label_smoothing

    @property
    def _name(self) -> str:
        return type(self).__name__

    def teacher_paths(self) -> list[str]:
        """Return the teacher's output on the clean images."""
        return [] if self.teacher is None else [""]

    def draws(self) -> Mapping[str, Draw]:
        """Return what the attack draws."""
        return self.attack.draws(self.student.image_shape)  # type: ignore[arg-type]

    def players(self) -> Mapping[str, nn.Module]:
        """Return the student."""
        return {"student": self.student}

    def updates(self, batch: Batch, step: int) -> Iterator[Update]:
        """Yield the student's update."""
        lesson = Lesson(self, batch, step)
        if self.strength is not None:
            clean, robust = (cross_entropy(z.detach(), lesson.label) for z in (lesson.clean, lesson.robust))
            self.strength.observe(gathered(clean).mean(), gathered(robust).mean())
        yield Update("student", self.learned(lesson))

    @abstractmethod
    def goal(self, lesson: Lesson, logits: Tensor) -> Tensor:
        """Return what the attack makes large (N,), given the student's logits (N, K) on changed images."""

    @abstractmethod
    def learned(self, lesson: Lesson) -> Mapping[str, Loss]:
        """Return the student's losses by name."""


class Lesson:
    """What the losses of one step share: each network sees each image once, when it is first asked for."""

    def __init__(self, method: AdversarialMethod, batch: Batch, step: int) -> None:
        if batch.image is None or batch.label is None:
            raise RecipeError(f"{type(method).__name__}: expected data with images and labels; choose a labelled set")
        self.method, self.batch, self.step = method, batch, step
        self.image: Tensor = batch.image
        self.label: Tensor = batch.label

    @cached_property
    def clean(self) -> Tensor:
        """S(x), (N, K)."""
        logits: Tensor = self.method.student(self.image)
        return logits

    @cached_property
    def robust(self) -> Tensor:
        """S(x'), (N, K)."""
        logits: Tensor = self.method.student(self.attacked)
        return logits

    @cached_property
    def attacked(self) -> Tensor:
        """x', (N, C, H, W)."""
        method = self.method
        strength = None if method.strength is None else method.strength.value(self.step)
        with evaluating(method.student):
            return method.attack(lambda x: method.goal(self, method.student(x)), self.image, self.batch.drawn, strength)

    @cached_property
    def before(self) -> Tensor:
        """S(x) in evaluation mode, (N, K), detached."""
        with evaluating(self.method.student):
            logits: Tensor = self.method.student(self.image)
        return logits.detach()

    @cached_property
    def taught(self) -> Tensor | None:
        """T(x), (N, K), or None without a teacher."""
        stored = self.batch.taught.get("")
        return self._teach(self.image) if stored is None else stored

    def trust(self, power: float) -> Tensor:
        """Return T(x')_y^power, (N,) in [0, 1]: how sure the teacher is of the label after the attack."""
        answer = self._teach(self.attacked)
        assert answer is not None
        return precise(answer).softmax(1).gather(1, self.label[:, None]).squeeze(1) ** power

    def hard(self, logits: Tensor) -> Tensor:
        """Return the mean cross-entropy of logits (N, K) with the label, smoothed if the method says so."""
        return F.cross_entropy(precise(logits), self.label, label_smoothing=self.method.label_smoothing)

    def follow(self, logits: Tensor, temperature: float = 1.0) -> Tensor:
        """Return T² KL(T(x) ‖ logits) of each sample (N,), or the cross-entropy with the label without a teacher."""
        if self.taught is None:
            return cross_entropy(logits, self.label)
        return softened_kl(logits, self.taught, temperature)

    @torch.no_grad()
    def _teach(self, image: Tensor) -> Tensor | None:
        return None if self.method.teacher is None else self.method.teacher(image)


@final
class AdversarialTraining(AdversarialMethod):
    """Plain adversarial training, without any teacher (Madry et al. 2018, arXiv:1706.06083, eq. 2.1).

    The attack makes the cross-entropy large.

    * `student.robust`: CE(S(x'), y).
    * `student.cross_entropy`: CE(S(x), y), off by default.

    Args:
        student: A classifier, (N, C, H, W) to logits (N, K), that states its `image_shape`.
        attack: What changes the images; null for `Pgd()`.
        strength: Replaces the attack's own radius in every step; null leaves it.
        label_smoothing: ε in [0, 1) of the labels that are learned.
    """

    weights: ClassVar[Mapping[str, float]] = {"student.robust": 1.0, "student.cross_entropy": 0.0}

    def __init__(
        self,
        student: nn.Module,
        *,
        attack: Attack | None = None,
        strength: Strength | None = None,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(student, attack=attack, strength=strength, label_smoothing=label_smoothing)

    def goal(self, lesson: Lesson, logits: Tensor) -> Tensor:
        """Return the cross-entropy with the label."""
        return objectives.cross_entropy(logits, lesson.label)

    def learned(self, lesson: Lesson) -> Mapping[str, Loss]:
        """Return the cross-entropy after the attack, and before it."""
        return {
            "robust": lambda: lesson.hard(lesson.robust),
            "cross_entropy": lambda: lesson.hard(lesson.clean),
        }


@final
class Trades(AdversarialMethod):
    """Adversarial training without any teacher that trades accuracy against stability (Zhang et al. 2019).

    arXiv:1901.08573, eq. 5 and algorithm 1. The attack carries the student's answer away from its own on x, where the
    gradient is 0: it has to start at random.

    * `student.cross_entropy`: CE(S(x), y).
    * `student.robust`: KL(S(x) ‖ S(x')), with gradient to both; its weight 6 is the paper's 1/λ.

    Args:
        student: A classifier, (N, C, H, W) to logits (N, K), that states its `image_shape`.
        attack: What changes the images; null for `Pgd()`.
        strength: Replaces the attack's own radius in every step; null leaves it.
        label_smoothing: ε in [0, 1) of the labels that are learned.
        strength: Replaces the attack's own radius in every step; null leaves it.
    """

    weights: ClassVar[Mapping[str, float]] = {"student.cross_entropy": 1.0, "student.robust": 6.0}

    def __init__(
        self,
        student: nn.Module,
        *,
        attack: Attack | None = None,
        strength: Strength | None = None,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(student, attack=attack, strength=strength, label_smoothing=label_smoothing)

    def goal(self, lesson: Lesson, logits: Tensor) -> Tensor:
        """Return KL(S(x) ‖ S(x'))."""
        return objectives.kl_divergence(logits, lesson.before)

    def learned(self, lesson: Lesson) -> Mapping[str, Loss]:
        """Return the cross-entropy before the attack, and how far the attack carries the answer."""
        return {
            "cross_entropy": lambda: lesson.hard(lesson.clean),
            "robust": lambda: kl_divergence(precise(lesson.clean), precise(lesson.robust)).mean(),
        }


@final
class Ard(AdversarialMethod):
    """Adversarially robust distillation (Goldblum et al. 2020, arXiv:1905.09747, eq. 3).

    (1 - α) CE(S(x), y) + α τ² KL(T_τ(x) ‖ S_τ(x')): the student, attacked, is to say what the teacher says undisturbed.
    The attack makes the cross-entropy large. The weights are (1 - α) and α; by default α is 1, as in the paper on
    CIFAR-10.

    * `student.cross_entropy`: CE(S(x), y).
    * `student.robust`: τ² KL(T_τ(x) ‖ S_τ(x')).

    Args:
        student: A classifier, (N, C, H, W) to logits (N, K), that states its `image_shape`.
        teacher: A robust one with the same classes.
        temperature: τ > 0; 30 is the paper's.
        attack: What changes the images; null for `Pgd()`.
        strength: Replaces the attack's own radius in every step; null leaves it.
    """

    weights: ClassVar[Mapping[str, float]] = {"student.cross_entropy": 0.0, "student.robust": 1.0}

    def __init__(
        self,
        student: nn.Module,
        teacher: nn.Module | None = None,
        *,
        temperature: float = 30.0,
        attack: Attack | None = None,
        strength: Strength | None = None,
    ) -> None:
        super().__init__(student, teacher, attack=attack, strength=strength)
        positive(temperature, "Ard.temperature")
        self.temperature = temperature

    def goal(self, lesson: Lesson, logits: Tensor) -> Tensor:
        """Return the cross-entropy with the label."""
        return objectives.cross_entropy(logits, lesson.label)

    def learned(self, lesson: Lesson) -> Mapping[str, Loss]:
        """Return the cross-entropy before the attack, and the divergence from the teacher after it."""
        return {
            "cross_entropy": lambda: lesson.hard(lesson.clean),
            "robust": lambda: lesson.follow(lesson.robust, self.temperature).mean(),
        }


@final
class Rslad(AdversarialMethod):
    """Robust soft label adversarial distillation (Zi et al. 2021, arXiv:2108.07969, eq. 7 and 8).

    No label is used: the attack carries the student away from the teacher's answer on x, and the student follows that
    answer on x and on x'.

    * `student.clean`: KL(T(x) ‖ S(x)); 1 - α = 1/6.
    * `student.robust`: KL(T(x) ‖ S(x')); α = 5/6.

    Args:
        student: A classifier, (N, C, H, W) to logits (N, K), that states its `image_shape`.
        teacher: A robust one with the same classes.
        attack: What changes the images; null for `Pgd()`.
        strength: Replaces the attack's own radius in every step; null leaves it.
    """

    weights: ClassVar[Mapping[str, float]] = {"student.clean": 1 / 6, "student.robust": 5 / 6}

    def __init__(
        self,
        student: nn.Module,
        teacher: nn.Module | None = None,
        *,
        attack: Attack | None = None,
        strength: Strength | None = None,
    ) -> None:
        super().__init__(student, teacher, attack=attack, strength=strength)

    def goal(self, lesson: Lesson, logits: Tensor) -> Tensor:
        """Return the divergence from the teacher's answer on the clean image."""
        if lesson.taught is None:
            return objectives.cross_entropy(logits, lesson.label)
        return objectives.kl_divergence(logits, lesson.taught)

    def learned(self, lesson: Lesson) -> Mapping[str, Loss]:
        """Return the divergences before and after the attack."""
        return {
            "clean": lambda: lesson.follow(lesson.clean).mean(),
            "robust": lambda: lesson.follow(lesson.robust).mean(),
        }


@final
class Iad(AdversarialMethod):
    """Introspective adversarial distillation (Zhu et al. 2022, arXiv:2106.04928).

    The less sure the teacher is of an attacked image, the more the student holds on to its own answer before the
    attack. This is the paper's IAD-I as its authors' code has it: eq. 4 weighs the teacher's term by T(x')_y^β as well,
    the code does not. The attack makes the cross-entropy large.

    * `student.cross_entropy`: CE(S(x), y), off by default as in the code.
    * `student.robust`: τ² KL(T_τ(x) ‖ S_τ(x')).
    * `student.introspection`: (1 - T(x')_y^β) KL(S(x) ‖ S(x')), with gradient to both; the paper switches it on after
      60 of 200 epochs, `{weight: 1, from: 0.3}`. Without a teacher it is not there.

    Args:
        student: A classifier, (N, C, H, W) to logits (N, K), that states its `image_shape`.
        teacher: A robust one with the same classes.
        temperature: τ > 0.
        power: β of at least 0; 0.1 is the paper's.
        attack: What changes the images; null for `Pgd()`.
        strength: Replaces the attack's own radius in every step; null leaves it.
    """

    weights: ClassVar[Mapping[str, float]] = {
        "student.cross_entropy": 0.0,
        "student.robust": 1.0,
        "student.introspection": 1.0,
    }

    def __init__(
        self,
        student: nn.Module,
        teacher: nn.Module | None = None,
        *,
        temperature: float = 1.0,
        power: float = 0.1,
        attack: Attack | None = None,
        strength: Strength | None = None,
    ) -> None:
        super().__init__(student, teacher, attack=attack, strength=strength)
        positive(temperature, "Iad.temperature")
        if power < 0:
            raise RecipeError(f"Iad.power: expected a number of at least 0, found {power}")
        self.temperature, self.power = temperature, power

    def goal(self, lesson: Lesson, logits: Tensor) -> Tensor:
        """Return the cross-entropy with the label."""
        return objectives.cross_entropy(logits, lesson.label)

    def learned(self, lesson: Lesson) -> Mapping[str, Loss]:
        """Return the cross-entropy before the attack, the divergence from the teacher after it, and from itself."""
        losses: dict[str, Loss] = {
            "cross_entropy": lambda: lesson.hard(lesson.clean),
            "robust": lambda: lesson.follow(lesson.robust, self.temperature).mean(),
        }
        if self.teacher is not None:
            losses["introspection"] = lambda: self._introspection(lesson)
        return losses

    def _introspection(self, lesson: Lesson) -> Tensor:
        moved = kl_divergence(precise(lesson.clean), precise(lesson.robust))
        return ((1 - lesson.trust(self.power)) * moved).mean()
