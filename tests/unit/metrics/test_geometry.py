"""Warps, flatness and the light along rays on surfaces known in closed form."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from metrics.cameras import Surround
from metrics.geometry import SeenSurface, axial, ray_spread, warp_by_looking, warp_by_splatting
from metrics.nonflatness import non_flatness
from training.cameras.camera import fov_to_intrinsics, make_rays
from training.types import Camera, RayMarch, RenderSettings

SIDE = 48
NEAR, FAR = 2.25, 3.3


def ring_of_labels(*yaws: float) -> Tensor:
    angle = torch.tensor(yaws)
    focal = fov_to_intrinsics(18.837).double()
    return Surround(torch.zeros(3).double(), 2.7, 0.0, 0.0, focal).labels(angle, 0 * angle)


def ball(labels: Tensor, radius: float = 0.3, wrong: float = 0.0) -> SeenSurface:
    """A ball whose colour is a smooth function of the place on it, its depth off by `wrong`."""
    rays = make_rays(Camera.from_label(labels), RenderSettings(SIDE))
    along = -(rays.origins * rays.directions).sum(dim=2)
    inside = radius**2 - (rays.origins.square().sum(dim=2) - along.square())
    depth = along - inside.clamp(min=0).sqrt()
    places = rays.origins + rays.directions * depth[..., None]
    image = torch.sin(4 * places).transpose(1, 2).unflatten(2, (SIDE, SIDE))
    solid = (inside > 0).unflatten(1, (SIDE, SIDE))[:, None]
    return SeenSurface(image, (depth + wrong).unflatten(1, (SIDE, SIDE))[:, None], solid, labels)


def plane(labels: Tensor) -> Tensor:
    """Distances `n rays` to the plane z = 0."""
    rays = make_rays(Camera.from_label(labels), RenderSettings(SIDE))
    return -rays.origins[..., 2] / rays.directions[..., 2]


def thin_march(depth: Tensor, opacity: float = 1.0, shell: float = 1e-3) -> RayMarch:
    ends = torch.full_like(depth, NEAR), torch.full_like(depth, FAR)
    depths = torch.stack([ends[0], depth - shell, depth + shell, ends[1]], dim=2)
    weights = torch.tensor([0.0, opacity, 0.0]).expand(*depth.shape, 3)
    density = torch.stack([-1e9 + 0 * depth, 1e6 + 0 * depth, 1e6 + 0 * depth, -1e9 + 0 * depth], dim=2)
    none = depths[..., :0]
    return RayMarch(none, depth[..., None], weights, 1 - weights.sum(2, keepdim=True), depths, density, none, none)


def test_perfect_depth_has_no_reprojection_error() -> None:
    a, b = ball(ring_of_labels(0.1)), ball(ring_of_labels(-0.1))
    (error, count), (swapped, _) = warp_by_looking(a, b, 0.02)[0], warp_by_looking(b, a, 0.02)[0]
    assert float(count) > 0.7 * float(b.solid.sum())
    assert float(error / count) < 1e-4
    assert float(swapped / count) < 1e-4
    error, hits = warp_by_splatting(a, b)[0]
    # Half a pixel of the colours' slope remains of the nearest pixel.
    assert float(error / hits) < 3e-3
    assert float(hits) > 0.8 * float(b.solid.sum())


def test_the_same_view_warps_onto_itself() -> None:
    a = ball(ring_of_labels(0.3))
    for sums in (warp_by_splatting(a, a), warp_by_looking(a, a, 0.02)):
        assert float(sums[0, 0] / sums[0, 1]) < 1e-8
    assert float(warp_by_splatting(a, a)[0, 1]) == float(a.solid.sum())


def test_wrong_depth_is_found_out() -> None:
    labels = ring_of_labels(0.2), ring_of_labels(0.0)
    right = warp_by_splatting(*(ball(label) for label in labels))[0]
    wrong = warp_by_splatting(*(ball(label, wrong=0.15) for label in labels))[0]
    assert float(wrong[0] / wrong[1]) > 5 * float(right[0] / right[1])


def test_nearest_surface_wins_when_pixels_meet() -> None:
    labels = ring_of_labels(0.0)
    rays = make_rays(Camera.from_label(labels), RenderSettings(SIDE))
    near, far = (torch.full([1, 1, SIDE, SIDE], d) for d in (2.5, 3.0))
    checker = (torch.arange(SIDE) % 2 == 0).expand(1, 1, SIDE, SIDE)
    depth = torch.where(checker, near, far)
    image = torch.where(checker, 1.0, -1.0).expand(1, 3, SIDE, SIDE)
    source = SeenSurface(image, depth, torch.ones_like(checker), labels)
    # A camera so wide that all pixels land on few.
    wide = labels.clone()
    wide[:, [16, 20]] /= 8
    target = SeenSurface(torch.ones_like(image), depth, torch.ones_like(checker), wide)
    error, hits = warp_by_splatting(source, target)[0]
    assert 0 < float(hits) <= (SIDE / 8 + 1) ** 2
    assert float(error) == 0
    assert rays.origins.shape[1] == SIDE**2


def test_nothing_in_view_counts_nothing() -> None:
    a = ball(ring_of_labels(0.0))
    behind = ring_of_labels(0.0).clone()
    behind[:, [2, 6, 10]] *= -1
    behind[:, [0, 4, 8]] *= -1
    b = SeenSurface(a.image, a.depth, a.solid, behind)
    assert warp_by_splatting(a, b)[0, 1] == 0
    assert warp_by_looking(a, b, 0.02)[0, 1] == 0


def test_flat_billboard_scores_one_and_a_slope_uses_all_bins() -> None:
    labels = ring_of_labels(0.0)
    flat = plane(labels)
    assert non_flatness(thin_march(flat), labels)[0].tolist() == pytest.approx([1.0, 1.0])
    rows = torch.linspace(0, 1, SIDE)[:, None].expand(SIDE, SIDE).flatten()[None]
    cosine = axial(torch.ones_like(flat), labels)
    slope = (NEAR + 0.02 + (FAR - NEAR - 0.04) * rows) / cosine
    steep = non_flatness(thin_march(slope), labels)[0, 0]
    assert 35 < float(steep) <= 64
    bulge = flat - 0.3 * torch.rand(flat.shape, generator=torch.Generator().manual_seed(0))
    assert 1.5 < float(non_flatness(thin_march(bulge), labels)[0, 1]) < float(steep)
    empty = thin_march(bulge, opacity=0.0)
    empty = replace(empty, density=torch.full_like(empty.density, -1e9))
    assert non_flatness(empty, labels)[0, 1] == 1


def test_light_along_rays() -> None:
    depth = torch.full([1, 5], 2.7)
    thickness, entropy = ray_spread(thin_march(depth))
    assert float(thickness.max()) < 1e-5
    assert float(entropy.abs().max()) < 1e-5
    depths = torch.linspace(2, 3, 101).expand(1, 5, 101)
    even = torch.full([1, 5, 100], 0.004)
    none = depths[..., :0]
    fog = RayMarch(none, depth[..., None], even, depth[..., None], depths, depths, none, none)
    thickness, entropy = ray_spread(fog)
    assert float(thickness[0, 0]) == pytest.approx(1 / math.sqrt(12), rel=1e-3)
    assert float(entropy[0, 0]) == pytest.approx(math.log(100), rel=1e-5)


def test_surround_finds_the_sphere_of_cameras() -> None:
    pivot = torch.tensor([0.1, -0.2, 0.15], dtype=torch.float64)
    known = Surround(pivot, 2.5, 0.3, 0.1, torch.tensor([[4.0, 0, 0.5], [0, 4, 0.5], [0, 0, 1]], dtype=torch.float64))
    generator = torch.Generator().manual_seed(0)
    yaw, pitch = (torch.rand(2, 400, generator=generator) - 0.5) * 0.6
    yaw, pitch = yaw - yaw.mean(), pitch - pitch.mean()
    found = Surround.of(known.labels(yaw, pitch))
    torch.testing.assert_close(found.pivot, known.pivot, atol=1e-5, rtol=0)
    assert found.radius == pytest.approx(2.5, abs=1e-5)
    assert found.yaw == pytest.approx(0.3, abs=0.01)
    assert found.pitch == pytest.approx(0.1, abs=1e-3)
    torch.testing.assert_close(found.intrinsics, known.intrinsics, atol=1e-6, rtol=0)


def test_cameras_all_around_have_a_chosen_front() -> None:
    known = Surround(torch.zeros(3).double(), 1.7, 0.0, 0.3, torch.eye(3).double())
    yaw = torch.arange(60) * (2 * math.pi / 60)
    found = Surround.of(known.labels(yaw + 1.0, torch.zeros(60)))
    assert found.yaw == 0
    assert found.pitch == pytest.approx(0.3, abs=1e-6)
    position = Camera.from_label(found.front(2)).position
    expected = torch.tensor([0.0, 1.7 * math.sin(0.3), 1.7 * math.cos(0.3)])
    torch.testing.assert_close(position, expected.expand(2, 3), atol=1e-5, rtol=0)
