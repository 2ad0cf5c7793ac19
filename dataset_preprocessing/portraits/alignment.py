"""From landmarks to a crop and a camera.

The camera is fixed first: EG3D's focal length (4.2647 image widths), 2.7 units from the pivot (0, 0, 0.175), looking at
it. Size and place of the crop follow from that, so all crops show faces at one scale and the labels have no free
scale. One unit is 37 cm: EG3D's face coordinates are decimetres seen from 10, scaled to 2.7.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation

from dataset_preprocessing.cameras import EG3D_FOCAL, EG3D_RADIUS, Floats, intrinsics, make_label
from dataset_preprocessing.portraits.face_model import FaceModel
from training.archive import ArchiveError

UNITS_PER_CM = 0.027
PIVOT = np.array([0.0, 0.0, 0.175])
MODEL_ORIGIN = np.array([0.0, 0.0, 0.10])
"""Where the canonical face's origin is put, so that the pivot lies a little behind the eyes."""

_MAX_ERROR = 0.08
_ITERATIONS = 30


@dataclass(frozen=True)
class FaceCrop:
    """A square of a photograph, in its pixels, and the camera of what it shows.

    center: its middle. size: its side. roll: angle of its x axis against the photograph's, radians, clockwise.
    error: root mean square distance of landmarks from the fitted face, as a share of the face's height.
    """

    center: tuple[float, float]
    size: float
    roll: float
    label: list[float]
    error: float

    def corners(self) -> Floats:
        """Upper left, lower left, lower right, upper right corner [4, 2] in the photograph's pixels."""
        square = np.array([[-0.5, -0.5], [-0.5, 0.5], [0.5, 0.5], [0.5, -0.5]]) * self.size
        return np.array(self.center) + square @ _turn(self.roll).T

    def to_crop(self, pixels: Floats) -> Floats:
        """Places [n, 2] of the photograph as fractions of the crop."""
        return (pixels - np.array(self.center)) @ _turn(self.roll) / self.size + 0.5


def align(landmarks: Floats, model: FaceModel, keep_roll: bool = False) -> FaceCrop:
    """The crop and camera of a face with landmarks [468, 2] in pixels, in the order of the model.

    The face is turned upright (eyes level, as in FFHQ) unless `keep_roll`. Raises ArchiveError for landmarks that do
    not fit a face.
    """
    world = model.points * UNITS_PER_CM + MODEL_ORIGIN
    used = np.flatnonzero(model.weights > 0)
    weights = np.sqrt(model.weights[used] / model.weights[used].sum())
    eyes = landmarks[263] - landmarks[33]
    roll = 0.0 if keep_roll else float(np.arctan2(eyes[1], eyes[0]))
    center, size = landmarks.mean(axis=0), 1.5 * float(np.ptp(landmarks, axis=0).max())
    if not size > 0:
        raise ArchiveError("the landmarks do not fit a face")
    pose = np.array([0.0, 0, 0, 0, 0, EG3D_RADIUS])
    for _ in range(_ITERATIONS):
        crop = FaceCrop((float(center[0]), float(center[1])), size, roll, [], 0.0)
        pose = solve_pose(world[used] - PIVOT, crop.to_crop(landmarks[used]), weights, pose)
        # Where the pivot is seen becomes the middle, and a face that seems too far gets a smaller crop.
        offset = EG3D_FOCAL * pose[3:5] / pose[5]
        factor = EG3D_RADIUS / pose[5]
        center = center + size * (_turn(roll) @ offset)
        size = size * factor
        if np.abs(offset).max() < 1e-6 and abs(factor - 1) < 1e-6:
            break
    seen = crop.to_crop(landmarks)
    misses = _residuals(pose, world[used] - PIVOT, seen[used], weights)
    error = float(np.sqrt(np.sum(misses**2)) / np.ptp(seen, axis=0).max())
    if error > _MAX_ERROR or not np.isfinite(size):
        raise ArchiveError("the landmarks do not fit a face")
    return FaceCrop((float(center[0]), float(center[1])), float(size), roll, camera_label(pose), error)


def solve_pose(points: Floats, image: Floats, weights: Floats, start: Floats) -> Floats:
    """Rotation vector and translation [6] that bring points [n, 3] to image fractions [n, 2] of EG3D's camera.

    Weighted perspective-n-point: Levenberg-Marquardt from `start`, on points in axes x right, y up, z to the viewer.
    """
    return least_squares(_residuals, start, args=(points, image, weights), method="lm").x


def camera_label(pose: Floats) -> list[float]:
    """The camera label of a pose of `solve_pose` for points that were taken relative to the pivot.

    The principal axis is made to pass through the pivot, from EG3D's distance, which a converged crop ensures.
    """
    rotation = Rotation.from_rotvec(pose[:3]).as_matrix() @ _TO_OPENCV
    label = np.eye(4)
    label[:3, :3] = rotation.T
    label[:3, 3] = PIVOT - EG3D_RADIUS * rotation.T[:, 2]
    return [float(value) for value in make_label(label, intrinsics(EG3D_FOCAL))]


_TO_OPENCV = np.diag([1.0, -1.0, -1.0])
"""World axes as an OpenCV camera in front of the face sees them."""


def _residuals(pose: Floats, points: Floats, image: Floats, weights: Floats) -> Floats:
    turned = points @ (Rotation.from_rotvec(pose[:3]).as_matrix() @ _TO_OPENCV).T + pose[3:]
    seen = EG3D_FOCAL * turned[:, :2] / np.maximum(turned[:, 2:], 0.1) + 0.5
    return ((seen - image) * weights[:, None]).ravel()


def _turn(angle: float) -> Floats:
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
