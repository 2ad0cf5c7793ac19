"""The march along rays against loops, closed forms and fine numerical integrals of the volume rendering equation."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from training.rendering.quadrature import expected_depth, midpoint_weights, sample_weights, weighted_features


def softplus(x):
    return np.log1p(np.exp(x))


def random_samples(rays: int = 3, samples: int = 7, seed: int = 0) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    density = torch.randn(1, rays, samples, generator=draw, dtype=torch.float64) * 3
    depths = torch.rand(1, rays, samples, generator=draw, dtype=torch.float64).sort(dim=-1)[0] + 1
    return density, depths


@given(samples=st.integers(2, 9), seed=st.integers(0, 10**6))
@settings(max_examples=30, deadline=None)
def test_weights_are_their_loops(samples, seed):
    density, depths = random_samples(2, samples, seed)
    weights, transmittance = midpoint_weights(density, depths)
    for ray in range(2):
        light = 1.0
        for k in range(samples - 1):
            raw = (density[0, ray, k] + density[0, ray, k + 1]).item() / 2
            length = (depths[0, ray, k + 1] - depths[0, ray, k]).item()
            alpha = 1 - math.exp(-softplus(raw - 1) * length)
            assert weights[0, ray, k].item() == pytest.approx(alpha * light, abs=1e-12)
            light *= 1 - alpha + 1e-10
        assert transmittance[0, ray, 0].item() == pytest.approx(light)


@given(samples=st.integers(2, 30), seed=st.integers(0, 10**6))
@settings(max_examples=30, deadline=None)
def test_no_light_is_lost(samples, seed):
    weights, transmittance = midpoint_weights(*random_samples(2, samples, seed))
    assert (weights >= 0).all()
    torch.testing.assert_close(
        weights.sum(-1, keepdim=True) + transmittance, torch.ones(1, 2, 1).double(), atol=1e-8, rtol=0
    )


@pytest.mark.parametrize("raw", [-20.0, 0.0, 1.0, 5.0])
@pytest.mark.parametrize("samples", [2, 5, 40])
def test_constant_density_has_its_closed_form_however_it_is_sampled(raw, samples):
    depths = torch.rand(1, 1, samples, dtype=torch.float64).sort(dim=-1)[0] * 0.3 + 2
    weights, transmittance = midpoint_weights(torch.full_like(depths, raw), depths)
    length = (depths[..., -1] - depths[..., 0]).item()
    assert transmittance.item() == pytest.approx(math.exp(-softplus(raw - 1) * length))
    before = torch.exp(-softplus(raw - 1) * (depths - depths[..., :1]))
    torch.testing.assert_close(weights, before[..., :-1] - before[..., 1:], atol=1e-8, rtol=0)


def integrate(density: Callable, value: Callable, near: float, far: float) -> tuple[float, float, float]:
    """Light gathered, mean depth and transmittance of a ray, by a trapezoid rule over very many points."""
    t = np.linspace(near, far, 400_001)
    sigma = softplus(density(t) - 1)
    optical = np.concatenate([[0.0], np.cumsum((sigma[1:] + sigma[:-1]) / 2 * np.diff(t))])
    light = sigma * np.exp(-optical)
    total = np.trapezoid(light, t)
    return np.trapezoid(light * value(t), t), np.trapezoid(light * t, t) / total, math.exp(-optical[-1])


def march(density: Callable, value: Callable, near: float, far: float, samples: int) -> tuple[float, float, float]:
    t = np.linspace(near, far, samples)
    depths, raw = torch.from_numpy(t).view(1, 1, -1), torch.from_numpy(density(t)).view(1, 1, -1)
    weights, transmittance = midpoint_weights(raw, depths)
    features = weighted_features(sample_weights(weights), torch.from_numpy(value(t)).view(1, -1, 1))
    depth = expected_depth(weights, depths, depths[..., :1], depths[..., -1:])
    return features.item(), depth.item(), transmittance.item()


FIELDS = {
    "waves": (lambda t: 3 * np.sin(9 * t), lambda t: np.cos(5 * t)),
    "bump": (lambda t: 8 * np.exp(-40 * (t - 1.6) ** 2) - 2, lambda t: t**2),
    "haze": (lambda t: 0 * t - 1, lambda t: np.exp(-t)),
}


@pytest.mark.parametrize("name", list(FIELDS))
def test_march_approaches_the_integral_with_the_square_of_the_spacing(name):
    density, value = FIELDS[name]
    truth = np.array(integrate(density, value, 1.0, 2.2))
    errors = [np.abs(np.array(march(density, value, 1.0, 2.2, samples)) - truth).max() for samples in (51, 101, 401)]
    assert errors[2] < 1e-4
    assert errors[1] < errors[0] / 3
    assert errors[2] < errors[1] / 12


def test_samples_in_one_place_add_nothing():
    density, depths = random_samples(1, 6)
    weights, transmittance = midpoint_weights(density, depths)
    again = torch.cat([depths[..., :3], depths[..., 2:]], dim=-1)
    raw = torch.cat([density[..., :3], density[..., 2:]], dim=-1)
    doubled, same = midpoint_weights(raw, again)
    assert doubled[..., 2] == 0
    torch.testing.assert_close(doubled[..., [0, 1, 3, 4, 5]], weights, atol=1e-8, rtol=0)
    torch.testing.assert_close(same, transmittance, atol=1e-8, rtol=0)


def test_a_wall_hides_what_is_behind():
    density = torch.tensor([[[-50.0, -50, 500, 500, 3, 3]]])
    depths = torch.tensor([[[1.0, 2, 2.5, 3, 4, 5]]])
    weights, transmittance = midpoint_weights(density, depths)
    torch.testing.assert_close(weights, torch.tensor([[[0.0, 1, 0, 0, 0]]]), atol=1e-6, rtol=0)
    assert transmittance.item() < 1e-6


def test_halves_give_the_sums_over_midpoints():
    weights = torch.rand(2, 3, 5, dtype=torch.float64)
    values = torch.randn(2, 3, 6, dtype=torch.float64)
    shares = sample_weights(weights)
    torch.testing.assert_close((shares * values).sum(-1), (weights * (values[..., 1:] + values[..., :-1]) / 2).sum(-1))
    torch.testing.assert_close(shares.sum(-1), weights.sum(-1))
    assert sample_weights(torch.tensor([[[1.0, 3.0]]])).tolist() == [[[0.5, 2.0, 1.5]]]


def test_weighted_features_are_their_loops():
    weights, features = torch.rand(2, 3, 4), torch.randn(2, 12, 5)
    found = weighted_features(weights, features)
    for n in range(2):
        for ray in range(3):
            expected = sum(weights[n, ray, s] * features[n, 4 * ray + s] for s in range(4))
            torch.testing.assert_close(found[n, ray], expected)


def test_depth_is_the_mean_of_midpoints_within_limits():
    depths = torch.tensor([[[1.0, 2, 4], [1, 2, 4], [1, 2, 4]]])
    weights = torch.tensor([[[0.25, 0.25], [0.1, 0.0], [0.0, 0.0]]])
    nearest, farthest = depths[..., :1], depths[..., -1:]
    assert expected_depth(weights, depths, nearest, farthest).flatten().tolist() == pytest.approx([2.25, 1.5, 4])
    limits = torch.tensor([[[2.0]]]), torch.tensor([[[2.2]]])
    assert expected_depth(weights, depths, *limits).flatten().tolist() == pytest.approx([2.2, 2, 2.2])


def test_descending_depths_keep_their_mean():
    """Published limits of rays that all miss run backwards: weights are negative, their mean is still a depth."""
    depths = torch.tensor([[[-1.0, -1.5, -2.0]]])
    weights, _ = midpoint_weights(torch.full([1, 1, 3], 3.0), depths)
    assert (weights < 0).all()
    depth = expected_depth(weights, depths, torch.tensor([[[-2.0]]]), torch.tensor([[[-1.0]]]))
    expected = (weights * torch.tensor([-1.25, -1.75])).sum() / weights.sum()
    assert depth.item() == pytest.approx(expected.item())
    assert -1.75 < depth.item() < -1.25


def test_depth_of_empty_rays_has_a_gradient_of_zero():
    density = torch.full([1, 1, 4], -200.0, requires_grad=True)
    depths = torch.linspace(1, 2, 4).view(1, 1, 4)
    weights, transmittance = midpoint_weights(density, depths)
    assert transmittance == 1
    depth = expected_depth(weights, depths, depths[..., :1], depths[..., -1:])
    assert depth == 2
    depth.backward()
    assert density.grad is not None
    assert not density.grad.any()


def test_gradients_by_finite_differences():
    density, depths = (tensor.requires_grad_() for tensor in random_samples(2, 5))
    assert gradcheck(midpoint_weights, (density, depths))
    assert gradgradcheck(midpoint_weights, (density, depths))

    def depth(density: Tensor) -> Tensor:
        return expected_depth(midpoint_weights(density, depths)[0], depths, depths[..., :1], depths[..., -1:])

    assert gradcheck(depth, (density,))


def test_gradients_pass_opaque_segments():
    """Transmittance underflows behind a wall; gradients stay finite."""
    density = torch.full([1, 1, 60], 300.0, requires_grad=True)
    weights, transmittance = midpoint_weights(density, torch.linspace(1, 4, 60).view(1, 1, 60))
    (weights * torch.arange(59)).sum().add(transmittance.sum()).backward()
    assert density.grad is not None
    assert density.grad.isfinite().all()
