"""What the preparation of the published face sets has in common: camera files, and EG3D's corrections of them.

Corrections: focal length 2985.29 / 700 image widths, centre 0.5, and the camera moved along its line to a pivot until
it is 2.7 units away.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import click
import numpy as np

from dataset_preprocessing.building import Item, build, numbered_names
from dataset_preprocessing.cameras import (
    EG3D_FOCAL,
    EG3D_RADIUS,
    LABEL_SIZE,
    Floats,
    intrinsics,
    make_label,
)
from dataset_preprocessing.commands import tell
from dataset_preprocessing.converting import by_name
from dataset_preprocessing.editing import mirror
from dataset_preprocessing.pictures import PictureOptions
from dataset_preprocessing.sources import image_names, open_source
from training.archive import MAX_ENTRY_BYTES, ArchiveError, label_entries, parse_json

Mode = Literal["orig", "cor", "simplify"]

_PIVOTS: dict[str, tuple[float, float, float]] = {"orig": (0, 0, 0), "cor": (0, 0, 0.175), "simplify": (0, 0, 0.175)}


def read_camera_file(path: Path) -> dict[str, Floats]:
    """Pose [4, 4] by picture name, from `{"labels": [[name, 25 numbers], ...]}` or `{name: {"pose": 4x4}, ...}`.

    Raises ArchiveError where the file is neither.
    """
    if not path.is_file():
        raise ArchiveError(f"{path}: no such camera file")
    if path.stat().st_size > MAX_ENTRY_BYTES:
        raise ArchiveError(f"{path}: larger than {MAX_ENTRY_BYTES:,} bytes; refused")
    content = parse_json(path.read_bytes(), str(path))
    if not isinstance(content, dict):
        raise ArchiveError(f"{path}: expected `labels`, or a pose for each picture name")
    entries: Mapping[str, Any] = label_entries(content, str(path)) if "labels" in content else content
    if not entries:
        raise ArchiveError(f"{path}: holds no cameras")
    return {name.replace("\\", "/"): _pose(value, f"{path}: {name}") for name, value in entries.items()}


def _pose(value: Any, where: str) -> Floats:
    numbers = value.get("pose") if isinstance(value, dict) else value
    try:
        flat = np.array(numbers, dtype=np.float64).ravel()
    except (TypeError, ValueError):
        flat = np.zeros(0)
    if flat.size not in (16, LABEL_SIZE) or not np.isfinite(flat).all():
        raise ArchiveError(f"{where}: a camera needs a pose of 4x4 finite numbers")
    return flat[:16].reshape(4, 4)


def push_to_radius(pose: Floats, mode: Mode) -> list[float]:
    """EG3D's FFHQ label of a pose: moved to 2.7 units from the mode's pivot, rotation kept."""
    pivot = np.array(_PIVOTS[mode])
    pushed = pose.copy()
    offset = pose[:3, 3] - pivot
    pushed[:3, 3] = pivot + EG3D_RADIUS * offset / np.linalg.norm(offset)
    return _label(pushed)


def back_off_along_view(pose: Floats) -> list[float]:
    """EG3D's AFHQ label of a pose: the rotation, and a position 2.7 units back along the view axis from the origin."""
    placed = pose.copy()
    placed[:3, 3] = -EG3D_RADIUS * pose[:3, 2]
    return _label(placed)


def _label(pose: Floats) -> list[float]:
    return [float(value) for value in make_label(pose, intrinsics(EG3D_FOCAL))]


def build_faces(
    source: Path,
    dest: Path,
    labels: Mapping[str, list[float]],
    folder: str | None,
    options: PictureOptions,
    with_mirror: bool,
    workers: int,
) -> None:
    """Make a set of the pictures (below `folder`, if given) that have a label, and tell what came of it.

    Raises ArchiveError where no picture has one.
    """
    opened = open_source(source)
    pictures = [name for name in image_names(opened) if folder is None or folder in name.split("/")[:-1]]
    labelled = {
        name: by_name(dict(labels), name) or by_name(dict(labels), name.rsplit("/", 1)[-1]) for name in pictures
    }
    chosen = [name for name in pictures if labelled[name] is not None]
    if not chosen:
        raise ArchiveError(f"{source}: none of its {len(pictures)} pictures is named in the camera file")
    items = [
        Item(name, new, labelled[name], finished_label=True)
        for name, new in zip(chosen, numbered_names(len(chosen)), strict=True)
    ]
    if len(chosen) < len(pictures):
        click.echo(f"{len(pictures) - len(chosen)} pictures without a camera are left out", err=True)
    tell(build(dest.expanduser(), opened, mirror(items) if with_mirror else items, options, workers=workers))
