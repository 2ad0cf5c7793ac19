from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import trimesh

from tests.fields import FunctionField
from training import shapes
from training.shapes import Gaze, Mesh
from training.texture import Atlas, bake, most_faces
from training.types import FieldSamples

GAZE = Gaze(0.02, np.array([[0.0, 0.0, 3.0]], dtype=np.float32))


@FunctionField
def patterned(points: torch.Tensor) -> FieldSamples:
    """A dense ball of radius 0.35 with fine waves of colour."""
    density = 400 * (0.35 - points.norm(dim=-1, keepdim=True)) + 40
    return FieldSamples(density, torch.sin(points * 25) / 2 + 0.5)


def ball(faces: int = 400) -> Mesh:
    mesh = shapes.extract_mesh(shapes.density_grid(patterned, 32, 1.0), 1.0, 40.0)
    return shapes.color_mesh(shapes.simplify(mesh, faces), patterned, GAZE)


def sample(image: np.ndarray, uv: np.ndarray) -> np.ndarray:
    """The picture at places in [0, 1] from its lower left, interpolated between the centres of its texels."""
    size = len(image)
    column, row = uv[:, 0] * size - 0.5, (1 - uv[:, 1]) * size - 0.5
    x, y = np.floor(column).astype(int), np.floor(row).astype(int)
    right, below = (column - x)[:, None], (row - y)[:, None]
    texel = image.astype(float)
    upper = texel[y, x] * (1 - right) + texel[y, np.minimum(x + 1, size - 1)] * right
    y = np.minimum(y + 1, size - 1)
    lower = texel[y, x] * (1 - right) + texel[y, np.minimum(x + 1, size - 1)] * right
    return upper * (1 - below) + lower * below


def random_places(faces: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Faces and shares of their corners; every tenth lies on an edge."""
    random = np.random.default_rng(0)
    shares = random.dirichlet([1, 1, 1], count)
    shares[::10, 0] = 0
    return random.integers(0, faces, count), shares / shares.sum(axis=1, keepdims=True)


@pytest.mark.parametrize(("faces", "size"), [(1, 64), (2, 64), (7, 64), (151, 64), (1000, 200)])
def test_no_texel_of_two_triangles(faces: int, size: int):
    """What interpolation reads inside a triangle belongs to no other one."""
    atlas = Atlas.of(faces, size)
    texels = atlas.place(np.arange(faces), atlas.texels)
    assert texels.min() >= 0
    assert texels.max() < size
    flat = (texels[..., 1] * size + texels[..., 0]).flatten()
    assert len(np.unique(flat)) == len(flat)
    face, shares = random_places(faces, 500)
    place = (atlas.uv(faces)[face] * shares[..., None]).sum(axis=1)
    corner = np.floor(np.stack([place[:, 0], 1 - place[:, 1]], axis=1) * size - 0.5 + 1e-3).astype(int)
    own = [set(map(tuple, rows)) for rows in texels]
    assert all(tuple(xy) in own[index] for index, xy in zip(face, corner, strict=True))


def test_too_many_triangles_are_refused():
    assert Atlas.of(most_faces(96), 96).cell == 6
    with pytest.raises(ValueError, match="texture of 64 texels a side is too small for 5000 triangles"):
        Atlas.of(5000, 64)


def test_a_texture_shows_what_the_vertices_of_a_coarse_mesh_miss():
    mesh = bake(ball(), patterned, GAZE, 512)
    assert mesh.texture is not None
    assert mesh.colors is not None
    face, shares = random_places(len(mesh.faces), 4000)
    normals = shapes.vertex_normals(mesh)[mesh.faces[face]]
    points = (mesh.vertices[mesh.faces[face]] * shares[..., None]).sum(axis=1).astype(np.float32)
    outwards = (normals * shares[..., None]).sum(axis=1)
    outwards = (outwards / np.linalg.norm(outwards, axis=1, keepdims=True)).astype(np.float32)
    expected = shapes.surface_colors(patterned, points, outwards, GAZE).astype(float)
    textured = sample(mesh.texture.image, (mesh.texture.uv[face] * shares[..., None]).sum(axis=1))
    vertices = (mesh.colors[mesh.faces[face]] * shares[..., None]).sum(axis=1)
    assert np.abs(textured - expected).mean() < 2
    assert np.abs(vertices - expected).mean() > 10
    assert np.percentile(np.abs(textured - expected), 99) < 12


def load(path: Path) -> Any:
    """The file as `trimesh` reads it, whatever it holds."""
    return trimesh.load_mesh(path, process=False)


@pytest.mark.parametrize("suffix", [".glb", ".obj"])
def test_textures_are_read_back_from_files(tmp_path, suffix: str):
    mesh = bake(ball(200), patterned, GAZE, 256)
    path = shapes.save_mesh(tmp_path / f"a{suffix}", mesh)
    loaded = load(path)
    assert len(loaded.faces) == len(mesh.faces)
    assert loaded.area == pytest.approx(trimesh.Trimesh(mesh.vertices, mesh.faces).area, rel=1e-4)
    material = loaded.visual.material
    image = material.baseColorTexture if suffix == ".glb" else material.image
    assert mesh.texture is not None
    assert (np.asarray(image.convert("RGB")) == mesh.texture.image).all()
    # By positions, so that neither the order of faces nor that of corners matters.
    middles = mesh.vertices[mesh.faces].mean(axis=1)
    order, found = np.lexsort(middles.T), loaded.vertices[loaded.faces].mean(axis=1)
    nearest = np.argmin(np.linalg.norm(found[:, None] - middles[order], axis=2), axis=1)
    places = mesh.texture.uv.mean(axis=1)[order][nearest]
    assert np.abs(loaded.visual.uv[loaded.faces].mean(axis=1) - places).max() < 1e-4
    first = path.read_bytes()
    assert shapes.save_mesh(path, mesh).read_bytes() == first


def test_an_obj_keeps_its_vertices_and_names_its_picture(tmp_path):
    mesh = bake(ball(200), patterned, GAZE, 256)
    text = shapes.save_mesh(tmp_path / "seed0001.obj", mesh).read_text()
    assert text.count("\nv ") == len(mesh.vertices)
    assert text.startswith("mtllib seed0001.mtl\n")
    assert "map_Kd seed0001_texture.png" in (tmp_path / "seed0001.mtl").read_text()
    assert (tmp_path / "seed0001_texture.png").exists()


def test_a_ply_has_the_colors_of_the_vertices(tmp_path):
    mesh = bake(ball(200), patterned, GAZE, 256)
    loaded = load(shapes.save_mesh(tmp_path / "a.ply", mesh))
    assert (loaded.visual.vertex_colors[:, :3] == mesh.colors).all()
