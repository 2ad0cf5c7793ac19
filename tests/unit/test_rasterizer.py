from __future__ import annotations

import numpy as np
import pytest
import torch
import trimesh

from training.cameras.camera import make_rays
from training.cameras.paths import strip_cameras
from training.cameras.prior import ViewConfig
from training.rasterizer import draw_mesh, rasterize
from training.shapes import Mesh
from training.types import Camera, RenderSettings

VIEW = ViewConfig(radius=2.7, pivot=(0.0, 0.05, 0.1), fov_deg=25)


def sphere(radius: float = 0.3) -> Mesh:
    ball = trimesh.creation.icosphere(4, radius)
    colors = ((ball.vertices / radius + 1) * 127.5).round().astype(np.uint8)
    return Mesh(np.asarray(ball.vertices, dtype=np.float32), np.asarray(ball.faces), colors)


def test_depth_and_mask_are_those_of_the_rays():
    """Against rays and spheres in closed form."""
    camera = strip_cameras(VIEW, 3)[:1]
    raster = rasterize(sphere(), camera, 64)
    rays = make_rays(camera, RenderSettings(64))
    along = -(rays.origins * rays.directions).sum(dim=-1)
    beside = rays.origins.square().sum(dim=-1) - along**2
    hit = (beside < 0.3**2)[0].reshape(64, 64).numpy()
    depth = (along - (0.3**2 - beside).clamp(min=0).sqrt())[0].reshape(64, 64).numpy()
    assert (raster.mask != hit).mean() < 0.005
    both = raster.mask & hit
    assert np.abs(raster.depth - depth)[both].mean() < 0.001


def test_values_are_interpolated_in_perspective():
    camera = strip_cameras(VIEW, 1)
    mesh = sphere()
    raster = rasterize(mesh, camera, 48)
    points = raster.interpolate(mesh, mesh.vertices)
    rays = make_rays(camera, RenderSettings(48))
    expected = (rays.origins[0] + rays.directions[0] * torch.from_numpy(raster.depth).reshape(-1, 1)).numpy()
    difference = np.abs(points - expected.reshape(48, 48, 3))[raster.mask]
    assert difference.max() < 1e-4


def test_the_nearer_face_wins():
    far = np.array([[-1, -1, -0.5], [1, -1, -0.5], [0, 1, -0.5]], dtype=np.float32)
    near = far * 0.2 + np.array([0, 0, 0.5], dtype=np.float32)
    mesh = Mesh(np.concatenate([far, near]), np.array([[3, 4, 5], [0, 1, 2]]))
    face = rasterize(mesh, strip_cameras(ViewConfig(pivot=(0, 0, 0), fov_deg=30), 1), 33).face
    assert face[16, 16] == 0
    assert set(np.unique(face)) == {-1, 0, 1}


def test_faces_behind_the_camera_are_left_out():
    mesh = sphere()
    behind = Camera(torch.eye(4)[None].clone(), strip_cameras(VIEW, 1).intrinsics)
    behind.cam2world[0, 2, 3] = 2.0
    assert not rasterize(mesh, behind, 16).mask.any()


def test_pictures_show_colors_and_shading():
    cameras = strip_cameras(VIEW, 2)
    plain = draw_mesh(sphere(), cameras, 32, shading=0.0)
    lit = draw_mesh(sphere(), cameras, 32, shading=0.5)
    assert plain.shape == (2, 32, 32, 3)
    assert (plain[:, 0, 0] == 255).all()
    assert (lit.astype(int) <= plain.astype(int)).all()
    grey = draw_mesh(Mesh(sphere().vertices, sphere().faces), cameras, 32)
    assert int(grey.min()) == pytest.approx(100, abs=30)
