"""Whole data sets of rendered toy animals, with camera labels and ground truth."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np

from dataset_preprocessing.cameras import EG3D_FOCAL, EG3D_RADIUS, intrinsics, look_at, make_label, orbit_position
from dataset_preprocessing.rendered import write_rendered_set
from dataset_preprocessing.synthetic.render import Picture, Renderer, Scene, sample_scene

Range = Literal["frontal", "narrow", "circle"]

RANGES: dict[Range, tuple[float, tuple[float, float]]] = {
    "frontal": (0.6, (-0.2, 0.3)),
    "narrow": (0.175, (-0.1, 0.1)),
    "circle": (np.pi, (-0.1, 0.6)),
}
"""Largest azimuth to either side, and lowest and highest elevation, of the cameras; radians, drawn uniformly."""


@dataclass(frozen=True)
class Options:
    """What determines a synthetic set, picture by picture."""

    resolution: int
    seed: int
    white: bool
    camera_range: Range
    views: int
    supersampling: int


def draw(options: Options, index: int) -> tuple[Scene, list[float]]:
    """Scene and camera label of picture `index`, from the seed alone; `views` pictures in a row share a scene.

    Label numbers are rounded to 9 decimals, and the picture is rendered from the rounded ones.
    """
    scene = sample_scene(np.random.default_rng([options.seed, index // options.views]), options.white)
    random = np.random.default_rng([options.seed, index, 1])
    sideways, (low, high) = RANGES[options.camera_range]
    position = orbit_position(random.uniform(-sideways, sideways), random.uniform(low, high), EG3D_RADIUS)
    label = make_label(look_at(position), intrinsics(EG3D_FOCAL))
    return scene, [float(number) for number in np.round(label, 9)]


def render_picture(index: int, options: Options) -> Picture:
    """Picture `index` of a set."""
    scene, label = draw(options, index)
    return Renderer(scene)(label, options.resolution, options.supersampling)


def make_set(dest: Path, options: Options, count: int, workers: int) -> Path:
    """Write a set and, beside it, its ground truth, whose path comes back (`-truth` in its name).

    Raises StorageError where one of the two exists already.
    """
    drawn = [draw(options, index) for index in range(count)]
    plan = {"work": "synthetic", "count": count, **asdict(options)}
    records = [scene.to_record() for scene, _ in drawn]
    labels = [label for _, label in drawn]
    return write_rendered_set(dest, plan, labels, records, partial(render_picture, options=options), workers)
