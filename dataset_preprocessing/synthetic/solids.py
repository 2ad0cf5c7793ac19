"""Rays against affine images of a sphere, a cylinder and a cone: exact hits, normals and shadows.

All solids are unions: the nearest entry point counts. Double precision throughout.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Shape = Literal["sphere", "cylinder", "cone"]


@dataclass(frozen=True)
class Solid:
    """A unit shape moved into the world by `world = axes @ local + center`.

    sphere: radius 1. cylinder: radius 1 around the y axis, y in [-1, 1]. cone: apex at y = 1, base radius 1 at y = -1.
    """

    shape: Shape
    center: Floats
    axes: Floats

    @cached_property
    def inverse(self) -> Floats:
        """The 3x3 matrix from world offsets to local coordinates."""
        return np.asarray(np.linalg.inv(self.axes), dtype=np.float64)

    @cached_property
    def bounding_radius(self) -> float:
        """Radius of a sphere around the center that holds the solid."""
        largest = float(np.linalg.norm(self.axes, ord=2))
        return largest if self.shape == "sphere" else largest * np.sqrt(2)

    @cached_property
    def mean_radius(self) -> float:
        """Radius of the sphere of equal volume (about): how much light the solid keeps from its surroundings."""
        return float(abs(np.linalg.det(self.axes)) ** (1 / 3))

    def to_local(self, points: Floats) -> Floats:
        """World points [n, 3] in the coordinates of the unit shape."""
        return (points - self.center) @ self.inverse.T

    def normals(self, points: Floats) -> Floats:
        """Outward unit normals [n, 3] at surface points [n, 3]."""
        local = self.to_local(points)
        return unit(_local_normals(self.shape, local) @ self.inverse)


@dataclass(frozen=True)
class Hits:
    """First surfaces along rays: distance (infinite where there is none) and index of the solid (-1)."""

    distance: Floats
    solid: NDArray[np.int64]


def trace(solids: Sequence[Solid], origin: Floats, directions: Floats) -> Hits:
    """First hits of rays from one origin [3], outside the solids, in unit directions [n, 3]."""
    count = len(directions)
    distance, index = np.full(count, np.inf), np.full(count, -1)
    for number, solid in enumerate(solids):
        # Only rays that pass the bounding sphere; sparing the others is what makes the renderer fast.
        offset = solid.center - origin
        near = np.flatnonzero(offset @ offset - (directions @ offset) ** 2 < solid.bounding_radius**2)
        entry = _entry(solid, origin[None], directions[near])
        closer = entry < distance[near]
        distance[near[closer]] = entry[closer]
        index[near[closer]] = number
    return Hits(distance, index)


def shadowed(solids: Sequence[Solid], points: Floats, light: Floats) -> NDArray[np.bool_]:
    """Whether something lies between points [n, 3], slightly outside the surfaces, and a light at direction [3]."""
    dark = np.zeros(len(points), dtype=bool)
    squared = _squared_distances(solids, points)
    along = _centers(solids) @ light - (points @ light)[:, None]
    for number, solid in enumerate(solids):
        ahead, radius = along[:, number], solid.bounding_radius
        near = np.flatnonzero((squared[:, number] - ahead**2 < radius**2) & (ahead > -radius) & ~dark)
        dark[near] = np.isfinite(_entry(solid, points[near], np.broadcast_to(light, (len(near), 3))))
    return dark


def openness(solids: Sequence[Solid], points: Floats, normals: Floats, own: NDArray[np.int64]) -> Floats:
    """Share of the sky, in [0, 1], that the other solids leave open at points [n, 3]; each taken as a ball."""
    distance = np.sqrt(_squared_distances(solids, points))
    facing = (normals @ _centers(solids).T - dot(normals, points)[:, None]) / distance
    radii = np.array([solid.mean_radius for solid in solids])
    share = np.clip(facing, 0, 1) * np.minimum((radii / distance) ** 2, 1)
    share[np.arange(len(points)), own] = 0
    return np.prod(1 - share, axis=1)


def dot(a: Floats, b: Floats) -> Floats:
    """Scalar products of the rows of [n, 3] arrays."""
    return np.einsum("ij,ij->i", a, b)


def unit(vectors: Floats) -> Floats:
    """The rows of [n, 3] at unit length."""
    return vectors / np.sqrt(dot(vectors, vectors))[:, None]


def _centers(solids: Sequence[Solid]) -> Floats:
    return np.stack([solid.center for solid in solids])


def _squared_distances(solids: Sequence[Solid], points: Floats) -> Floats:
    """Squared distances [n, solids] from points to centers."""
    centers = _centers(solids)
    return dot(points, points)[:, None] - 2 * points @ centers.T + dot(centers, centers)


def _entry(solid: Solid, origins: Floats, directions: Floats) -> Floats:
    """Distances at which rays, origins [n or 1, 3], enter a solid; infinite where they miss it or start behind it."""
    ox, oy, oz = solid.inverse @ (origins - solid.center).T
    dx, dy, dz = solid.inverse @ directions.T
    if solid.shape == "sphere":
        ball = dx**2 + dy**2 + dz**2, ox * dx + oy * dy + oz * dz, ox**2 + oy**2 + oz**2 - 1
        return _first_positive([_roots(*ball)[0]])
    if solid.shape == "cylinder":
        sides = _roots(dx**2 + dz**2, ox * dx + oz * dz, ox**2 + oz**2 - 1)
        caps = [(-1.0, 1.0), (1.0, 1.0)]
    else:
        # Side of the cone: x^2 + z^2 = ((1 - y) / 2)^2.
        gap, slope = (1 - oy) / 2, dy / 2
        sides = _roots(dx**2 + dz**2 - slope**2, ox * dx + oz * dz + gap * slope, ox**2 + oz**2 - gap**2)
        caps = [(-1.0, 1.0)]
    candidates = [np.where(np.abs(oy + t * dy) <= 1, t, np.inf) for t in sides]
    with np.errstate(divide="ignore", invalid="ignore"):
        for height, radius in caps:
            t = (height - oy) / dy
            inside = (ox + t * dx) ** 2 + (oz + t * dz) ** 2 <= radius**2
            candidates.append(np.where(inside, t, np.inf))
    return _first_positive(candidates)


def _roots(a: Floats, half_b: Floats, c: Floats) -> tuple[Floats, Floats]:
    """Both solutions of a t^2 + 2 half_b t + c = 0; infinite where there are none."""
    with np.errstate(divide="ignore", invalid="ignore"):
        root = np.sqrt(half_b**2 - a * c)
        first, second = (-half_b - root) / a, (-half_b + root) / a
    low, high = np.fmin(first, second), np.fmax(first, second)
    return np.where(np.isfinite(low), low, np.inf), np.where(np.isfinite(high), high, np.inf)


def _first_positive(candidates: list[Floats]) -> Floats:
    return np.minimum.reduce([np.where(t > 0, t, np.inf) for t in candidates])


def _local_normals(shape: Shape, local: Floats) -> Floats:
    if shape == "sphere":
        return local
    x, y, z = local.T
    radius = np.hypot(x, z)
    if shape == "cylinder":
        on_cap = np.abs(np.abs(y) - 1) < np.abs(radius - 1)
        side = np.stack([x, np.zeros_like(y), z], axis=1)
        cap = np.stack([np.zeros_like(y), np.sign(y), np.zeros_like(y)], axis=1)
    else:
        on_cap = np.abs(y + 1) < np.abs(radius - (1 - y) / 2)
        side = np.stack([x, radius / 2, z], axis=1)
        cap = np.stack([np.zeros_like(y), -np.ones_like(y), np.zeros_like(y)], axis=1)
    return np.where(on_cap[:, None], cap, side)
