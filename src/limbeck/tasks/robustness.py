"""How well a classifier stands up to attacks."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import ClassVar, final

import torch
from torch import Tensor, nn

from limbeck.attacks.auto_attack import autoattack as autoattacked
from limbeck.attacks.auto_attack import require_autoattack
from limbeck.attacks.base import Attack, Bounds, loss_and_gradient
from limbeck.attacks.fgsm import Fgsm
from limbeck.attacks.noise import UniformNoise
from limbeck.attacks.objectives import cross_entropy, cw_margin
from limbeck.attacks.pgd import Norm, Pgd
from limbeck.errors import RecipeError
from limbeck.ground.randomness import generator

CHUNK = 250
CHECKED = 200  # the most samples for what is only compared
Objective = Callable[[Tensor, Tensor], Tensor]


@final
class Robustness:
    """Accuracies under attacks within one radius, all on the same samples, and whether gradients can be trusted.

    * `robust[ensemble]`: right under every one of: nothing, PGD on the cross-entropy, and PGD on the margin of Carlini
      and Wagner with `restarts` starts. The honest figure: attack by attack, a sample only counts if it survives all.
    * `robust[pgd-20]`: right under PGD on the cross-entropy; the number is that of the steps.
    * `robust[autoattack]`: right before and after AutoAttack, where `autoattack` is on (Croce & Hein 2020).
    * `robust[fgsm]`: right under one step of the whole radius; only for "linf".
    * `robust[noise]`: right under uniform noise of the radius; only for "linf".
    * `robust[transfer]`: right on what PGD makes of the same images against the teacher.
    * `masking`: by how much weaker evidence beats PGD, in [0, 1]. An attack that knows the gradient should be the
      strongest, more steps should change little, and without a bound it should always succeed; where not, gradients are
      masked and the figures above flatter (Athalye et al. 2018; Carlini et al. 2019, section 3). It is the largest of
      robust[pgd] - robust[noise], robust[pgd] - robust[transfer], robust[pgd] - robust[fgsm], and on up to 200 of
      the samples |robust[pgd] - robust[pgd with 5 times the steps]| and robust[pgd with radius 2], or 0. A network
      that answers the same whatever it is shown has nothing to mask: 0.

    Steps have the length 2.5 radius / steps and starts are random (Madry et al. 2018, section 4). Of a network that
    gives no gradient to its input only robust[noise] and robust[transfer] can be told.

    Args:
        radius: ε > 0 in units of the input: images are in [-1, 1], so 16/255 is the literature's 8/255.
        norm: "linf" bounds every element, "l2" the length of the change of an image.
        steps: Of PGD, at least 3.
        restarts: Starts of the PGD on the margin, at least 1.
        samples: How many samples of the split are attacked, at equal distances.
        strengths: Radii of the curve in the report, as multiples of `radius`, rising, above 0.
        tolerance: `masking` above this raises an alarm, in (0, 1).
        autoattack: Add `robust[autoattack]`: about forty times the time of PGD; needs the extra `robust`.

    Raises:
        RecipeError: An argument is out of its range.
        MissingExtra: AutoAttack is asked for and not installed.
    """

    room: ClassVar[str] = "robustness"

    def __init__(
        self,
        radius: float = 16 / 255,
        norm: Norm = "linf",
        *,
        steps: int = 20,
        restarts: int = 3,
        samples: int = 1000,
        strengths: tuple[float, ...] = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0),
        tolerance: float = 0.05,
        autoattack: bool = False,
    ) -> None:
        for name, value, least in (("steps", steps, 3), ("restarts", restarts, 1), ("samples", samples, 1)):
            if value < least:
                raise RecipeError(f"Robustness.{name}: expected a whole number of at least {least}, found {value}")
        if not strengths or strengths[0] <= 0 or list(strengths) != sorted(set(strengths)):
            raise RecipeError(
                f"Robustness.strengths: expected rising multiples of the radius above 0, found {list(strengths)}"
            )
        if not 0 < tolerance < 1:
            raise RecipeError(f"Robustness.tolerance: expected a number in (0, 1), found {tolerance}")
        self.radius, self.norm, self.steps, self.restarts, self.samples = radius, norm, steps, restarts, samples
        self.strengths, self.tolerance = tuple(strengths), tolerance
        self.autoattack = autoattack
        if autoattack:
            require_autoattack()
        if norm == "linf":
            Bounds("Robustness", -1.0, 1.0).check_change(radius, "radius")
        self._pgd()  # refuses radius and norm

    def __repr__(self) -> str:
        """Return all arguments but options that are off: results are remembered under the task's."""
        return (
            f"Robustness({', '.join(f'{name}={value!r}' for name, value in vars(self).items() if value is not False)})"
        )

    def evaluate(
        self, network: nn.Module, image: Tensor, label: Tensor, teacher: nn.Module | None = None
    ) -> dict[str, float]:
        """Return the metrics of a network in evaluation mode, the main one first.

        Args:
            network: Images (N, C, H, W) in [-1, 1] to logits (N, K).
            image: (N, C, H, W) on its device.
            label: (N,), int64.
            teacher: What the attack is transferred from, or None.
        """
        found = self._evaluate(network, image, label, teacher)
        if self.autoattack and self._name in found:
            changed = autoattacked(network, image, label, self.radius, norm=self.norm, batch=CHUNK)
            found["robust[autoattack]"] = _share(_right(network, image, label) & _right(network, changed, label))
        return found

    def _evaluate(
        self, network: nn.Module, image: Tensor, label: Tensor, teacher: nn.Module | None = None
    ) -> dict[str, float]:
        found = {}
        if _differentiable(network, image, label):
            pgd = _survivors(network, image, label, self._pgd())
            margin = self._pgd(restarts=self.restarts)
            found["robust[ensemble]"] = _share(_survivors(network, image, label, margin, cw_margin, among=pgd))
            found[self._name] = _share(pgd)
            if self.norm == "linf":
                found["robust[fgsm]"] = _share(_survivors(network, image, label, Fgsm(self.radius)))
        if self.norm == "linf":
            found["robust[noise]"] = _share(_survivors(network, image, label, UniformNoise(self.radius)))
        if teacher is not None and _differentiable(teacher, image, label):
            found["robust[transfer]"] = _share(_survivors(network, image, label, self._pgd(), source=teacher))
        if self._name in found:
            found["masking"] = self._masking(network, image, label, found)
        return found

    def alarm(self, network: nn.Module, image: Tensor, label: Tensor) -> str | None:
        """Return a warning when the network masks its gradients; at most 200 samples are attacked."""
        some = _spread(len(image), CHECKED)
        masking = self._evaluate(network, image[some], label[some]).get("masking", 0.0)
        if masking <= self.tolerance:
            return None
        return f"gradients look masked: weaker evidence beats PGD by {masking:.0%}, so robust accuracies flatter"

    def curve(self, network: nn.Module, image: Tensor, label: Tensor) -> tuple[list[float], list[float]]:
        """Return strengths and accuracies under PGD on up to 200 samples, from 0 on; none without gradients."""
        some = _spread(len(image), CHECKED)
        image, label = image[some], label[some]
        if not _differentiable(network, image, label):
            return [], []
        strengths = [self.radius * factor for factor in self.strengths]
        right = [_share(_right(network, image, label))]
        right += [_share(_survivors(network, image, label, self._pgd(), strength=radius)) for radius in strengths]
        return [0.0, *strengths], right

    def _masking(self, network: nn.Module, image: Tensor, label: Tensor, found: Mapping[str, float]) -> float:
        if _constant(network, image):
            return 0.0
        blind = [found[name] for name in ("robust[noise]", "robust[transfer]", "robust[fgsm]") if name in found]
        some = _spread(len(image), CHECKED)
        image, label = image[some], label[some]
        whole = math.sqrt(image[0].numel()) if self.norm == "l2" else 1.0
        short, long, unbounded = (
            _share(_survivors(network, image, label, attack, strength=strength))
            for attack, strength in ((self._pgd(), None), (self._pgd(5 * self.steps), None), (self._pgd(), 2 * whole))
        )
        return max(0.0, *(found[self._name] - other for other in blind), abs(short - long), unbounded)

    @property
    def _name(self) -> str:
        return f"robust[pgd-{self.steps}]"

    def _pgd(self, steps: int | None = None, restarts: int = 1) -> Pgd:
        steps = steps or self.steps
        return Pgd(self.radius, 2.5 * self.radius / steps, steps, self.norm, restarts=restarts)


