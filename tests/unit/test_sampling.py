"""Where rays are sampled: closed forms, brute force and histograms."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from training.rendering.sampling import (
    box_limits,
    disparity_depths,
    importance_depths,
    invert_cdf,
    published_box_limits,
    smoothed_weights,
    stratified_depths,
    uniform_draws,
)
from training.types import Rays


def rays_of(origins: list[list[float]], directions: list[list[float]]) -> Rays:
    towards = torch.tensor([directions], dtype=torch.float64)
    return Rays(torch.tensor([origins], dtype=torch.float64), towards / towards.norm(dim=-1, keepdim=True))


def ends(limits: tuple[Tensor, Tensor]) -> tuple[list[float], list[float]]:
    near, far = limits
    return near.flatten().tolist(), far.flatten().tolist()


# Draws and even depths


def test_draws():
    torch.manual_seed(0)
    draws = uniform_draws((3, 5, 400), "uniform", torch.device("cpu"))
    assert draws.shape == (3, 5, 400)
    assert draws.min() >= 0
    assert draws.max() < 1
    assert draws.mean().item() == pytest.approx(0.5, abs=0.02)
    assert torch.equal(uniform_draws((2, 3), "center", torch.device("cpu")), torch.full([2, 3], 0.5))


def test_stratified_depths_by_hand():
    near, far = torch.tensor([[[2.0], [0.0]]]), torch.tensor([[[4.0], [1.0]]])
    draws = torch.tensor([0.0, 0.5, 0.25]).expand(1, 2, 3)
    assert stratified_depths(near, far, draws).tolist() == [[[2, 3.5, 4.25], [0, 0.75, 1.125]]]


@given(near=st.floats(0.5, 3), length=st.floats(0.1, 5), samples=st.integers(12, 20), seed=st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_depths_stay_in_their_bins_and_ascend(near, length, samples, seed):
    start, end = torch.full([1, 1, 1], near).double(), torch.full([1, 1, 1], near + length).double()
    draws = torch.rand(1, 1, samples, generator=torch.Generator().manual_seed(seed)).double()
    even = stratified_depths(start, end, draws)[0, 0]
    edges = near + length * torch.arange(samples + 1).double() / (samples - 1)
    assert ((even >= edges[:-1] - 1e-9) & (even <= edges[1:] + 1e-9)).all()
    zero = torch.zeros_like(draws)
    disparity = disparity_depths(start, end, zero)[0, 0]
    torch.testing.assert_close(1 / disparity, torch.linspace(1 / near, 1 / (near + length), samples).double())
    jittered = disparity_depths(start, end, draws)[0, 0]
    assert (jittered.diff() > 0).all()
    assert jittered[0] >= near - 1e-9


def test_disparity_depths_by_hand():
    near, far = torch.tensor([[[1.0]]]), torch.tensor([[[4.0]]])
    depths = disparity_depths(near, far, torch.zeros(1, 1, 3))
    torch.testing.assert_close(depths, torch.tensor([[[1.0, 1.6, 4.0]]]))


# The box


def brute_force_box(origin: np.ndarray, direction: np.ndarray, side: float) -> tuple[float, float] | None:
    """First and last of many points along the ray that lie in the cube; None where none does."""
    t = np.linspace(0, 12, 12_001)
    inside = (np.abs(origin + t[:, None] * direction) <= side / 2).all(axis=1)
    return (t[inside][0], t[inside][-1]) if inside.any() else None


coordinate = st.floats(-2, 2) | st.sampled_from([0.0, 0.5, -0.5, 1.0])


@given(
    origin=st.tuples(coordinate, coordinate, coordinate),
    direction=st.tuples(coordinate, coordinate, coordinate),
    side=st.sampled_from([0.7, 1.1, 2.3]),
)
@settings(max_examples=100, deadline=None)
def test_box_limits_are_those_of_a_brute_force_march(origin, direction, side):
    assume(sum(x * x for x in direction) > 1e-2)
    rays = rays_of([list(origin)], [list(direction)])
    near, far = (end.item() for end in box_limits(rays, side))
    found = brute_force_box(np.array(origin), rays.directions[0, 0].numpy(), side)
    step = 1e-3
    assert 0 <= near <= far
    if found is None or found[1] - found[0] < 2 * step:
        assert far - near < 3 * step, "an empty interval"
    else:
        assert (near, far) == pytest.approx(found, abs=2 * step)


def test_box_limits_by_hand():
    rays = rays_of(
        [[0, 0, 2], [0, 0, 0.25], [0, 0, -2], [0, 3, 2], [2, 2, 2], [0, 0, 2]],
        [[0, 0, -1], [0, 0, -1], [0, 0, -1], [0, 0, -1], [-1, -1, -1], [1, 0, 0]],
    )
    near, far = ends(box_limits(rays, 1.0))
    assert near == pytest.approx([1.5, 0, 0, 2, 1.5 * math.sqrt(3), 0])
    assert far == pytest.approx([2.5, 0.75, 0, 2, 2.5 * math.sqrt(3), 0])


def test_box_limits_of_a_ray_do_not_depend_on_its_batch():
    torch.manual_seed(0)
    directions = torch.nn.functional.normalize(torch.randn(1, 40, 3), dim=-1)
    rays = Rays(torch.randn(1, 40, 3), directions)
    near, far = box_limits(rays, 1.0)
    for i in range(40):
        one = box_limits(Rays(rays.origins[:, i : i + 1], rays.directions[:, i : i + 1]), 1.0)
        assert (one[0].item(), one[1].item()) == (near[0, i].item(), far[0, i].item())


def test_published_limits_by_hand():
    """Hits keep their limits, even behind the camera; misses get the least and the largest entry of the batch."""
    rays = rays_of([[0, 0, 2], [0, 0, 5], [0, 0, -2], [0, 3, 2]], [[0, 0, -1]] * 4)
    near, far = ends(published_box_limits(rays, 1.0))
    assert near == pytest.approx([1.5, 4.5, -2.5, -2.5])
    assert far == pytest.approx([2.5, 5.5, -1.5, 4.5])
    near, far = ends(published_box_limits(rays_of([[0, 3, 2]], [[0, 0, -1]]), 1.0))
    assert (near, far) == ([-1], [-2])


# Importance


def literal_importance(depths: np.ndarray, weights: np.ndarray, u: np.ndarray) -> np.ndarray:
    """The published draw of one ray, element by element; depths [S], weights [S - 1], u [count]."""
    samples = len(depths)
    padded = np.concatenate([[0.0], weights, [0.0]])
    pooled = np.array([max(padded[i], padded[i + 1]) for i in range(samples)])
    smoothed = np.array([(pooled[i] + pooled[i + 1]) / 2 + 0.01 for i in range(samples - 1)])
    pdf = smoothed[1:-1] + 1e-5
    pdf = pdf / pdf.sum()
    cdf = np.concatenate([[0.0], np.cumsum(pdf)])
    edges = np.array([(depths[i] + depths[i + 1]) / 2 for i in range(samples - 1)])
    drawn = []
    for value in u:
        index = int((cdf <= value).sum())
        below, above = max(index - 1, 0), min(index, samples - 3)
        step = cdf[above] - cdf[below]
        t = (value - cdf[below]) / (1.0 if step < 1e-5 else step)
        drawn.append(edges[below] + t * (edges[above] - edges[below]))
    return np.array(drawn)


def random_march(samples: int, seed: int, rays: int = 3) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    depths = torch.rand(1, rays, samples, generator=draw, dtype=torch.float64).sort(dim=-1)[0] + 1
    weights = torch.rand(1, rays, samples - 1, generator=draw, dtype=torch.float64) ** 6
    return depths, weights


def test_smoothed_weights_by_hand():
    weights = torch.tensor([[[0.0, 0.0, 0.8, 0.0, 0.2]]])
    torch.testing.assert_close(smoothed_weights(weights), torch.tensor([[[0.01, 0.41, 0.81, 0.51, 0.21]]]))


@given(samples=st.integers(4, 16), count=st.integers(1, 12), seed=st.integers(0, 10**6))
@settings(max_examples=40, deadline=None)
def test_central_draws_are_the_published_ones_at_even_quantiles(samples, count, seed):
    depths, weights = random_march(samples, seed)
    drawn = importance_depths(depths, weights, count, "center")
    u = (np.arange(count) + 0.5) / count
    for ray in range(3):
        expected = literal_importance(depths[0, ray].numpy(), weights[0, ray].numpy(), u)
        np.testing.assert_allclose(drawn[0, ray].numpy(), expected, atol=1e-6)


def test_uniform_draws_are_the_published_ones(monkeypatch: pytest.MonkeyPatch):
    depths, weights = random_march(12, 0)
    u = torch.rand(1, 3, 40, dtype=torch.float64)
    monkeypatch.setattr("training.rendering.sampling.random.uniform", lambda shape, device: u)
    drawn = importance_depths(depths, weights, 40, "uniform")
    for ray in range(3):
        expected = literal_importance(depths[0, ray].numpy(), weights[0, ray].numpy(), u[0, ray].numpy())
        np.testing.assert_allclose(drawn[0, ray].numpy(), expected, atol=1e-9)


def bins_and_shares(depths: Tensor, weights: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Edges of the bins of one ray that are drawn from, and the share of each."""
    shares = smoothed_weights(weights)[0, 0, 1:-1].numpy() + 1e-5
    return ((depths[0, 0, 1:] + depths[0, 0, :-1]) / 2).numpy()[:-1], shares / shares.sum()


