"""Whole data sets of rendered pictures, with camera labels and ground truth."""

from __future__ import annotations

import io
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from dataset_preprocessing.cameras import (
    EG3D_FOCAL,
    EG3D_RADIUS,
    Floats,
    intrinsics,
    look_at,
    make_label,
    orbit_position,
)
from dataset_preprocessing.parallel import ordered_map
from dataset_preprocessing.storage import Writer, open_writer, remaining
from dataset_preprocessing.synthetic.render import Picture, Renderer, Scene, sample_scene, to_bytes

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


@dataclass(frozen=True)
class Task:
    """One picture to render."""

    options: Options
    index: int


def draw(options: Options, index: int) -> tuple[Scene, list[float]]:
    """Scene and camera label of picture `index`, from the seed alone; `views` pictures in a row share a scene.

    Label numbers are rounded to 9 decimals, and the picture is rendered from the rounded ones.
    """
    scene = sample_scene(np.random.default_rng([options.seed, index // options.views]), options.white)
    random = np.random.default_rng([options.seed, index, 1])
    sideways, (low, high) = RANGES[options.camera_range]
    position = orbit_position(random.uniform(-sideways, sideways), random.uniform(low, high), EG3D_RADIUS)
    label: Floats = make_label(look_at(position), intrinsics(EG3D_FOCAL))
    return scene, [float(number) for number in np.round(label, 9)]


def image_name(index: int) -> str:
    """Name of a picture inside the data set."""
    return f"{index // 1000:05d}/img{index:08d}.png"


def render_files(task: Task) -> tuple[bytes, dict[str, bytes]]:
    """The PNG of a picture and its ground-truth files by name."""
    scene, label = draw(task.options, task.index)
    picture = Renderer(scene)(label, task.options.resolution, task.options.supersampling)
    return _png(to_bytes(picture.image)), _truth_files(task.index, picture)


def _truth_names(index: int) -> list[str]:
    stem = image_name(index).removesuffix(".png")
    return [f"{stem}_foreground.png", f"{stem}_mask.png", f"{stem}_depth.npy"]


def _truth_files(index: int, picture: Picture) -> dict[str, bytes]:
    depth = io.BytesIO()
    np.save(depth, picture.depth.astype(np.float32))
    contents = [_png(picture.rgba()), _png(to_bytes(picture.mask)), depth.getvalue()]
    return dict(zip(_truth_names(index), contents, strict=True))


def _png(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG", compress_level=0)
    return stream.getvalue()


def make_set(dest: Path, options: Options, count: int, workers: int) -> Path:
    """Write a set and, beside it, its ground truth, whose path comes back (`-truth` in its name).

    Raises StorageError where one of the two exists already.
    """
    truth_dest = dest.with_name(f"{dest.stem}-truth{dest.suffix}")
    names = [image_name(index) for index in range(count)]
    plan = {"work": "synthetic", "count": count, **asdict(options)}
    with open_writer(dest, plan) as writer, open_writer(truth_dest, plan) as truth_writer:
        missing = set(remaining(writer, names))
        truth_missing = set(remaining(truth_writer, [name for index in range(count) for name in _truth_names(index)]))
        tasks = [
            Task(options, index)
            for index in range(count)
            if names[index] in missing or not truth_missing.isdisjoint(_truth_names(index))
        ]
        for task, (image, truth) in zip(tasks, ordered_map(render_files, tasks, workers, "rendering"), strict=True):
            if names[task.index] in missing:
                writer.add(names[task.index], image)
            for name, data in truth.items():
                if name in truth_missing:
                    truth_writer.add(name, data)
        drawn = [draw(options, index) for index in range(count)]
        labels = [[name, label] for name, (_, label) in zip(names, drawn, strict=True)]
        scenes = [[name, scene.to_record()] for name, (scene, _) in zip(names, drawn, strict=True)]
        _add_json(writer, "dataset.json", {"labels": labels})
        _add_json(truth_writer, "parameters.json", {"options": plan, "scenes": scenes, "labels": labels})
    return truth_dest


def _add_json(writer: Writer, name: str, content: dict[str, Any]) -> None:
    if name in remaining(writer, [*writer.done, name]):
        writer.add(name, json.dumps(content).encode())
