from __future__ import annotations

import errno
import itertools
import os
from typing import Any

import mrcfile
import numpy as np
import pytest
import torch
import trimesh

from tests.fields import FunctionField, ellipsoid
from training import shapes
from training.types import FieldSamples

SIDE = 1.6
NOWHERE = np.zeros([0, 3], dtype=np.float32)


@FunctionField
def slab(points: torch.Tensor) -> FieldSamples:
    """Dense for x > 0, up to the face of every cube."""
    return FieldSamples(points[..., :1] * 30, points * 0)


def test_grid_is_the_field_at_exactly_the_voxel_positions():
    grid = shapes.density_grid(ellipsoid, 7, SIDE, chunk=50)
    axis = np.linspace(-SIDE / 2, SIDE / 2, 7)
    for x, y, z in itertools.product(range(7), repeat=3):
        point = torch.tensor([[[axis[x], axis[y], axis[z]]]], dtype=torch.float32)
        assert grid[x, y, z] == pytest.approx(float(ellipsoid(point).density), abs=2e-4)


def test_grid_does_not_depend_on_the_chunk():
    grids = [shapes.density_grid(ellipsoid, 9, SIDE, chunk=chunk) for chunk in (1, 7, 729, 10**6)]
    assert all(np.array_equal(grid, grids[0]) for grid in grids)


def test_indices_stay_exact_where_float32_is_not():
    resolution = 300
    last = list(shapes.grid_points(resolution, 1.0, 2**24 - 3))[-1]
    part, points = last
    index = np.arange(part.start, part.stop)
    z = (index % resolution) / (resolution - 1) - 0.5
    assert np.abs(points[:, 2].numpy() - z).max() < 1e-6


def test_grid_needs_two_points():
    with pytest.raises(ValueError, match="at least 2"):
        shapes.density_grid(ellipsoid, 1, SIDE)


def test_border_is_emptied():
    grid = np.zeros([32, 32, 32], dtype=np.float32)
    cleared = shapes.clear_border(grid, 30 / 256, top=5)
    assert (cleared == 0).sum() == 26 * 24 * 26
    assert (cleared[:, -5:] == shapes.EMPTY).all()
    assert (grid == 0).all()
    assert shapes.clear_border(grid[:4, :4, :4]) is not None


def test_mesh_is_where_the_object_is():
    mesh = shapes.extract_mesh(shapes.density_grid(ellipsoid, 48, SIDE), SIDE, 10.0)
    solid = trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)
    assert solid.is_watertight
    assert solid.volume == pytest.approx(4 / 3 * np.pi * 0.15 * 0.3 * 0.45, rel=0.05)
    assert solid.centroid == pytest.approx([0.2, -0.1, 0.05], abs=0.01)
    assert solid.bounds == pytest.approx(np.array([[0.05, -0.4, -0.4], [0.35, 0.2, 0.5]]), abs=0.02)


def test_mesh_is_closed_at_the_faces_of_the_cube():
    mesh = shapes.extract_mesh(shapes.density_grid(slab, 16, SIDE), SIDE, 0.5)
    solid = trimesh.Trimesh(mesh.vertices, mesh.faces)
    assert solid.is_watertight
    assert np.abs(mesh.vertices).max() <= SIDE / 2 * 1.001
    assert solid.volume == pytest.approx(SIDE**3 / 2, rel=0.1)


def test_normals_point_outwards():
    mesh = shapes.extract_mesh(shapes.density_grid(ellipsoid, 32, SIDE), SIDE, 10.0)
    outwards = mesh.vertices - mesh.vertices.mean(axis=0)
    assert ((shapes.vertex_normals(mesh) * outwards).sum(axis=1) > 0).all()


@pytest.mark.parametrize("level", [-1e6, 51.0])
def test_a_level_without_surface_is_refused_with_the_range(level: float):
    grid = shapes.clear_border(shapes.density_grid(ellipsoid, 16, SIDE))
    with pytest.raises(ValueError, match=r"level .* gives no surface: the densities lie between -\d+ and \d+"):
        shapes.extract_mesh(grid, SIDE, level)


def test_level_is_that_of_the_silhouette():
    densest = torch.linspace(0, 20, 200).reshape(1, 200, 1)
    opacity = (densest > 8).float() * 0.9
    level = shapes.find_level(torch.cat([densest, densest - 5], dim=2), opacity)
    assert level == pytest.approx(8, abs=0.3)


def test_level_of_nothing_is_refused():
    with pytest.raises(ValueError, match=r"opacity of 0\.30; give a level"):
        shapes.find_level(torch.zeros(1, 9, 4), torch.full([1, 9, 1], 0.3))