def test_central_draws_are_exact_quantiles():
    depths, weights = random_march(10, 1, rays=1)
    drawn = importance_depths(depths, weights, 64, "center")[0, 0].numpy()
    edges, shares = bins_and_shares(depths, weights)
    reached = np.interp(drawn, edges, np.concatenate([[0], np.cumsum(shares)]))
    np.testing.assert_allclose(reached, (np.arange(64) + 0.5) / 64, atol=1e-6)
    assert (np.diff(drawn) > 0).all()


def test_random_draws_follow_the_histogram():
    """Chi-square of the counts in a quarter of each bin: shares between bins, evenness inside of them."""
    torch.manual_seed(0)
    depths, weights = random_march(10, 1, rays=1)
    count = 40_000
    drawn = importance_depths(depths, weights, count, "uniform")[0, 0].numpy()
    edges, shares = bins_and_shares(depths, weights)
    quarters = np.interp(np.arange(4 * len(shares) + 1) / 4, np.arange(len(edges)), edges)
    counts, _ = np.histogram(drawn, quarters)
    assert counts.sum() == count, "nothing lies outside, the last bin included"
    expected = np.repeat(shares, 4) / 4 * count
    freedom = len(expected) - 1
    chi_square = ((counts - expected) ** 2 / expected).sum()
    assert abs(chi_square - freedom) < 4 * math.sqrt(2 * freedom)


