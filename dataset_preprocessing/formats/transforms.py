"""`transforms.json` of NeRF-synthetic, instant-ngp and nerfstudio, in and out.

Camera-to-world in OpenGL axes. Intrinsics in pixels for all frames or for each (`fl_x`, `fl_y`, `cx`, `cy`, `w`, `h`),
or as a field of view (`camera_angle_x`, radians).
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dataset_preprocessing.cameras import Floats
from dataset_preprocessing.conventions import Fix
from dataset_preprocessing.formats.shots import Shot, find_image
from dataset_preprocessing.storage import write_atomically
from training.archive import ArchiveError, Source, image_header, parse_json

_OPENGL = Fix(flip_axes="yz")
_DISTORTION = ("k1", "k2", "k3", "k4", "p1", "p2")


def transforms_files(source: Source) -> list[str]:
    """Names of the `transforms*.json` files of a source."""
    names = (name for name in source.names if name.endswith(".json"))
    return sorted(name for name in names if name.rsplit("/", 1)[-1].startswith("transforms"))


def read_transforms(source: Source) -> list[Shot]:
    """All frames of all `transforms*.json` files of a source, sorted by picture.

    Raises ArchiveError for broken files, distorted cameras and pictures that are not there.
    """
    shots: dict[str, Shot] = {}
    for name in transforms_files(source):
        where = f"{source.path}: {name}"
        content = parse_json(source.read(name), where)
        frames = content.get("frames") if isinstance(content, dict) else None
        if not isinstance(frames, list):
            raise ArchiveError(f"{where}: has no list of `frames`")
        folder = name.rsplit("/", 1)[0] + "/" if "/" in name else ""
        for number, frame in enumerate(frames):
            shot = _shot(source, folder, content, frame, f"{where}, frame {number}")
            shots.setdefault(shot.image, shot)
    if not shots:
        raise ArchiveError(f"{source.path}: no transforms.json with frames inside")
    return [shots[image] for image in sorted(shots)]


def write_transforms(folder: Path, shots: Sequence[Shot], size: tuple[int, int]) -> None:
    """Write `transforms.json` for shots whose pictures, named relative to the folder, have `size` (width, height)."""
    frames: list[dict[str, Any]] = []
    for shot in shots:
        matrix = shot.intrinsics
        if abs(matrix[0, 1]) > 1e-9:
            raise ArchiveError(f"{shot.image}: transforms.json has no skew")
        frames.append(
            {
                "file_path": shot.image,
                "transform_matrix": _OPENGL.apply(shot.pose).tolist(),
                "fl_x": float(matrix[0, 0]) * size[0],
                "fl_y": float(matrix[1, 1]) * size[1],
                "cx": float(matrix[0, 2]) * size[0],
                "cy": float(matrix[1, 2]) * size[1],
            }
        )
    content = {"camera_model": "OPENCV", "w": size[0], "h": size[1], "frames": frames}
    write_atomically(folder / "transforms.json", json.dumps(content, indent=1).encode())


def _shot(source: Source, folder: str, content: dict[str, Any], frame: Any, where: str) -> Shot:
    if not isinstance(frame, dict) or not isinstance(frame.get("file_path"), str):
        raise ArchiveError(f"{where}: has no file_path")
    image = find_image(source, folder + frame["file_path"].removeprefix("./"), where)
    try:
        pose = np.array(frame["transform_matrix"], dtype=np.float64)
        if pose.shape != (4, 4):
            raise ValueError(f"transform_matrix of shape {pose.shape}")
        return Shot(image, _OPENGL.apply(pose), _intrinsics(source, image, {**content, **frame}, where))
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, ArchiveError):
            raise
        raise ArchiveError(f"{where}: not a camera ({error!r})") from None


def _intrinsics(source: Source, image: str, facts: dict[str, Any], where: str) -> Floats:
    if any(abs(float(facts.get(name, 0))) > 1e-6 for name in _DISTORTION):
        raise ArchiveError(f"{where}: the camera is distorted; undistort the pictures first")
    if "w" in facts and "h" in facts:
        width, height = float(facts["w"]), float(facts["h"])
    else:
        header = image_header(source, image)
        width, height = float(header.width), float(header.height)
    if "fl_x" in facts:
        focal_x = float(facts["fl_x"])
    elif "camera_angle_x" in facts:
        focal_x = 0.5 * width / math.tan(0.5 * float(facts["camera_angle_x"]))
    else:
        raise ArchiveError(f"{where}: neither fl_x nor camera_angle_x is given")
    focal_y = float(facts.get("fl_y", focal_x))
    center = float(facts.get("cx", width / 2)) / width, float(facts.get("cy", height / 2)) / height
    return np.array([[focal_x / width, 0, center[0]], [0, focal_y / height, center[1]], [0, 0, 1]])
