"""EpiGRAF's camera angles: yaw, pitch and roll on a sphere around the origin.

Camera at radius * (sin(pitch) cos(yaw), cos(pitch), sin(pitch) sin(yaw)), y up, front on +x (yaw 0, pitch pi/2). Its
worlds are turned here by a right angle about y, so that the front comes to +z as everywhere else. Roll is not used.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from dataset_preprocessing.cameras import Floats, focal_from_fov, intrinsics, look_at
from dataset_preprocessing.converting import by_name, find_labels
from dataset_preprocessing.formats.shots import Shot
from training.archive import ArchiveError, Source, is_image

_EDGE = 1e-5


def read_epigraf(source: Source, fov_degrees: float, radius: float) -> list[Shot]:
    """All pictures of a source that has `camera_angles`; ArchiveError where a picture has none."""
    _, angles = find_labels(source)
    if not angles:
        raise ArchiveError(f"{source.path}: dataset.json has no `camera_angles`")
    matrix = intrinsics(focal_from_fov(fov_degrees))
    shots = []
    for image in filter(is_image, source.names):
        found = by_name(angles, image)
        if found is None:
            raise ArchiveError(f"{source.path}: `camera_angles` has no entry for {image}")
        shots.append(Shot(image, pose_from_angles(found, radius), matrix))
    return shots


def pose_from_angles(angles: Sequence[float], radius: float) -> Floats:
    """Camera-to-world [4, 4] of yaw, pitch, roll (radians)."""
    yaw, pitch = angles[0], min(max(angles[1], _EDGE), math.pi - _EDGE)
    flat = math.sin(pitch)
    return look_at(radius * np.array([-flat * math.sin(yaw), math.cos(pitch), flat * math.cos(yaw)]))


def angles_from_pose(pose: Floats) -> list[float]:
    """Yaw in [-pi, pi], pitch in [0, pi] and roll 0 of a camera that looks at the origin; only its position counts."""
    x, y, z = pose[:3, 3]
    return [math.atan2(-x, z), math.acos(max(-1.0, min(1.0, y / math.sqrt(x * x + y * y + z * z)))), 0.0]
