"""Folders of the Scene Representation Networks data (ShapeNet cars and chairs).

Each object has `rgb/000000.png` ..., `pose/000000.txt` ... (16 numbers: camera-to-world in OpenCV axes) and
`intrinsics.txt` (focal length and centre in pixels on the first line, height and width on the last).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dataset_preprocessing.cameras import Floats
from dataset_preprocessing.formats.shots import Shot
from training.archive import ArchiveError, Source


def pose_files(source: Source) -> list[str]:
    """Names of the pose files of a source."""
    return sorted(name for name in source.names if name.endswith(".txt") and "pose" in name.split("/")[-2:-1])


def read_srn(source: Source) -> list[Shot]:
    """All pictures with poses, sorted by name. Raises ArchiveError for broken or missing files."""
    names = set(source.names)
    intrinsics: dict[str, Floats] = {}
    shots = []
    for pose_name in pose_files(source):
        prefix, number = pose_name.rsplit("pose/", 1)[0], pose_name.rsplit("/", 1)[1].removesuffix(".txt")
        image = f"{prefix}rgb/{number}.png"
        if image not in names:
            raise ArchiveError(f"{source.path}: {pose_name} has no picture {image}")
        if prefix not in intrinsics:
            intrinsics[prefix] = _intrinsics(source, f"{prefix}intrinsics.txt")
        pose = _numbers(source, pose_name)
        if len(pose) != 16:
            raise ArchiveError(f"{source.path}: {pose_name} has {len(pose)} numbers, not 16")
        shots.append(Shot(image, np.array(pose).reshape(4, 4), intrinsics[prefix]))
    if not shots:
        raise ArchiveError(f"{source.path}: no folders rgb/ and pose/ inside")
    return shots


def _intrinsics(source: Source, name: str) -> Floats:
    numbers = _numbers(source, name)
    if len(numbers) < 6:
        raise ArchiveError(f"{source.path}: {name} is incomplete")
    (focal, x, y), (height, width) = numbers[:3], numbers[-2:]
    return np.array([[focal / width, 0, x / width], [0, focal / height, y / height], [0, 0, 1]])


def _numbers(source: Source, name: str) -> Sequence[float]:
    try:
        return [float(word) for word in source.read(name).decode("ascii").split()]
    except ValueError:
        raise ArchiveError(f"{source.path}: {name} holds something else than numbers") from None
