"""Generating images from latents, with or without a class."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from limbeck.attacks.latent import on_shell
from limbeck.data.base import Data, Split
from limbeck.errors import RecipeError
from limbeck.ground.randomness import generator, seed_of
from limbeck.metrics.base import FeatureExtractor
from limbeck.metrics.image import WINDOW, bounded_psnr, entropy, ssim
from limbeck.networks.gan.dcgan import DcganDiscriminator
from limbeck.networks.given.external import Wrapped
from limbeck.networks.handling.copying import copied
from limbeck.tasks.base import Picture, Task
from limbeck.tasks.disagreement import Disagreement
from limbeck.tasks.real_images import CHUNK, DIRECTIONS, WATCHED, Means, RealImages, diversity, images_of, some
from limbeck.types import Batch, Draw

COLLAPSED = 0.5  # diversity against the real images' below which an alarm is raised
PREVIEWED = 64


class Generation(Task):
    """Latents in, images out; judged against real images by features, and against the teacher latent by latent.

    Args:
        latent: Shape of one latent, e.g. [64]; drawn from a standard normal.
        samples: Images generated for an evaluation; never more than are needed to match the reference.
        conditional: Give the networks the class beside the latent.
        disagreement: Measure how far the student can be driven from the teacher: latents are changed at their length.
    """

    method: ClassVar[str | None] = "Gan"
    directions: Mapping[str, str] = {
        **DIRECTIONS,
        "entropy": "none",
        "diversity": "none",
        "psnr_to_teacher": "higher",
        "ssim_to_teacher": "higher",
        "gap_to_teacher": "lower",
        "worst_gap_to_teacher": "lower",
    }
    main_metric = "fid"

    def __init__(
        self,
        latent: tuple[int, ...],
        samples: int = 10000,
        conditional: bool = False,
        *,
        disagreement: Disagreement | None = None,
    ) -> None:
        if samples < 2:
            raise RecipeError(f"task.samples: expected at least 2, found {samples}")
        if not latent or min(latent) < 1:
            raise RecipeError(f"task.latent: expected sizes of at least 1, such as [64], found {list(latent)}")
        self.latent, self.samples, self.conditional = tuple(latent), samples, conditional
        self._disagreement = disagreement
        if disagreement is not None:
            self.disagreement = disagreement  # part of what results are remembered under, if there is one
        self._real = RealImages(samples)

    def draws(self) -> Mapping[str, Draw]:
        """Return the latent of every sample."""
        return {"latent": Draw(self.latent)}

    def prepare(self, batch: Batch) -> Batch:
        """Return the batch with the drawn latent, unless the data brings its own, and a label only if conditional.

        Raises:
            RecipeError: The data's own latents are of another shape.
        """
        latent = batch.drawn["latent"] if batch.latent is None else batch.latent
        if latent.shape[1:] != self.latent:
            raise RecipeError(
                f"task.latent: expected the shape of the data's own latents, {list(latent.shape[1:])},"
                f" found {list(self.latent)}"
            )
        return batch.replace(latent=latent, label=batch.label if self.conditional else None)

    def gives(self, data: Data) -> tuple[str, ...]:
        """Return the fields of the data and the latent; a label only if conditional."""
        found = [name for name in data.gives() if self.conditional or name != "label"]
        return (*found, *({"latent"} - set(found)))

    def training_identity(self) -> Mapping[str, Any]:
        """Return the latent's shape and whether networks are told the class."""
        return {"latent": list(self.latent), "conditional": self.conditional}

    def method_arguments(self, data: Data) -> Mapping[str, Any]:
        """Return a small discriminator, where one fits, the same whenever it is made: arms are known by its weights."""
        channels, *size = data.image_shape
        if min(size) < 8:
            return {}
        classes = len(data.classes) if self.conditional else 0
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed_of("distill", "discriminator"))
            return {
                "discriminator": DcganDiscriminator(32, channels=channels, size=data.image_shape[1:], classes=classes)
            }

    def called(self, module: nn.Module, data: Data, **view: Any) -> nn.Module:
        """Return a module, latents to images, as a generator; if conditional it is called with (latent, label)."""
        known = {"latent_shape": self.latent, "classes": len(data.classes) if self.conditional else 0}
        return Wrapped(module, "generator", **{**known, **view})

    def image_shape(self, network: nn.Module) -> tuple[int, ...] | None:
        """Return the shape that a network states, else that of what it makes."""
        known = super().image_shape(network)
        if known is not None:
            return known
        label = (torch.zeros(2, dtype=torch.int64),) if self.conditional else ()
        latent = Draw(self.latent).sample(2, generator(0, "probe"))
        with torch.no_grad():
            made: Tensor = copied(network).cpu().float().eval()(latent, *label)
        return tuple(made.shape[1:])

    def answer(self, data: Data, *inputs: Tensor) -> tuple[int, ...]:
        """Return (C, H, W) of an image of the data."""
        return data.image_shape

    def example(self, data: Data, count: int) -> tuple[Tensor, ...]:
        """Return latents (count, *latent) and, if conditional, labels (count,)."""
        return self._inputs(data, "train", count, 0, "example")

    def evaluate(
        self,
        network: nn.Module,
        data: Data,
        *,
        split: Split,
        seed: int,
        extractor: FeatureExtractor | None = None,
        teacher: nn.Module | None = None,
        samples: int | None = None,
    ) -> dict[str, float]:
        """Return distribution metrics over the features of `extractor`, entropy, diversity, and fidelity to `teacher`.

        Latents are drawn from the prior. Where there is no teacher but the data has its images (a black box), the
        fidelity is measured on the latents that the split holds.
        """
        inputs = self._inputs(data, split, samples or self.samples, seed, "evaluate")
        images, fidelity = _generate(network, inputs), Means()
        if teacher is not None:
            images = _watched(zip(images, _generate(teacher, inputs), strict=True), fidelity)
        metrics = self._distribution(images, data, split, extractor)
        if teacher is None:
            for _ in _watched(self._given(network, data, split, len(inputs[0])), fidelity):
                pass
        metrics |= fidelity.found()
        if teacher is not None and self._disagreement is not None:
            metrics |= self._worst(network, teacher, inputs, self._disagreement)
        return metrics

    def references(self, data: Data, seed: int) -> Mapping[str, list[Picture]]:
        """Return as many real images of the reference split, by class, a column each, if conditional."""
        images = data.split(data.reference_split)
        batch = images.read(some(min(len(images), WATCHED * 8), len(images)))
        if (
            batch.image is None or batch.latent is not None
        ):  # a teacher known by its images alone: they are no real ones
            return {}
        if not self.conditional or batch.label is None:
            return {"real images": [Picture("samples", batch.image[:PREVIEWED])]}
        columns = min(len(data.classes), 13)
        rows = [(batch.label == c).nonzero().flatten() for c in range(columns)]
        if not all(len(row) for row in rows):
            return {}
        chosen = torch.stack([row[torch.arange(5) % len(row)] for row in rows], 1).flatten()
        return {"real images": [Picture("samples", batch.image[chosen], columns)]}

    def samples_of(self, network: nn.Module, data: Data, count: int, seed: int) -> Iterator[Batch]:
        """Yield `count` latents of the prior, labels if conditional, and as `image` what `network` makes of them."""
        inputs = self._inputs(data, "train", count, seed, "samples")
        for image, *part in zip(_generate(network, inputs), *(torch.split(i, CHUNK) for i in inputs), strict=True):
            yield Batch(image=image, latent=part[0], label=part[1] if self.conditional else None)

    def floor(self, data: Data, *, extractor: FeatureExtractor | None = None) -> dict[str, float]:
        """Return the metrics of as many real training images, drawn at random, against the reference split."""
        train = data.split("train")
        parts = torch.split(some(min(self.samples, len(train)), len(train)), CHUNK)
        images = (images_of(train.read(part)) for part in parts)
        return self._distribution(images, data, data.reference_split, extractor)

    def alarm(self, network: nn.Module, data: Data) -> str | None:
        """Return a warning when samples of `network` are far less diverse than real images: a collapse."""
        inputs = self._inputs(data, "train", WATCHED, 0, "watch")
        found = diversity(torch.cat(list(_generate(network, inputs))))
        real = data.split("train")
        expected = diversity(images_of(real.read(torch.arange(min(WATCHED, len(real))))))
        if found >= COLLAPSED * expected:
            return None
        return f"samples lose diversity ({found:.3f}, real images {expected:.3f}): the generator may have collapsed"

    def preview(self, network: nn.Module, data: Data, seed: int) -> list[Picture]:
        """Return samples on the same latents for every network; by class, a column each, if conditional."""
        count, columns = PREVIEWED, 8
        if self.conditional:
            columns = min(len(data.classes), 13)
            count = columns * 5
        latent = Draw(self.latent).sample(count, generator(seed, "preview"))
        inputs = (latent, torch.arange(count) % columns) if self.conditional else (latent,)
        return [Picture("samples", torch.cat(list(_generate(network, inputs))), columns)]

    def _worst(
        self, network: nn.Module, teacher: nn.Module, inputs: tuple[Tensor, ...], disagreement: Disagreement
    ) -> dict[str, float]:
        device = next(iter(network.parameters()), torch.empty(0)).device
        latent, *label = (tensor[: disagreement.samples].to(device) for tensor in inputs)
        return disagreement.measure(network, teacher, latent, *label, place=on_shell)

    def _distribution(
        self, images: Iterable[Tensor], data: Data, split: Split, extractor: FeatureExtractor | None
    ) -> dict[str, float]:
        """Return what is measured of parts of many images, of which no more than a part and a few are ever held."""
        means = Means()
        few: list[Tensor] = []

        def watched() -> Iterator[Tensor]:
            for image in images:
                means.add(entropy=entropy(image))
                if room := max(WATCHED - sum(map(len, few)), 0):
                    few.append(image[:room].clone())
                yield image

        metrics = {}
        if extractor is not None:
            metrics = self._real.compare(watched(), data, split, extractor)
        else:
            for _ in watched():
                pass
        return metrics | means.found() | {"diversity": diversity(torch.cat(few))}

    def _given(self, network: nn.Module, data: Data, split: Split, count: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield images of the inputs that a split holds with the teacher's of the same; nothing where it holds none."""
        images = data.split(split)
        first = images.read(torch.arange(1))
        if first.latent is None or first.target is None:
            return
        for part in torch.split(torch.arange(min(count, len(images))), CHUNK):
            batch = images.read(part)
            latent, target = batch.need("latent", "generation"), batch.need("target", "generation")
            label = (batch.need("label", "task.conditional"),) if self.conditional else ()
            for image in _generate(network, (latent, *label)):
                yield image, target

    def _inputs(self, data: Data, split: Split, count: int, seed: int, purpose: str) -> tuple[Tensor, ...]:
        """Return latents and, if conditional, the labels of real images drawn at random: the same mix of classes."""
        latent = Draw(self.latent).sample(count, generator(seed, purpose))
        if not self.conditional:
            return (latent,)
        images = data.split(split)
        labels = [images.read(part).label for part in torch.split(some(count, len(images)), CHUNK)]
        known = [label for label in labels if label is not None]
        if len(known) < len(labels):
            raise RecipeError(f"task.conditional: {data.name} has no labels; set conditional: false")
        return latent, torch.cat(known)


@torch.no_grad()
def _generate(network: nn.Module, inputs: tuple[Tensor, ...]) -> Iterator[Tensor]:
    """Yield images on the CPU, a chunk at a time, from a network in evaluation mode wherever it is."""
    device = next(iter(network.parameters()), torch.empty(0)).device
    for part in zip(*(torch.split(i, CHUNK) for i in inputs), strict=True):
        yield network(*(p.to(device) for p in part)).float().cpu()


def _watched(pairs: Iterable[tuple[Tensor, Tensor]], means: Means) -> Iterator[Tensor]:
    """Yield the first of each pair of parts, ours and the teacher's; count in how near it is to the second."""
    for ours, theirs in pairs:
        means.add(psnr_to_teacher=bounded_psnr(ours, theirs))
        if min(theirs.shape[-2:]) >= WINDOW:
            means.add(ssim_to_teacher=ssim(ours, theirs))
        yield ours
