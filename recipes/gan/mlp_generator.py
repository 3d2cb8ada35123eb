"""The networks of import.yaml, as their owner would have them: plain PyTorch, nothing of Limbeck.

Run as a script, it writes pictures that a trained generator makes:

    python mlp_generator.py weights.pth folder --count 2000
"""

import argparse
from pathlib import Path

import torch
from PIL import Image
from torch import nn


class MlpGenerator(nn.Sequential):
    """From latents (N, latent) to flat images (N, 784) in [-1, 1]."""

    def __init__(self, latent: int = 64, width: int = 256) -> None:
        super().__init__(
            nn.Linear(latent, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 784), nn.Tanh()
        )


class MlpDiscriminator(nn.Sequential):
    """From images (N, 1, 28, 28) to scores (N, 1)."""

    def __init__(self, width: int = 128) -> None:
        super().__init__(
            nn.Flatten(),
            nn.Linear(784, width),
            nn.LeakyReLU(0.2),
            nn.Linear(width, width),
            nn.LeakyReLU(0.2),
            nn.Linear(width, 1),
        )


def main() -> None:
    """Write pictures of a trained generator into a folder."""
    parser = argparse.ArgumentParser(allow_abbrev=False, description=main.__doc__)
    parser.add_argument("weights", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=2000)
    options = parser.parse_args()
    generator = MlpGenerator()
    generator.load_state_dict(torch.load(options.weights, map_location="cpu", weights_only=True))
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        image = generator(torch.randn(options.count, 64, generator=draw)).view(-1, 28, 28)
    options.folder.mkdir(parents=True, exist_ok=True)
    for i, pixels in enumerate(((image + 1) * 127.5).round().to(torch.uint8).numpy()):
        Image.fromarray(pixels).save(options.folder / f"{i:05}.png")


if __name__ == "__main__":
    main()
