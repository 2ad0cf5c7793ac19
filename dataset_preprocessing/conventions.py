"""Which camera convention a set of poses follows, and how to bring it to ours.

Ours: camera-to-world, OpenCV axes (+x right, +y down, +z forward), world y up. Others differ by few steps: OpenGL and
Blender cameras look along -z with +y up (flip y and z), COLMAP and OpenCV's solvers give world-to-camera (invert),
column-major writers transpose.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dataset_preprocessing.cameras import Floats

CONVENTIONS = {"opencv": "", "opengl": "yz"}
"""Camera axes to flip, by the convention's name. Blender, NeRF's `transforms.json` and ARKit are `opengl`."""

_TO_Y_UP = {
    "y": np.eye(3),
    "z": np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]]),
    "-y": np.array([[1.0, 0, 0], [0, -1, 0], [0, 0, -1]]),
    "-z": np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]]),
    "x": np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]]),
    "-x": np.array([[0.0, 1, 0], [-1, 0, 0], [0, 0, 1]]),
}
UP_AXES = tuple(_TO_Y_UP)
"""World axes that may point up."""


@dataclass(frozen=True)
class Fix:
    """Steps from foreign poses to ours, in this order.

    Transpose, invert, flip camera axes (letters of "xyz"), turn the world so that its axis `up` becomes y.
    """

    transpose: bool = False
    invert: bool = False
    flip_axes: str = ""
    up: str = "y"

    def __bool__(self) -> bool:
        return self != Fix()

    def apply(self, poses: ArrayLike) -> Floats:
        """Camera-to-world poses [..., 4, 4] in our convention."""
        fixed = np.array(poses, dtype=np.float64)
        if self.transpose:
            fixed = np.swapaxes(fixed, -1, -2).copy()
        if self.invert:
            fixed = np.asarray(np.linalg.inv(fixed), dtype=np.float64)
        for axis in self.flip_axes:
            fixed[..., :3, "xyz".index(axis)] *= -1
        fixed[..., :3, :] = _TO_Y_UP[self.up] @ fixed[..., :3, :]
        return fixed

    def describe(self) -> str:
        """The poses' own convention, in words."""
        words = []
        if self.transpose:
            words.append("are transposed (column-major)")
        if self.invert:
            words.append("go from world to camera")
        if self.flip_axes == "yz":
            words.append("have OpenGL axes (y up, looking along -z)")
        elif self.flip_axes:
            words.append(f"have their {' and '.join(self.flip_axes)} axis reversed")
        if self.up != "y":
            words.append(f"belong to a world whose {self.up} axis points up")
        return ", ".join(words) or "follow our convention"

    def options(self) -> str:
        """The options of `dataset_tool.py import` that mend the poses."""
        words = ["--transpose"] if self.transpose else []
        words += ["--world-to-camera"] if self.invert else []
        if self.flip_axes:
            words.append("--camera-convention=opengl" if self.flip_axes == "yz" else f"--flip-axes={self.flip_axes}")
        words += [f"--up={self.up}"] if self.up != "y" else []
        return " ".join(words)


def focus(poses: Floats) -> Floats:
    """The point [3] that the view axes of poses [n, 4, 4] come closest to, drawn a little to the origin."""
    axes, positions = poses[:, :3, 2], poses[:, :3, 3]
    across = np.eye(3) - axes[:, :, None] * axes[:, None, :]
    weight = 1e-3 * len(poses)
    return np.linalg.solve(across.sum(axis=0) + weight * np.eye(3), np.einsum("nij,nj->i", across, positions))


def plausible(poses: Floats) -> NDArray[np.bool_]:
    """Which poses [n, 4, 4] are rigid, look at the common point and stand upright; none for cameras in one place.

    "At": within 35 degrees of the view axis and in front. "Upright": the picture's up is within a right angle of +y.
    """
    rotations, positions = poses[:, :3, :3], poses[:, :3, 3]
    rigid = np.abs(np.swapaxes(rotations, 1, 2) @ rotations - np.eye(3)).max(axis=(1, 2)) < 1e-2
    rigid &= (np.linalg.det(rotations) > 0) & (np.abs(poses[:, 3] - [0, 0, 0, 1]).max(axis=1) < 1e-4)
    offset = focus(poses) - positions
    distance = np.linalg.norm(offset, axis=1)
    if np.median(distance) < 0.1 * np.median(np.linalg.norm(positions, axis=1)):
        return np.zeros(len(poses), dtype=bool)
    towards = np.einsum("ni,ni->n", offset, poses[:, :3, 2]) / np.maximum(distance, 1e-12)
    return rigid & (towards > np.cos(np.radians(35))) & (-rotations[:, 1, 1] > -0.05)


def spread_ratio(poses: Floats) -> float:
    """How far positions spread compared with view axes, in units of their distance: near 1 for cameras on an orbit."""
    distance = np.median(np.linalg.norm(poses[:, :3, 3] - focus(poses), axis=1))
    axes = float(np.sqrt(poses[:, :3, 2].var(axis=0).sum()))
    return float(np.sqrt(poses[:, :3, 3].var(axis=0).sum()) / max(distance * axes, 1e-12)) if axes > 1e-3 else 1.0


def diagnose(poses: Floats) -> Fix | None:
    """The steps that make poses [n, 4, 4] plausible; an empty Fix if they are already, None if nothing helps."""
    best: Fix | None = None
    best_score = 0.9
    steps = itertools.product(("y", "z"), (False, True), (False, True), ("", "yz", "x", "y", "z"))
    for up, transpose, invert, flips in steps:
        fix = Fix(transpose, invert, flips, up)
        try:
            fixed = fix.apply(poses)
        except np.linalg.LinAlgError:
            continue
        score = float(plausible(fixed).mean())
        if score > 0.9 and spread_ratio(fixed) < 0.2:
            score = 0.0
        # Fewer steps win: a later candidate must be clearly better.
        if score > best_score + (0.02 if best is not None else 0):
            best, best_score = fix, score
        if best_score > 0.98:
            break
    return best
