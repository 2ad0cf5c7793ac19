"""Cameras, rays and poses: round trips, hand-worked numbers and geometry."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from training.cameras.camera import fov_to_intrinsics, make_rays, project, rays_through
from training.cameras.paths import PATHS, path_cameras, strip_cameras
from training.cameras.prior import (
    FRONT,
    AnglePrior,
    LabelPrior,
    ViewConfig,
    frontal_camera,
    look_at,
    orbit_camera,
    orbit_position,
)
from training.types import Camera, Patch, RenderSettings

VIEW = ViewConfig()


def random_rotations(n: int, seed: int = 0) -> Tensor:
    draws = torch.randn(n, 3, 3, generator=torch.Generator().manual_seed(seed))
    q = torch.linalg.qr(draws)[0]
    return q * q.det()[:, None, None].sign()


def random_cameras(n: int, seed: int = 0) -> Camera:
    """Any pose, different focal lengths, principal points off the centre, skew."""
    draw = torch.Generator().manual_seed(seed)
    cam2world = torch.eye(4).repeat(n, 1, 1)
    cam2world[:, :3, :3] = random_rotations(n, seed)
    cam2world[:, :3, 3] = torch.randn(n, 3, generator=draw)
    intrinsics = torch.eye(3).repeat(n, 1, 1)
    intrinsics[:, :2] += torch.rand(n, 2, 3, generator=draw)
    intrinsics[:, 1, 0] = 0
    return Camera(cam2world, intrinsics)


def plain_camera(focal: float = 1.0) -> Camera:
    """At the origin, looking along +z, principal point in the middle."""
    intrinsics = torch.tensor([[[focal, 0, 0.5], [0, focal, 0.5], [0, 0, 1]]])
    return Camera(torch.eye(4)[None], intrinsics)


# Rays


def test_hand_worked_rays():
    """Focal length 1/2 and two pixels a side: the pixel centres lie at (+-1/4) / (1/2) = +-1/2 at depth 1."""
    rays = make_rays(plain_camera(0.5), RenderSettings(2))
    length = math.sqrt(1 + 1 / 4 + 1 / 4)
    expected = torch.tensor([[-0.5, -0.5, 1], [0.5, -0.5, 1], [-0.5, 0.5, 1], [0.5, 0.5, 1]]) / length
    torch.testing.assert_close(rays.directions[0], expected)
    assert not rays.origins.any()


def test_hand_worked_skew_and_position():
    """u - cx = 0.3 and v - cy = 0.2; y = 0.2 / 2, x = (0.3 - 0.5 * 0.1) / 0.25; then a quarter turn about y."""
    intrinsics = torch.tensor([[[0.25, 0.5, 0.4], [0, 2.0, 0.6], [0, 0, 1]]])
    pose = torch.tensor([[[0.0, 0, 1, 7], [0, 1, 0, 8], [-1, 0, 0, 9], [0, 0, 0, 1]]])
    rays = rays_through(Camera(pose, intrinsics), torch.tensor([[[0.7, 0.8]]]))
    direction = torch.tensor([1.0, 0.1, -1.0])
    torch.testing.assert_close(rays.directions[0, 0], direction / direction.norm())
    assert rays.origins[0, 0].tolist() == [7, 8, 9]


@pytest.mark.parametrize("resolution", [1, 3, 8])
def test_rays_are_unit_vectors_through_pixel_centres_row_by_row(resolution):
    camera = random_cameras(4)
    rays = make_rays(camera, RenderSettings(resolution))
    assert rays.origins.shape == rays.directions.shape == (4, resolution**2, 3)
    torch.testing.assert_close(rays.directions.norm(dim=-1), torch.ones(4, resolution**2))
    assert torch.equal(rays.origins, camera.position[:, None].expand(-1, resolution**2, -1))
    uv = project(camera, rays.origins + 2 * rays.directions)[..., :2]
    for row in range(resolution):
        for column in range(resolution):
            centre = torch.tensor([(column + 0.5) / resolution, (row + 0.5) / resolution])
            torch.testing.assert_close(uv[:, row * resolution + column], centre.expand(4, 2), atol=1e-4, rtol=1e-4)


@given(seed=st.integers(0, 10**6), distance=st.floats(0.1, 10))
@settings(max_examples=40, deadline=None)
def test_project_undoes_rays(seed, distance):
    camera = random_cameras(3, seed)
    uv = torch.rand(3, 5, 2, generator=torch.Generator().manual_seed(seed))
    rays = rays_through(camera, uv)
    found = project(camera, rays.origins + distance * rays.directions)
    torch.testing.assert_close(found[..., :2], uv, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(found[..., 2], torch.full([3, 5], distance), atol=1e-3, rtol=1e-3)
    behind = project(camera, rays.origins - distance * rays.directions)
    torch.testing.assert_close(behind[..., 2], torch.full([3, 5], -distance), atol=1e-3, rtol=1e-3)


def test_one_set_of_image_points_serves_all_cameras():
    camera, uv = random_cameras(3), torch.rand(1, 5, 2)
    assert torch.equal(rays_through(camera, uv).directions, rays_through(camera, uv.expand(3, -1, -1)).directions)


def test_rays_turn_with_the_camera():
    camera, turn = random_cameras(2), random_rotations(1, seed=5)[0]
    pose = torch.eye(4)
    pose[:3, :3] = turn
    rays, turned = (
        make_rays(c, RenderSettings(4)) for c in (camera, Camera(pose @ camera.cam2world, camera.intrinsics))
    )
    torch.testing.assert_close(turned.directions, rays.directions @ turn.t())
    torch.testing.assert_close(turned.origins, rays.origins @ turn.t())


def test_patches_are_measured_from_left_and_bottom():
    camera = random_cameras(3)
    whole = make_rays(camera, RenderSettings(8)).directions.unflatten(1, (8, 8))
    half = torch.full([3, 2], 0.5)
    offset = torch.tensor([[0.0, 0.5], [0.5, 0.5], [0.25, 0.0]])  # top left, top right, bottom between them
    patch = make_rays(camera, RenderSettings(4, Patch(half, offset))).directions.unflatten(1, (4, 4))
    torch.testing.assert_close(patch[0], whole[0, :4, :4])
    torch.testing.assert_close(patch[1], whole[1, :4, 4:])
    torch.testing.assert_close(patch[2], whole[2, 4:, 2:6])


def test_patch_of_the_whole_image_is_no_patch():
    camera = random_cameras(2)
    whole = Patch(torch.ones(2, 2), torch.zeros(2, 2))
    patch, image = make_rays(camera, RenderSettings(5, whole)), make_rays(camera, RenderSettings(5))
    torch.testing.assert_close(patch.directions, image.directions)


def test_patch_sides_are_width_and_height():
    patch = Patch(torch.tensor([[0.5, 0.25]]), torch.tensor([[0.1, 0.2]]))
    uv = project(plain_camera(), make_rays(plain_camera(), RenderSettings(2, patch)).directions)[0, :, :2]
    expected = [(0.1 + 0.5 * column, 1 - 0.2 - 0.25 + 0.25 * row) for row in (0.25, 0.75) for column in (0.25, 0.75)]
    torch.testing.assert_close(uv, torch.tensor(expected))


def test_gradients_of_rays_reach_the_pose():
    camera = random_cameras(2)
    camera.cam2world.requires_grad_()
    make_rays(camera, RenderSettings(2)).directions.sum().backward()
    assert camera.cam2world.grad is not None
    assert camera.cam2world.grad[:, :3, :3].abs().sum() > 0


# Poses


@given(azimuth=st.floats(-10, 10), polar=st.floats(0.05, math.pi - 0.05), radius=st.floats(0.5, 5))
@settings(max_examples=60, deadline=None)
def test_orbit_cameras_are_upright_rigid_and_look_at_the_pivot(azimuth, polar, radius):
    view = ViewConfig(radius, (0.01, 0.02, -0.03))
    camera = orbit_camera(torch.tensor([azimuth]), torch.tensor([polar]), view)
    rotation = camera.cam2world[0, :3, :3]
    torch.testing.assert_close(rotation @ rotation.t(), torch.eye(3), atol=1e-5, rtol=0)
    assert rotation.det().item() == pytest.approx(1, abs=1e-5)
    assert camera.cam2world[0, 3].tolist() == [0, 0, 0, 1]
    right, down, forward = rotation.unbind(dim=1)
    assert right[1].item() == pytest.approx(0, abs=1e-5), "the horizon is level"
    assert down[1] <= 0, "down is down"
    to_pivot = torch.tensor(view.pivot) - camera.position[0]
    torch.testing.assert_close(forward, to_pivot / to_pivot.norm(), atol=1e-5, rtol=0)
    assert camera.position[0].norm().item() == pytest.approx(radius, rel=1e-5)
    seen = project(camera, torch.tensor([[view.pivot]]))[0, 0]
    torch.testing.assert_close(seen[:2], torch.tensor([0.5, 0.5]), atol=1e-4, rtol=0)
    above = project(camera, torch.tensor([[view.pivot]]) + torch.tensor([0.0, 0.01, 0.0]))[0, 0]
    assert above[1] < seen[1], "up in the world is up in the picture"


def test_look_at_keeps_the_type_of_its_positions():
    matrix = look_at(torch.tensor([[0.0, 0, 2]], dtype=torch.float64), torch.zeros(1, 3, dtype=torch.float64))
    expected = torch.tensor([[1.0, 0, 0, 0], [0, -1, 0, 0], [0, 0, -1, 2], [0, 0, 0, 1]], dtype=torch.float64)
    torch.testing.assert_close(matrix[0], expected)


def test_hand_worked_positions():
    """The polar value is uniform in height: y = radius (1 - 2 polar / pi)."""
    azimuth = torch.tensor([FRONT, FRONT + math.pi / 2, FRONT - math.pi / 2, FRONT + math.pi, FRONT])
    polar = torch.tensor([FRONT, FRONT, FRONT, FRONT, math.pi / 4])
    expected = [[0, 0, 2], [2, 0, 0], [-2, 0, 0], [0, 0, -2], [0, 1, math.sqrt(3)]]
    torch.testing.assert_close(orbit_position(azimuth, polar, 2), torch.tensor(expected), atol=1e-6, rtol=0)


def test_positions_are_periodic_in_azimuth_and_stop_short_of_the_poles():
    azimuth, polar = torch.rand(6) * 6, torch.rand(6) * 3
    torch.testing.assert_close(
        orbit_position(azimuth + 2 * math.pi, polar), orbit_position(azimuth, polar), atol=1e-5, rtol=0
    )
    torch.testing.assert_close(orbit_position(azimuth, polar - 100), orbit_position(azimuth, torch.full([6], 1e-5)))
    for pole in (-1.0, 4.0):
        cameras = orbit_camera(azimuth, torch.full([6], pole), ViewConfig(pivot=(0, 0, 0)))
        assert cameras.cam2world.isfinite().all()
        determinants = torch.linalg.det(cameras.cam2world[:, :3, :3])
        torch.testing.assert_close(determinants, torch.ones(6), atol=1e-4, rtol=0)


def test_published_focal_lengths():
    intrinsics = fov_to_intrinsics(18.837)
    assert intrinsics[0, 0].item() == pytest.approx(4.2634, abs=1e-4)
    assert intrinsics.tolist() == [[intrinsics[0, 0], 0, 0.5], [0, intrinsics[0, 0], 0.5], [0, 0, 1]]
    corner = make_rays(Camera(torch.eye(4)[None], fov_to_intrinsics(30.0)[None]), RenderSettings(512)).directions[0, 0]
    diagonal = 2 * math.degrees(math.acos(corner[2].item()))
    assert diagonal == pytest.approx(30, abs=0.1), "the field of view is that of the diagonal"


def test_frontal_cameras():
    camera = frontal_camera(VIEW, 2)
    assert len(camera) == 2
    torch.testing.assert_close(camera.position, torch.tensor([[0.0, 0, 2.7]]).expand(2, 3), atol=1e-6, rtol=0)
    forward = camera.cam2world[:, :3, 2]
    torch.testing.assert_close(forward, torch.tensor([[0.0, 0, -1]]).expand(2, 3), atol=1e-6, rtol=0)
    wide = orbit_camera(torch.tensor([FRONT]), torch.tensor([FRONT]), VIEW, fov_deg=40)
    torch.testing.assert_close(wide.intrinsics[0], fov_to_intrinsics(40.0))
    assert frontal_camera(VIEW, device="meta").cam2world.device.type == "meta"


# Distributions


@pytest.mark.parametrize("uniform", [True, False])
def test_angle_prior_draws_with_the_stated_spread(uniform):
    prior = AnglePrior(ViewConfig(1.0, (0, 0, 0)), 0.3, 0.1, uniform)
    camera = prior.sample(4000, torch.Generator().manual_seed(0))
    x, y, z = camera.position.unbind(dim=1)
    yaw, polar = torch.atan2(x, z), (1 - y) * math.pi / 2 - FRONT
    scale = 1 / math.sqrt(3) if uniform else 1.0
    assert yaw.std().item() == pytest.approx(0.3 * scale, rel=0.05)
    assert polar.std().item() == pytest.approx(0.1 * scale, rel=0.05)
    assert yaw.mean().item() == pytest.approx(0, abs=0.02)
    if uniform:
        assert yaw.abs().max() <= 0.3 + 1e-5
        assert polar.abs().max() <= 0.1 + 1e-5


def test_priors_follow_their_generator():
    labels = orbit_camera(torch.linspace(1, 2, 7), torch.full([7], FRONT), VIEW).to_label()
    for prior in (AnglePrior(VIEW, 0.3, 0.1), LabelPrior(labels)):
        first, second = (prior.sample(5, torch.Generator().manual_seed(3)).to_label() for _ in range(2))
        assert torch.equal(first, second)
        assert not torch.equal(prior.sample(5, torch.Generator().manual_seed(4)).to_label(), first)
        assert prior.sample(5).to_label().shape == (5, 25)


def test_label_prior_draws_every_row_alike():
    labels = torch.arange(7.0)[:, None].expand(7, 25)
    drawn = LabelPrior(labels).sample(7000, torch.Generator().manual_seed(0)).to_label()
    counts = drawn[:, 0].long().bincount(minlength=7)
    assert ((counts - 1000).abs() < 150).all()
    assert torch.equal(drawn, drawn[:, :1].expand(-1, 25)), "rows stay whole"


# Strips and paths


def test_strips_run_from_side_to_side():
    camera = strip_cameras(VIEW, 3, yaw_range=0.3)
    x = camera.position[:, 0]
    assert x[0] > 0
    torch.testing.assert_close(x, -x.flip(0), atol=1e-6, rtol=0)
    assert (camera.position[:, 1] > 0).all(), "a little from above"
    one = strip_cameras(VIEW, 1, fov_deg=25)
    assert one.position[0, 0].item() == pytest.approx(0, abs=1e-6)
    torch.testing.assert_close(one.intrinsics[0], fov_to_intrinsics(25.0))


@pytest.mark.parametrize("name", list(PATHS))
def test_paths_are_smooth_and_close_where_they_say_so(name):
    frames = 240
    positions = path_cameras(PATHS[name], frames, VIEW).position
    steps = positions.diff(dim=0).norm(dim=1)
    assert len(positions) == frames
    assert steps.max() < 0.15, "no jumps"
    closing = (positions[0] - positions[-1]).norm()
    assert (closing <= steps.max() * 1.05) == PATHS[name].closed
