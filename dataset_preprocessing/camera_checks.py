"""Everything that can be wrong with the camera labels of a set."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import numpy as np

from dataset_preprocessing.cameras import Floats, split_label
from dataset_preprocessing.conventions import diagnose, plausible
from dataset_preprocessing.findings import Finding, Report

_IMPORT = "dataset_tool.py import --format=labels"


def camera_errors(path: Path, names: list[str], labels: Floats) -> list[Finding]:
    """The errors among the camera labels [n, 25] of the pictures of a set; a fraction of a second for 100,000."""
    report = Report(path)
    check_cameras(report, names, labels)
    return report.errors


def check_cameras(report: Report, names: list[str], labels: Floats) -> None:
    """Add what is wrong with the camera labels [n, 25] of pictures to a report."""
    poses, matrices = split_label(labels)

    def where(mask: Any) -> list[str]:
        return [names[row] for row in np.flatnonzero(mask)]

    source = f"{_IMPORT} --source={shlex.quote(str(report.path))} --dest=NEW.zip"
    center = matrices[:, :2, 2]
    pixels = (np.abs(center) > 3).any(axis=1) | (np.abs(matrices[:, [0, 1], [0, 1]]) > 50).any(axis=1)
    report.add(
        "error",
        "pixel intrinsics",
        "intrinsics in pixels, not divided by the image size",
        where(pixels),
        f"{source} --pixel-intrinsics",
    )
    shape = (np.abs(matrices[:, 2] - [0, 0, 1]).max(axis=1) > 1e-4) | (np.abs(matrices[:, 1, 0]) > 1e-4)
    shape |= (matrices[:, [0, 1], [0, 1]] <= 0).any(axis=1)
    report.add(
        "error", "intrinsics", "intrinsics that are no upper triangle with positive focal lengths and a last row 0 0 1",
        where(shape & ~pixels), "write fx s cx, 0 fy cy, 0 0 1",
    )  # fmt: skip
    off = (np.abs(center - 0.5).max(axis=1) > 0.1) & ~pixels
    report.add(
        "warning",
        "center",
        "principal points far from the middle (0.5, 0.5)",
        where(off),
        "make sure that this is meant",
    )

    fix = diagnose(poses)
    if fix:
        # A world with another axis up can be trained on; the rest puts the object where the cameras do not look.
        report.add(
            "error" if fix.transpose or fix.invert or fix.flip_axes else "warning",
            _convention_code(fix.transpose, fix.invert, fix.flip_axes),
            f"poses that {fix.describe()}",
            names,
            f"{source} {fix.options()}",
        )
        return
    rotations = poses[:, :3, :3]
    last = np.abs(poses[:, 3] - [0, 0, 0, 1]).max(axis=1) > 1e-4
    report.add(
        "error",
        "last row",
        "poses whose last row is not 0 0 0 1",
        where(last),
        f"{source} --transpose, if they are column-major",
    )
    orthonormal = np.abs(np.swapaxes(rotations, 1, 2) @ rotations - np.eye(3)).max(axis=(1, 2)) > 1e-3
    report.add(
        "error",
        "rotation",
        "rotations that are not orthonormal",
        where(orthonormal & ~last),
        f"{source} --orthonormalize",
    )
    mirrored = (np.linalg.det(rotations) < 0) & ~orthonormal
    report.add(
        "error",
        "handedness",
        "rotations with determinant -1 (left-handed)",
        where(mirrored),
        f"{source} --flip-axes=y (or x, z)",
    )
    elsewhere = ~plausible(poses) & ~(last | orthonormal | mirrored)
    report.add(
        "warning",
        "looks at",
        "cameras that do not look, upright, at the point that the cameras have in common",
        where(elsewhere),
        "look at the page that --html writes; wrong ones: make their labels anew, or drop them with subset",
    )


def _convention_code(transpose: bool, invert: bool, flip_axes: str) -> str:
    if transpose:
        return "transposed"
    if invert:
        return "world to camera"
    return {"yz": "OpenGL", "": "up axis"}.get(flip_axes, "handedness")
