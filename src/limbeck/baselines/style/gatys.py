"""Style transfer by optimisation (Gatys et al. 2016): the image itself is what is trained. The slow reference."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor, nn

from limbeck.errors import RecipeError
from limbeck.losses.style import content_distance, gram, style_distance
from limbeck.networks.blocks.building import check_sizes
from limbeck.networks.handling.frozen import Frozen
from limbeck.networks.handling.tap import Tap, features_at
from limbeck.networks.roles import Stylizer, style_images


@final
class Gatys(Stylizer):
    """min_y content(y, x) + style_weight · style(y, s) by L-BFGS, from y = x (their eq. 7; Gatys et al. 2016).

    The distances are those that `Stylize` trains with and `Stylization` measures. Each image takes some `steps` passes
    of the feature network, forwards and backwards. No gradient passes through it, and it has no parameters of its
    own; those of the feature network are given.

    Args:
        feature_network: A trained network that sees images, such as `Vgg16`.
        content_paths: Module paths of it.
        style_paths: Module paths of it.
        style_weight: How much the style counts beside the content.
        steps: Steps of L-BFGS.

    Raises:
        RecipeError: A path names no module, or an argument is out of its range.
    """

    def __init__(
        self,
        feature_network: nn.Module,
        content_paths: Sequence[str] = ("relu3_3",),
        style_paths: Sequence[str] = ("relu1_2", "relu2_2", "relu3_3"),
        *,
        style_weight: float = 1.0,
        steps: int = 50,
    ) -> None:
        super().__init__()
        check_sizes(self, steps=steps)
        if not style_weight > 0:
            raise RecipeError(f"Gatys.style_weight: expected a number above 0, found {style_weight}")
        Tap(feature_network, [*content_paths, *style_paths])
        self.styles, self.style_weight, self.steps = 0, style_weight, steps
        self.feature_network = Frozen(feature_network)
        self.content_paths, self.style_paths = list(content_paths), list(style_paths)

    def forward(self, image: Tensor, style: Tensor | None = None) -> Tensor:
        """Return images (N, 3, H, W) in [-1, 1] painted as `style` (N, 3, h, w)."""
        style = style_images(self, image, style)
        with torch.enable_grad():
            return torch.cat([self._painted(image[i : i + 1], style[i : i + 1]) for i in range(len(image))])

    def _painted(self, image: Tensor, style: Tensor) -> Tensor:
        network = self.feature_network.network
        with torch.no_grad():
            shown = features_at(network, self.content_paths, image)
            grams = [gram(feature) for feature in features_at(network, self.style_paths, style)]
        paint = image.detach().clone().requires_grad_()
        optimizer = torch.optim.LBFGS(  # gradients are small in large images: they are no reason to stop
            [paint], max_iter=self.steps, tolerance_grad=0, line_search_fn="strong_wolfe"
        )

        def distance() -> Tensor:
            optimizer.zero_grad()
            found = features_at(network, [*self.content_paths, *self.style_paths], paint)
            content = content_distance(found[: len(shown)], shown)
            style = style_distance(found[len(shown) :], grams)
            total = (content + self.style_weight * style).sum()
            total.backward()  # type: ignore[no-untyped-call]
            return total

        optimizer.step(distance)  # type: ignore[no-untyped-call]
        return paint.detach().clamp(-1, 1)
