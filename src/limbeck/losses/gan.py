"""Adversarial losses and penalties, as functions of the discriminator's scores (higher for real).

Scores have any shape with N samples first, and the result is their mean, in float32 or wider. Without patches a
score is (N,).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from limbeck.losses.tensors import precise

Critic = Callable[[Tensor], Tensor]
"""Scores of images (N, C, H, W)."""


def logistic_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """Return -E[log σ(D(x))] - E[log(1 - σ(D(G(z))))], in [0, ∞) (Goodfellow et al. 2014, eq. 1).

    Its best score is the log-odds log p_data(x) - log p_generator(x).
    """
    return F.softplus(-precise(real)).mean() + F.softplus(precise(fake)).mean()


def logistic_generator(fake: Tensor) -> Tensor:
    """Return the non-saturating -E[log σ(D(G(z)))], in [0, ∞) (Goodfellow et al. 2014, section 3)."""
    return F.softplus(-precise(fake)).mean()


def hinge_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """Return E[max(0, 1 - D(x))] + E[max(0, 1 + D(G(z)))], in [0, ∞) (Lim & Ye 2017; Miyato et al. 2018, eq. 16)."""
    return F.relu(1 - precise(real)).mean() + F.relu(1 + precise(fake)).mean()


def hinge_generator(fake: Tensor) -> Tensor:
    """Return -E[D(G(z))], in (-∞, ∞) (Lim & Ye 2017; Miyato et al. 2018, eq. 17)."""
    return -precise(fake).mean()


def wasserstein_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """Return E[D(G(z))] - E[D(x)], in (-∞, ∞) (Arjovsky et al. 2017, eq. 2, as a loss).

    It estimates the Wasserstein-1 distance only of a critic that is kept 1-Lipschitz, e.g. by `gradient_penalty`.
    """
    return precise(fake).mean() - precise(real).mean()


def wasserstein_generator(fake: Tensor) -> Tensor:
    """Return -E[D(G(z))], in (-∞, ∞) (Arjovsky et al. 2017, algorithm 1)."""
    return -precise(fake).mean()


LOSSES = {
    "logistic": (logistic_discriminator, logistic_generator),
    "hinge": (hinge_discriminator, hinge_generator),
    "wasserstein": (wasserstein_discriminator, wasserstein_generator),
}
"""The discriminator's and the generator's side of each game."""


def r1_penalty(critic: Critic, real: Tensor) -> Tensor:
    """Return R1 / γ = 1/2 E[‖∇D(x)‖²] at real images (Mescheder et al. 2018, eq. 9).

    Differentiable a second time. Samples must not meet in the critic (no batch norm), or the gradient of one score
    is no longer that of one image.

    Args:
        critic: Scores of images.
        real: (N, C, H, W).
    """
    return _gradient(critic, real).square().flatten(1).sum(1).mean() / 2


def gradient_penalty(critic: Critic, real: Tensor, fake: Tensor, epsilon: Tensor) -> Tensor:
    """Return E[(‖∇D(x̂)‖ - 1)²] at x̂ = ε x + (1 - ε) G(z) (Gulrajani et al. 2017, eq. 3 without λ).

    Differentiable a second time; as in `r1_penalty`, samples must not meet in the critic.

    Args:
        critic: Scores of images.
        real: (N, C, H, W).
        fake: (N, C, H, W).
        epsilon: (N,), uniform in [0, 1).
    """
    share = epsilon.reshape(-1, *[1] * (real.ndim - 1)).to(real.dtype)
    between = share * real + (1 - share) * fake
    norm: Tensor = torch.linalg.vector_norm(_gradient(critic, between).flatten(1), dim=1)
    penalty: Tensor = (norm - 1).square().mean()
    return penalty


def _gradient(critic: Critic, image: Tensor) -> Tensor:
    """Return ∇D at each image (N, C, H, W), part of the graph; the image itself is held fixed.

    In float32 also under autocast: 8 bits of mantissa are too few for a gradient that is differentiated again.
    """
    image = precise(image.detach()).requires_grad_()
    with torch.autocast(image.device.type, enabled=False):
        (gradient,) = torch.autograd.grad(critic(image).sum(), image, create_graph=True)
    return gradient