def test_colors_are_those_of_the_field():
    mesh = shapes.extract_mesh(shapes.density_grid(ellipsoid, 32, SIDE), SIDE, 10.0)
    colored = shapes.color_mesh(mesh, ellipsoid, shapes.Gaze(0.001, NOWHERE))
    expected = ((mesh.vertices + 0.5) * 255).clip(0, 255)
    assert np.abs(colored.colors - expected).max() <= 1.5


def test_denser_surfaces_are_looked_into_less_deeply():
    assert shapes.opaque_depth(31.0, 1.0) == pytest.approx(0.1)
    assert shapes.opaque_depth(-20.0, 1.0) == 0.5
    assert 0 < shapes.opaque_depth(1e4, 1.0) < 0.1


def test_colors_are_gathered_below_the_surface():
    """A grey haze around a red core: what is seen is red."""

    @FunctionField
    def hazy(points):
        depth = 1 - points[..., 2:]
        density = torch.where(depth > 0.05, 200.0, 1.0)
        red = (depth > 0.05).float()
        return FieldSamples(density, torch.cat([0.5 + red / 2, 0.5 - red / 2, 0.5 - red / 2], dim=-1))

    point, normal = np.array([[0.0, 0.0, 1.0]], dtype=np.float32), np.array([[0.0, 0.0, 1.0]], dtype=np.float32)
    colors = shapes.surface_colors(hazy, point, normal, shapes.Gaze(0.2, NOWHERE), samples=32)
    assert colors[0].tolist() == pytest.approx([255, 0, 0], abs=12)


def test_largest_part():
    big, small = trimesh.creation.icosphere(2), trimesh.creation.icosphere(1)
    vertices = np.concatenate([small.vertices, big.vertices + 5])
    faces = np.concatenate([small.faces, big.faces + len(small.vertices)])
    colors = np.arange(len(vertices), dtype=np.uint8)[:, None].repeat(3, 1)
    kept = shapes.largest_part(shapes.Mesh(vertices, faces, colors))
    assert len(kept.faces) == len(big.faces)
    assert kept.vertices.mean(axis=0) == pytest.approx([5, 5, 5])
    assert kept.colors is not None
    assert (kept.colors[0] == len(small.vertices)).all()


def test_solid_parts_leave_out_crumbs_and_hollows():
    """A body with a hollow, one a seventh of its size that stands apart, and a crumb."""
    big, hollow = trimesh.creation.icosphere(3, radius=1.0), trimesh.creation.icosphere(3, radius=0.5)
    hollow.invert()
    body = trimesh.creation.icosphere(1, radius=0.55).apply_translation([3, 0, 0])
    crumb = trimesh.creation.icosphere(3, radius=0.2).apply_translation([0, 3, 0])
    joined: Any = trimesh.util.concatenate([crumb, hollow, body, big])
    kept = shapes.solid_parts(shapes.Mesh(np.asarray(joined.vertices), np.asarray(joined.faces)))
    assert len(kept.faces) == len(big.faces) + len(body.faces)
    solid = trimesh.Trimesh(kept.vertices, kept.faces, process=False)
    assert solid.is_watertight
    assert solid.volume == pytest.approx(big.volume + body.volume)


def test_surfaces_are_seen_from_the_eyes_that_they_face():
    points = np.array([[0, 0, 1], [0, 0, -1], [1, 0, 0]], dtype=np.float32)
    gaze = shapes.Gaze(0.1, np.array([[0.0, 0.0, 9.0], [3.0, 0.0, 1.0]], dtype=np.float32))
    front, back, side = gaze.directions(points, points)
    assert np.linalg.norm([front, back, side], axis=1) == pytest.approx(1)
    assert front == pytest.approx([0, 0, -1], abs=0.01)
    assert back == pytest.approx([0, 0, 1])
    towards = np.array([-2.0, 0, -1]) / 5**0.5
    assert side == pytest.approx(towards, abs=0.05)


def test_colors_are_those_that_an_eye_sees_through_a_haze():
    """Thin stripes along x behind a clear front: an eye from the side sees another stripe than the normal hits."""

    @FunctionField
    def striped(points):
        density = torch.where(points[..., 2:] < 0, 200.0, -50.0)
        return FieldSamples(density, (points[..., :1] > 0.05).float().expand(*points.shape[:-1], 3))

    point, normal = np.array([[0.0, 0.0, 0.1]], dtype=np.float32), np.array([[0.0, 0.0, 1.0]], dtype=np.float32)
    eye = np.array([[-10.0, 0.0, 10.1]], dtype=np.float32)
    assert shapes.surface_colors(striped, point, normal, shapes.Gaze(0.3, NOWHERE)).max() == 0
    assert shapes.surface_colors(striped, point, normal, shapes.Gaze(0.3, eye)).min() > 240


