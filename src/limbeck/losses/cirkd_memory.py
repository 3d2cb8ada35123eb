"""Cross-image relations with a memory of pixels and regions of every class (CIRKD, Yang et al. 2022)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import ClassVar, final

import torch
from torch import Tensor, nn

from limbeck.errors import RecipeError, require
from limbeck.losses.base import FeatureLoss, check_paths, pairs
from limbeck.losses.gather import gathered, masked_mean
from limbeck.losses.tensors import full_precision, kl_divergence, pixel_classes, pooled_alike, precise, unit
from limbeck.types import VOID, Draw


def relations(student: Tensor, teacher: Tensor, memory: Tensor, temperature: float = 0.1) -> Tensor:
    """Return KL(σ(t Vᵀ / τ) ‖ σ(s Vᵀ / τ)) of each pixel (M,), in nats, in [0, ∞) (Yang et al. 2022, arXiv:2204.06986).

    s and t are the pixel's embeddings, V the embeddings of other pixels or regions, all of length 1, and σ the softmax
    over V: memory-based pixel-to-pixel and pixel-to-region distillation.

    Args:
        student: (M, D).
        teacher: (M, D).
        memory: V (A, D).
        temperature: τ > 0.
    """
    with full_precision(student):
        return kl_divergence(unit(teacher) @ memory.T / temperature, unit(student) @ memory.T / temperature)


def members(mask: Tensor, offset: Tensor, classes: int, most: int) -> tuple[Tensor, Tensor]:
    """Return where up to `most` pixels of each class stand in an image (N, K, most), and how many it has (N, K).

    Of c pixels in reading order k = min(c, most) are chosen, at ⌊(i + u) c / k⌋ for i < k: k different ones, evenly
    spread, each with the same probability. Further places hold no choice.

    Args:
        mask: (N, P), int64 class of each pixel, below `classes`, or void.
        offset: u (N,), uniform in [0, 1).
        classes: K.
        most: How many to choose.
    """
    counts = torch.stack([(mask == label).sum(1) for label in range(classes)], 1)
    order = mask.argsort(dim=1, stable=True)  # the classes one after the other, void last
    chosen = counts.clamp(1, most)
    steps = torch.arange(most, device=mask.device) + offset.double()[:, None, None]
    rank = (steps * (counts / chosen.double())[..., None]).long()
    first = (counts.cumsum(1) - counts)[..., None]
    at = (first + rank).clamp(max=mask.shape[1] - 1).flatten(1)
    return order.gather(1, at).reshape(-1, classes, most), counts


class _Memory(nn.Module):
    """The projection of a student layer, and the teacher's embeddings of past pixels and regions of each class."""

    pixels: Tensor
    regions: Tensor
    next_pixel: Tensor
    next_region: Tensor

    def __init__(self, student: int, teacher: int, *, classes: int, pixels: int, regions: int, stored: int) -> None:
        super().__init__()
        self.head = nn.Sequential(nn.Linear(student, teacher), nn.ReLU(), nn.Linear(teacher, teacher, bias=False))
        self.stored = stored
        self.register_buffer("pixels", unit(torch.randn(classes, pixels, teacher), dim=2))
        self.register_buffer("regions", unit(torch.randn(classes, regions, teacher), dim=2))
        self.register_buffer("next_pixel", torch.zeros(classes, dtype=torch.int64))
        self.register_buffer("next_region", torch.zeros(classes, dtype=torch.int64))

    def forward(self, student: Tensor, teacher: Tensor, mask: Tensor, offset: Tensor) -> tuple[Tensor, Tensor]:
        """Return the embeddings (M, D) of the pixels that are not void; in training mode the memory takes some in."""
        student, teacher = pooled_alike(student, teacher)
        classes = pixel_classes(mask, student, "CirkdMemory")
        if self.training:
            self._remember(unit(teacher), classes, offset)
        mine, goal = (features.movedim(1, 3)[classes != VOID] for features in (student, teacher))
        return precise(self.head(mine)), goal

    @torch.no_grad()
    def _remember(self, teacher: Tensor, mask: Tensor, offset: Tensor) -> None:
        """Take in some pixels and the mean of each class of each image, in the order of the global batch."""
        places, label, kinds = teacher.flatten(2).transpose(1, 2), mask.flatten(1), len(self.pixels)
        at, counts = members(label, offset, kinds, self.stored)
        pixels = torch.stack([rows[where] for rows, where in zip(places, at, strict=True)])  # (N, K, stored, D)
        of_class = (label[:, None] == torch.arange(kinds, device=label.device)[:, None]).to(places)  # (N, K, P)
        with full_precision(places):
            regions = unit(of_class @ places.where(label[..., None] != VOID, 0), dim=2)  # the sum points as the mean
        pixels, regions, counts = gathered(pixels), gathered(regions), gathered(counts)
        taken = torch.arange(self.stored, device=mask.device) < counts[..., None]
        for kind in range(kinds):
            _push(self.pixels[kind], self.next_pixel[kind], pixels[:, kind][taken[:, kind]])
            _push(self.regions[kind], self.next_region[kind], regions[:, kind][counts[:, kind] > 0])


def _push(ring: Tensor, place: Tensor, rows: Tensor) -> None:
    """Write rows (R, D) into a ring (S, D) from `place` on, which moves; of more rows than places the last remain."""
    slots = (place + torch.arange(len(rows), device=rows.device)) % len(ring)
    ring[slots[-len(ring) :]] = rows[-len(ring) :]
    place.copy_((place + len(rows)) % len(ring))


