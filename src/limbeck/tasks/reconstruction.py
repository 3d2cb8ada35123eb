"""Compressing images into latents and back, and making new ones of latents drawn from the prior."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from limbeck.attacks.latent import on_shell
from limbeck.data.base import Data, Split
from limbeck.errors import RecipeError, require
from limbeck.ground.randomness import generator
from limbeck.losses.vae import discretized_gaussian_nll, kl_from_prior
from limbeck.metrics.base import FeatureExtractor
from limbeck.metrics.image import WINDOW, bounded_psnr, ssim
from limbeck.networks.given.external_autoencoder import WrappedAutoencoder
from limbeck.networks.roles import Autoencoder, VariationalAutoencoder, unwrap
from limbeck.tasks.base import Picture, Task
from limbeck.tasks.disagreement import Disagreement
from limbeck.tasks.latents import (
    COLUMNS,
    ROWS,
    active,
    chunks,
    drawn,
    interpolations,
    mapped,
    place_of,
    posteriors,
    traversals,
)
from limbeck.tasks.real_images import DIRECTIONS, WATCHED, RealImages, diversity, images_of, some
from limbeck.terms.bound import ReconstructionLoss
from limbeck.types import Draw


class Reconstruction(Task):
    """Images in, the same images out, through a latent.

    * `psnr`, `ssim`: of reconstructions from the posterior mean, in dB and at most 1.
    * `rfid[features]`: FID of these reconstructions; `fid[features]` and its kin: of samples of the prior.
    * `bits_per_dim`: the negative bound under the network's discretised Gaussian, where `bits` is on.
    * `kl`: KL(posterior ‖ prior) of an image, in nats. `active_units`: how many values of the latent say anything.
    * `encoder_parameters`, `decoder_parameters`: how many there are in each part.
    * `psnr_to_teacher`, `ssim_to_teacher`: of the reconstructions to the teacher's.
    * `encoder_swap_psnr_to_teacher`: of what the teacher's decoder makes of the student's latents,
      `decoder_swap_psnr_to_teacher`: of what the student's decoder makes of the teacher's. Both, despite their names,
      to the images, and only where latents have one shape.
    * `gap_to_teacher`, `worst_gap_to_teacher`: see `Disagreement`; only if there is one.
    * `decoder_gap_to_teacher`, `worst_decoder_gap_to_teacher`: the same of both decoders on latents of the prior; only
      with `latent_disagreement`, and where both are a `VariationalAutoencoder` whose latents have one shape.

    What concerns posterior and prior is only measured for a `VariationalAutoencoder`.

    Args:
        samples: Images reconstructed, and samples drawn, at an evaluation; images never more than the split has.
        sampled: Draw from the prior too. Latents that are only weakly held to it make no images, and codes have none.
        bits: Measure `bits_per_dim`: only for networks whose scale of pixels a Gaussian likelihood has trained.
        importance: Draws K of the importance-weighted bound (Burda et al. 2016, eq. 8); 1 is the ELBO.
        disagreement: Measure how far the student can be driven from the teacher; changes images within [-1, 1].
        latent_disagreement: Measure the same of the decoders; changes latents of the prior, as many as there are images
            at most, at their length.

    Raises:
        RecipeError: An argument is out of its range.
    """

    method: ClassVar[str | None] = "Vae"
    directions: Mapping[str, str] = {
        "psnr": "higher",
        "ssim": "higher",
        "rfid": "lower",
        **DIRECTIONS,
        "diversity": "none",
        "bits_per_dim": "lower",
        "kl": "none",
        "active_units": "none",
        "encoder_parameters": "none",
        "decoder_parameters": "none",
        "psnr_to_teacher": "higher",
        "ssim_to_teacher": "higher",
        "encoder_swap_psnr_to_teacher": "higher",
        "decoder_swap_psnr_to_teacher": "higher",
        "gap_to_teacher": "lower",
        "worst_gap_to_teacher": "lower",
        "decoder_gap_to_teacher": "lower",
        "worst_decoder_gap_to_teacher": "lower",
    }
    main_metric = "psnr"

    def __init__(
        self,
        samples: int = 10000,
        *,
        sampled: bool = True,
        bits: bool = False,
        importance: int = 1,
        disagreement: Disagreement | None = None,
        latent_disagreement: Disagreement | None = None,
    ) -> None:
        for name, value, least in (("samples", samples, 2), ("importance", importance, 1)):
            if value < least:
                raise RecipeError(f"task.{name}: expected a whole number of at least {least}, found {value}")
        self.samples, self.sampled, self.bits, self.importance = samples, sampled, bits, importance
        self.disagreement, self.latent_disagreement = disagreement, latent_disagreement
        if disagreement is not None:
            disagreement.check(-1.0, 1.0)
        self._real = RealImages(samples)

    def check(self, network: nn.Module, method: Any, weights: Mapping[str, Any]) -> None:
        """Refuse bits per dimension of an autoencoder whose scale of pixels nothing trains."""
        found = _untrained(network, method, weights)
        if self.bits and found:
            raise RecipeError(f"expected a scale trained by a Gaussian likelihood, found {found}; set task.bits: false")

    def called(self, module: nn.Module, data: Data, **view: Any) -> nn.Module:
        """Return a module with `encode` and `decode` as a variational autoencoder of this data."""
        return WrappedAutoencoder(module, **{"image_shape": data.image_shape, **view})

    def example(self, data: Data, count: int) -> tuple[Tensor, ...]:
        """Return images (count, C, H, W)."""
        train = data.split("train")
        return (images_of(train.read(torch.arange(count) % len(train))),)

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
        """Return the metrics named above, of up to `samples` images of the split."""
        image = self._images(data, split, samples or self.samples)
        rebuilt = mapped(network, image)
        metrics = {"psnr": float(bounded_psnr(rebuilt, image).mean())} | _similar("ssim", rebuilt, image)
        if extractor is not None:
            metrics[f"rfid[{extractor.name}]"] = self._real.fid(rebuilt, data, split, extractor)
        metrics |= _parameters(network)
        if isinstance(network, VariationalAutoencoder):
            metrics |= self._bound(network, image, seed)
            if self.sampled:
                made = drawn(network, samples or self.samples, generator(seed, "prior"))
                metrics["diversity"] = diversity(made[:WATCHED])
                if extractor is not None:
                    metrics |= self._real.compare(made, data, split, extractor)
        if teacher is not None:
            metrics |= self._fidelity(network, teacher, image, rebuilt)
            if isinstance(network, VariationalAutoencoder) and isinstance(teacher, VariationalAutoencoder):
                metrics |= self._decoder_gaps(network, teacher, len(image), seed)
        return metrics

    def floor(self, data: Data, *, extractor: FeatureExtractor | None = None) -> dict[str, float]:
        """Return the distribution metrics of real training images against the reference split: those of samples."""
        if extractor is None or not self.sampled:
            return {}
        real = self._images(data, "train", self.samples)
        return self._real.compare(real, data, data.reference_split, extractor)

    def alarm(self, network: nn.Module, data: Data) -> str | None:
        """Return a warning when the posterior has collapsed: no value of the latent says anything of the image."""
        if not isinstance(network, VariationalAutoencoder):
            return None
        if active(posteriors(network, self._images(data, "train", WATCHED))[0]):
            return None
        return "the posterior has collapsed: no latent unit depends on the image; lower the weight of student.kl"

    def preview(self, network: nn.Module, data: Data, seed: int) -> list[Picture]:
        """Return images above their reconstructions; samples, interpolations and, of vectors, traversals."""
        images = data.split(data.reference_split)
        image = images_of(images.read(some(4 * COLUMNS, len(images))))  # whole rows: a few images come again
        rebuilt = mapped(network, image)
        pairs = [
            part
            for both in zip(torch.split(image, COLUMNS), torch.split(rebuilt, COLUMNS), strict=True)
            for part in both
        ]
        pictures = [Picture("images, and below them their reconstructions", torch.cat(pairs).clamp(-1, 1), COLUMNS)]
        if isinstance(network, VariationalAutoencoder):
            if self.sampled:
                made = drawn(network, ROWS * COLUMNS, generator(seed, "preview"))
                pictures.append(Picture("samples of the prior", made.clamp(-1, 1), COLUMNS))
            pictures.append(interpolations(network, image))
            if len(network.latent_shape) == 1:
                pictures.append(traversals(network, self._images(data, "train", WATCHED), image[:1]))
        return pictures

    def glimpse(self, network: nn.Module, data: Data) -> Tensor | None:
        """Return reconstructions of a few images of the reference split."""
        images = data.split(data.reference_split)
        return mapped(network, images_of(images.read(some(COLUMNS, len(images))))).clamp(-1, 1)

    def references(self, data: Data, seed: int) -> Mapping[str, list[Picture]]:
        """Return real images, beside the samples of the prior."""
        images = data.split(data.reference_split)
        real = images_of(images.read(some(ROWS * COLUMNS, len(images))))
        return {"real images": [Picture("samples of the prior", real, COLUMNS)]} if self.sampled else {}

    def _images(self, data: Data, split: Split, count: int) -> Tensor:
        images = data.split(split)
        return images_of(images.read(some(min(count, len(images)), len(images))))

    def _bound(self, network: VariationalAutoencoder, image: Tensor, seed: int) -> dict[str, float]:
        mean, log_variance = posteriors(network, image)
        divergence = kl_from_prior(mean, log_variance).flatten(1).sum(1)
        found = {"kl": float(divergence.mean()), "active_units": float(active(mean))}
        if self.bits:
            scaled, kind = hasattr(network, "log_scale"), type(network).__name__
            require("task.bits", scaled, "networks with a scale of their pixels (log_scale)", kind, "; set bits: false")
            draw = generator(seed, "posterior")
            parts = chunks(image, mean, log_variance)
            nats = torch.cat([self._log_likelihood(network, draw, *part) for part in parts])
            found["bits_per_dim"] = float(-nats.mean()) / (image[0].numel() * math.log(2))
        return found

    @torch.no_grad()
    def _log_likelihood(
        self, network: VariationalAutoencoder, draw: torch.Generator, image: Tensor, mean: Tensor, log_variance: Tensor
    ) -> Tensor:
        """Return the bound on log p(x) (N,), in nats: log 1/K Σ p(x | z) p(z) / q(z | x), or the ELBO."""
        device, terms = place_of(network), []
        for _ in range(self.importance):
            noise = torch.randn(mean.shape, generator=draw)
            latent = mean + (log_variance / 2).exp() * noise
            made = network.decode(latent.to(device)).float().cpu()
            ratio = (noise.square() + log_variance - latent.square()).flatten(1).sum(1) / 2  # log p(z) - log q(z | x)
            if self.importance == 1:  # its mean is known, and has no noise
                ratio = -kl_from_prior(mean, log_variance).flatten(1).sum(1)
            terms.append(ratio - discretized_gaussian_nll(image, made, network.log_scale.detach().cpu()))
        return torch.stack(terms).logsumexp(0) - math.log(self.importance)

    def _fidelity(self, network: nn.Module, teacher: nn.Module, image: Tensor, rebuilt: Tensor) -> dict[str, float]:
        goal = mapped(teacher, image)
        found = {"psnr_to_teacher": float(bounded_psnr(rebuilt, goal).mean())} | _similar(
            "ssim_to_teacher", rebuilt, goal
        )
        pair = [n for n in (network, teacher) if isinstance(n, Autoencoder)]
        if len({autoencoder.latent_shape for autoencoder in pair}) == 1 and len(pair) == 2:
            for name, (encoder, decoder) in (("encoder", pair), ("decoder", pair[::-1])):
                swapped = mapped(partial(_through, encoder, decoder), image, place_of(network))
                found[f"{name}_swap_psnr_to_teacher"] = float(bounded_psnr(swapped, image).mean())
        if self.disagreement is not None:
            found |= self.disagreement.measure(network, teacher, image.to(place_of(network)), bounds=(-1.0, 1.0))
        return found

    def _decoder_gaps(
        self, network: VariationalAutoencoder, teacher: VariationalAutoencoder, count: int, seed: int
    ) -> dict[str, float]:
        if self.latent_disagreement is None or network.latent_shape != teacher.latent_shape:
            return {}
        latent = Draw(network.latent_shape).sample(count, generator(seed, "latents")).to(place_of(network))
        gaps = self.latent_disagreement.measure(network.decode, teacher.decode, latent, place=on_shell)
        return {name.replace("gap", "decoder_gap"): gap for name, gap in gaps.items()}


def _untrained(network: nn.Module, method: Any, weights: Mapping[str, Any]) -> str | None:
    """Return why nothing trains a network's scale of pixels, or None."""
    if not isinstance(network, VariationalAutoencoder):
        return None
    if not hasattr(network, "log_scale"):
        return f"{type(network).__name__}, which has none"
    if method is None:
        return None
    terms = {name: term for name, term in method.terms.items() if isinstance(term, ReconstructionLoss)}
    reasons = [
        f"{name} without weight" if term.scaled else f"the likelihood {term.likelihood!r}"
        for name, term in terms.items()
        if not term.scaled or weights.get(name, 1.0) == 0
    ]
    return None if len(reasons) < len(terms) else " and ".join(reasons) or "no ReconstructionLoss among its terms"


def _through(encoder: Autoencoder, decoder: Autoencoder, image: Tensor) -> Tensor:
    return decoder.decode(encoder.encode(image))


def _similar(name: str, image: Tensor, reference: Tensor) -> dict[str, float]:
    """Return the SSIM where its window fits in."""
    parts = chunks(image, reference) if min(image.shape[-2:]) >= WINDOW else iter(())
    found = [ssim(*part) for part in parts]
    return {name: float(torch.cat(found).mean())} if found else {}


def _parameters(network: nn.Module) -> dict[str, float]:
    """Return how many parameters each part has."""
    parts = {name: getattr(unwrap(network), name, None) for name in ("encoder", "decoder")}
    return {
        f"{name}_parameters": float(sum(p.numel() for p in part.parameters()))
        for name, part in parts.items()
        if isinstance(part, nn.Module)
    }
