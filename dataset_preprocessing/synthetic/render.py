"""Pictures and ground truth of one scene from any camera.

Each pixel averages `supersampling`^2 rays. The mask is the exact share of them that meet the object; depth and normals
belong to the ray through the pixel's centre, which is one of them.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dataset_preprocessing.cameras import pixel_rays
from dataset_preprocessing.synthetic.critter import Critter, Part, build, sample_critter
from dataset_preprocessing.synthetic.solids import Floats, dot, openness, shadowed, trace, unit
from dataset_preprocessing.synthetic.surroundings import Surroundings, View, sample_surroundings


@dataclass(frozen=True)
class Light:
    """A distant lamp: azimuth and elevation as in `orbit_position` (radians), warmth in [-1, 1], strength."""

    azimuth: float
    elevation: float
    warmth: float
    strength: float


@dataclass(frozen=True)
class Scene:
    """Everything that was drawn for one scene; no surroundings means a white background."""

    critter: Critter
    light: Light
    surroundings: Surroundings | None

    def to_record(self) -> dict[str, Any]:
        """Plain containers, for JSON."""
        return asdict(self)

    @staticmethod
    def from_record(record: dict[str, Any]) -> Scene:
        """The scene of a record; renders exactly what the recorded one did."""
        place = record["surroundings"]
        return Scene(
            Critter(**record["critter"]), Light(**record["light"]), None if place is None else Surroundings(**place)
        )


@dataclass(frozen=True)
class Picture:
    """One view; all arrays [height, width, ...], colours for display in [0, 1].

    image = foreground + (1 - mask) * background. foreground: colour times mask. mask: share of the pixel that the
    object covers. depth: distance along the ray through the pixel's centre, infinite where it misses the object.
    normals: world directions there, 0 where it misses.
    """

    image: Floats
    mask: Floats
    foreground: Floats
    background: Floats
    depth: Floats
    normals: Floats

    def rgba(self) -> NDArray[np.uint8]:
        """The foreground with straight alpha, 8 bits."""
        color = self.foreground / np.maximum(self.mask, 1e-9)[..., None]
        return to_bytes(np.concatenate([color, self.mask[..., None]], axis=-1))


def to_bytes(values: Floats) -> NDArray[np.uint8]:
    """Values of [0, 1] as 0..255, rounded."""
    return np.round(np.clip(values, 0, 1) * 255).astype(np.uint8)


def sample_scene(random: np.random.Generator, white: bool = False) -> Scene:
    """A random object and light in random surroundings, or on white."""
    critter = sample_critter(random)
    light = Light(
        azimuth=random.normal(0, 0.9),
        elevation=random.uniform(0.35, 1.1),
        warmth=random.uniform(-0.6, 1.0),
        strength=random.uniform(0.75, 1.15),
    )
    return Scene(critter, light, None if white else sample_surroundings(random))


class Renderer:
    """A scene, built once, that can be looked at from any number of cameras."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self._parts = build(scene.critter)
        self._view = None if scene.surroundings is None else View(scene.surroundings)
        above, below = (np.full(3, 0.75), np.full(3, 0.55)) if self._view is None else self._view.ambient()
        # Light from all around, its colour kept but weakened: a picture needs a subject that can be seen.
        self._above, self._below = 0.25 + 0.35 * above, 0.1 + 0.3 * below

    def __call__(self, label: ArrayLike, resolution: int, supersampling: int = 3) -> Picture:
        """The view of a camera label, with an odd number of rays per pixel and side."""
        if supersampling % 2 == 0:
            raise ValueError(f"supersampling={supersampling}: must be odd, so that one ray passes each pixel's centre")
        origin, directions = pixel_rays(label, resolution, supersampling)
        rays = directions.reshape(-1, 3)
        hits = trace([part.solid for part in self._parts], origin, rays)
        hit = np.flatnonzero(hits.solid >= 0)
        points = origin + hits.distance[hit, None] * rays[hit]
        normals = self._normals(points, hits.solid[hit])
        colors = self._shade(points, normals, -rays[hit], hits.solid[hit])

        foreground, covered, full_normals = np.zeros_like(rays), np.zeros(len(rays)), np.zeros_like(rays)
        foreground[hit], covered[hit], full_normals[hit] = colors, 1.0, normals
        mask = pool(covered, resolution, supersampling)[..., 0]
        foreground = pool(foreground, resolution, supersampling)
        centers = slice(supersampling // 2, None, supersampling)
        square = (resolution * supersampling,) * 2
        background = self._background(directions[centers, centers])
        return Picture(
            image=foreground + (1 - mask[..., None]) * background,
            mask=mask,
            foreground=foreground,
            background=background,
            depth=hits.distance.reshape(square)[centers, centers],
            normals=full_normals.reshape(*square, 3)[centers, centers],
        )

    def _background(self, directions: Floats) -> Floats:
        if self._view is None:
            return np.ones_like(directions)
        return self._view(directions.reshape(-1, 3)).reshape(directions.shape)

    def _normals(self, points: Floats, solid: NDArray[np.int64]) -> Floats:
        normals = np.empty_like(points)
        for rows, part in self._by_part(solid):
            normals[rows] = part.solid.normals(points[rows])
        return normals

    def _shade(self, points: Floats, normals: Floats, towards: Floats, solid: NDArray[np.int64]) -> Floats:
        """Display colours of surface points seen from the directions `towards`."""
        albedo, gloss = np.empty_like(points), np.empty(len(points))
        for rows, part in self._by_part(solid):
            albedo[rows] = part.paint(part.solid.to_local(points[rows]))
            gloss[rows] = part.gloss
        lamp = self.scene.light
        flat = np.cos(lamp.elevation)
        light = np.array([flat * np.sin(lamp.azimuth), np.sin(lamp.elevation), flat * np.cos(lamp.azimuth)])
        color = lamp.strength * (1 + 0.16 * lamp.warmth * np.array([1.0, 0.15, -1.0]))

        solids = [part.solid for part in self._parts]
        facing = normals @ light
        lit = np.zeros(len(points))
        bright = np.flatnonzero(facing > 0)
        lit[bright] = ~shadowed(solids, points[bright] + 1e-6 * normals[bright], light)
        open_share = openness(solids, points, normals, solid)[:, None]
        upward = 0.5 + 0.5 * normals[:, 1:2]
        ambient = (self._below + (self._above - self._below) * upward) * open_share
        diffuse = ambient + (lit * np.clip(facing, 0, None))[:, None] * color

        half = unit(light + towards)
        sharpness = 12 + 110 * gloss
        highlight = lit * gloss * np.clip(dot(half, normals), 0, 1) ** sharpness
        rim = (1 - np.clip(dot(towards, normals), 0, 1)) ** 3
        radiance = albedo * diffuse + highlight[:, None] * color + 0.12 * rim[:, None] * self._above * open_share
        return np.clip(radiance, 0, 1) ** (1 / 2.2)

    def _by_part(self, solid: NDArray[np.int64]) -> list[tuple[NDArray[np.int64], Part]]:
        return [(np.flatnonzero(solid == number), part) for number, part in enumerate(self._parts)]


def pool(values: Floats, resolution: int, samples: int) -> Floats:
    """Means over the rays of each pixel, [resolution, resolution, channels]."""
    rays = values.reshape(resolution, samples, resolution, samples, -1)
    total = np.zeros((resolution, resolution, rays.shape[-1]))
    for row in range(samples):
        for column in range(samples):
            total += rays[:, row, :, column]
    return total / samples**2
