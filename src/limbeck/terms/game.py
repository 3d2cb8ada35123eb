"""What the terms of an adversarial game share: which one is played, and the discriminator's scores."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from torch import Tensor

from limbeck.terms.base import Answers, Term
from limbeck.terms.scene import Scene

Game = Literal["logistic", "hinge", "wasserstein"]
JUDGED: tuple[Answers, ...] = ("images", "logits of pixels")
"""What a discriminator can judge."""


def game_of(terms: Mapping[str, Term]) -> Game:
    """Return which game a method plays: the `game` that a term of its discriminator states; else "logistic"."""
    games: list[Game] = [game for term in terms.values() if (game := getattr(term, "game", None)) is not None]
    return games[0] if games else "logistic"


def scores(scene: Scene) -> tuple[Tensor, Tensor]:
    """Return the discriminator's scores of what is real and of what the student made, without gradient to it."""
    real = scene.once("real score", lambda: scene.score("discriminator", scene.real))
    return real, scene.once("fake score", lambda: scene.score("discriminator", scene.fake.detach()))
