"""Regularizers against brute force, closed forms and finite differences."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from training.losses import regularizers as reg
from training.types import RayMarch


def make_march(density: torch.Tensor, depths: torch.Tensor, transmittance: torch.Tensor | None = None) -> RayMarch:
    n, rays, _ = density.shape
    empty = torch.zeros(n, rays, 1)
    return RayMarch(
        features=empty,
        depth=empty,
        weights=empty,
        transmittance=empty if transmittance is None else transmittance,
        depths=depths,
        density=density,
        fine_depths=depths,
        fine_density=density,
    )


def pair_matrix(density: torch.Tensor, depths: torch.Tensor) -> torch.Tensor:
    """`density_spread` by the matrix of all pairs, for depths in order."""
    g = density.sigmoid()
    s = (1 / depths - 1 / depths.amin(2, keepdim=True)) / (
        1 / depths.amax(2, keepdim=True) - 1 / depths.amin(2, keepdim=True)
    )
    pairs = g[..., :, None] * g[..., None, :] * (s[..., :, None] - s[..., None, :]).abs()
    spread = pairs.triu(1).sum(dim=(2, 3))
    spacing = torch.cat([depths.diff(dim=2), depths.diff(dim=2)[..., -1:]], dim=2)
    return (spread + (g * spacing).sum(dim=2) / 3).mean(dim=1)


@given(seed=st.integers(0, 1000), samples=st.integers(2, 40), shuffled=st.booleans())
@settings(max_examples=30, deadline=None)
def test_density_spread_equals_the_matrix_form(seed, samples, shuffled):
    generator = torch.Generator().manual_seed(seed)
    depths = (torch.rand(2, 3, samples, generator=generator, dtype=torch.float64) + 2).sort(dim=2).values
    density = torch.randn(2, 3, samples, generator=generator, dtype=torch.float64) * 3
    order = torch.randperm(samples, generator=generator) if shuffled else torch.arange(samples)
    found = reg.density_spread(make_march(density[..., order], depths[..., order]))
    torch.testing.assert_close(found.double(), pair_matrix(density, depths), rtol=2e-5, atol=1e-6)


def test_density_spread_has_the_gradient_of_the_matrix_form():
    depths = (torch.rand(1, 4, 12, dtype=torch.float64) + 2).sort(dim=2).values
    density = torch.randn(1, 4, 12, dtype=torch.float64, requires_grad=True)
    (expected,) = torch.autograd.grad(pair_matrix(density, depths).sum(), density)
    (found,) = torch.autograd.grad(reg.density_spread(make_march(density, depths)).sum(), density)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


def test_density_spread_is_small_when_dense_samples_lie_together():
    depths = torch.linspace(2, 3, 20).expand(1, 1, 20)
    together, apart = torch.full((2, 1, 1, 20), -20.0)
    together[..., 9:11] = 20
    apart[..., [2, 17]] = 20
    assert reg.density_spread(make_march(together, depths)) < reg.density_spread(make_march(apart, depths))
    assert torch.isfinite(reg.density_spread(make_march(together, torch.full_like(depths, 2.0)))).all()


def test_ray_entropy_of_known_distributions():
    even = make_march(torch.zeros(2, 3, 8), torch.rand(2, 3, 8))
    torch.testing.assert_close(reg.ray_entropy(even), torch.full([2], math.log(8)))
    peak = torch.zeros(1, 1, 8)
    peak[..., 3] = 100
    assert reg.ray_entropy(make_march(peak, peak)) < 1e-6
    shift = torch.randn(1, 2, 8)
    torch.testing.assert_close(reg.ray_entropy(make_march(shift, shift)), reg.ray_entropy(make_march(shift + 5, shift)))


def test_transmittance_ambiguity_vanishes_at_both_ends():
    behind = torch.tensor([[[0.0], [1.0], [0.5], [0.2]]])
    march = make_march(torch.zeros(1, 4, 2), torch.zeros(1, 4, 2), behind)
    torch.testing.assert_close(reg.transmittance_ambiguity(march), torch.tensor([0.7 / 4]))


class Field:
    """A field of a density that is a function of the coordinate z."""

    def __init__(self, function):
        self.function = function

    def density(self, points: torch.Tensor) -> torch.Tensor:
        return self.function(points[..., 2:])


slope = Field(lambda z: 2 * z)
"""Its density falls by 2 per unit towards -z."""


def test_density_variation_of_a_slope():
    pairs = reg.neighbours(2, 0.01, "cpu")
    expected = (pairs.points - pairs.partners)[..., 2].abs().mean(dim=1) * 2
    torch.testing.assert_close(reg.density_variation(slope, pairs), expected)
    assert abs(float((pairs.partners - pairs.points).std()) - 0.01) < 0.001
    assert float(pairs.points.abs().max()) <= 1


@pytest.mark.parametrize("detach", [True, False])
def test_density_decrease_counts_falling_density_alone(detach):
    pairs = reg.farther_neighbours(2, 0.1, "cpu")
    torch.testing.assert_close(reg.density_decrease(slope, pairs, detach), torch.full([2], 0.2), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(reg.density_decrease(Field(lambda z: -z), pairs, detach), torch.zeros(2))


@pytest.mark.parametrize(("detach", "gradient"), [(True, -1.0), (False, 0.0)])
def test_density_decrease_teaches_the_back_alone_if_asked(detach, gradient):
    scale = torch.ones([], requires_grad=True)
    pairs = reg.farther_neighbours(1, 0.1, "cpu")
    reg.density_decrease(Field(lambda z: z + scale), pairs, detach).sum().backward()
    torch.testing.assert_close(scale.grad, torch.tensor(gradient), rtol=0, atol=1e-5)
