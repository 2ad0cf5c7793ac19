"""Changes to a finished set: mirrored, balanced by pose, reduced, given poses from a prior; and its statistics."""

from __future__ import annotations

import fnmatch
import hashlib
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from dataset_preprocessing.building import Item
from dataset_preprocessing.cameras import (
    Floats,
    focal_from_fov,
    fov_from_focal,
    intrinsics,
    look_at,
    make_label,
    orbit_position,
    split_label,
)
from dataset_preprocessing.conventions import focus
from dataset_preprocessing.converting import plan_conversion
from training.archive import ArchiveError, Source

Prior = Literal["gaussian", "uniform", "sphere"]


def mirror(items: Sequence[Item], replace_all: bool = False) -> list[Item]:
    """The pictures and their mirrored copies (`_mirror` in the name); or, with `replace_all`, only mirrored ones."""
    if replace_all:
        return [replace(item, mirrored=not item.mirrored) for item in items]
    copies = [replace(item, name=_with_suffix(item.name, "_mirror"), mirrored=not item.mirrored) for item in items]
    return sorted([*items, *copies], key=lambda item: item.name)


def camera_angles(labels: Floats) -> tuple[Floats, Floats]:
    """Azimuth and elevation, in degrees, of the cameras of labels [n, 25] around their common point."""
    poses, _ = split_label(labels)
    offset = poses[:, :3, 3] - focus(poses)
    distance = np.maximum(np.linalg.norm(offset, axis=1), 1e-12)
    azimuth = np.degrees(np.arctan2(offset[:, 0], offset[:, 2]))
    return azimuth, np.degrees(np.arcsin(np.clip(offset[:, 1] / distance, -1, 1)))


def rebalance(items: Sequence[Item], bins: int, strength: float, max_repeat: int) -> list[Item]:
    """The pictures with rare azimuths repeated (`_r1`, `_r2` ... in the name).

    Azimuths are divided into equal bins over their range. A picture of a bin with n pictures occurs
    round((N / n)^strength) times, N being the count of the fullest bin, at most `max_repeat` times. Strength 1 makes
    the bins even, as far as the limit lets it; 0 changes nothing. Raises ArchiveError for pictures without a camera.
    """
    azimuth = camera_angles(label_array(items))[0]
    low, high = float(azimuth.min()), float(azimuth.max())
    place = np.minimum(((azimuth - low) / max(high - low, 1e-9) * bins).astype(int), bins - 1)
    counts = np.bincount(place, minlength=bins)
    times = np.clip(np.round((counts.max() / np.maximum(counts, 1)) ** strength), 1, max_repeat).astype(int)
    return [
        item if copy == 0 else replace(item, name=_with_suffix(item.name, f"_r{copy}"))
        for item, group in zip(items, place, strict=True)
        for copy in range(times[group])
    ]


@dataclass(frozen=True)
class Choice:
    """Which pictures to keep; everything is kept that no rule drops.

    patterns: shell patterns of names to keep. drop: names to drop. labelled: only those with a label.
    distinct: one of several equal files. max_images: so many, chosen by `seed`.
    """

    patterns: tuple[str, ...] = ()
    drop: frozenset[str] = frozenset()
    labelled: bool = False
    distinct: bool = False
    max_images: int | None = None
    seed: int = 0


def subset(source: Source, choice: Choice) -> list[Item]:
    """The chosen pictures, under their names."""
    items = [item for item in plan_conversion(source, keep_names=True) if item.source not in choice.drop]
    if choice.patterns:
        items = [item for item in items if any(fnmatch.fnmatch(item.source, pattern) for pattern in choice.patterns)]
    if choice.labelled:
        items = [item for item in items if item.label is not None]
    if choice.distinct:
        first = {hashlib.sha256(source.read(item.source)).digest(): item for item in reversed(items)}
        items = list(first.values())[::-1]
    if choice.max_images is not None and choice.max_images < len(items):
        kept = sorted(np.random.default_rng(choice.seed).permutation(len(items))[: choice.max_images])
        items = [items[row] for row in kept]
    return items


