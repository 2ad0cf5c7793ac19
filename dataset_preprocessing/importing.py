"""Cameras of other programs and conventions into the labels of a data set, and back out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np

from dataset_preprocessing.building import Item, numbered_names
from dataset_preprocessing.cameras import LABEL_SIZE
from dataset_preprocessing.conventions import Fix, diagnose
from dataset_preprocessing.converting import by_name, find_labels
from dataset_preprocessing.formats import shots as world
from dataset_preprocessing.formats.colmap import model_folder, read_colmap, write_colmap
from dataset_preprocessing.formats.epigraf import angles_from_pose, read_epigraf
from dataset_preprocessing.formats.shots import Shot
from dataset_preprocessing.formats.srn import pose_files, read_srn
from dataset_preprocessing.formats.transforms import read_transforms, transforms_files, write_transforms
from dataset_preprocessing.sources import image_names
from dataset_preprocessing.storage import StorageError, write_atomically
from training.archive import ArchiveError, Source, image_header

Format = Literal["auto", "labels", "colmap", "transforms", "srn", "epigraf"]
Recenter = Literal["none", "focus", "mean"]


@dataclass(frozen=True)
class ImportOptions:
    """How foreign cameras become ours.

    fix: steps from the source's convention, beyond what its format says by itself. up_auto: turn the mean up of the
    pictures to +y. recenter: bring the point that the cameras look at, or the mean camera, to the origin.
    turn_degrees: the azimuth that becomes the front. scale_to_radius: mean distance of the cameras from the origin,
    or, with `same_radius`, the distance of each. pixel_intrinsics: divide intrinsics by the picture size.
    orthonormalize: replace rotations by the nearest proper ones. fov_degrees, radius: of EpiGRAF's angles.
    camera_angles: write EpiGRAF's angles beside the labels.
    """

    format: Format = "auto"
    fix: Fix = field(default_factory=Fix)
    up_auto: bool = False
    recenter: Recenter = "none"
    turn_degrees: float = 0.0
    scale_to_radius: float | None = None
    same_radius: bool = False
    pixel_intrinsics: bool = False
    orthonormalize: bool = False
    fov_degrees: float | None = None
    radius: float = 1.0
    camera_angles: bool = False


def plan_import(source: Source, options: ImportOptions) -> tuple[list[Item], str | None]:
    """The labelled pictures, and a warning where the cameras still do not look as they should.

    Raises ArchiveError where there are no cameras, or the format cannot be told.
    """
    shots = read_shots(source, options)
    if options.fix:
        shots = [replace(shot, pose=options.fix.apply(shot.pose)) for shot in shots]
    if options.orthonormalize:
        shots = [replace(shot, pose=_nearest_rigid(shot.pose)) for shot in shots]
    if options.up_auto:
        shots = world.upright(shots)
    if options.recenter != "none":
        center = world.common_point(shots) if options.recenter == "focus" else world.mean_position(shots)
        shots = world.recenter(shots, center)
    if options.turn_degrees:
        shots = world.turn_around(shots, options.turn_degrees)
    if options.scale_to_radius is not None:
        shots = world.scale_to_radius(shots, options.scale_to_radius, options.same_radius)
    angles = [angles_from_pose(shot.pose) if options.camera_angles else None for shot in shots]
    names = numbered_names(len(shots))
    items = [Item(s.image, name, s.label(), a) for s, name, a in zip(shots, names, angles, strict=True)]
    return items, _warning(shots)


def read_shots(source: Source, options: ImportOptions) -> list[Shot]:
    """Pictures and cameras as the source has them, in camera-to-world and OpenCV axes as far as its format tells."""
    kind = detect_format(source) if options.format == "auto" else options.format
    if kind == "colmap":
        return read_colmap(source)
    if kind == "transforms":
        return read_transforms(source)
    if kind == "srn":
        return read_srn(source)
    if kind == "epigraf":
        if options.fov_degrees is None:
            raise ArchiveError("EpiGRAF's angles need --fov-deg: 12 for its faces and cats, 30 for Megascans")
        return read_epigraf(source, options.fov_degrees, options.radius)
    return _read_labels(source, options.pixel_intrinsics)


def detect_format(source: Source) -> Format:
    """The format of a source's cameras; ArchiveError where there are none that are known."""
    if model_folder(source) is not None:
        return "colmap"
    if transforms_files(source):
        return "transforms"
    if pose_files(source):
        return "srn"
    labels, angles = find_labels(source)
    if any(isinstance(label, list) for label in labels.values()):
        return "labels"
    if angles:
        return "epigraf"
    raise ArchiveError(
        f"{source.path}: no cameras found; known are a COLMAP model (cameras, images .bin or .txt), transforms.json, "
        "SRN's pose/ folders, and `labels` or `camera_angles` in dataset.json"
    )


def _read_labels(source: Source, pixel_intrinsics: bool) -> list[Shot]:
    labels, _ = find_labels(source)
    shots = []
    for image in image_names(source):
        label = by_name(labels, image)
        numbers = isinstance(label, list) and all(isinstance(n, (int, float)) and np.isfinite(n) for n in label)
        if not isinstance(label, list) or not numbers or len(label) != LABEL_SIZE:
            raise ArchiveError(f"{source.path}: {image} has no label of {LABEL_SIZE} finite numbers; run check")
        shot = Shot.from_label(image, label)
        if pixel_intrinsics:
            header = image_header(source, image)
            matrix = shot.intrinsics / np.array([[header.width], [header.height], [1.0]])
            shot = replace(shot, intrinsics=matrix)
        shots.append(shot)
    return shots


def _nearest_rigid(pose: np.ndarray) -> np.ndarray:
    left, _, right = np.linalg.svd(pose[:3, :3])
    rigid = np.eye(4)
    rigid[:3, :3] = left @ np.diag([1, 1, np.linalg.det(left @ right)]) @ right
    rigid[:3, 3] = pose[:3, 3]
    return rigid


def _warning(shots: Sequence[Shot]) -> str | None:
    fix = diagnose(np.stack([shot.pose for shot in shots]))
    if fix is None:
        return "the cameras do not look at a common point or do not stand upright; look at `check --html`"
    return f"the poses seem to be such that {fix.describe()}; try {fix.options()}" if fix else None


def export_cameras(source: Source, dest: Path, kind: Literal["colmap", "transforms"], binary: bool = False) -> int:
    """Write pictures and cameras of a labelled set for other programs; the number of pictures comes back.

    COLMAP: `images/` and `sparse/0/`. transforms: `images/` and `transforms.json`.
    """
    if dest.exists() and any(dest.iterdir()):
        raise StorageError(f"{dest} exists already; remove it or choose another --dest")
    shots = _read_labels(source, pixel_intrinsics=False)
    header = image_header(source, shots[0].image)
    size = header.width, header.height
    for shot in shots:
        target = dest / "images" / shot.image
        target.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(target, source.read(shot.image))
    if kind == "colmap":
        write_colmap(dest / "sparse" / "0", shots, size, binary)
    else:
        inside = [replace(shot, image=f"images/{shot.image}") for shot in shots]
        write_transforms(dest, inside, size)
    return len(shots)
