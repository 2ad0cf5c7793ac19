"""Pictures of meshes from a data set's cameras: a z-buffer in NumPy, exact to the pixel centre."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from numpy import ndarray

from training.shapes import Mesh, vertex_normals
from training.types import Camera

CANDIDATES_PER_CHUNK = 1 << 20


@dataclass(frozen=True)
class Raster:
    """What each pixel's central ray meets first: a face (-1: none), where on it, and how far away.

    weights: shares of the face's three corners. depth: distance from the camera in scene units, 0 where none.
    """

    face: Int[ndarray, "high wide"]
    weights: Float[ndarray, "high wide 3"]
    depth: Float[ndarray, "high wide"]

    @property
    def mask(self) -> Bool[ndarray, "high wide"]:
        """Pixels that meet the mesh."""
        return self.face >= 0

    def interpolate(self, mesh: Mesh, values: Float[ndarray, "vertices size"]) -> Float[ndarray, "high wide size"]:
        """Values given at the vertices, at the pixels; 0 where there is no mesh."""
        corners = values[mesh.faces[self.face.clip(0)]]
        return (corners * self.weights[..., None]).sum(axis=2) * self.mask[..., None]


def rasterize(mesh: Mesh, camera: Camera, resolution: int) -> Raster:
    """The faces that one camera sees; faces that reach behind the camera are left out."""
    vertices = _to_pixels(mesh.vertices.astype(np.float64), camera, resolution)
    corners = vertices[mesh.faces]
    low = np.ceil(corners[..., :2].min(axis=1)).clip(0, resolution)
    high = np.floor(corners[..., :2].max(axis=1)).clip(-1, resolution - 1)
    extent = (high - low + 1).max(axis=1).astype(np.int64)
    edges = corners[:, 1:, :2] - corners[:, :1, :2]
    area = edges[:, 0, 0] * edges[:, 1, 1] - edges[:, 0, 1] * edges[:, 1, 0]
    drawn = ((high >= low).all(axis=1)) & (corners[..., 2].min(axis=1) > 1e-6) & (np.abs(area) > 1e-12)

    nearness = np.zeros(resolution**2)
    face_at = np.full(resolution**2, -1, dtype=np.int64)
    for size in _powers_of_two(int(extent[drawn].max(initial=0))):
        chosen = np.flatnonzero(drawn & (extent <= size) & (extent > size // 2))
        per_chunk = max(CANDIDATES_PER_CHUNK // size**2, 1)
        for start in range(0, len(chosen), per_chunk):
            faces = chosen[start : start + per_chunk]
            _draw(corners[faces], low[faces], area[faces], faces, size, resolution, nearness, face_at)

    face = face_at.reshape(resolution, resolution)
    rows, columns = np.mgrid[:resolution, :resolution].astype(np.float64)
    seen = corners[face.clip(0)]
    flat = _weights(seen, np.stack([columns, rows], axis=-1), area[face.clip(0)])
    weights = flat / seen[..., 2]
    weights /= weights.sum(axis=-1, keepdims=True)
    hit = face >= 0
    points = (mesh.vertices[mesh.faces[face.clip(0)]] * weights[..., None]).sum(axis=2)
    depth = np.linalg.norm(points - camera.position[0].cpu().numpy(), axis=-1) * hit
    return Raster(face, weights * hit[..., None], depth)


def draw_mesh(
    mesh: Mesh, camera: Camera, resolution: int, *, shading: float = 0.5, backdrop: int = 255
) -> UInt8[ndarray, "n high wide 3"]:
    """Pictures of a mesh from each camera, lit from the camera; its own colours, or light grey.

    shading: 0 shows the colours as they are, 1 makes surfaces seen edge-on black.
    """
    colors = np.full([len(mesh.vertices), 3], 200.0) if mesh.colors is None else mesh.colors.astype(np.float64)
    normals = vertex_normals(mesh)
    pictures = []
    for index in range(len(camera)):
        one = camera[index : index + 1]
        raster = rasterize(mesh, one, resolution)
        towards = raster.interpolate(mesh, one.position[0].cpu().numpy() - mesh.vertices)
        normal = raster.interpolate(mesh, normals)
        lengths = np.linalg.norm(towards, axis=-1) * np.linalg.norm(normal, axis=-1)
        facing = np.abs((towards * normal).sum(axis=-1)) / lengths.clip(1e-12)
        lit = raster.interpolate(mesh, colors) * (1 - shading + shading * facing)[..., None]
        pictures.append(np.where(raster.mask[..., None], lit, backdrop).round().clip(0, 255).astype(np.uint8))
    return np.stack(pictures)


def _powers_of_two(last: int) -> list[int]:
    """1, 2, 4 and so on, up to the first that is not below `last`."""
    return [1 << power for power in range((last - 1).bit_length() + 1)] if last else []


def _to_pixels(points: Float[ndarray, "points 3"], camera: Camera, resolution: int) -> Float[ndarray, "points 3"]:
    """Column, row (0 at the centre of the first pixel) and distance along the viewing axis of points."""
    pose = camera.cam2world[0].double().cpu().numpy()
    intrinsics = camera.intrinsics[0].double().cpu().numpy()
    x, y, z = ((points - pose[:3, 3]) @ pose[:3, :3]).T
    depth = np.where(np.abs(z) < 1e-9, 1e-9, z)
    u = (intrinsics[0, 0] * x + intrinsics[0, 1] * y) / depth + intrinsics[0, 2]
    v = intrinsics[1, 1] * y / depth + intrinsics[1, 2]
    return np.stack([u * resolution - 0.5, v * resolution - 0.5, z], axis=1)


def _weights(
    corners: Float[ndarray, "*cells 3 3"], pixels: Float[ndarray, "*cells 2"], area: Float[ndarray, "*cells"]
) -> Float[ndarray, "*cells 3"]:
    """Shares of a face's corners at pixels of the picture plane; all in [0, 1] inside."""

    def cross(a: int, b: int) -> ndarray:
        start = corners[..., a, :2] - pixels
        end = corners[..., b, :2] - pixels
        return start[..., 0] * end[..., 1] - start[..., 1] * end[..., 0]

    safe = np.where(np.abs(area) > 1e-12, area, 1.0)
    return np.stack([cross(1, 2), cross(2, 0), cross(0, 1)], axis=-1) / safe[..., None]


