"""networks/latent_map.py: orthonormal rows, the directions of most variance, and what it refuses."""

from __future__ import annotations

import pytest
import torch

from limbeck.errors import RecipeError
from limbeck.networks.autoencoders.latent_map import LatentMap


def test_it_finds_the_directions_of_most_variance() -> None:
    draw = torch.Generator().manual_seed(0)
    turn = torch.linalg.qr(torch.randn(5, 5, generator=draw)).Q
    latent = torch.randn(4000, 5, generator=draw) * torch.tensor([3.0, 0.1, 2.0, 0.2, 0.05]) @ turn
    mapped = LatentMap((5,), (2,))
    assert not mapped.ready
    for part in latent.split(500):
        mapped.observe(part)
    mapped.fit()
    assert mapped.ready
    torch.testing.assert_close(mapped.basis @ mapped.basis.T, torch.eye(2), atol=1e-5, rtol=0)
    torch.testing.assert_close((mapped.basis @ turn.T).abs()[:, [0, 2]], torch.eye(2), atol=0.05, rtol=0)
    kept = mapped(latent).var(0).sum() / latent.var(0).sum()
    assert kept > 0.99


def test_the_prior_stays_standard_normal_and_maps_of_positions_are_alike() -> None:
    mapped = LatentMap((4, 2, 2), (3, 2, 2))
    draw = torch.Generator().manual_seed(0)
    mapped.observe(torch.randn(50, 4, 2, 2, generator=draw))
    mapped.fit()
    z = mapped(torch.randn(20_000, 4, 2, 2, generator=draw)).movedim(1, -1).flatten(0, 2)
    torch.testing.assert_close(z.T.cov(), torch.eye(3), atol=0.03, rtol=0)


def test_equal_latents_are_left_as_they_are() -> None:
    mapped = LatentMap((4,), (4,))
    z = torch.randn(3, 4)
    assert mapped.ready and mapped(z) is z


def test_what_does_not_fit_is_refused() -> None:
    for teacher, student in (((4,), (5,)), ((4, 2, 2), (4, 4, 4)), ((4,), (4, 1, 1))):
        with pytest.raises(RecipeError, match="expected a student's latent like the teacher's"):
            LatentMap(teacher, student)
    with pytest.raises(RecipeError, match="found none"):
        LatentMap((4,), (3,)).fit()
