"""Training of a VQ-VAE, alone or from a teacher (van den Oord et al. 2017, arXiv:1711.00937)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import ClassVar, Literal, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limbeck.errors import RecipeError
from limbeck.losses.features import DISTANCES
from limbeck.methods.legacy import Legacy
from limbeck.networks.autoencoders.vq_vae import VqVae
from limbeck.networks.handling.frozen import Frozen
from limbeck.networks.roles import Autoencoder
from limbeck.types import Batch, Draw, Update


@final
class Vq(Legacy):
    """One player: an autoencoder whose latents are codes (eq. 3), which may follow a teacher's reconstructions.

    Gradients pass from the codes to the encoder as if they were its output. Without a teacher this is plain training,
    and so its own control arm.

    * `student.reconstruction`: distance of reconstruction and image.
    * `student.codebook`: ‖sg[z] - e‖², by value of the latent: codes move to what the encoder says.
    * `student.commitment`: ‖z - sg[e]‖², by value of the latent; 0.25 is the paper's weight.
    * `student.output`: distance of S's and T's reconstructions.
    * `student.decoder`: distance of S's and T's decoders on T's latent; only where latents have one shape.

    Args:
        student: A VQ-VAE.
        teacher: Any autoencoder of the same images.
        output: Distance of images.

    Raises:
        RecipeError: The teacher is the student.
    """

    weights: ClassVar[Mapping[str, float]] = {
        "student.reconstruction": 1.0,
        "student.codebook": 1.0,
        "student.commitment": 0.25,
        "student.output": 1.0,
        "student.decoder": 0.0,
    }

    student: VqVae

    def __init__(
        self, student: VqVae, teacher: Autoencoder | None = None, *, output: Literal["l1", "l2"] = "l2"
    ) -> None:
        super().__init__()
        if teacher is student:
            raise RecipeError("vq.teacher: expected another network than the student (a copy), found the same")
        if output not in DISTANCES:
            raise RecipeError(f"vq.output: expected one of {', '.join(DISTANCES)}, found {output!r}")
        self.student, self.output = student, output
        self.teacher = None if teacher is None else Frozen(teacher)
        self.alike = teacher is not None and teacher.latent_shape == student.latent_shape

    def draws(self) -> Mapping[str, Draw]:
        """Return nothing: all of it is determined."""
        return {}

    def players(self) -> Mapping[str, nn.Module]:
        """Return the student."""
        return {"student": self.student}

    def updates(self, batch: Batch, step: int) -> Iterator[Update]:
        """Yield the student's update."""
        if batch.image is None:
            raise RecipeError("vq: expected batches with images, found none; choose another data set or task")
        lesson = _Lesson(self, batch.image)
        apart = DISTANCES[self.output]
        losses = {
            "reconstruction": lambda: apart(lesson.reconstructed, lesson.image).mean(),
            "codebook": lambda: F.mse_loss(lesson.codes, lesson.vectors.detach()),
            "commitment": lambda: F.mse_loss(lesson.vectors, lesson.codes.detach()),
        }
        if self.teacher is not None:
            losses["output"] = lambda: apart(lesson.reconstructed, lesson.goal).mean()
            if self.alike:
                losses["decoder"] = lambda: apart(self.student.decode(lesson.taught), lesson.goal).mean()
        yield Update("student", dict(losses))


class _Lesson:
    """What the losses of one step share, each computed when it is first asked for."""

    def __init__(self, method: Vq, image: Tensor) -> None:
        self.method, self.image = method, image

    @cached_property
    def vectors(self) -> Tensor:
        """What the student's encoder says, (N, D, h, w)."""
        found: Tensor = self.method.student.encoder(self.image)
        return found

    @cached_property
    def codes(self) -> Tensor:
        """The nearest codes, (N, D, h, w)."""
        return self.method.student.quantize(self.vectors)[0]

    @cached_property
    def reconstructed(self) -> Tensor:
        """The student's reconstruction, with the decoder's gradient handed past the codes to the encoder."""
        passed = self.vectors + (self.codes - self.vectors).detach()
        return self.method.student.decode(passed)

    @cached_property
    def taught(self) -> Tensor:
        """The teacher's latents."""
        with torch.no_grad():
            return self._teacher.encode(self.image)

    @cached_property
    def goal(self) -> Tensor:
        """The teacher's reconstruction."""
        with torch.no_grad():
            return self._teacher.decode(self.taught)

    @property
    def _teacher(self) -> Autoencoder:
        assert self.method.teacher is not None
        network: Autoencoder = self.method.teacher.network  # type: ignore[assignment]
        return network
