"""Shapes of a field: density grids, `.mrc` volumes and coloured meshes (`.ply`, `.obj`, `.glb`).

Meshes are in scene units and scene axes, those of the data set's cameras (+y up, the frontal camera on +z).
Densities are raw, before their activation, as in the published volumes.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Integer, UInt8
from numpy import ndarray
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from dnnlib.files import atomic_path, write_text
from training import media
from training.rendering.renderer import PointField
from training.scene import Field

MRC_LEVEL = 10.0
"""The raw density at which the published guide shows a volume."""

EMPTY = -1000.0
"""The raw density that published volumes have in their border."""

MESH_FORMATS = (".ply", ".obj", ".glb")


@dataclass(frozen=True)
class Texture:
    """A picture that covers a mesh; uv: its place at each corner of each face, in [0, 1] from the lower left."""

    image: UInt8[ndarray, "size size 3"]
    uv: Float[ndarray, "faces 3 2"]


@dataclass(frozen=True)
class Mesh:
    """Triangles in scene units, wound so that normals point outwards, with a colour at each vertex."""

    vertices: Float[ndarray, "vertices 3"]
    faces: Integer[ndarray, "faces 3"]
    colors: UInt8[ndarray, "vertices 3"] | None = None
    texture: Texture | None = None


@dataclass(frozen=True)
class Gaze:
    """How a surface is looked at to tell its colours: from the eyes where it faces them, along its normals elsewhere.

    depth: how far one sees into it, in scene units. eyes: positions; without any, all is seen along the normals.
    """

    depth: float
    eyes: Float[ndarray, "eyes 3"]

    def directions(
        self, points: Float[ndarray, "points 3"], normals: Float[ndarray, "points 3"]
    ) -> Float[ndarray, "points 3"]:
        """Unit directions in which points are seen: the mean of those from the eyes, weighted by how they face them."""
        # The small share of the normal decides alone, and without a jump, where no eye reaches.
        summed = -0.05 * normals
        for eye in self.eyes:
            sight = points - eye
            sight = sight / np.linalg.norm(sight, axis=1, keepdims=True).clip(1e-12)
            facing = -(sight * normals).sum(axis=1, keepdims=True)
            summed = summed + facing.clip(0) * sight
        return (summed / np.linalg.norm(summed, axis=1, keepdims=True).clip(1e-12)).astype(np.float32)


def grid_points(
    resolution: int, side: float, chunk: int, device: torch.device | str = "cpu"
) -> Iterator[tuple[slice, Float[Tensor, "points 3"]]]:
    """Slices of the flat index of a cube of points, and the points themselves; z runs fastest, then y, then x.

    The cube is centred at the origin; its outermost points lie on its faces.
    """
    for start in range(0, resolution**3, chunk):
        index = torch.arange(start, min(start + chunk, resolution**3), device=device)
        xyz = torch.stack([index // resolution**2, index // resolution % resolution, index % resolution], dim=1)
        yield slice(start, start + len(index)), xyz * (side / (resolution - 1)) - side / 2


def density_grid(
    field: Field,
    resolution: int,
    side: float,
    *,
    chunk: int = 1 << 18,
    device: torch.device | str = "cpu",
    progress: bool = False,
) -> Float32[ndarray, "x y z"]:
    """Raw densities at resolution^3 points of a cube of the given side (scene units) around the origin.

    Holds the grid and one chunk of points in memory. Raises ValueError for a resolution below 2.
    """
    if resolution < 2:
        raise ValueError(f"a grid needs at least 2 points per side, not {resolution}")
    density = np.empty(resolution**3, dtype=np.float32)
    with tqdm(
        total=resolution**3, desc="density", unit="pt", unit_scale=True, leave=False, delay=3, disable=not progress
    ) as bar:
        for part, points in grid_points(resolution, side, chunk, device):
            with torch.no_grad():
                density[part] = field.density(points[None].float()).flatten().float().cpu().numpy()
            bar.update(len(points))
    return density.reshape(resolution, resolution, resolution)


def clear_border(
    density: Float32[ndarray, "x y z"], fraction: float = 30 / 256, top: int | None = None
) -> Float32[ndarray, "x y z"]:
    """The grid with an empty border (raw density -1000) of that fraction of its side; the input is left alone.

    top: voxels emptied at the upper (+y) side instead of the fraction.
    """
    width = int(fraction * len(density))
    if width == 0:
        return density
    cleared = np.full_like(density, EMPTY)
    upper = -(width if top is None else top) or None
    inner = (slice(width, -width), slice(width, upper), slice(width, -width))
    cleared[inner] = density[inner]
    return cleared


def find_level(
    march_density: Float[Tensor, "n rays samples"], opacity: Float[Tensor, "n rays 1"], candidates: int = 64
) -> float:
    """The raw density whose level set best fits the rendered foreground.

    A ray meets the level set where its densest sample exceeds the level. The level chosen is the one for which
    these rays agree best (intersection over union) with the rays of more than half opacity.

    Raises ValueError where no ray is half opaque: the field holds no object.
    """
    solid = (opacity[..., 0] > 0.5).flatten()
    if not solid.any():
        raise ValueError(
            f"no surface: the densest view reaches an opacity of {float(opacity.max()):.2f}; give a level by hand"
        )
    densest = march_density.amax(dim=2).flatten()
    levels = torch.quantile(densest[solid].float(), torch.linspace(0, 0.5, candidates, device=densest.device))
    meets = densest > levels[:, None]
    overlap = (meets & solid).sum(dim=1) / (meets | solid).sum(dim=1)
    best = levels[overlap >= overlap.max() - 1e-6]
    return float(best.median())


def extract_mesh(density: Float32[ndarray, "x y z"], side: float, level: float) -> Mesh:
    """The surface where the density is `level`, closed at the faces of the cube, without colours.

    Raises ValueError, with the range of the densities, where the level lies outside of it.
    """
    from skimage.measure import marching_cubes

    low, high = float(density[density > EMPTY].min(initial=np.inf)), float(density.max())
    if not low < level < high:
        raise ValueError(f"level {level:g} gives no surface: the densities lie between {low:.3g} and {high:.3g}")
    # So far below the level that the closing faces lie (all but) on the faces of the cube.
    padded = np.pad(density, 1, constant_values=level - 1000 * (high - low))
    step = side / (len(density) - 1)
    vertices, faces, _, _ = marching_cubes(padded, level, spacing=(step, step, step), gradient_direction="ascent")
    return Mesh((vertices - step - side / 2).astype(np.float32), faces.astype(np.int64))


def part_of_faces(mesh: Mesh) -> Integer[ndarray, " faces"]:
    """The number, from 0, of the connected part that each face belongs to."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    starts, ends = mesh.faces[:, [0, 1]].T.reshape(2, -1)
    edges = np.concatenate([np.stack([starts, ends]), mesh.faces[:, [1, 2]].T], axis=1)
    count = len(mesh.vertices)
    graph = coo_matrix((np.ones(edges.shape[1], dtype=bool), (edges[0], edges[1])), shape=(count, count))
    part_of_vertex = connected_components(graph, directed=False)[1]
    return np.unique(part_of_vertex[mesh.faces[:, 0]], return_inverse=True)[1]


