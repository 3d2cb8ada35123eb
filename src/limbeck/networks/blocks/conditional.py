"""Class-conditional parts of GANs: batch normalisation with a class's own gain, and the projection discriminator."""

from __future__ import annotations

from typing import final

from torch import Tensor, nn

from limbeck.errors import RecipeError
from limbeck.networks.blocks.building import check_sizes


def require_label(label: Tensor | None, classes: int) -> Tensor:
    """Return `label`, or raise a RecipeError that says that a network of `classes` classes was called without."""
    if label is None:
        raise RecipeError(f"label: a network conditioned on {classes} classes was called without labels")
    return label


@final
class ConditionalBatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation whose gain and bias belong to the sample's class (de Vries et al. 2017; Dumoulin 2017).

    y = gain[label] * (x - mean) / sqrt(variance + eps) + bias[label]. Without classes it is plain batch
    normalisation, with one gain and bias for all samples.

    Args:
        features: Number of channels C.
        classes: Number of classes K; 0 for plain batch normalisation.

    Raises:
        RecipeError: A size is too small, or labels are missing in a call.
    """

    def __init__(self, features: int, classes: int = 0) -> None:
        check_sizes(self, features=features)
        check_sizes(self, at_least=0, classes=classes)
        super().__init__(features, affine=classes == 0)
        self.classes = classes
        if classes:
            self.class_gain = nn.Embedding(classes, features)
            self.class_bias = nn.Embedding(classes, features)
            nn.init.ones_(self.class_gain.weight)
            nn.init.zeros_(self.class_bias.weight)

    def forward(self, input: Tensor, label: Tensor | None = None) -> Tensor:
        """Return the normalised (N, C, H, W); `label` (N,) is unused without classes."""
        normal = super().forward(input)
        if not self.classes:
            return normal
        label = require_label(label, self.classes)
        gain = self.class_gain(label)[:, :, None, None].to(normal.dtype)
        bias = self.class_bias(label)[:, :, None, None].to(normal.dtype)
        scaled: Tensor = normal * gain + bias
        return scaled


@final
class LabelProjection(nn.Module):
    """What a label adds to a score: the inner product of its embedding with the features.

    <embedding[label], features>, the second term of eq. 3 of Miyato & Koyama 2018, "cGANs with Projection
    Discriminator".

    Args:
        features: Number of features D.
        classes: Number of classes K.

    Raises:
        RecipeError: A size is too small, or labels are missing in a call.
    """

    def __init__(self, features: int, classes: int) -> None:
        super().__init__()
        check_sizes(self, features=features, classes=classes)
        self.classes = classes
        self.embedding = nn.Embedding(classes, features)

    def forward(self, features: Tensor, label: Tensor | None) -> Tensor:
        """Return (N,) from features (N, D) and labels (N,)."""
        embedded: Tensor = self.embedding(require_label(label, self.classes))
        return (embedded * features).sum(1)
