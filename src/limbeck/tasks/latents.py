"""What an autoencoder makes of many images and latents, a chunk at a time, and pictures of its latent space."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from limbeck.networks.roles import VariationalAutoencoder
from limbeck.tasks.base import Picture
from limbeck.tasks.real_images import CHUNK
from limbeck.types import Draw

ACTIVE = 0.01  # variance of its posterior mean over the data above which a unit is active (Burda et al. 2016, 5.2)
ROWS, COLUMNS = 8, 8


def place_of(network: nn.Module) -> torch.device:
    """Return where a network is, by its first parameter; the CPU where it has none."""
    return next(iter(network.parameters()), torch.empty(0)).device


def chunks(*tensors: Tensor, size: int = CHUNK) -> Iterator[tuple[Tensor, ...]]:
    """Return the tensors a chunk of samples at a time."""
    return zip(*(torch.split(tensor, size) for tensor in tensors), strict=True)


@torch.no_grad()
def mapped(network: Callable[[Tensor], Tensor], value: Tensor, device: torch.device | None = None) -> Tensor:
    """Return what a network makes of inputs, a chunk at a time, on the CPU."""
    if device is None:
        assert isinstance(network, nn.Module)
        device = place_of(network)
    return torch.cat([network(part.to(device)).float().cpu() for part in torch.split(value, CHUNK)])


@torch.no_grad()
def posteriors(network: VariationalAutoencoder, image: Tensor) -> tuple[Tensor, Tensor]:
    """Return means and log variances of all images, on the CPU."""
    parts = [network.posterior(part.to(place_of(network))) for part in torch.split(image, CHUNK)]
    mean, log_variance = (torch.cat([part[i].float().cpu() for part in parts]) for i in (0, 1))
    return mean, log_variance


def active(mean: Tensor) -> int:
    """Return how many values of the latent vary with the image, from posterior means (N, ...)."""
    return int((mean.var(0) > ACTIVE).sum())


def drawn(network: VariationalAutoencoder, count: int, draw: torch.Generator) -> Tensor:
    """Return images of so many latents drawn from the prior, on the CPU."""
    return mapped(network.decode, Draw(network.latent_shape).sample(count, draw), place_of(network))


def interpolations(network: VariationalAutoencoder, image: Tensor) -> Picture:
    """Return a row for each pair of images: from the posterior mean of one to that of the other."""
    mean = posteriors(network, image[: 2 * ROWS])[0]
    one, other = mean[0::2], mean[1::2]
    steps = torch.linspace(0, 1, COLUMNS).view(-1, *[1] * (mean.ndim - 1))
    latent = torch.cat([torch.lerp(a, b, steps) for a, b in zip(one, other, strict=True)])
    made = mapped(network.decode, latent, place_of(network))
    return Picture("interpolations between two images", made.clamp(-1, 1), COLUMNS)


def traversals(network: VariationalAutoencoder, many: Tensor, image: Tensor) -> Picture:
    """Return a row for each of the most active units: one image with that unit from -3 to 3."""
    units = posteriors(network, many)[0].var(0).topk(min(ROWS, network.latent_shape[0])).indices
    latent = posteriors(network, image)[0].repeat(len(units) * COLUMNS, 1)
    rows = torch.arange(len(latent))
    latent[rows, units.repeat_interleave(COLUMNS)] = torch.linspace(-3, 3, COLUMNS).repeat(len(units))
    made = mapped(network.decode, latent, place_of(network))
    return Picture("the most active units, each from -3 to 3", made.clamp(-1, 1), COLUMNS)
