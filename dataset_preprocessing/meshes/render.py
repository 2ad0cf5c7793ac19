"""Pictures of meshes by ray tracing (Embree), with the ground truth of `dataset_preprocessing.synthetic.Picture`.

Embree finds the triangle; distances are computed again from it in double precision, so that depth is exact.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dataset_preprocessing.cameras import Floats, pixel_rays
from dataset_preprocessing.extras import need
from dataset_preprocessing.meshes.mesh import Mesh, coated, linear_light
from dataset_preprocessing.meshes.panorama import Panorama, studio, turned
from dataset_preprocessing.meshes.traced import PathTracer
from dataset_preprocessing.synthetic.render import Picture, pool
from dataset_preprocessing.synthetic.solids import dot, unit

_LIFT = 1e-4
_OPEN_SKY_RAYS = 6


class MeshTracer:
    """First hits of rays with one mesh."""

    def __init__(self, mesh: Mesh) -> None:
        self.mesh = mesh
        self._scene = need("embreex.rtcore_scene", "rendering meshes").EmbreeScene()
        triangle_mesh = need("embreex.mesh_construction", "rendering meshes").TriangleMesh
        # The scene refers to the triangles, so they must live as long.
        self._triangles = triangle_mesh(self._scene, np.ascontiguousarray(mesh.corners, dtype=np.float32))
        self._planes = mesh.planes

    def trace(self, origins: Floats, directions: Floats) -> tuple[Floats, NDArray[np.int64]]:
        """Distance (infinite for a miss) and triangle (-1) of rays, origins [3] or [n, 3], unit directions [n, 3]."""
        origins = np.broadcast_to(origins, directions.shape)
        triangle = np.asarray(self._run(origins, directions), dtype=np.int64)
        distance = np.full(len(directions), np.inf)
        hit = np.flatnonzero(triangle >= 0)
        plane, corner = self._planes[triangle[hit]], self.mesh.corners[triangle[hit], 0]
        slope = dot(plane, directions[hit])
        slope = np.where(np.abs(slope) < 1e-15, 1e-15, slope)
        distance[hit] = dot(plane, corner - origins[hit]) / slope
        return distance, triangle

    def blocked(self, origins: Floats, directions: Floats) -> NDArray[np.bool_]:
        """Whether rays hit anything."""
        return np.asarray(self._run(origins, directions)) >= 0

    def _run(self, origins: Floats, directions: Floats) -> Any:
        if not len(directions):
            return np.zeros(0, dtype=np.int64)
        single = [np.ascontiguousarray(values, dtype=np.float32) for values in (origins, directions)]
        return self._scene.run(*single)

    def weights(self, points: Floats, triangle: NDArray[np.int64]) -> Floats:
        """Barycentric coordinates [n, 3] of points on triangles."""
        corner = self.mesh.corners[triangle]
        plane = self._planes[triangle]
        area = np.maximum(dot(plane, plane), 1e-30)
        first = dot(np.cross(corner[:, 2] - corner[:, 1], points - corner[:, 1]), plane) / area
        second = dot(np.cross(corner[:, 0] - corner[:, 2], points - corner[:, 2]), plane) / area
        return np.stack([first, second, 1 - first - second], axis=1)


def render(
    tracer: MeshTracer,
    panorama: Panorama | None,
    turn: float,
    label: ArrayLike,
    resolution: int,
    supersampling: int = 3,
    paths: PathTracer | None = None,
    seed: int = 0,
) -> Picture:
    """The view of a camera label, in front of a panorama turned by `turn` (radians), or on white in a studio's light.

    With `paths` the light on the mesh is traced, else quickly approximated; `seed` is that of the paths.
    """
    light, turn = (studio(), 0.0) if panorama is None else (panorama, turn)
    origin, directions = pixel_rays(label, resolution, supersampling)
    rays = directions.reshape(-1, 3)
    distance, triangle = tracer.trace(origin, rays)
    hit = np.flatnonzero(triangle >= 0)
    points = origin + distance[hit, None] * rays[hit]
    normals, shading_normals = _normals(tracer, points, triangle[hit], rays[hit])
    colors, covered, all_normals = np.zeros_like(rays), np.zeros(len(rays)), np.zeros_like(rays)
    covered[hit], all_normals[hit] = 1.0, normals
    mask = pool(covered, resolution, supersampling)[..., 0]
    if paths is None:
        colors[hit] = _shade(tracer, light, turn, points, normals, shading_normals, rays[hit], triangle[hit])
        foreground = pool(colors, resolution, supersampling)
    else:
        foreground = mask[..., None] * display(paths.radiance(light, turn, label, resolution, seed))
    centers = slice(supersampling // 2, None, supersampling)
    square = (resolution * supersampling,) * 2
    if panorama is None:
        background = np.ones((resolution, resolution, 3))
    else:
        seen = panorama.look(directions[centers, centers].reshape(-1, 3), turn)
        background = display(seen).reshape(resolution, resolution, 3)
    return Picture(
        image=foreground + (1 - mask[..., None]) * background,
        mask=mask,
        foreground=foreground,
        background=background,
        depth=distance.reshape(square)[centers, centers],
        normals=all_normals.reshape(*square, 3)[centers, centers],
    )


def display(radiance: Floats) -> Floats:
    """Display colours in [0, 1] of linear radiance: a soft shoulder, then gamma 2.2."""
    return (1 - np.exp(-1.6 * np.clip(radiance, 0, None))) ** (1 / 2.2)


def _normals(tracer: MeshTracer, points: Floats, triangle: NDArray[np.int64], rays: Floats) -> tuple[Floats, Floats]:
    """Normals of the triangles and smooth ones from the corners, both on the side that the rays come from."""
    flat = unit(tracer._planes[triangle] + 1e-30)
    flat = np.where(dot(flat, rays)[:, None] > 0, -flat, flat)
    weights = tracer.weights(points, triangle)
    smooth = np.einsum("nk,nkc->nc", weights, tracer.mesh.normals[triangle])
    smooth = np.where(dot(smooth, flat)[:, None] < 0, -smooth, smooth)
    usable = (dot(smooth, smooth) > 1e-6) & (dot(smooth, rays) < 0)
    return flat, unit(np.where(usable[:, None], smooth, flat))


def _shade(
    tracer: MeshTracer,
    panorama: Panorama,
    turn: float,
    points: Floats,
    normals: Floats,
    shading_normals: Floats,
    rays: Floats,
    triangle: NDArray[np.int64],
) -> Floats:
    """Display colours: the panorama's light on the surface, its lamp with shadow, and its mirror image."""
    color, alpha = _surface_color(tracer, points, triangle)
    albedo, gloss = coated(color, alpha[:, None])
    lifted = points + _LIFT * normals
    open_share = _open_sky(tracer, lifted, normals)[:, None]
    lamp_direction = turned(panorama.lamp_direction[None], turn)[0]
    ambient = panorama.irradiance(shading_normals, turn)
    facing = np.clip(shading_normals @ lamp_direction, 0, None)
    lit = np.flatnonzero((facing > 0) & (normals @ lamp_direction > 0))
    sunlight = np.zeros(len(points))
    free = ~tracer.blocked(lifted[lit], np.broadcast_to(lamp_direction, (len(lit), 3)))
    sunlight[lit] = free * facing[lit]

    cosine = np.clip(-dot(rays, shading_normals), 0, 1)
    mirrored = unit(rays + 2 * cosine[:, None] * shading_normals)
    fresnel = (0.04 + 0.96 * (1 - cosine[:, None]) ** 5) * gloss
    seen = panorama.look(mirrored, turn)
    seen = np.where(tracer.blocked(lifted, mirrored)[:, None], albedo * ambient * 0.5, seen)
    return display(albedo * (ambient * open_share + sunlight[:, None] * panorama.lamp) + fresnel * seen)