def test_simplify_keeps_the_shape():
    mesh = shapes.extract_mesh(shapes.density_grid(ellipsoid, 48, SIDE), SIDE, 10.0)
    small = shapes.simplify(mesh, 500)
    assert len(small.faces) <= 510
    volumes = [trimesh.Trimesh(each.vertices, each.faces).volume for each in (mesh, small)]
    assert volumes[1] == pytest.approx(volumes[0], rel=0.05)
    assert shapes.simplify(mesh, 10**6) is mesh


@pytest.mark.parametrize("suffix", shapes.MESH_FORMATS)
def test_mesh_files_keep_positions_winding_and_colors(tmp_path, suffix: str):
    mesh = shapes.extract_mesh(shapes.density_grid(ellipsoid, 24, SIDE), SIDE, 10.0)
    mesh = shapes.color_mesh(mesh, ellipsoid, shapes.Gaze(0.01, NOWHERE))
    path = shapes.save_mesh(tmp_path / f"a{suffix}", mesh)
    loaded = trimesh.load_mesh(path, process=False, maintain_order=True)
    assert loaded.volume > 0
    assert np.abs(loaded.vertices - mesh.vertices).max() < 1e-5
    assert isinstance(loaded.visual, trimesh.visual.ColorVisuals)
    assert (loaded.visual.vertex_colors[:, :3] == mesh.colors).all()
    first = path.read_bytes()
    assert shapes.save_mesh(path, mesh).read_bytes() == first


def test_mesh_file_of_an_unknown_kind_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"a\.stl: choose one of \.ply, \.obj, \.glb"):
        shapes.save_mesh(tmp_path / "a.stl", shapes.Mesh(np.zeros([3, 3], np.float32), np.array([[0, 1, 2]])))


def test_mrc_is_valid_and_in_scene_units(tmp_path):
    grid = shapes.density_grid(ellipsoid, 20, SIDE)
    path = shapes.save_mrc(tmp_path / "a.mrc", shapes.scene_axes(grid), SIDE)
    assert mrcfile.validate(path)
    with mrcfile.open(path) as file:
        assert file.data.dtype == np.float32
        step = file.voxel_size.x
        assert step == pytest.approx(SIDE / 19)
        origin = [float(file.header.origin[axis]) for axis in "xyz"]
        z, y, x = np.unravel_index(file.data.argmax(), file.data.shape)
    densest = np.array(origin) + step * np.array([x, y, z])
    assert densest == pytest.approx([0.2, -0.1, 0.05], abs=float(step))


def test_mrc_bytes_depend_on_the_volume_alone(tmp_path):
    grid = shapes.density_grid(ellipsoid, 8, SIDE)
    first = shapes.save_mrc(tmp_path / "a.mrc", grid, SIDE).read_bytes()
    assert shapes.save_mrc(tmp_path / "b.mrc", grid, SIDE).read_bytes() == first
    assert shapes.save_mrc(tmp_path / "b.mrc", grid + 1, SIDE).read_bytes() != first


def test_a_full_disk_leaves_no_volume(tmp_path, monkeypatch):
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    with pytest.raises(OSError, match=r"No space left on device: .*a\.mrc"):
        shapes.save_mrc(tmp_path / "a.mrc", np.zeros([4, 4, 4], np.float32), SIDE)
    assert list(tmp_path.iterdir()) == []


def test_published_volume_is_the_grid_with_its_first_axis_flipped(tmp_path):
    grid = shapes.density_grid(ellipsoid, 12, SIDE)
    path = shapes.save_mrc(tmp_path / "a.mrc", shapes.published_axes(grid), SIDE)
    with mrcfile.open(path) as file:
        assert np.array_equal(file.data[::-1], grid)
        section, row, column = np.unravel_index(file.data.argmax(), grid.shape)
    axis = np.linspace(-SIDE / 2, SIDE / 2, 12)
    # A reader's (x, y, z) are (column, row, section): the scene's (z, y, -x).
    assert [-axis[section], axis[row], axis[column]] == pytest.approx([0.2, -0.1, 0.05], abs=SIDE / 11)


def test_published_mesh_counts_voxels_of_the_flipped_grid():
    grid = shapes.density_grid(ellipsoid, 33, SIDE)
    mesh = shapes.published_mesh(grid)
    centre = (mesh.vertices.min(axis=0) + mesh.vertices.max(axis=0)) / 2
    to_voxels = 32 / SIDE
    expected = np.array([0.05 * to_voxels + 16, -0.1 * to_voxels + 16, 16 - 0.2 * to_voxels])
    assert centre == pytest.approx(expected, abs=0.2)
