"""Camera mathematics of the data tools, in double precision.

One convention everywhere: camera-to-world in OpenCV axes (+x right, +y down, +z forward), world y up, intrinsics
normalized by the image size. A label is the row-major 4x4 pose followed by the row-major 3x3 intrinsics.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

LABEL_SIZE = 25
EG3D_FOCAL = 2985.29 / 700
"""Focal length, in image widths, of EG3D's FFHQ and AFHQ labels; a field of view of 18.837 degrees (diagonal)."""
EG3D_RADIUS = 2.7
"""Distance of EG3D's FFHQ and AFHQ cameras, in scene units."""


def intrinsics(focal: float, center: tuple[float, float] = (0.5, 0.5)) -> Floats:
    """The 3x3 intrinsics of square pixels; focal length and principal point in image widths."""
    return np.array([[focal, 0, center[0]], [0, focal, center[1]], [0, 0, 1]], dtype=np.float64)


def focal_from_fov(degrees: float) -> float:
    """Focal length in image widths of a full horizontal field of view in degrees."""
    return 0.5 / math.tan(math.radians(degrees) / 2)


def fov_from_focal(focal: ArrayLike) -> Floats:
    """Full horizontal field of view in degrees of focal lengths in image widths; the inverse of `focal_from_fov`."""
    return 2 * np.degrees(np.arctan(0.5 / np.asarray(focal, dtype=np.float64)))


def orbit_position(azimuth: float, elevation: float, radius: float) -> Floats:
    """Point of a sphere around the origin: azimuth 0 on +z, growing towards +x; elevation towards +y. Radians."""
    flat = math.cos(elevation)
    direction = [flat * math.sin(azimuth), math.sin(elevation), flat * math.cos(azimuth)]
    return radius * np.array(direction)


def look_at(position: ArrayLike, target: ArrayLike = (0.0, 0.0, 0.0), up: ArrayLike = (0.0, 1.0, 0.0)) -> Floats:
    """The 4x4 camera-to-world pose at `position` that sees `target` in its centre, `up` upwards in the picture.

    Looking exactly along `up`, the picture's upper edge is chosen as for a camera on +z.
    """
    eye = np.asarray(position, dtype=np.float64)
    forward = np.asarray(target, dtype=np.float64) - eye
    forward /= np.linalg.norm(forward)
    right = np.cross(forward, np.asarray(up, dtype=np.float64))
    length = np.linalg.norm(right)
    right = right / length if length > 1e-9 else np.array([1.0, 0.0, 0.0])
    pose = np.eye(4)
    pose[:3, 0], pose[:3, 1], pose[:3, 2], pose[:3, 3] = right, np.cross(forward, right), forward, eye
    return pose


def make_label(pose: ArrayLike, camera_intrinsics: ArrayLike) -> Floats:
    """The 25 numbers of a pose and intrinsics."""
    return np.concatenate([np.asarray(pose, dtype=np.float64).ravel(), np.asarray(camera_intrinsics).ravel()])


def split_label(label: ArrayLike) -> tuple[Floats, Floats]:
    """Pose [..., 4, 4] and intrinsics [..., 3, 3] of labels [..., 25]."""
    values = np.asarray(label, dtype=np.float64)
    lead = values.shape[:-1]
    return values[..., :16].reshape(*lead, 4, 4), values[..., 16:25].reshape(*lead, 3, 3)


def mirror_label(label: Sequence[float]) -> list[float]:
    """The label of the horizontally flipped picture: the world mirrored at x = 0. Twice gives the label back.

    The principal point is rounded to 12 decimals, so that the round trip is exact.
    """
    mirrored = [float(value) for value in label]
    for index in (1, 2, 3, 4, 8, 17):
        mirrored[index] = -mirrored[index] if mirrored[index] else 0.0
    mirrored[18] = round(1 - mirrored[18], 12)
    return mirrored


def pixel_rays(label: ArrayLike, resolution: int, samples: int = 1) -> tuple[Floats, Floats]:
    """Camera position [3] and unit directions [resolution * samples, resolution * samples, 3].

    Each pixel holds samples x samples rays on a regular grid; for odd `samples` the middle one passes the centre.
    """
    pose, matrix = split_label(label)
    grid = (np.arange(resolution * samples) + 0.5) / (resolution * samples)
    u, v = np.meshgrid(grid, grid)
    y = (v - matrix[1, 2]) / matrix[1, 1]
    x = (u - matrix[0, 2] - matrix[0, 1] * y) / matrix[0, 0]
    directions = np.stack([x, y, np.ones_like(x)], axis=-1) @ pose[:3, :3].T
    directions /= np.sqrt(np.einsum("ijk,ijk->ij", directions, directions))[..., None]
    return pose[:3, 3], directions


def project(label: ArrayLike, points: ArrayLike) -> tuple[Floats, Floats]:
    """Image positions [n, 2] (fractions: x to the right, y down) and forward depths [n] of world points [n, 3]."""
    pose, matrix = split_label(label)
    seen = (np.asarray(points, dtype=np.float64) - pose[:3, 3]) @ pose[:3, :3]
    image = seen @ matrix.T
    return image[:, :2] / image[:, 2:], seen[:, 2]


def unproject(label: ArrayLike, depth: ArrayLike) -> Floats:
    """World points [h, w, 3] of a depth map (distances along the rays of the pixel centres)."""
    distances = np.asarray(depth, dtype=np.float64)
    origin, directions = pixel_rays(label, distances.shape[0])
    return origin + distances[..., None] * directions
