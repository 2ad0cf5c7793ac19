"""Look-ups of planes against PyTorch's own grid sampling, forward and gradients."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd import gradcheck
from torch.nn.functional import grid_sample

from training.scene.lookup import PLANE_AXES, gather_rows, grid_cells, plane_table, sample_planes

Axes = tuple[tuple[int, int], ...]


def twin(planes: Tensor, points: Tensor, axes: Axes) -> Tensor:
    """Mean over the planes of bilinear samples, zero outside; planes [planes, channels, r, r], points [points, 3]."""
    total = torch.zeros(len(points), planes.shape[1], dtype=planes.dtype)
    for plane, (column, row) in zip(planes, axes, strict=True):
        uv = torch.stack([points[:, column], points[:, row]], dim=-1)[None, None]
        sampled = grid_sample(plane[None], uv, mode="bilinear", padding_mode="zeros", align_corners=False)
        total = total + sampled[0, :, 0].t()
    return total / len(planes)


def random_planes(resolution: int, channels: int = 3, seed: int = 0) -> Tensor:
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(3, channels, resolution, resolution, generator=draw, dtype=torch.float64)


def random_points(count: int, reach: float = 1.3, seed: int = 0) -> Tensor:
    draw = torch.Generator().manual_seed(seed)
    return (torch.rand(count, 3, generator=draw, dtype=torch.float64) * 2 - 1) * reach


@pytest.mark.parametrize("axes", list(PLANE_AXES))
@given(resolution=st.integers(1, 9), reach=st.sampled_from([0.3, 1.0, 1.5, 100.0]), seed=st.integers(0, 1000))
@settings(max_examples=30, deadline=None)
def test_lookup_is_grid_sampling(axes, resolution, reach, seed):
    planes, points = random_planes(resolution, seed=seed), random_points(40, reach, seed)
    actual = sample_planes(plane_table(planes[None])[0], points, PLANE_AXES[axes], resolution)
    torch.testing.assert_close(actual, twin(planes, points, PLANE_AXES[axes]))


@pytest.mark.parametrize("axes", list(PLANE_AXES))
def test_lookup_on_borders_centres_and_far_away(axes):
    """Points where cells meet: pixel centres, pixel edges, the outer border, and beyond any integer."""
    planes = random_planes(4)
    ticks = torch.tensor([-1e30, -9, -1.25, -1, -0.75, -0.5, 0, 0.25, 0.75, 1, 1.25, 2, 1e30], dtype=torch.float64)
    points = torch.cartesian_prod(ticks, ticks, ticks)
    actual = sample_planes(plane_table(planes[None])[0], points, PLANE_AXES[axes], 4)
    near = points.abs().amax(dim=1) < 1e6
    torch.testing.assert_close(actual[near], twin(planes, points[near], PLANE_AXES[axes]))
    lost = (points.abs() > 2).sum(dim=1) >= 2
    assert not actual[lost].any(), "zero outside of all planes"


@pytest.mark.parametrize("axes", list(PLANE_AXES))
def test_gradients_are_those_of_grid_sampling(axes):
    planes, points = random_planes(5).requires_grad_(), random_points(60).requires_grad_()
    direction = torch.randn(60, 3, dtype=torch.float64)
    ours = sample_planes(plane_table(planes[None])[0], points, PLANE_AXES[axes], 5)
    gradients = torch.autograd.grad((ours * direction).sum(), (planes, points))
    expected = torch.autograd.grad((twin(planes, points, PLANE_AXES[axes]) * direction).sum(), (planes, points))
    torch.testing.assert_close(gradients[0], expected[0])
    torch.testing.assert_close(gradients[1], expected[1])


def test_gradients_by_finite_differences():
    planes, points = random_planes(3, channels=2).requires_grad_(), random_points(7, reach=0.95).requires_grad_()
    assert gradcheck(
        lambda planes, points: sample_planes(plane_table(planes[None])[0], points, PLANE_AXES["corrected"], 3),
        (planes, points),
    )


def test_single_gradients():
    """Each input alone, as when a field is frozen or only its points move."""
    planes, points = random_planes(4), random_points(9)
    for moving in (planes, points):
        moving.requires_grad_()
        sample_planes(plane_table(planes[None])[0], points, PLANE_AXES["legacy"], 4).sum().backward()
        assert moving.grad is not None
        moving.requires_grad_(False)
    assert points.grad is not None


def test_published_axes_repeat_xz_and_corrected_ones_span_all_pairs():
    assert [set(pair) for pair in PLANE_AXES["legacy"]] == [{0, 1}, {0, 2}, {0, 2}]
    assert {frozenset(pair) for pair in PLANE_AXES["corrected"]} == {frozenset(p) for p in ({0, 1}, {0, 2}, {1, 2})}


@pytest.mark.parametrize(("axes", "sees"), [("legacy", False), ("corrected", True)])
def test_only_corrected_planes_tell_points_apart_that_differ_in_y_and_z_together(axes, sees):
    """Without a YZ plane a field is f(x, y) + g(x, z): its mixed difference over y and z is zero."""
    planes = random_planes(8)
    table = plane_table(planes[None])[0]

    def value(y: float, z: float) -> Tensor:
        return sample_planes(table, torch.tensor([[0.1, y, z]], dtype=torch.float64), PLANE_AXES[axes], 8)

    mixed = value(0.4, 0.4) - value(0.4, -0.3) - value(-0.3, 0.4) + value(-0.3, -0.3)
    assert (mixed.abs().max() > 0.01) == sees


def test_table_rows_are_pixels_with_a_border():
    planes = torch.arange(24.0).view(1, 3, 2, 2, 2)
    table = plane_table(planes)
    assert table.shape == (1, 3 * 16, 2)
    squares = table.view(4, 4, 3, 2)
    assert torch.equal(squares[1:3, 1:3], planes[0].permute(2, 3, 0, 1))
    border = squares.clone()
    border[1:3, 1:3] = 0
    assert not border.any()


def test_cells_of_a_row_of_pixels():
    """Three pixels at 0, 1, 2 and zeros at -1 and 3: the cells begin at -1."""
    position = torch.tensor([-7.0, -1.0, -0.25, 0.0, 1.5, 2.0, 2.5, 3.0, 50.0])
    cell, place = grid_cells(position, 3)
    assert cell.tolist() == [0, 0, 0, 1, 2, 3, 3, 3, 3]
    assert place.tolist() == [0, 0, 0.75, 0, 0.5, 0, 0.5, 1, 1]


def test_gathered_rows_are_weighted_sums():
    table, weights = torch.randn(6, 4), torch.randn(5, 3)
    taps = torch.randint(6, [5, 3])
    expected = torch.stack(
        [sum(w * table[t] for t, w in zip(*pair, strict=True)) for pair in zip(taps, weights, strict=True)]
    )
    torch.testing.assert_close(gather_rows(table, taps, weights), expected)


def test_rows_that_no_point_meets_get_no_gradient():
    table = torch.randn(6, 4, requires_grad=True)
    taps = torch.tensor([[1, 4], [4, 4]])
    gather_rows(table, taps, torch.ones(2, 2)).sum().backward()
    assert table.grad is not None
    assert table.grad[:, 0].tolist() == [0, 1, 0, 0, 3, 0]


def test_no_points():
    table = plane_table(random_planes(4)[None])[0]
    assert sample_planes(table, torch.zeros(0, 3, dtype=torch.float64), PLANE_AXES["legacy"], 4).shape == (0, 3)


def test_points_that_are_no_numbers_give_features_that_are_none():
    planes, points = random_planes(4), random_points(3)
    points[1] = float("nan")
    features = sample_planes(plane_table(planes[None])[0], points, PLANE_AXES["corrected"], 4)
    assert features[1].isnan().all()
    assert features[[0, 2]].isfinite().all()