@pytest.mark.parametrize("jitter", ["center", "uniform"])
def test_a_surface_draws_the_samples_and_nothing_is_left_out(jitter):
    depths = torch.linspace(2, 3, 21).view(1, 1, -1)
    weights = torch.zeros(1, 1, 20)
    weights[..., 10] = 1
    drawn = importance_depths(depths, weights, 200, jitter)
    near_surface = (drawn - 2.525).abs() < 0.1
    assert 0.85 < near_surface.float().mean() < 0.98


def test_without_weights_the_draws_are_even():
    depths = torch.linspace(1, 2, 11, dtype=torch.float64).view(1, 1, -1)
    drawn = importance_depths(depths, torch.zeros(1, 1, 10, dtype=torch.float64), 8, "center")
    expected = 1.05 + 0.8 * (torch.arange(8, dtype=torch.float64) + 0.5) / 8
    torch.testing.assert_close(drawn[0, 0], expected)


def test_draws_have_no_gradient_and_rays_draw_apart():
    depths, weights = random_march(8, 0)
    drawn = importance_depths(depths, weights.requires_grad_(), 5, "uniform")
    assert not drawn.requires_grad
    same = importance_depths(depths[:, :1].expand(1, 2, -1), weights[:, :1].expand(1, 2, -1), 5, "uniform")
    assert not torch.equal(same[:, 0], same[:, 1])


def test_rays_without_extent_keep_their_depth():
    """What a ray that misses the box gets: all samples in one place."""
    drawn = importance_depths(torch.full([1, 1, 8], 2.0), torch.zeros(1, 1, 7), 5, "uniform")
    torch.testing.assert_close(drawn, torch.full([1, 1, 5], 2.0))


def test_steps_of_no_height_are_not_divided_by():
    cdf = torch.tensor([[[0.0, 0.5, 0.5, 1.0]]])
    edges = torch.tensor([[[0.0, 1.0, 2.0, 3.0]]])
    u = torch.tensor([[[0.0, 0.25, 0.5, 0.75, 1.0]]])
    found = invert_cdf(cdf, edges, u)[0, 0]
    torch.testing.assert_close(found, torch.tensor([0.0, 0.5, 2.0, 2.5, 3.0]))
