"""What methods of autoencoders share: the order of their players, and which part of a network a module is in."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from typing import cast as typed

import torch
from torch import nn

from limbeck.errors import RecipeError
from limbeck.methods.base import Method, Terms
from limbeck.networks.autoencoders.latent_map import LatentMap
from limbeck.networks.handling.modes import evaluating
from limbeck.networks.handling.tap import Tap
from limbeck.networks.roles import Autoencoder
from limbeck.types import Batch, Update


class Autoencoding(Method):
    """One player, the student, and with a discriminator of its reconstructions a second one, which moves first.

    Attributes:
        map: What makes a student's latent of a teacher's; None where they are one and the same.
    """

    map: LatentMap | None

    @abstractmethod  # only those below are built
    def __init__(self) -> None:
        super().__init__()

    def cast(
        self,
        players: Mapping[str, nn.Module | None],
        teachers: Mapping[str, nn.Module | None],
        terms: Terms | None = None,
    ) -> None:
        """Take up the networks and the terms, and find out what runs in the encoders.

        Raises:
            RecipeError: A term compares an encoder's features with a decoder's.
        """
        super().cast(players, teachers, terms)
        self._in_encoder = {who: self._runs_in_encoder(who) for who in ("student", "teacher") if self.has(who)}
        for name, term in self.terms.items():
            pairs = [term.paths().get(who, ()) for who in ("student", "teacher")]
            for mine, goal in zip(*pairs, strict=True):
                if (mine in self._in_encoder["student"]) != (goal in self._in_encoder["teacher"]):
                    raise RecipeError(
                        f"terms.{name}: expected paths of the same part, encoder or decoder, in both networks, found"
                        f" {{{mine!r}: {goal!r}}}"
                    )

    def encoder_paths(self, who: str) -> frozenset[str]:
        """Return those of a network's tapped paths that run when it encodes."""
        return self._in_encoder[who]

    def updates(self, batch: Batch, step: int) -> Iterator[Update]:
        """Yield the discriminator's update, if there is one, and the student's."""
        scene = self.enter(batch, step)
        for player in self.of_players:
            yield self.update_of(player, scene)

    def _runs_in_encoder(self, who: str) -> frozenset[str]:
        network, paths = self.network(who), self.taps(who)
        if not paths:
            return frozenset()
        with torch.no_grad(), evaluating(network), Tap(network, paths) as tap:
            typed(Autoencoder, network).encode(self.example(network).need("image", type(self).__name__))
        return frozenset(path for path in paths if path in tap)
