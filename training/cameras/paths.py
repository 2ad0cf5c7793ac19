"""Cameras in a row: strips of views and the paths of films."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from training.cameras.camera import fov_to_intrinsics
from training.cameras.prior import FRONT, ViewConfig, orbit_camera
from training.types import Camera

STRIP_PITCH = -0.2


def strip_cameras(view: ViewConfig, count: int, yaw_range: float = 0.4, fov_deg: float | None = None) -> Camera:
    """`count` cameras side by side, from yaw +yaw_range to -yaw_range, a little above the scene."""
    yaw = torch.linspace(yaw_range, -yaw_range, count) if count > 1 else torch.zeros(1)
    return orbit_camera(FRONT + yaw, torch.full([count], FRONT + STRIP_PITCH), view, fov_deg)


@dataclass(frozen=True)
class Path:
    """A way of the camera: yaw and pitch from the frontal view at times in [0, 1], for its two amplitudes in radians.

    closed: the frame after the last is the first. fov_swing: degrees by which the field of view swings.
    """

    angles: Callable[[Tensor, float, float], tuple[Tensor, Tensor]]
    yaw: float
    pitch: float
    closed: bool = True
    fov_swing: float = 0.0


def _wobble(t: Tensor, yaw: float, pitch: float) -> tuple[Tensor, Tensor]:
    return yaw * (2 * math.pi * t).sin(), pitch * (2 * math.pi * t).cos() - 0.05


def _circle(t: Tensor, yaw: float, pitch: float) -> tuple[Tensor, Tensor]:
    return yaw * (2 * math.pi * t).sin(), pitch * (2 * math.pi * t).cos()


def _orbit(t: Tensor, yaw: float, pitch: float) -> tuple[Tensor, Tensor]:
    return yaw * t, torch.full_like(t, pitch)


def _wiggle(t: Tensor, yaw: float, pitch: float) -> tuple[Tensor, Tensor]:
    return yaw * (2 * t - 1), pitch * (2 * math.pi * t).cos()


def _line(t: Tensor, yaw: float, pitch: float) -> tuple[Tensor, Tensor]:
    return yaw * (2 * math.pi * t).cos(), torch.full_like(t, pitch)


def _spiral(t: Tensor, yaw: float, pitch: float) -> tuple[Tensor, Tensor]:
    swing = (math.pi * t).sin()
    return yaw * swing * (6 * math.pi * t).sin(), pitch * swing * (6 * math.pi * t).cos()


PATHS: dict[str, Path] = {
    "wobble": Path(_wobble, 0.35, 0.25),
    "front_circle": Path(_circle, 0.3, 0.2, fov_swing=1.0),
    "orbit": Path(_orbit, 2 * math.pi, STRIP_PITCH),
    "wiggle": Path(_wiggle, 1.57, 0.5, closed=False),
    "line": Path(_line, 0.4, STRIP_PITCH),
    "spiral": Path(_spiral, 0.4, 0.3),
}
"""wobble: EG3D's ellipse around the front. front_circle: EpiGRAF's, whose field of view swings too. orbit: a full turn.
wiggle: EpiGRAF's sweep from side to side, which does not close. line: side to side and back. spiral: outwards in three
turns and back."""


def path_cameras(
    path: Path,
    frames: int,
    view: ViewConfig,
    *,
    yaw: float | None = None,
    pitch: float | None = None,
    fov_deg: float | None = None,
) -> Camera:
    """The cameras of a film; yaw and pitch replace the path's amplitudes (radians), fov_deg the view's."""
    t = torch.arange(frames) / frames if path.closed else torch.linspace(0, 1, frames)
    yaws, pitches = path.angles(t, path.yaw if yaw is None else yaw, path.pitch if pitch is None else pitch)
    cameras = orbit_camera(FRONT + yaws, FRONT + pitches, view)
    degrees = (view.fov_deg if fov_deg is None else fov_deg) + path.fov_swing * (2 * math.pi * t).sin()
    return Camera(cameras.cam2world, _intrinsics(degrees))


def _intrinsics(degrees: Float[Tensor, " frames"]) -> Float[Tensor, "frames 3 3"]:
    return torch.stack([fov_to_intrinsics(fov) for fov in degrees.tolist()])
