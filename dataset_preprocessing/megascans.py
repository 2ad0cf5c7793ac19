"""Megascans plants and food as EpiGRAF trains on them: renders of scanned models with known cameras.

The renders come from Blender (a step of the user, described in docs/datasets.md), laid out as
`<collection>/<model>/000000.png` ... with a `metadata.json` in each collection: {model: [{"file_path": ...,
"transform_matrix": 4x4 camera-to-world of Blender (z up, OpenGL axes)}, ...]}.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np

from dataset_preprocessing.building import Item, build, numbered_names
from dataset_preprocessing.cameras import focal_from_fov, intrinsics
from dataset_preprocessing.commands import dest_option, plain_errors, source_option, tell, workers_option
from dataset_preprocessing.conventions import Fix
from dataset_preprocessing.formats.epigraf import angles_from_pose
from dataset_preprocessing.formats.shots import Shot, find_image, scale_to_radius
from dataset_preprocessing.pictures import PictureOptions
from dataset_preprocessing.sources import open_source
from training.archive import ArchiveError, Source, parse_json

_BLENDER = Fix(flip_axes="yz", up="z")
_MAX_ROLL = 1e-5


def read_megascans(source: Source, fov_degrees: float) -> Iterator[tuple[str, Shot]]:
    """Collection and shot of every render, collections and models sorted.

    Raises ArchiveError for missing or broken metadata, missing pictures, and cameras that are rolled.
    """
    metadata = sorted(name for name in source.names if name.rsplit("/", 1)[-1] == "metadata.json")
    if not metadata:
        raise ArchiveError(f"{source.path}: no collection with a metadata.json inside")
    matrix = intrinsics(focal_from_fov(fov_degrees))
    for name in metadata:
        folder, where = name.rpartition("/")[0], f"{source.path}: {name}"
        content = parse_json(source.read(name), where)
        if not isinstance(content, dict):
            raise ArchiveError(f"{where}: expected an object of models")
        for model in sorted(content):
            for frame in content[model] if isinstance(content[model], list) else [None]:
                path, pose = _frame(frame, f"{where}: {model}")
                inside = path if path.startswith(f"{model}/") else f"{model}/{path.rsplit('/', 1)[-1]}"
                image = find_image(source, f"{folder}/{inside}" if folder else inside, where)
                yield folder.rsplit("/", 1)[-1], Shot(image, _BLENDER.apply(pose), matrix)


def _frame(frame: Any, where: str) -> tuple[str, np.ndarray]:
    try:
        path, pose = str(frame["file_path"]), np.array(frame["transform_matrix"], dtype=np.float64)
        if pose.shape != (4, 4) or not np.isfinite(pose).all():
            raise ValueError("transform_matrix is not 4x4")
    except (KeyError, TypeError, ValueError) as error:
        raise ArchiveError(f"{where}: a frame is not {{file_path, transform_matrix}} ({error})") from None
    if abs(np.arctan2(-pose[2, 0], np.hypot(pose[2, 1], pose[2, 2]))) > _MAX_ROLL:
        raise ArchiveError(f"{where}: {path} has a rolled camera, which yaw and pitch cannot describe")
    return path.replace("\\", "/").removeprefix("./"), pose


@click.command()
@source_option
@dest_option
@click.option("--resolution", default=256, show_default=True, type=click.IntRange(16, 1024))
@click.option("--fov-deg", default=45.0, show_default=True, help="Horizontal field of view of the renders.")
@click.option("--radius", default=2.7, show_default=True, help="Camera distance that the world is scaled to.")
@workers_option
@plain_errors
def main(source: Path, dest: Path, resolution: int, fov_deg: float, radius: float, workers: int) -> None:
    """Make a Megascans set from renders.

    Get by hand: models of the Megascans library (their licence holds), and render them with Blender as docs/datasets.md
    describes. The set gets camera labels, EpiGRAF's camera_angles, and the collection of each picture as its class
    (`classes` in dataset.json). Transparent renders are put on white.
    """
    opened = open_source(source)
    found = list(read_megascans(opened, fov_deg))
    shots = scale_to_radius([shot for _, shot in found], radius)
    names = numbered_names(len(shots))
    items = [Item(s.image, n, s.label(), angles_from_pose(s.pose)) for s, n in zip(shots, names, strict=True)]
    numbers = {collection: number for number, collection in enumerate(sorted({c for c, _ in found}))}
    classes = [[name, numbers[collection]] for name, (collection, _) in zip(names, found, strict=True)]
    extra = {"classes": classes, "class_names": sorted(numbers)}
    options = PictureOptions((resolution, resolution), "center-crop", "white")
    tell(build(dest.expanduser(), opened, items, options, workers=workers, extra=extra))


if __name__ == "__main__":
    main()
