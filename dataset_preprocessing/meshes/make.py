"""Whole data sets of rendered meshes."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dataset_preprocessing.cameras import intrinsics, look_at, make_label, orbit_position
from dataset_preprocessing.meshes.mesh import Mesh, load_mesh
from dataset_preprocessing.meshes.panorama import SUFFIXES, Panorama, read_panorama
from dataset_preprocessing.meshes.render import MeshTracer, render
from dataset_preprocessing.meshes.torcs import find_cars, load_car
from dataset_preprocessing.meshes.traced import PathTracer
from dataset_preprocessing.rendered import write_rendered_set
from dataset_preprocessing.synthetic.render import Picture
from training.archive import ArchiveError

MODEL_SUFFIXES = (".glb", ".gltf", ".obj", ".ply", ".off", ".stl", ".ac", ".acc")
_SIZE = 0.92
"""Share of the picture's half width that the largest object reaches."""


@dataclass(frozen=True)
class ModelFile:
    """A model to render; TORCS's cars may wear another livery."""

    path: Path
    livery: Path | None = None
    torcs: bool = False

    def load(self) -> Mesh:
        """The mesh; ArchiveError if the file cannot be read."""
        return load_car(self.path, self.livery) if self.torcs else load_mesh(self.path)


@dataclass(frozen=True)
class Options:
    """What determines a set of rendered meshes. Angles in radians, lengths in scene units.

    Without panoramas the background is white. Cameras are drawn uniformly over the ranges; `views` pictures in a row
    share model, panorama and light. Objects are scaled to fill the view of the cameras. With `light_samples` above 0
    their light is traced along that many paths a pixel.
    """

    models: tuple[ModelFile, ...]
    panoramas: tuple[Path, ...]
    resolution: int
    seed: int
    views: int
    focal: float
    radius: float
    azimuth: tuple[float, float]
    elevation: tuple[float, float]
    supersampling: int
    light_samples: int


@dataclass(frozen=True)
class Shot:
    """What was drawn for one picture."""

    model: ModelFile
    panorama: Path | None
    turn: float
    label: tuple[float, ...]

    def record(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        livery = None if self.model.livery is None else str(self.model.livery)
        panorama = None if self.panorama is None else str(self.panorama)
        return {"model": str(self.model.path), "livery": livery, "panorama": panorama, "panorama_turn": self.turn}


def find_models(folder: Path) -> tuple[ModelFile, ...]:
    """All models below a folder, TORCS's cars with all their liveries; ArchiveError where there are none."""
    cars = find_cars(folder)
    if cars:
        return tuple(ModelFile(model, livery, torcs=True) for model, livery in cars)
    files = [file for file in sorted(folder.rglob("*")) if file.suffix.lower() in MODEL_SUFFIXES and file.is_file()]
    if not files:
        raise ArchiveError(f"{folder}: no models inside (known are {', '.join(MODEL_SUFFIXES)})")
    return tuple(ModelFile(file) for file in files)


def find_panoramas(folder: Path) -> tuple[Path, ...]:
    """All panoramas below a folder; ArchiveError where there are none."""
    files = [file for file in sorted(folder.rglob("*")) if file.name.lower().endswith(SUFFIXES) and file.is_file()]
    if not files:
        raise ArchiveError(f"{folder}: no panoramas inside (known are {', '.join(SUFFIXES)})")
    return tuple(files)


def draw(options: Options, index: int) -> Shot:
    """What picture `index` shows, from the seed alone."""
    scene = np.random.default_rng([options.seed, index // options.views])
    model = options.models[int(scene.integers(len(options.models)))]
    panorama = options.panoramas[int(scene.integers(len(options.panoramas)))] if options.panoramas else None
    turn = float(scene.uniform(-np.pi, np.pi))
    camera = np.random.default_rng([options.seed, index, 1])
    position = orbit_position(camera.uniform(*options.azimuth), camera.uniform(*options.elevation), options.radius)
    label = np.round(make_label(look_at(position), intrinsics(options.focal)), 9)
    return Shot(model, panorama, round(turn, 9), tuple(float(value) for value in label))


def object_radius(focal: float, radius: float) -> float:
    """Radius of the ball around the origin that the cameras see completely, with a margin."""
    slope = 0.5 * _SIZE / focal
    return radius * slope / np.sqrt(1 + slope**2)


@functools.lru_cache(maxsize=64)
def _tracer(model: ModelFile, size: float) -> MeshTracer:
    return MeshTracer(model.load().fitted(size))


@functools.lru_cache(maxsize=32)
def _paths(model: ModelFile, size: float, samples: int) -> PathTracer:
    return PathTracer(_tracer(model, size).mesh, samples)


@functools.lru_cache(maxsize=64)
def _panorama(path: Path) -> Panorama:
    return read_panorama(path)


def render_picture(index: int, options: Options) -> Picture:
    """Picture `index` of a set."""
    shot = draw(options, index)
    size = object_radius(options.focal, options.radius)
    tracer = _tracer(shot.model, size)
    paths = _paths(shot.model, size, options.light_samples) if options.light_samples else None
    panorama = None if shot.panorama is None else _panorama(shot.panorama)
    return render(tracer, panorama, shot.turn, shot.label, options.resolution, options.supersampling, paths, index)


def usable_models(models: Sequence[ModelFile]) -> tuple[tuple[ModelFile, ...], list[str]]:
    """The models that can be read, and the faults of the others."""
    good, faults = [], []
    for model in models:
        try:
            model.load()
            good.append(model)
        except ArchiveError as error:
            faults.append(str(error))
    return tuple(good), faults


def make_set(dest: Path, options: Options, count: int, workers: int) -> Path:
    """Write a set and, beside it, its ground truth, whose path comes back (`-truth` in its name).

    Raises StorageError where one of the two exists already, ArchiveError for models that cannot be read.
    """
    shots = [draw(options, index) for index in range(count)]
    plan = {"work": "meshes", "count": count, "options": repr(options)}
    labels, records = [list(shot.label) for shot in shots], [shot.record() for shot in shots]
    return write_rendered_set(dest, plan, labels, records, functools.partial(render_picture, options=options), workers)
