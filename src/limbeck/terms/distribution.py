"""How likely a student that says how sure it is of every value finds an image, and how its distribution follows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal, final

from torch import Tensor, nn

from limbeck.errors import RecipeError, require
from limbeck.losses.restoration import DISTRIBUTIONS
from limbeck.networks.roles import ProbabilisticRestorer, unwrap
from limbeck.terms.base import Answers, Cast, SampleTerm
from limbeck.terms.scene import Scene

Distribution = Literal["laplace", "gaussian"]


class RestorerScene(Scene):
    """A scene of restorers: of one that gives a distribution it keeps the log scale beside the image."""

    def log_scale(self, who: str) -> Tensor:
        """Return the logarithm of the scale around every value of `output(who)`, of the same shape."""
        self.output(who)
        found: Tensor = self._made["log scale", who]
        return found

    def _call(self, who: str, network: nn.Module) -> Tensor:
        inner = unwrap(network)
        if not isinstance(inner, ProbabilisticRestorer):
            return super()._call(who, network)
        image, log_scale = inner.distribution(self.batch.need("image", type(inner).__name__))
        self.once(("log scale", who), lambda: log_scale)
        return image


class _OfDistributions(SampleTerm):
    """A term of networks that give distributions."""

    about: ClassVar[Sequence[Answers]] = ("images",)
    scene: ClassVar[type[Scene]] = RestorerScene
    of: ClassVar[Sequence[str]]

    def __init__(self, distribution: Distribution) -> None:
        super().__init__()
        known, key = ", ".join(DISTRIBUTIONS), f"{type(self).__name__}.distribution"
        require(key, distribution in DISTRIBUTIONS, f"one of {known}", distribution)
        self.nll, self.kl = DISTRIBUTIONS[distribution]

    def join(self, cast: Cast) -> None:
        """Refuse networks that do not say how sure they are."""
        for who in self.of:
            inner = unwrap(cast.network(who))
            if not isinstance(inner, ProbabilisticRestorer):
                raise RecipeError(
                    f"expected a {who} that gives a distribution, such as UncertainRestorer, found"
                    f" {type(inner).__name__}"
                )


@final
class Likelihood(_OfDistributions):
    """-log p(target) a value, of a `ProbabilisticRestorer`; only where there is a target.

    Args:
        distribution: That of every value around what is restored: "laplace" or "gaussian".

    Raises:
        RecipeError: Neither.
    """

    of = ("student",)

    def __init__(self, distribution: Distribution = "laplace") -> None:
        super().__init__(distribution)

    def due(self, scene: Scene) -> bool:
        """Return whether there is a target."""
        return scene.batch.target is not None

    def each(self, scene: Scene) -> Tensor:
        """Return the negative log-likelihood of each image's target (N,), in nats a value."""
        assert isinstance(scene, RestorerScene)
        return self.nll(scene.batch.need("target", "Likelihood"), scene.student_output, scene.log_scale("student"))


@final
class SoftDistribution(_OfDistributions):
    """KL(p_T ‖ p_S) a value, of two networks that give distributions: it teaches how sure the teacher is, too.

    Args:
        distribution: Of which kind both are: "laplace" or "gaussian".

    Raises:
        RecipeError: Neither.
    """

    wants = ("teacher",)
    of = ("student", "teacher")

    def __init__(self, distribution: Distribution = "laplace") -> None:
        super().__init__(distribution)

    def each(self, scene: Scene) -> Tensor:
        """Return the divergence of each image (N,), in nats a value."""
        assert isinstance(scene, RestorerScene)
        goal, mine = scene.log_scale("teacher"), scene.log_scale("student")
        return self.kl(scene.teacher_output, goal, scene.student_output, mine)
