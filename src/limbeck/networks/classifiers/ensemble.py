"""Several classifiers that answer as one: a teacher of more than one opinion (Hinton et al. 2015, section 1)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, final

import torch
from torch import Tensor, nn

from limbeck.errors import RecipeError
from limbeck.networks.blocks.building import check_choice
from limbeck.networks.given.weights import load_weights
from limbeck.networks.roles import stated


@final
class Ensemble(nn.Module):
    """The mean of its members' class probabilities, given as logits: log Σ_i w_i p_i, whose softmax is that mean.

    Args:
        members: Classifiers of the same images and classes.
        weights: A file of weights for each of them, in their order; null takes the members as they are.
        weighting: "mean", w_i = 1/M; or "confidence", w_i ∝ 1 - H(p_i) / log K for each image on its own, so that a
            member that is sure of an image counts for more there (weights by entropy: Kwon et al. 2020). Where all
            are as unsure as can be, they count the same.

    Raises:
        RecipeError: No members, members that differ in images or classes, or another number of files.
        WeightsError: A file does not fit its member.
    """

    def __init__(
        self,
        members: Sequence[nn.Module],
        weights: Sequence[str] | None = None,
        weighting: Literal["mean", "confidence"] = "mean",
    ) -> None:
        super().__init__()
        check_choice(self, ("mean", "confidence"), weighting=weighting)
        kinds = {(getattr(m, "image_shape", None), stated(m, "classes", 0)) for m in members}
        if len(kinds) != 1:
            raise RecipeError(f"Ensemble.members: expected classifiers of the same images and classes, found {kinds}")
        if weights is not None and len(weights) != len(members):
            raise RecipeError(f"Ensemble.weights: expected {len(members)} files, one a member, found {len(weights)}")
        self.image_shape, self.classes = kinds.pop()
        self.members = nn.ModuleList(members)
        self.weighting = weighting
        for member, file in zip(members, weights or (), strict=False):
            load_weights(member, file)

    def forward(self, image: Tensor) -> Tensor:
        """Return logits (N, K) from images (N, C, H, W) in [-1, 1]; they are log-probabilities."""
        log_p = torch.stack([member(image).float().log_softmax(1) for member in self.members])  # (M, N, K)
        logits: Tensor = (log_p + self._log_weights(log_p)[:, :, None]).logsumexp(0)
        return logits

    def _log_weights(self, log_p: Tensor) -> Tensor:
        """Return log w (M, N)."""
        if self.weighting == "mean":
            return log_p.new_full(log_p.shape[:2], -math.log(len(log_p)))
        entropy = torch.special.entr(log_p.exp()).sum(2)
        sureness: Tensor = (1 - entropy / math.log(log_p.shape[2])).clamp(min=1e-6)
        return sureness.log() - sureness.sum(0).log()
