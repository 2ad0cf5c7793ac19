"""Surroundings at infinity: colour by direction, made to look like a landscape or a room far out of focus.

Everything is a smooth function of the unit direction, so it closes around the full circle and depends on the
rotation of the camera alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from dataset_preprocessing.synthetic.critter import choose, linear_color
from dataset_preprocessing.synthetic.solids import Floats

Place = Literal["meadow", "mountains", "forest", "sea", "city", "room"]

PLACES: tuple[Place, ...] = ("meadow", "mountains", "forest", "sea", "city", "room")


@dataclass(frozen=True)
class Surroundings:
    """Drawn parameters: the kind of place and the seed of everything in it."""

    place: Place
    seed: int


def sample_surroundings(random: np.random.Generator) -> Surroundings:
    """A place of a random kind."""
    return Surroundings(choose(random, PLACES), int(random.integers(2**31)))


class View:
    """Surroundings ready to be looked at: `view(directions)` gives display colours."""

    def __init__(self, surroundings: Surroundings) -> None:
        random = np.random.default_rng(surroundings.seed)
        self._cloud = _Waves(random, 40, 2.5, 18, flatten=2.2)
        self._texture = _Waves(random, 56, 8, 75)
        self._ridge = _Waves(random, 24, 1.5, 25)
        self._bands = _Waves(random, 24, 8, 40)
        self._draw = _PAINTERS[surroundings.place]
        self._palette = random.uniform(size=12)
        self._lights = _Lights(random)

    def __call__(self, directions: Floats) -> Floats:
        """Display colours [n, 3] in [0, 1] of unit directions [n, 3]."""
        return np.clip(self._draw(self, directions), 0, 1)

    def ambient(self) -> tuple[Floats, Floats]:
        """Mean linear light from above and from below."""
        turns = np.linspace(0, 2 * np.pi, 16, endpoint=False)
        rings = []
        for elevation in (0.6, -0.6):
            flat = np.cos(elevation)
            ring = np.stack([flat * np.sin(turns), np.full(16, np.sin(elevation)), flat * np.cos(turns)], axis=1)
            rings.append(np.mean(self(ring) ** 2.2, axis=0))
        return rings[0], rings[1]

    def sky(self, directions: Floats, hue: float, saturation: float, brightness: float) -> Floats:
        """A sky, paler towards the horizon, with clouds."""
        height = np.clip(np.arcsin(np.clip(directions[:, 1], -1, 1)) / 0.9, 0, 1)[:, None]
        top, low = (
            _display(hue, saturation, brightness),
            _display(hue + 0.02, 0.35 * saturation, min(brightness + 0.2, 1)),
        )
        color = low + (top - low) * np.sqrt(height)
        clouds = _step(self._cloud(directions), 0.25, 1.3)[:, None]
        return color + (0.97 - color) * (0.75 * clouds)

    def ground(self, directions: Floats, base: Floats, contrast: float) -> Floats:
        """A ground of one colour, lighter in the distance, with soft texture."""
        depth = np.clip(-directions[:, 1] / 0.5, 0, 1)[:, None]
        color = base * (1.15 - 0.5 * depth)
        return color * np.exp(contrast * self._texture(directions))[:, None]

    def skyline(self, directions: Floats, level: float, height: float, steps: float = 0.0) -> Floats:
        """How far directions lie below a ridge, in radians; `steps` > 0 gives it flat tops."""
        flat = directions * [1, 0, 1]
        flat /= np.linalg.norm(flat, axis=1, keepdims=True) + 1e-12
        profile = self._ridge(flat)
        if steps:
            profile = np.round(profile * steps) / steps
        return level + height * profile - np.arcsin(np.clip(directions[:, 1], -1, 1))

    def trunks(self, directions: Floats) -> Floats:
        """Soft vertical bands, 0 to 1."""
        flat = directions * [1, 0.05, 1]
        return _step(self._bands(flat), 0.35, 0.9)

    def meadow(self, directions: Floats) -> Floats:
        """Sky, a row of trees and grass."""
        p = self._palette
        color = self.sky(directions, 0.55 + 0.06 * p[0], 0.35 + 0.4 * p[1], 0.8 + 0.2 * p[2])
        trees = self.ground(directions, _display(0.25 + 0.12 * p[3], 0.5, 0.25 + 0.2 * p[4]), 0.5)
        grass = self.ground(directions, _display(0.17 + 0.13 * p[5], 0.45 + 0.3 * p[6], 0.5 + 0.3 * p[7]), 0.22)
        color = _over(color, trees, _step(self.skyline(directions, 0.03 + 0.1 * p[8], 0.05), -0.02, 0.03))
        color = _over(color, grass, _step(self.skyline(directions, -0.06, 0.008), -0.015, 0.02))
        flowers = self._lights(directions, _display(p[9], 0.6, 0.95), count=160, low=-0.6, high=-0.1)
        return _over(color, flowers[:, :3], 0.6 * flowers[:, 3]) if p[10] > 0.4 else color

    def mountains(self, directions: Floats) -> Floats:
        """Three ranges, bluer with distance, under a coloured sky."""
        p = self._palette
        color = self.sky(directions, (0.5 + 0.6 * p[0]) % 1, 0.2 + 0.45 * p[1], 0.75 + 0.25 * p[2])
        near = _display(0.05 + 0.35 * p[3], 0.35, 0.25 + 0.25 * p[4])
        far = _display(0.6, 0.25 + 0.2 * p[5], 0.75)
        for share, level, height in ((0.0, 0.16, 0.09), (0.45, 0.05, 0.07), (1.0, -0.08, 0.05)):
            rock = self.ground(directions, far + (near - far) * share, 0.1 + 0.2 * share)
            turned = directions @ _turn(2 * share)
            color = _over(color, rock, _step(self.skyline(turned, level, height), -0.012, 0.02))
        return color

    def forest(self, directions: Floats) -> Floats:
        """Light between trunks, leaves above and below."""
        p = self._palette
        glow = _display(0.14 + 0.14 * p[0], 0.3 + 0.4 * p[1], 0.75 + 0.25 * p[2])
        leaves = _display(0.2 + 0.16 * p[3], 0.55, 0.3 + 0.3 * p[4])
        color = _over(np.tile(glow, (len(directions), 1)), leaves, _step(self._texture(directions), -0.9, 1.2))
        bark = self.ground(directions, _display(0.07, 0.35, 0.18 + 0.2 * p[5]), 0.2)
        color = _over(color, bark, 0.85 * self.trunks(directions))
        floor = self.ground(directions, _display(0.08 + 0.2 * p[6], 0.5, 0.3 + 0.2 * p[7]), 0.35)
        color = _over(color, floor, _step(-directions[:, 1], 0.02, 0.16))
        spots = self._lights(directions, _display(0.15, 0.25, 1.0), count=260, low=-0.1, high=0.7)
        return _over(color, spots[:, :3], 0.5 * spots[:, 3])

    def sea(self, directions: Floats) -> Floats:
        """Sky over water, with a beach below."""
        p = self._palette
        hue = 0.52 + 0.1 * p[0] if p[1] > 0.35 else 0.02 + 0.08 * p[0]
        color = self.sky(directions, hue, 0.3 + 0.4 * p[2], 0.8 + 0.2 * p[3])
        stretched = directions * [1, 6, 1]
        water = _display(0.48 + 0.12 * p[4], 0.5 + 0.35 * p[5], 0.35 + 0.4 * p[6])
        waves = water * np.exp(0.3 * self._texture(stretched))[:, None]
        color = _over(color, waves, _step(-directions[:, 1], -0.005 + 0.08 * (p[7] - 0.5), 0.02 + 0.08 * (p[7] - 0.5)))
        sand = self.ground(directions, _display(0.1 + 0.03 * p[8], 0.3, 0.85), 0.08)
        return _over(color, sand, _step(self.skyline(directions, -0.22, 0.03), -0.02, 0.03))

    def city(self, directions: Floats) -> Floats:
        """Blocks against the dusk, with lights."""
        p = self._palette
        dusk = _display((0.6 + 0.5 * p[0]) % 1, 0.5, 0.25 + 0.5 * p[1])
        horizon = _display((0.95 + 0.2 * p[2]) % 1, 0.5 + 0.3 * p[3], 0.5 + 0.45 * p[1])
        height = np.clip(directions[:, 1] / 0.5 + 0.2, 0, 1)[:, None]
        color = horizon + (dusk - horizon) * height
        for share, steps, level in ((0.45, 2.0, 0.12), (0.2, 1.5, 0.0)):
            block = self.ground(directions, dusk * share + 0.3 * share * horizon, 0.2)
            turned = directions @ _turn(share)
            color = _over(color, block, _step(self.skyline(turned, level, 0.1, steps), -0.02, 0.025))
        street = self.ground(directions, dusk * 0.3 + 0.1 * horizon, 0.25)
        color = _over(color, street, _step(-directions[:, 1], 0.1, 0.2))
        lights = self._lights(directions, _display(0.1 + 0.06 * p[4], 0.6, 1.0), count=420, low=-0.35, high=0.25)
        return _over(color, lights[:, :3], 0.85 * lights[:, 3])

    def room(self, directions: Floats) -> Floats:
        """A wall with bright windows and pictures over a table."""
        p = self._palette
        wall = _display(p[0], 0.1 + 0.35 * p[1], 0.45 + 0.45 * p[2])
        color = np.tile(wall, (len(directions), 1)) * (1 + 0.08 * self._cloud(directions))[:, None]
        elevation = np.arcsin(np.clip(directions[:, 1], -1, 1))
        color = _over(color, *self._frames(directions, elevation, p[3], p[4], p[5]))
        table = self.ground(directions, _display(0.05 + 0.06 * p[6], 0.5, 0.35 + 0.4 * p[7]), 0.06)
        return _over(color, table, _step(-elevation, 0.1 + 0.1 * p[8], 0.14 + 0.1 * p[8]))

    def _frames(
        self, directions: Floats, elevation: Floats, shift: float, saturation: float, hue: float
    ) -> tuple[Floats, Floats]:
        """Colour and cover of the windows and pictures on the wall: 32 columns, rows 0.2 radians apart."""
        across = np.arctan2(directions[:, 0], directions[:, 2]) * 32 / (2 * np.pi) + shift
        up = elevation / 0.2 + 0.3
        number = (np.floor(across).astype(int) % 32 * 7 + np.floor(up).astype(int) * 13) % 61
        wide = _step(0.28 + 0.14 * np.cos(number) - np.abs(across % 1 - 0.5), -0.07, 0.07)
        tall = _step(0.3 + 0.1 * np.sin(number) - np.abs(up % 1 - 0.5), -0.07, 0.07)
        hues = (hue + np.arange(61) * 0.381) % 1
        colors = np.stack([_display(h, 0.25 + 0.5 * saturation, 0.35 + 0.6 * ((h * 7) % 1)) for h in hues])
        return colors[number], 0.9 * wide * tall


_PAINTERS = {
    "meadow": View.meadow,
    "mountains": View.mountains,
    "forest": View.forest,
    "sea": View.sea,
    "city": View.city,
    "room": View.room,
}


class _Waves:
    """A random smooth function of directions, about unit variance, with more power in its slow parts."""

    def __init__(self, random: np.random.Generator, count: int, slow: float, fast: float, flatten: float = 1.0) -> None:
        size = np.exp(random.uniform(np.log(slow), np.log(fast), count))
        axis = random.normal(size=(count, 3))
        axis /= np.linalg.norm(axis, axis=1, keepdims=True)
        axis[:, 1] *= flatten
        self._frequency = (axis * size[:, None]).T.astype(np.float32)
        self._phase = random.uniform(0, 2 * np.pi, count).astype(np.float32)
        weight = size**-0.6
        self._weight = (weight * np.sqrt(2 / np.sum(weight**2))).astype(np.float32)

    def __call__(self, directions: Floats) -> Floats:
        # Single precision serves colours well and is twice as fast.
        phase = directions.astype(np.float32) @ self._frequency + self._phase
        return (np.cos(phase) @ self._weight).astype(np.float64)


class _Lights:
    """Soft discs, as a wide aperture makes of points of light."""

    def __init__(self, random: np.random.Generator) -> None:
        self._azimuth = random.uniform(-np.pi, np.pi, 500)
        self._height = random.uniform(0, 1, 500)
        self._radius = random.uniform(0.006, 0.026, 500)
        self._tint = random.uniform(0.5, 1.2, (500, 3))

    def __call__(self, directions: Floats, color: Floats, count: int, low: float, high: float) -> Floats:
        """Colour and cover [n, 4] of the first `count` discs at elevations from `low` to `high`."""
        elevation = low + (high - low) * self._height[:count]
        azimuth = self._azimuth[:count]
        flat = np.cos(elevation)
        centers = np.stack([flat * np.sin(azimuth), np.sin(elevation), flat * np.cos(azimuth)], axis=1)
        result = np.zeros((len(directions), 4))
        cosines = directions @ centers.T
        for disc in np.flatnonzero(cosines.max(axis=0) > np.cos(self._radius[:count])):
            distance = np.arccos(np.clip(cosines[:, disc], -1, 1)) / self._radius[disc]
            cover = _step(1 - distance, 0, 0.45)
            result[:, :3] = _over(result[:, :3], np.clip(color * self._tint[disc], 0, 1), cover)
            result[:, 3] = np.maximum(result[:, 3], cover)
        return result


def _display(hue: float, saturation: float, brightness: float) -> Floats:
    return linear_color(hue, saturation, brightness) ** (1 / 2.2)


def _turn(angle: float) -> Floats:
    """Rotation around the y axis."""
    cos, sin = np.cos(angle), np.sin(angle)
    return np.array([[cos, 0, sin], [0, 1, 0], [-sin, 0, cos]])


def _step(value: Floats, low: float, high: float) -> Floats:
    """0 below `low`, 1 above `high`, smooth between."""
    share = np.clip((value - low) / (high - low), 0, 1)
    return share * share * (3 - 2 * share)


def _over(below: Floats, above: Floats, cover: Floats) -> Floats:
    return below + (above - below) * cover[:, None]