def _surface_color(tracer: MeshTracer, points: Floats, triangle: NDArray[np.int64]) -> tuple[Floats, Floats]:
    """Linear colour [n, 3] and alpha [n] of points on triangles; textures repeat and are read bilinearly."""
    mesh = tracer.mesh
    color, alpha = mesh.color[triangle].copy(), np.ones(len(points))
    uv = np.einsum("nk,nkc->nc", tracer.weights(points, triangle), mesh.uv[triangle])
    number = mesh.texture[triangle]
    for index, texture in enumerate(mesh.textures):
        rows = np.flatnonzero(number == index)
        if len(rows):
            height, width, _ = texture.shape
            x, y = uv[rows, 0] * width - 0.5, (1 - uv[rows, 1]) * height - 0.5
            column, line = np.floor(x).astype(int), np.floor(y).astype(int)
            fx, fy = (x - column)[:, None], (y - line)[:, None]
            upper, lower = ((line + k) % height for k in (0, 1))
            left, right = ((column + k) % width for k in (0, 1))
            sample = (texture[upper, left] * (1 - fx) + texture[upper, right] * fx) * (1 - fy)
            sample += (texture[lower, left] * (1 - fx) + texture[lower, right] * fx) * fy
            color[rows] *= linear_light(sample[:, :3])
            alpha[rows] = sample[:, 3] / 255
    return color, alpha


def _open_sky(tracer: MeshTracer, points: Floats, normals: Floats) -> Floats:
    """Share of a few fixed directions around each normal (weighted by cosine) in which nothing is in the way."""
    golden = np.pi * (3 - np.sqrt(5))
    free = np.zeros(len(points))
    helper = np.where(np.abs(normals[:, 1:2]) < 0.9, [[0.0, 1, 0]], [[1.0, 0, 0]])
    side = unit(np.cross(normals, helper))
    other = np.cross(normals, side)
    for k in range(_OPEN_SKY_RAYS):
        radius, angle = np.sqrt((k + 0.5) / _OPEN_SKY_RAYS), k * golden
        up = np.sqrt(1 - radius**2)
        direction = radius * np.cos(angle) * side + radius * np.sin(angle) * other + up * normals
        free += ~tracer.blocked(points, direction)
    return 0.15 + 0.85 * free / _OPEN_SKY_RAYS