def _draw(
    corners: Float[ndarray, "faces 3 3"],
    low: Float[ndarray, "faces 2"],
    area: Float[ndarray, " faces"],
    faces: Int[ndarray, " faces"],
    size: int,
    resolution: int,
    nearness: Float[ndarray, " pixels"],
    face_at: Int[ndarray, " pixels"],
) -> None:
    """Enters faces that lie within squares of `size` pixels into the buffers, where they are the nearest so far."""
    steps = np.stack(np.meshgrid(np.arange(size), np.arange(size), indexing="xy"), axis=-1).reshape(1, -1, 2)
    pixels = low[:, None] + steps
    weights = _weights(corners[:, None].repeat(size**2, axis=1), pixels, area[:, None].repeat(size**2, axis=1))
    inside = (weights >= 0).all(axis=-1) & (pixels < resolution).all(axis=-1)
    near = (weights / corners[:, None, :, 2]).sum(axis=-1)[inside]
    column, row = pixels[inside].astype(np.int64).T
    pixel = row * resolution + column
    owner = faces[:, None].repeat(size**2, axis=1)[inside]
    order = np.argsort(near, kind="stable")
    pixel, near, owner = pixel[order], near[order], owner[order]
    wins = near > nearness[pixel]
    # Assignment keeps the last of equal indices: the nearest.
    nearness[pixel[wins]] = near[wins]
    face_at[pixel[wins]] = owner[wins]