def with_faces(mesh: Mesh, kept: Bool[ndarray, " faces"]) -> Mesh:
    """The mesh of these faces and their vertices, without texture."""
    used, faces = np.unique(mesh.faces[kept], return_inverse=True)
    colors = None if mesh.colors is None else mesh.colors[used]
    return Mesh(mesh.vertices[used], faces.reshape(-1, 3), colors)


def largest_part(mesh: Mesh) -> Mesh:
    """The connected part of the mesh with the most faces."""
    part = part_of_faces(mesh)
    return with_faces(mesh, part == np.bincount(part).argmax())


def solid_parts(mesh: Mesh, share: float = 0.05) -> Mesh:
    """The connected parts of a closed mesh that hold at least that share of the volume of the largest one.

    So crumbs that float apart go, and the walls of hollows inside, whose volume counts as negative.
    """
    part = part_of_faces(mesh)
    volumes = np.bincount(part, np.linalg.det(mesh.vertices[mesh.faces].astype(np.float64)))
    return with_faces(mesh, (volumes >= share * volumes.max())[part])


def simplify(mesh: Mesh, faces: int) -> Mesh:
    """The mesh reduced to about that many faces by quadric error; unchanged where it has no more. Drops colours."""
    if len(mesh.faces) <= faces:
        return mesh
    import fast_simplification

    vertices, kept = fast_simplification.simplify(mesh.vertices, mesh.faces, 1 - faces / len(mesh.faces))
    return Mesh(vertices.astype(np.float32), kept.astype(np.int64))


