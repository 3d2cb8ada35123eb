"""Classical super-resolution along edges: weights of the interpolation are those that fit its surroundings."""

from __future__ import annotations

from typing import final

from limbeck.networks.roles import Restorer

DIAGONAL = ((-1, -1), (-1, 1), (1, -1), (1, 1))
STRAIGHT = ((-1, 0), (1, 0), (0, -1), (0, 1))
MARGIN = 8  # pixels around the given image, more than the window and the neighbours reach
HALF = (-1 / 16, 9 / 16, 9 / 16, -1 / 16)  # the kernel of Keys 1981 halfway between two samples


@final
class EdgeDirected(Restorer):
    """New edge-directed interpolation (Li and Orchard 2001).

    Of the doubled grid every fourth pixel is given. First those between four diagonal neighbours are found, then the
    rest from their straight neighbours (their section III). The weights are those by which, in a window, known pixels
    are best predicted from their neighbours in the same directions at twice the distance: α = (CᵀC)⁻¹ Cᵀy (equation
    4), as the covariance of a picture hardly changes with the scale, and knows which way edges go.

    Here C and y are differences to the mean of the four neighbours, and a small constant is added to the diagonal of
    CᵀC, so that the result is that mean where the window is flat; the paper switches to bilinear interpolation there.
    All channels share the weights. The given pixels stand on the grid, whose points are then moved by part of a pixel
    (cubic) to where the centres of the new pixels are. Four times is twice two times. Without parameters, and
    differentiable.

    Args:
        scale: How many times larger images become: 2 or 4.
        channels: Channels C of the image.
        radius: The window is 2 radius + 1 pixels of the doubled grid wide, 1 to 6.
        damping: What is added to the diagonal for every pixel in the window and channel, as a mean square in units of
            the image, above 0.

    Raises:
        RecipeError: An argument cannot be used.
    """
