"""One step of an autoencoder as its terms see it: encoders see images, decoders the latents that are chosen."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from copy import copy
from functools import partial
from typing import ClassVar, Literal, Protocol, TypeVar

import torch
from torch import Tensor, nn

from limbeck.networks.handling.tap import Tap
from limbeck.networks.roles import Autoencoder
from limbeck.terms.scene import Scene, Stage

T = TypeVar("T")
Latents = Literal["own", "means", "mixed", "prior", "teacher", "swapped"]
"""Which latents are decoded; see `terms.decoded.Decoded`."""

SHARED: tuple[Latents, ...] = ("mixed", "prior", "teacher")
"""Those that both decoders are given."""


class AutoencoderStage(Stage, Protocol):
    """What the scene of an autoencoder asks of its method."""

    @property
    def map(self) -> nn.Module | None:
        """What makes a student's latent of a teacher's; None where they are one and the same."""
        ...

    def encoder_paths(self, who: str) -> Collection[str]:
        """Return those of a network's tapped paths that run when it encodes."""
        ...


class AutoencoderScene(Scene, ABC):
    """A scene whose outputs are images that decoders make, by default of each network's own latents of the image.

    Features of an encoder are those of the images; features of a decoder are those of the latents `latents_tapped`.

    Attributes:
        latents: The latents whose images are the outputs.
    """

    stage: AutoencoderStage
    latents: Latents = "own"
    latents_tapped: ClassVar[Latents] = "own"

    @abstractmethod
    def encode(self, who: str) -> tuple[Tensor, ...]:
        """Run an encoder on the images."""

    @abstractmethod
    def own(self, who: str, *, mean: bool = False) -> Tensor:
        """Return the latents that a network has of the images (N, ...), or the means of what it draws them from."""

    @abstractmethod
    def shared(self, latents: Latents) -> Tensor:
        """Return latents (N, ...) for both decoders, as the teacher has them."""

    def of(self, latents: Latents) -> AutoencoderScene:
        """Return this scene with the images of other latents as its outputs."""
        seen = copy(self)
        seen.latents = latents
        return seen

    def once(self, key: Hashable, make: Callable[[], T]) -> T:
        """Return what `make` returned when this key was first asked for with these latents."""
        return super().once((self.latents, key), make)

    def encoded(self, who: str) -> tuple[Tensor, ...]:
        """Return what an encoder says to the images."""
        return self._encoder(who)[0]

    def decoded(self, who: str, latents: Latents) -> Tensor:
        """Return the images (N, C, H, W) that a decoder makes of latents."""
        return self._decoder(who, latents)[0]

    def latent(self, who: str, latents: Latents) -> Tensor:
        """Return the latents (N, ...) that a decoder is given."""
        if latents == "swapped":
            return self.own("student")
        if latents not in SHARED:
            return self.own(who, mean=latents == "means")
        given = self.batch.latent if self.moved else None
        shared = self.shared(latents) if given is None else given
        return shared if who == "teacher" or self.stage.map is None else self.stage.map(shared)

    def output(self, who: str) -> Tensor:
        """Return the images of student or teacher, or what another player says."""
        if who not in ("student", "teacher"):
            return super().output(who)
        if self.latents == "swapped":
            return self.decoded("teacher", "swapped" if who == "student" else "own")
        return self.decoded(who, self.latents)

    def features(self, who: str, paths: Sequence[str]) -> list[Tensor]:
        """Return the outputs of modules of an encoder, a decoder, or both."""
        found: dict[str, Tensor] = {}
        of_encoder = self.stage.encoder_paths(who)
        if any(path in of_encoder for path in paths):
            found |= self._encoder(who)[1]
        if any(path not in of_encoder for path in paths):
            found |= self._decoder(who, self.latents_tapped)[1]
        return [found[path] for path in paths]

    def network_of(self, who: str) -> Autoencoder:
        """Return student or teacher."""
        network: Autoencoder = self.stage.network(who)  # type: ignore[assignment]
        return network

    def _encoder(self, who: str) -> tuple[tuple[Tensor, ...], Mapping[str, Tensor]]:
        paths = list(self.stage.encoder_paths(who))
        return super().once(("encoder", who), partial(self._tapped, who, paths, partial(self.encode, who), who))

    def _decoder(self, who: str, latents: Latents) -> tuple[Tensor, Mapping[str, Tensor]]:
        return super().once(("decoder", who, latents), partial(self._decode, who, latents))

    def _decode(self, who: str, latents: Latents) -> tuple[Tensor, Mapping[str, Tensor]]:
        latent, of_encoder = self.latent(who, latents), self.stage.encoder_paths(who)
        paths = [path for path in self.stage.taps(who) if path not in of_encoder and latents == self.latents_tapped]
        learner = "student" if latents == "swapped" else who
        return self._tapped(who, paths, partial(self.network_of(who).decode, latent), learner)

    def _tapped(self, who: str, paths: list[str], run: Callable[[], T], learner: str) -> tuple[T, Mapping[str, Tensor]]:
        """Return what a part of a network says, and its features; with a gradient where the learner moves."""
        with (
            torch.set_grad_enabled(self.moved or learner in self.learners),
            Tap(self.stage.network(who), paths) as tap,
        ):
            found = run()
        return found, {path: tap[path] for path in paths}
