"""The objects: toy animals of one family, with faces, so that the front and every part of the pose can be seen.

A `Critter` is the list of drawn parameters; `build` turns it into solids and paints. The animal faces +z, stands
upright in y and fits a ball of radius 0.3 around the origin, which EG3D's cameras see completely.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np

from dataset_preprocessing.synthetic.solids import Floats, Shape, Solid

Color = tuple[float, float, float]
Ears = Literal["round", "pointed", "long", "horns", "none"]
Face = Literal["beak", "muzzle", "snout"]
Coat = Literal["plain", "spots", "stripes", "patches"]
Extra = Literal["none", "scarf", "hat"]
Choice = TypeVar("Choice")

EARS: tuple[Ears, ...] = ("round", "pointed", "long", "horns", "none")
FACES: tuple[Face, ...] = ("beak", "muzzle", "snout")
COATS: tuple[Coat, ...] = ("plain", "spots", "stripes", "patches")
EXTRAS: tuple[Extra, ...] = ("none", "scarf", "hat")

SIZE = 0.3
"""Radius of the ball that holds every critter, in scene units."""


@dataclass(frozen=True)
class Critter:
    """Drawn parameters. Lengths in units of half the body height; hues in turns, other colour numbers in [0, 1]."""

    body_width: float
    body_depth: float
    head_size: float
    head_width: float
    eye_size: float
    eye_spread: float
    ears: Ears
    ear_size: float
    face: Face
    coat: Coat
    coat_scale: float
    coat_offset: float
    extra: Extra
    tail_size: float
    hue: float
    saturation: float
    brightness: float
    accent_hue: float
    eye_hue: float


def choose(random: np.random.Generator, options: Sequence[Choice], shares: Sequence[float] | None = None) -> Choice:
    """One of the options, with equal or with given probabilities."""
    return options[int(random.choice(len(options), p=shares))]


def sample_critter(random: np.random.Generator) -> Critter:
    """A critter with every parameter drawn independently from its range."""
    hue = random.uniform()
    return Critter(
        body_width=random.uniform(0.72, 1.0),
        body_depth=random.uniform(0.68, 0.92),
        head_size=random.uniform(0.62, 0.82),
        head_width=random.uniform(1.0, 1.25),
        eye_size=random.uniform(0.15, 0.23),
        eye_spread=random.uniform(0.34, 0.46),
        ears=choose(random, EARS, [0.26, 0.26, 0.22, 0.16, 0.1]),
        ear_size=random.uniform(0.8, 1.2),
        face=choose(random, FACES, [0.34, 0.4, 0.26]),
        coat=choose(random, COATS, [0.28, 0.24, 0.24, 0.24]),
        coat_scale=random.uniform(0.8, 1.3),
        coat_offset=random.uniform(0, 100),
        extra=choose(random, EXTRAS, [0.5, 0.3, 0.2]),
        tail_size=random.uniform(0.7, 1.3),
        hue=hue,
        saturation=random.uniform(0.3, 0.78),
        brightness=random.uniform(0.5, 1.0),
        accent_hue=(hue + random.choice([0.08, 0.33, 0.5, 0.67, 0.92])) % 1.0,
        eye_hue=random.uniform(),
    )


@dataclass(frozen=True)
class Part:
    """A solid and its paint: colours in [0, 1] (linear light) of local points [n, 3]; `gloss` in [0, 1]."""

    solid: Solid
    paint: Callable[[Floats], Floats]
    gloss: float = 0.15


def build(critter: Critter) -> list[Part]:
    """The parts of a critter, scaled and centred in its ball."""
    workshop = _Workshop(critter)
    workshop.add_trunk()
    workshop.add_eyes()
    {"beak": workshop.add_beak, "muzzle": workshop.add_muzzle, "snout": workshop.add_snout}[critter.face]()
    workshop.add_ears()
    workshop.add_extra()
    return _fit(workshop.parts)


def linear_color(hue: float, saturation: float, brightness: float) -> Floats:
    """Linear-light RGB of a display colour given as hue (turns), saturation and brightness in [0, 1]."""
    wheel = np.clip(np.abs((np.array([hue, hue + 2 / 3, hue + 1 / 3]) % 1) * 6 - 3) - 1, 0, 1)
    return (brightness * (1 - saturation + saturation * wheel)) ** 2.2


def _fit(parts: list[Part]) -> list[Part]:
    low = np.min([part.solid.center - _half_extent(part.solid) for part in parts], axis=0)
    high = np.max([part.solid.center + _half_extent(part.solid) for part in parts], axis=0)
    middle = (low + high) / 2
    reach = max(float(np.linalg.norm(_outline(part.solid) - middle, axis=1).max()) for part in parts)
    scale = SIZE / reach
    return [
        Part(Solid(p.solid.shape, (p.solid.center - middle) * scale, p.solid.axes * scale), p.paint, p.gloss)
        for p in parts
    ]


def _half_extent(solid: Solid) -> Floats:
    """Half the size of the bounding box (of a cylinder's for a cone)."""
    if solid.shape == "sphere":
        return np.linalg.norm(solid.axes, axis=1)
    return np.hypot(solid.axes[:, 0], solid.axes[:, 2]) + np.abs(solid.axes[:, 1])


def _outline(solid: Solid) -> Floats:
    """Points [n, 3] on, or a little outside of, the surface."""
    height = np.linspace(-1, 1, 17)
    turn = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    y, angle = (grid.ravel() for grid in np.meshgrid(height, turn))
    ring = {"sphere": np.sqrt(1 - y**2), "cylinder": np.ones_like(y), "cone": (1 - y) / 2}[solid.shape]
    local = np.stack([ring * np.cos(angle), y, ring * np.sin(angle)], axis=1)
    return 1.01 * local @ solid.axes.T + solid.center


class _Workshop:
    """Puts a critter together from the trunk outwards."""

    def __init__(self, critter: Critter) -> None:
        c = self.critter = critter
        self.parts: list[Part] = []
        self.fur = linear_color(c.hue, c.saturation, c.brightness)
        self.light_fur = 0.35 * self.fur + 0.65 * linear_color(c.hue + 0.03, 0.15, 0.97)
        self.accent = linear_color(c.accent_hue, 0.7, 0.9)
        self.dark = linear_color(c.hue, 0.5, 0.16)
        self.head = np.array([0.0, 0.95 + 0.45 * c.head_size, 0.1])
        self.head_radii = c.head_size * np.array([c.head_width, 0.92, 0.95])

    def add(
        self,
        shape: Shape,
        center: tuple[float, float, float] | Floats,
        radii: tuple[float, float, float] | Floats,
        paint: Floats | Callable[[Floats], Floats],
        *,
        axis: tuple[float, float, float] | Floats | None = None,
        gloss: float = 0.15,
    ) -> None:
        """Add a part; `axis` is where its local y axis points."""
        axes = (np.eye(3) if axis is None else _frame(np.asarray(axis, dtype=np.float64))) * np.asarray(radii)
        painter = paint if callable(paint) else _plain(paint)
        self.parts.append(Part(Solid(shape, np.asarray(center, dtype=np.float64), axes), painter, gloss))

    def on_head(self, x: float, y: float, z: float, out: float = 1.0) -> Floats:
        """The point of the head's surface in a direction, or `out` times as far from its centre."""
        direction = np.array([x, y, z]) / np.linalg.norm([x, y, z])
        return self.head + out * self.head_radii * direction

    def add_trunk(self) -> None:
        """Body, head, arms, feet and tail."""
        c = self.critter
        body = np.array([c.body_width, 1.0, c.body_depth])
        self.add("sphere", (0, 0, 0), body, self._coat(belly=True))
        self.add("sphere", self.head, self.head_radii, self._coat(belly=False))
        for side in (-1.0, 1.0):
            arm = (side * 0.95 * c.body_width, 0.1, 0.22)
            self.add("sphere", arm, (0.2, 0.52, 0.26), self._coat(belly=False), axis=(side * -0.35, 1, -0.25))
            foot = (side * 0.45 * c.body_width, -0.9, 0.5 * c.body_depth)
            self.add("sphere", foot, (0.32, 0.2, 0.46), self.accent if c.face == "beak" else self.light_fur)
        tail = (0, -0.55, -1.02 * c.body_depth)
        self.add("sphere", tail, 0.3 * c.tail_size * np.ones(3), self.light_fur)

    def add_eyes(self) -> None:
        """Two eyes that look ahead, with brows."""
        c = self.critter
        iris = linear_color(c.eye_hue, 0.7, 0.75)
        for side in (-1.0, 1.0):
            place = self.on_head(side * c.eye_spread, 0.26, 0.85, out=0.93)
            gaze = np.array([side * 0.12, 0.03, 1.0])
            paint = _eye(iris, c.eye_size)
            self.add("sphere", place, c.eye_size * np.ones(3), paint, axis=gaze, gloss=1.0)

    def add_beak(self) -> None:
        """A pointed beak in the accent colour."""
        base = self.on_head(0, -0.12, 1, out=1.1)
        self.add("cone", base, (0.2, 0.27, 0.16), self.accent, axis=(0, -0.3, 1), gloss=0.5)

    def add_muzzle(self) -> None:
        """A light muzzle with a dark nose."""
        place = self.on_head(0, -0.3, 1, out=0.92)
        self.add("sphere", place, (0.34, 0.24, 0.26), self.light_fur)
        self.add("sphere", place + np.array([0, 0.14, 0.23]), (0.12, 0.085, 0.08), self.dark, gloss=0.9)

    def add_snout(self) -> None:
        """A short tube with two nostrils."""
        place = self.on_head(0, -0.22, 1, out=1.02)
        skin = 0.6 * self.fur + 0.4 * linear_color(0.97, 0.45, 0.95)
        self.add("cylinder", place, (0.25, 0.17, 0.2), skin, axis=(0, 0, 1))
        for side in (-1.0, 1.0):
            self.add("sphere", place + np.array([side * 0.09, 0.01, 0.16]), (0.05, 0.07, 0.04), self.dark)

    def add_ears(self) -> None:
        """Ears or horns on the top of the head; ears are light in front."""
        kind, size = self.critter.ears, self.critter.ear_size
        for side in (-1.0, 1.0):
            top = self.on_head(side * 0.62, 0.78, -0.05, out=1.0)
            if kind == "round":
                self.add("sphere", top, size * np.array([0.27, 0.27, 0.13]), self._ear())
            elif kind == "pointed":
                self.add(
                    "cone",
                    top + np.array([0, 0.1, 0]),
                    size * np.array([0.25, 0.3, 0.14]),
                    self._ear(),
                    axis=(side * 0.3, 1, 0),
                )
            elif kind == "long":
                lean = np.array([side * 0.28, 1, -0.08])
                self.add("sphere", top + 0.38 * size * lean, size * np.array([0.17, 0.5, 0.11]), self._ear(), axis=lean)
            elif kind == "horns":
                ivory = linear_color(0.12, 0.25, 0.95)
                self.add(
                    "cone",
                    top + np.array([0, 0.1, 0]),
                    size * np.array([0.11, 0.28, 0.11]),
                    ivory,
                    axis=(side * 0.5, 1, 0.1),
                    gloss=0.6,
                )

    def add_extra(self) -> None:
        """A scarf around the neck or a hat."""
        c = self.critter
        if c.extra == "scarf":
            height = self.head[1] - 0.88 * self.head_radii[1]
            width = 0.7 * max(c.body_width, self.head_radii[0])
            self.add("sphere", (0, height, 0.05), (width, 0.15, width * 0.95), self._stripes(self.accent))
            self.add(
                "sphere", (0.25, height - 0.33, 0.78 * c.body_depth), (0.13, 0.36, 0.08), self._stripes(self.accent)
            )
        elif c.extra == "hat":
            top = self.on_head(0, 1, 0, out=0.93)
            band = linear_color(c.accent_hue + 0.5, 0.5, 0.95)
            self.add("cylinder", top, (0.5, 0.04, 0.5), self.accent)
            self.add("cone", top + np.array([0, 0.36, 0]), (0.36, 0.36, 0.36), _bands(self.accent, band, 2.5))
            self.add("sphere", top + np.array([0, 0.74, 0]), (0.1, 0.1, 0.1), band)

    def _coat(self, belly: bool) -> Callable[[Floats], Floats]:
        c = self.critter
        second = self.accent if c.coat == "patches" else 0.28 * self.fur
        pattern = {"plain": _no_marks, "spots": _spots, "stripes": _rings, "patches": _patches}[c.coat]

        def paint(local: Floats) -> Floats:
            marks = pattern(local * (2.6 * c.coat_scale) + c.coat_offset)
            color = _mix(self.fur, second, marks)
            if belly:
                x, y, z = local.T
                front = (x / 0.62) ** 2 + ((y + 0.12) / 0.72) ** 2 < 1
                color[front & (z > 0)] = self.light_fur
            return color

        return paint

    def _ear(self) -> Callable[[Floats], Floats]:
        inner = 0.5 * self.light_fur + 0.5 * linear_color(0.97, 0.5, 0.95)

        def paint(local: Floats) -> Floats:
            front = (local[:, 2] > 0.15) & (local[:, 0] ** 2 + (local[:, 1] + 0.1) ** 2 < 0.45)
            return _mix(self.fur, inner, front.astype(np.float64))

        return paint

    def _stripes(self, color: Floats) -> Callable[[Floats], Floats]:
        return lambda local: _mix(color, 0.3 * color + 0.6, (np.sin(local[:, 0] * 14) > 0.3).astype(np.float64))


def _frame(axis: Floats) -> Floats:
    """A rotation whose y axis points along `axis`, its z axis as near to +z (or +y) as it can be."""
    y = axis / np.linalg.norm(axis)
    helper = np.array([0.0, 0.0, 1.0]) if abs(y[2]) < 0.9 else np.array([0.0, 1.0, 0.0])
    x = np.cross(y, helper)
    x /= np.linalg.norm(x)
    return np.stack([x, y, np.cross(x, y)], axis=1)


def _mix(first: Floats, second: Floats, share: Floats) -> Floats:
    return first * (1 - share[:, None]) + second * share[:, None]


def _plain(color: Floats) -> Callable[[Floats], Floats]:
    return lambda local: np.tile(color, (len(local), 1))


def _bands(first: Floats, second: Floats, count: float) -> Callable[[Floats], Floats]:
    return lambda local: _mix(first, second, (np.sin(local[:, 1] * np.pi * count) > 0.2).astype(np.float64))


def _eye(iris: Floats, size: float) -> Callable[[Floats], Floats]:
    """White, iris and pupil by the angle to the gaze, which is the local y axis."""
    white, pupil = np.array([0.9, 0.9, 0.88]), np.array([0.012, 0.012, 0.015])

    def paint(local: Floats) -> Floats:
        ahead = local[:, 1]
        color = np.tile(white, (len(local), 1))
        color[ahead > 0.72] = iris
        color[ahead > 0.72 + 0.14 * (size / 0.2)] = pupil
        return color

    return paint


def _no_marks(points: Floats) -> Floats:
    return np.zeros(len(points))


def _spots(points: Floats) -> Floats:
    """1 inside balls of random radius around the jittered points of a lattice."""
    cell = np.floor(points)
    best = np.zeros(len(points), dtype=bool)
    jitter = _hash(cell[:, :, None] + np.array([0.0, 17.0, 31.0]))
    center = cell + 0.3 + 0.4 * jitter
    radius = 0.2 + 0.14 * jitter[:, 0]
    best |= np.linalg.norm(points - center, axis=1) < radius
    return best.astype(np.float64)


def _hash(cells: Floats) -> Floats:
    """Numbers in [0, 1) from lattice cells [n, 3, k]: one for each k."""
    mixed = np.einsum("nck,c->nk", cells, np.array([12.9898, 78.233, 37.719]))
    return np.abs(np.sin(mixed) * 43758.5453) % 1.0


def _rings(points: Floats) -> Floats:
    wobble = 0.5 * np.sin(points[:, 0] * 1.3 + points[:, 2])
    return (np.sin(points[:, 1] * 2.6 + wobble) > 0.35).astype(np.float64)


def _patches(points: Floats) -> Floats:
    x, y, z = points.T
    blend = (
        np.sin(x * 0.9 + 1.1 * np.sin(y * 0.8)) + np.sin(y * 0.7 + 1.3 * np.sin(z * 0.9)) + np.sin(z * 0.8 + x * 0.3)
    )
    return (blend > 0.55).astype(np.float64)
