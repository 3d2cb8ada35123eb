"""What can be learnt of images that nobody has labelled: the teacher's masks, or those that several views agree on.

An image without labels is one whose mask is void everywhere. A pixel of it is learnt where its label is sure enough,
and all its pixels count in the mean, so that few sure ones weigh little (Sohn et al. 2020, arXiv:2001.07685, eq. 4).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, final

import torch
import torch.nn.functional as F
from torch import Tensor

from limbeck.errors import require
from limbeck.losses.gather import masked_mean
from limbeck.losses.tensors import precise
from limbeck.networks.handling.modes import evaluating
from limbeck.terms.base import Answers, Term
from limbeck.terms.scene import Scene
from limbeck.types import VOID


class _OfUnlabelled(Term):
    """A term of images without labels."""

    about: ClassVar[Sequence[Answers]] = ("logits of pixels",)
    couples = True

    def __init__(self, threshold: float) -> None:
        super().__init__()
        require(f"{type(self).__name__}.threshold", 0 <= threshold < 1, "a number in [0, 1)", threshold)
        self.threshold = threshold

    def learnt(self, scene: Scene, label: Tensor, sure: Tensor) -> Tensor:
        """Return the cross-entropy with sure labels, 0 of others, averaged over all pixels of unlabelled images.

        Args:
            scene: The step.
            label: Class of each pixel (N, H, W).
            sure: Where it is to be learnt (N, H, W).
        """
        mask = scene.truth
        assert mask is not None
        values = F.cross_entropy(precise(scene.student_output), label, reduction="none")
        return masked_mean(values * sure, (mask == VOID).flatten(1).all(1)[:, None, None].expand_as(mask))


@final
class PseudoLabels(_OfUnlabelled):
    """Cross-entropy with the teacher's class, where the teacher is sure of it.

    Lee 2013; for segmentation Chen et al. 2020, arXiv:2005.10266.

    Args:
        threshold: Least probability of a class that is learnt, in [0, 1).

    Raises:
        RecipeError: It is out of its range.
    """

    wants = ("teacher",)

    def __init__(self, threshold: float = 0.9) -> None:
        super().__init__(threshold)

    def forward(self, scene: Scene) -> Tensor:
        """Return the mean over the pixels of all unlabelled images."""
        sure, label = precise(scene.teacher_output).softmax(1).max(1)
        return self.learnt(scene, label, sure >= self.threshold)


@final
class AgreedLabels(_OfUnlabelled):
    """Cross-entropy with the student's own class, where all views of the image agree on it.

    The student is in evaluation mode while it sees the views. It only says something once the student knows something:
    let its weight begin later, `{weight: 1, from: 0.3}`.

    Args:
        threshold: Least probability, as the mean over views, of a class that is learnt, in [0, 1).
        scales: Views of the image are itself, mirrored, and for each of these zooms (above 0) resized so.

    Raises:
        RecipeError: An argument is out of its range.
    """

    def __init__(self, threshold: float = 0.9, scales: Sequence[float] = (0.75, 1.25)) -> None:
        super().__init__(threshold)
        require("AgreedLabels.scales", all(scale > 0 for scale in scales), "zooms above 0", list(scales))
        self.scales = list(scales)

    def forward(self, scene: Scene) -> Tensor:
        """Return the mean over the pixels of all unlabelled images."""
        _ = scene.student_output  # first, so that what the views are seen with does not depend on the other terms
        views = [(1.0, False), (1.0, True), *((scale, n % 2 == 0) for n, scale in enumerate(self.scales))]
        with torch.no_grad(), evaluating(scene.stage.network("student")):
            seen = torch.stack([_seen(scene, scale, flip) for scale, flip in views])
        sure, label = seen.mean(0).max(1)
        same = (seen.argmax(2) == label).all(0)
        return self.learnt(scene, label, same & (sure >= self.threshold))


def _seen(scene: Scene, scale: float, flip: bool) -> Tensor:
    """Return the student's class probabilities of one view (N, K, H, W), back at the image's place and size."""
    image = scene.batch.need("image", "AgreedLabels")
    turned = image.flip(3) if flip else image
    size = [max(1, round(side * scale)) for side in image.shape[2:]]
    view = turned if scale == 1 else F.interpolate(turned, size, mode="bilinear", antialias=True)
    logits = scene.stage.call(scene.stage.network("student"), scene.batch.replace(image=view))
    found = F.interpolate(precise(logits), image.shape[2:], mode="bilinear").softmax(1)
    return found.flip(3) if flip else found
