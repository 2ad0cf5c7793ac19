"""Camera mathematics of the data tools: conventions, projections, mirroring."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataset_preprocessing import cameras

angles = st.floats(-1.4, 1.4)


def test_front_camera():
    pose = cameras.look_at(cameras.orbit_position(0, 0, 2.7))
    expected = np.array([[1, 0, 0, 0], [0, -1, 0, 0], [0, 0, -1, 2.7], [0, 0, 0, 1]])
    assert np.allclose(pose, expected)


def test_pose_of_the_published_look_at():
    """A pose of EG3D's look-at sampler: horizontal mean pi/2 + 0.4, vertical mean pi/2 - 0.2, radius 2.7."""
    azimuth_angle, polar = np.pi / 2 + 0.4, np.arccos(1 - 2 * (np.pi / 2 - 0.2) / np.pi)
    flat = np.sin(polar)
    position = 2.7 * np.array(
        [flat * np.cos(np.pi - azimuth_angle), np.cos(polar), flat * np.sin(np.pi - azimuth_angle)]
    )
    pose = cameras.look_at(position, [0, 0, 0.2])
    assert np.allclose(position, cameras.orbit_position(0.4, np.pi / 2 - polar, 2.7))
    assert np.allclose(pose[:3, :3].T @ pose[:3, :3], np.eye(3))
    assert np.linalg.det(pose[:3, :3]) == pytest.approx(1)
    assert np.allclose(cameras.project(cameras.make_label(pose, cameras.intrinsics(4.0)), [[0, 0, 0.2]])[0], 0.5)


@given(angles, angles)
def test_up_is_up_and_right_is_right(azimuth, elevation):
    label = cameras.make_label(
        cameras.look_at(cameras.orbit_position(azimuth, elevation, 3.0)), cameras.intrinsics(1.5)
    )
    (_, up), _ = cameras.project(label, np.array([[0, 0, 0], [0, 0.1, 0]]))[0]
    assert up < 0.5 + 1e-9
    side = [0.1 * np.cos(azimuth), 0, -0.1 * np.sin(azimuth)]
    assert cameras.project(label, [side])[0][0, 0] > 0.5


def test_looking_straight_down_works():
    pose = cameras.look_at([0, 2, 0])
    assert np.allclose(pose[:3, :3].T @ pose[:3, :3], np.eye(3))
    assert np.linalg.det(pose[:3, :3]) == pytest.approx(1)


@given(angles, angles, st.floats(-0.1, 0.1), st.floats(0.4, 0.6))
def test_rays_pass_the_pixels_they_belong_to(azimuth, elevation, skew, center):
    matrix = cameras.intrinsics(1.7, (center, 0.45))
    matrix[0, 1] = skew
    label = cameras.make_label(cameras.look_at(cameras.orbit_position(azimuth, elevation, 2.0)), matrix)
    origin, directions = cameras.pixel_rays(label, 4, samples=3)
    image, depth = cameras.project(label, (origin + 1.3 * directions).reshape(-1, 3))
    grid = (np.arange(12) + 0.5) / 12
    assert np.allclose(image.reshape(12, 12, 2)[:, :, 0], grid)
    assert np.allclose(image.reshape(12, 12, 2)[:, :, 1], grid[:, None])
    assert (depth > 0).all()


def test_unproject_inverts_project():
    label = cameras.make_label(cameras.look_at([1.0, 0.5, 2.0]), cameras.intrinsics(2.0))
    points = cameras.unproject(label, np.full((5, 5), 1.8))
    assert np.allclose(np.linalg.norm(points - [1.0, 0.5, 2.0], axis=-1), 1.8)
    assert np.allclose(cameras.project(label, points[2, 2][None])[0], 0.5)


def test_mirror_label_twice_and_by_projection():
    random = np.random.default_rng(0)
    label = cameras.make_label(cameras.look_at(random.normal(size=3)), cameras.intrinsics(1.8, (0.4986, 0.52)))
    label[17] = 0.03
    mirrored = cameras.mirror_label(label.tolist())
    assert cameras.mirror_label(mirrored) == label.tolist()
    points = random.uniform(-0.3, 0.3, (10, 3))
    image = cameras.project(label, points)[0]
    flipped = cameras.project(mirrored, points * [-1, 1, 1])[0]
    assert np.allclose(flipped, image * [-1, 1] + [1, 0])


def test_focal_from_fov():
    assert cameras.focal_from_fov(90) == pytest.approx(0.5)
    assert cameras.fov_from_focal([0.5, cameras.focal_from_fov(18)]) == pytest.approx([90, 18])
    assert abs(cameras.EG3D_FOCAL - 4.2647) < 1e-4
