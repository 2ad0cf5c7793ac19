"""Pictures with cameras, whatever program found them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from dataset_preprocessing.cameras import Floats, make_label, split_label
from dataset_preprocessing.conventions import focus
from training.archive import ArchiveError, Source, is_image


@dataclass(frozen=True)
class Shot:
    """One picture and its camera: camera-to-world [4, 4] in OpenCV axes, intrinsics [3, 3] normalized by image size.

    `image` is the picture's name in its source.
    """

    image: str
    pose: Floats
    intrinsics: Floats

    def label(self) -> list[float]:
        """The 25 numbers."""
        return [float(value) for value in make_label(self.pose, self.intrinsics)]

    @staticmethod
    def from_label(image: str, label: Sequence[float]) -> Shot:
        """The shot of a camera label."""
        pose, matrix = split_label(np.array(label, dtype=np.float64))
        return Shot(image, pose, matrix)


def find_image(source: Source, path: str, where: str) -> str:
    """The name in the source of a picture that a camera file names, perhaps without suffix or with another folder.

    Raises ArchiveError where there is no such picture.
    """
    names = set(source.names)
    clean = path.replace("\\", "/").removeprefix("./")
    if clean.startswith("/") or ".." in clean.split("/"):
        raise ArchiveError(f"{where}: picture {path!r} leads outside the data; refused")
    for candidate in (clean, *(f"{clean}.{suffix}" for suffix in ("png", "jpg", "jpeg"))):
        if candidate in names:
            return candidate
    same_end = [name for name in names if is_image(name) and name.endswith("/" + clean)]
    if len(same_end) == 1:
        return same_end[0]
    raise ArchiveError(f"{where}: names picture {path!r}, which is not in {source.path}")


def recenter(shots: Sequence[Shot], center: Floats) -> list[Shot]:
    """The shots in a world whose origin is `center`."""
    return [_moved(shot, np.eye(3), center, 1.0) for shot in shots]


def scale_to_radius(shots: Sequence[Shot], radius: float, each: bool = False) -> list[Shot]:
    """The world scaled so that the cameras' mean distance from the origin is `radius`.

    With `each` every camera is pushed along its line to the origin to exactly that distance instead.
    """
    distances = np.linalg.norm([shot.pose[:3, 3] for shot in shots], axis=1)
    if distances.min() <= 0:
        raise ArchiveError("a camera stands in the origin, so the radius cannot be set; try --recenter=focus")
    if each:
        return [_moved(s, np.eye(3), np.zeros(3), radius / d) for s, d in zip(shots, distances, strict=True)]
    return [_moved(shot, np.eye(3), np.zeros(3), radius / distances.mean()) for shot in shots]


def upright(shots: Sequence[Shot]) -> list[Shot]:
    """The world turned, by the shortest way, so that the mean of the pictures' up directions becomes +y."""
    up = -np.mean([shot.pose[:3, 1] for shot in shots], axis=0)
    length = np.linalg.norm(up)
    if length < 0.1:
        raise ArchiveError("the cameras have no common up direction; give it as --up=z, or one of the others")
    up /= length
    axis, cosine = np.cross(up, [0, 1, 0]), up[1]
    if cosine < -1 + 1e-9:
        turn = np.diag([1.0, -1.0, -1.0])
    else:
        cross = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
        turn = np.eye(3) + cross + cross @ cross / (1 + cosine)
    return [_moved(shot, turn, np.zeros(3), 1.0) for shot in shots]


def turn_around(shots: Sequence[Shot], degrees: float) -> list[Shot]:
    """The world turned about y: what was at azimuth `degrees` comes to the front (+z)."""
    angle = np.radians(-degrees)
    cos, sin = np.cos(angle), np.sin(angle)
    return [_moved(s, np.array([[cos, 0, sin], [0, 1, 0], [-sin, 0, cos]]), np.zeros(3), 1.0) for s in shots]


def common_point(shots: Sequence[Shot]) -> Floats:
    """The point that the cameras look at."""
    return focus(np.stack([shot.pose for shot in shots]))


def mean_position(shots: Sequence[Shot]) -> Floats:
    """Mean of the camera positions."""
    return np.mean([shot.pose[:3, 3] for shot in shots], axis=0, dtype=np.float64)


def _moved(shot: Shot, turn: Floats, center: Floats, scale: float) -> Shot:
    pose = shot.pose.copy()
    pose[:3, :3] = turn @ pose[:3, :3]
    pose[:3, 3] = scale * (turn @ (pose[:3, 3] - center))
    return replace(shot, pose=pose)
