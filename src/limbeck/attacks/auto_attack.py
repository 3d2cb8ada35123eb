"""AutoAttack: four attacks without a parameter to choose, by the authors' package (Croce & Hein 2020)."""

from __future__ import annotations

import logging
from typing import Literal

import torch
from torch import Tensor, nn

from limbeck.errors import MissingExtra

NORMS = {"linf": "Linf", "l2": "L2"}
TARGETS = 9  # classes that the targeted attacks aim at, where there are so many


def require_autoattack() -> None:
    """Refuse to go on without the package.

    Raises:
        MissingExtra: pyautoattack is not installed.
    """
    try:
        import pyautoattack  # noqa: F401, PLC0415
    except ImportError as error:
        raise MissingExtra("pyautoattack", "robust") from error


def autoattack(
    network: nn.Module,
    image: Tensor,
    label: Tensor,
    radius: float,
    *,
    norm: Literal["linf", "l2"] = "linf",
    batch: int = 250,
) -> Tensor:
    """Return what AutoAttack makes of images, (N, C, H, W) in [-1, 1] (arXiv:2003.01690, the "standard" version).

    APGD on the cross-entropy, targeted APGD on the DLR loss, targeted FAB and Square, each on the samples that
    withstood those before. The targeted DLR loss compares four classes: of fewer, APGD-T is left out. Its draws have
    a fixed seed, and the global random state stays as it is.

    Args:
        network: Images (N, C, H, W) in [-1, 1] to logits (N, K), in evaluation mode.
        image: (N, C, H, W) in [-1, 1].
        label: (N,), int64.
        radius: ε > 0 in units of the images.
        norm: "linf" or "l2".
        batch: Samples at a time.

    Raises:
        MissingExtra: pyautoattack is not installed.
    """
    require_autoattack()
    from pyautoattack import AutoAttack  # noqa: PLC0415

    with torch.no_grad():
        classes = network(image[:1]).shape[1]
    attacks = ["apgd-ce", *(["apgd-t"] if classes > 3 else []), "fab-t", "square"]
    devices = [image.device] if image.device.type == "cuda" else []
    logger = logging.getLogger("auto-attack")
    level, logger.level = logger.level, logging.ERROR
    trained = [p for p in network.parameters() if p.requires_grad]
    try:
        for parameter in trained:  # the package would leave gradients behind
            parameter.requires_grad_(False)
        with torch.random.fork_rng(devices):
            attack = AutoAttack(
                _FromUnit(network),
                attacks=attacks,
                device=image.device,
                eps=radius / 2,
                norm=NORMS[norm],
                seed=0,
                version="custom",
            )
            attack.apgd.n_restarts = attack.fab.n_restarts = attack.apgd_targeted.n_restarts = 1
            attack.fab.n_target_classes = attack.apgd_targeted.n_target_classes = min(TARGETS, classes - 1)
            found: Tensor = attack.run_standard_evaluation((image + 1) / 2, label, batch_size=batch)[0]
    finally:
        logger.level = level
        for parameter in trained:
            parameter.requires_grad_(True)
    return (2 * found.detach() - 1).to(image)


class _FromUnit(nn.Module):
    """The network on images in [0, 1], as the package has them."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.training = network.training

    def forward(self, image: Tensor) -> Tensor:
        logits: Tensor = self.network(2 * image - 1)
        return logits