def vertex_normals(mesh: Mesh) -> Float[ndarray, "vertices 3"]:
    """Unit normals at the vertices: those of the faces around, weighted by their areas."""
    corners = mesh.vertices[mesh.faces]
    face_normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals = np.zeros_like(mesh.vertices)
    for corner in range(3):
        np.add.at(normals, mesh.faces[:, corner], face_normals)
    return normals / np.linalg.norm(normals, axis=1, keepdims=True).clip(1e-12)


def surface_colors(
    field: PointField,
    points: Float[ndarray, "points 3"],
    normals: Float[ndarray, "points 3"],
    gaze: Gaze,
    *,
    samples: int = 24,
    chunk: int = 1 << 14,
    device: torch.device | str = "cpu",
) -> UInt8[ndarray, "points 3"]:
    """8-bit colours that are seen at these points of a surface.

    The field is marched in the directions of sight, from a quarter of the gaze's depth before the points to its
    depth behind, so a soft surface gets the colour that it is rendered with, not that of its outermost haze.
    """
    steps = torch.linspace(-0.25, 1, samples, device=device) * gaze.depth
    spacing = 1.25 * gaze.depth / (samples - 1)
    colors = np.empty([len(points), 3], dtype=np.uint8)
    for start in range(0, len(points), chunk):
        part = slice(start, start + chunk)
        point = torch.from_numpy(points[part]).to(device)[:, None]
        inwards = torch.from_numpy(gaze.directions(points[part], normals[part])).to(device)[:, None]
        ray = (point + inwards * steps[:, None]).reshape(1, -1, 3).float()
        with torch.no_grad():
            seen = field(ray, inwards.expand(-1, samples, -1).reshape(1, -1, 3).float())
        sigma = torch.nn.functional.softplus(seen.density.reshape(-1, samples) - 1)
        rgb = seen.features.reshape(-1, samples, seen.features.shape[-1])[..., :3].float()
        optical_depth = torch.cumsum(sigma, dim=1) * spacing
        before = torch.nn.functional.pad(optical_depth[:, :-1], (1, 0))
        weights = torch.exp(-before) - torch.exp(-optical_depth) + 1e-6
        mean = (weights[..., None] * rgb).sum(dim=1) / weights.sum(dim=1, keepdim=True)
        colors[part] = (mean.clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()
    return colors


def color_mesh(mesh: Mesh, field: PointField, gaze: Gaze, device: torch.device | str = "cpu") -> Mesh:
    """The mesh with the field's colours at its vertices."""
    return replace(mesh, colors=surface_colors(field, mesh.vertices, vertex_normals(mesh), gaze, device=device))


def opaque_depth(level: float, side: float) -> float:
    """How deep, in scene units, one looks into a field whose raw density is `level`; at most half the cube's side.

    Three times the mean free path: 95 % of the light has been gathered there.
    """
    return min(3 / math.log1p(math.exp(min(level - 1, 50))), side / 2)


def save_mesh(path: str | os.PathLike, mesh: Mesh) -> Path:
    """The path, after the mesh was written there in the format of its suffix: .ply (binary), .obj or .glb.

    A texture goes into .glb files; an .obj has it beside itself, as NAME_texture.png with NAME.mtl; a .ply has the
    colours of the vertices.
    """
    path = Path(path)
    if path.suffix not in MESH_FORMATS:
        raise ValueError(f"{path.name}: choose one of {', '.join(MESH_FORMATS)}")
    if mesh.texture is not None and path.suffix == ".obj":
        return _save_textured_obj(path, mesh, mesh.texture)
    surface = _trimesh(mesh, split=mesh.texture is not None and path.suffix == ".glb")
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        surface.export(file, file_type=path.suffix[1:])
    return path


def _trimesh(mesh: Mesh, split: bool) -> Any:
    """The mesh for `trimesh`; split: with its texture, every face with corners of its own."""
    import trimesh

    if not split or mesh.texture is None:
        return trimesh.Trimesh(mesh.vertices, mesh.faces, vertex_colors=mesh.colors, process=False)
    picture = Image.fromarray(mesh.texture.image)
    material = trimesh.visual.material.PBRMaterial(baseColorTexture=picture, metallicFactor=0.0, roughnessFactor=1.0)
    corners = mesh.faces.flatten()
    return trimesh.Trimesh(
        mesh.vertices[corners],
        np.arange(len(corners)).reshape(-1, 3),
        vertex_normals=vertex_normals(mesh)[corners],
        visual=trimesh.visual.TextureVisuals(mesh.texture.uv.reshape(-1, 2), material=material),
        process=False,
    )


def _save_textured_obj(path: Path, mesh: Mesh, texture: Texture) -> Path:
    """The path, after picture, material and mesh were written; faces share their vertices as without a texture."""
    picture, material = path.with_name(f"{path.stem}_texture.png"), path.with_suffix(".mtl")
    media.save_png(picture, texture.image)
    write_text(material, f"newmtl surface\nKa 0 0 0\nKd 1 1 1\nKs 0 0 0\nmap_Kd {picture.name}\n")
    corner = mesh.faces[..., None] + 1
    index = np.arange(mesh.faces.size).reshape(-1, 3, 1) + 1
    rows = np.concatenate([corner, index, corner], axis=2).reshape(-1, 9)
    with atomic_path(path) as temporary, open(temporary, "w", encoding="utf-8", newline="\n") as file:
        file.write(f"mtllib {material.name}\nusemtl surface\n")
        np.savetxt(file, mesh.vertices, "v %.7g %.7g %.7g")
        np.savetxt(file, texture.uv.reshape(-1, 2), "vt %.7g %.7g")
        np.savetxt(file, vertex_normals(mesh), "vn %.5g %.5g %.5g")
        np.savetxt(file, rows, "f %d/%d/%d %d/%d/%d %d/%d/%d")
    return path


def published_axes(density: Float32[ndarray, "x y z"]) -> Float32[ndarray, "x y z"]:
    """The grid as published volumes hold it: the first axis flipped.

    Readers of `.mrc` take the last axis for their x, so they show the scene turned by a quarter about y:
    their (x, y, z) are the scene's (z, y, -x).
    """
    return density[::-1]


def scene_axes(density: Float32[ndarray, "x y z"]) -> Float32[ndarray, "z y x"]:
    """The grid in the order that makes the axes of a `.mrc` reader those of the scene."""
    return density.transpose(2, 1, 0)


def save_mrc(path: str | os.PathLike, volume: Float32[ndarray, "sections rows columns"], side: float) -> Path:
    """The path, after the volume was written there as MRC (mode 2) with voxel size and origin in scene units."""
    import mrcfile

    with (
        atomic_path(path) as temporary,
        mrcfile.new_mmap(temporary, volume.shape, mrc_mode=2, overwrite=True) as file,
    ):
        # Without room on the disk, writing into the mapped file would end the process with a signal.
        with open(temporary, "r+b") as same:
            os.posix_fallocate(same.fileno(), 0, temporary.stat().st_size)
        for target, section in zip(file.data, volume, strict=True):
            target[:] = section
        file.update_header_stats()
        file.voxel_size = side / (len(volume) - 1)
        file.header.origin = (-side / 2, -side / 2, -side / 2)
        # The library stamps the time of writing; without it equal volumes give equal bytes.
        file.header.label[0] = b"density of a field, scene units".ljust(80)
    return Path(path)


def published_mesh(density: Float32[ndarray, "x y z"], level: float = MRC_LEVEL) -> Mesh:
    """The surface in the coordinates of published `.ply` files: voxels of the flipped grid, in the order z, y, x.

    Raises ValueError where the level lies outside the densities.
    """
    mesh = extract_mesh(np.ascontiguousarray(published_axes(density).transpose(2, 1, 0)), len(density) - 1.0, level)
    return replace(mesh, vertices=mesh.vertices + (len(density) - 1) / 2)