def _survivors(
    network: nn.Module,
    image: Tensor,
    label: Tensor,
    attack: Attack,
    objective: Objective = cross_entropy,
    *,
    source: nn.Module | None = None,
    among: Tensor | None = None,
    strength: float | None = None,
) -> Tensor:
    """Return which samples (N,) are right before and after the attack.

    Args:
        network: What is to be right.
        image: (N, C, H, W).
        label: (N,).
        attack: What changes them.
        objective: What it makes large, from logits and labels.
        source: Whose gradients it follows; None for the network's.
        among: (N,), bool: only these can survive, and only they are attacked.
        strength: Replaces the attack's radius.
    """
    found = _right(network, image, label) if among is None else among.clone()
    if not found.any():
        return found
    attacked = network if source is None else source
    for number, place in enumerate(torch.split(found.nonzero()[:, 0], CHUNK)):
        x, y = image[place], label[place]
        draw = generator("robustness", number)
        drawn = {name: d.sample(len(x), draw).to(x.device) for name, d in attack.draws(x.shape[1:]).items()}
        changed = attack(lambda point, y=y: objective(attacked(point), y), x, drawn, strength)  # type: ignore[misc]
        found[place] = _right(network, changed, y)
    return found


@torch.no_grad()
def _right(network: nn.Module, image: Tensor, label: Tensor) -> Tensor:
    logits = torch.cat([network(part) for part in torch.split(image, CHUNK)])
    return logits.argmax(1) == label


@torch.no_grad()
def _constant(network: nn.Module, image: Tensor) -> bool:
    logits = torch.cat([network(part) for part in torch.split(image, CHUNK)])
    return torch.allclose(logits, logits[:1].expand_as(logits))


def _differentiable(network: nn.Module, image: Tensor, label: Tensor) -> bool:
    try:
        loss_and_gradient(lambda x: cross_entropy(network(x), label[:1]), image[:1], "Robustness")
    except RecipeError:
        return False
    return True


def _spread(count: int, most: int) -> Tensor:
    """Return the indices of at most `most` of `count` samples, at equal distances."""
    return torch.linspace(0, count - 1, min(count, most)).long()


def _share(right: Tensor) -> float:
    return right.double().mean().item()