@dataclass(frozen=True)
class PosePrior:
    """Distribution of cameras on a sphere around `pivot` that they look at. Angles in radians.

    gaussian: standard deviations `azimuth`, `elevation` around `mean_elevation`. uniform: half-widths instead.
    sphere: uniform by area over the whole sphere.
    """

    kind: Prior = "gaussian"
    azimuth: float = 0.3
    elevation: float = 0.155
    mean_elevation: float = 0.0
    radius: float = 2.7
    fov_degrees: float = 13.373
    pivot: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def sample(self, random: np.random.Generator) -> list[float]:
        """One camera label."""
        if self.kind == "sphere":
            azimuth, elevation = random.uniform(-np.pi, np.pi), np.arcsin(random.uniform(-1, 1))
        else:
            draw = random.normal if self.kind == "gaussian" else lambda _, width: random.uniform(-width, width)
            azimuth = draw(0, self.azimuth)
            elevation = np.clip(self.mean_elevation + draw(0, self.elevation), -np.pi / 2 + 1e-3, np.pi / 2 - 1e-3)
        pivot = np.array(self.pivot)
        pose = look_at(pivot + orbit_position(azimuth, float(elevation), self.radius), pivot)
        return [float(v) for v in make_label(pose, intrinsics(focal_from_fov(self.fov_degrees)))]


def draw_poses(items: Sequence[Item], prior: PosePrior, seed: int) -> list[Item]:
    """The pictures with camera labels drawn from a prior, whatever they show."""
    return [
        replace(item, label=prior.sample(np.random.default_rng([seed, row])), angles=None, finished_label=True)
        for row, item in enumerate(items)
    ]


def label_array(items: Sequence[Item]) -> Floats:
    """The camera labels [n, 25] of items; ArchiveError where one has none."""
    for item in items:
        if not isinstance(item.label, list) or len(item.label) != 25:
            raise ArchiveError(f"{item.source} has no camera label; run check")
    return np.array([item.label for item in items], dtype=np.float64)


def statistics(items: Sequence[Item]) -> dict[str, Any]:
    """Numbers about the cameras of a set: ranges, means, and how many stand in each 10-degree cell of the sphere."""
    labels = label_array(items)
    poses, matrices = split_label(labels)
    azimuth, elevation = camera_angles(labels)
    quantities = {
        "azimuth_deg": azimuth,
        "elevation_deg": elevation,
        "radius": np.linalg.norm(poses[:, :3, 3], axis=1),
        "focal": matrices[:, 0, 0],
        "fov_deg": fov_from_focal(matrices[:, 0, 0]),
    }
    cells = Counter(
        zip((azimuth // 10 * 10).astype(int).tolist(), (elevation // 10 * 10).astype(int).tolist(), strict=True)
    )
    return {
        "images": len(items),
        "common_point": [round(float(v), 6) for v in focus(poses)],
        **{name: _summary(values) for name, values in quantities.items()},
        "density": [{"azimuth_deg": a, "elevation_deg": e, "images": n} for (a, e), n in sorted(cells.items())],
    }


def density_table(density: Collection[dict[str, int]]) -> str:
    """The pose density as text: a row for each elevation, a column for each azimuth, share of the fullest cell."""
    counts = {(cell["azimuth_deg"], cell["elevation_deg"]): cell["images"] for cell in density}
    columns = range(min(a for a, _ in counts), max(a for a, _ in counts) + 10, 10)
    rows = range(max(e for _, e in counts), min(e for _, e in counts) - 10, -10)
    shades, most = " .:-=+*#%@", max(counts.values())
    lines = [
        f"{row:>4} |" + "".join(2 * shades[-(-9 * counts.get((column, row), 0) // most)] for column in columns) + "|"
        for row in rows
    ]
    return "\n".join([*lines, f"     {columns[0]:<{len(columns)}}{columns[-1] + 10:>{len(columns)}} degrees"])


def _summary(values: Floats) -> dict[str, float]:
    facts = {"min": values.min(), "mean": values.mean(), "max": values.max(), "std": values.std()}
    return {name: round(float(value), 6) for name, value in facts.items()}


def _with_suffix(name: str, suffix: str) -> str:
    stem, _, ending = name.rpartition(".")
    return f"{stem}{suffix}.{ending}"