@final
class CirkdMemory(FeatureLoss):
    """Match how alike pixels are to pixels and regions of past images (CIRKD, Yang et al. 2022); see `Cirkd` too.

    Each pair has for every class a ring of the teacher's pixels and one of its regions, the mean of a class in an
    image. In training mode every image adds up to `stored` pixels and one region of each of its classes, before it is
    compared; in each step the same places are drawn from the rings of all classes, and `relations` to what they hold
    are matched for every pixel that is not void. The rings begin with random directions. They are buffers: they are
    checkpointed, and all processes write the same. The loss is the sum over pairs and over both kinds of relations.

    It follows the published code but for two things. The code's head, W₂ ReLU(BN(W₁ ·)) to the teacher's width, is
    here without BN, through which void pixels would count, and the number of processes. And it stores pixels of the
    class in question, as the paper says; the code chooses among the first pixels of the image.

    Args:
        paths: Module path in the student for each module path of the teacher, {student path: teacher path}; maps only.
        classes: K, the number of classes of pixels.
        pixels: Pixels that are remembered of each class. The memory has K (pixels + regions) D numbers at a teacher's
            width D, in each checkpoint too: give less than the paper's where data are few.
        regions: Regions that are remembered of each class.
        pixel_anchors: Remembered pixels that a pixel is compared with in a step, of all classes together, about.
        region_anchors: The same of regions.
        stored: Pixels of each class that an image adds, at most.
        temperature: τ > 0.
        pixel: Weight of the relations to pixels, at least 0.
        region: Weight of the relations to regions, at least 0.

    Raises:
        RecipeError: A number is out of its range.
    """

    couples: ClassVar[bool] = True  # an image is compared with what the others of its batch have added
    needs_label: ClassVar[bool] = True

    def __init__(
        self,
        paths: Mapping[str, str],
        classes: int,
        *,
        pixels: int = 20000,
        regions: int = 2000,
        pixel_anchors: int = 4096,
        region_anchors: int = 1024,
        stored: int = 16,
        temperature: float = 0.1,
        pixel: float = 1.0,
        region: float = 1.0,
    ) -> None:
        super().__init__()
        self.paths = check_paths(self, paths)
        sizes = {"pixels": pixels, "regions": regions, "pixel_anchors": pixel_anchors, "region_anchors": region_anchors}
        for name, size in {"classes": classes, **sizes, "stored": stored}.items():
            require(f"CirkdMemory.{name}", size >= 1, "a whole number of at least 1", size)
        require("CirkdMemory.classes", classes <= VOID, f"at most {VOID}", classes)
        require("CirkdMemory.temperature", 0 < temperature < math.inf, "a number above 0", temperature)
        for name, weight in {"pixel": pixel, "region": region}.items():
            require(f"CirkdMemory.{name}", 0 <= weight < math.inf, "a number of at least 0", weight)
        require("CirkdMemory.region", pixel + region > 0, "a number above 0 where pixel is 0", region)
        self.classes, self.pixels, self.regions, self.stored = classes, pixels, regions, stored
        self.anchors = {"pixel": pixel_anchors // classes + 1, "region": region_anchors // classes + 1}  # as the code
        self.temperature, self.weights = temperature, {"pixel": pixel, "region": region}
        self.memories = nn.ModuleList()

    def fit_to(self, student: Sequence[tuple[int, ...]], teacher: Sequence[tuple[int, ...]]) -> None:
        """Make a head and a memory for each pair of maps."""
        sizes = {"classes": self.classes, "pixels": self.pixels, "regions": self.regions, "stored": self.stored}
        shapes = pairs(self, student, teacher, "maps")
        self.memories = nn.ModuleList(_Memory(mine[0], goal[0], **sizes) for mine, goal in shapes)

    def draws(self) -> Mapping[str, Draw]:
        """Return what orders the rings' places, the same for a whole step, and where each image's choice begins."""
        rings = {"pixel": self.pixels, "region": self.regions}
        orders = {f"cirkd.{kind}": Draw((size,), "uniform", once=True) for kind, size in rings.items()}
        return orders | {"cirkd.offset": Draw((), "uniform")}

    def forward(
        self,
        student: Sequence[Tensor],
        teacher: Sequence[Tensor],
        label: Tensor | None = None,
        index: Tensor | None = None,
        drawn: Mapping[str, Tensor] | None = None,
    ) -> Tensor:
        """Return the weighted sum over pairs; in training mode the memory takes in the batch.

        Raises:
            RecipeError: `label` are no masks, or one has a class that is not below `classes`.
        """
        assert label is not None and drawn is not None, "CirkdMemory needs masks and what it declares in draws"
        outside = label[(label != VOID) & ((label < 0) | (label >= self.classes))]
        if outside.numel():
            raise RecipeError(
                f"CirkdMemory.classes: expected the number of classes, above each in a mask, found {self.classes} and"
                f" a pixel of {int(outside[0])}"
            )
        triples = zip(self.memories, student, teacher, strict=True)
        return torch.stack([self._pair(memory, s, t, label, drawn) for memory, s, t in triples]).sum()

    def _pair(
        self, memory: nn.Module, student: Tensor, teacher: Tensor, mask: Tensor, drawn: Mapping[str, Tensor]
    ) -> Tensor:
        assert isinstance(memory, _Memory)
        mine, goal = memory(student, teacher, mask, drawn["cirkd.offset"])
        rings = {"pixel": memory.pixels, "region": memory.regions}
        terms = []
        for kind in (kind for kind, weight in self.weights.items() if weight > 0):
            order = drawn[f"cirkd.{kind}"][0].argsort()[: self.anchors[kind]]
            values = relations(mine, goal, rings[kind][:, order].flatten(0, 1), self.temperature)
            terms.append(self.weights[kind] * masked_mean(values, torch.ones_like(values, dtype=torch.bool)))
        return torch.stack(terms).sum()
