"""Cameras in a row: strips of views and closed paths for films."""

from __future__ import annotations

import math

import torch

from training.cameras.prior import FRONT, ViewConfig, orbit_camera
from training.types import Camera

STRIP_PITCH = -0.2


def strip_cameras(view: ViewConfig, count: int, yaw_range: float = 0.4, fov_deg: float | None = None) -> Camera:
    """`count` cameras side by side, from yaw +yaw_range to -yaw_range, a little above the scene."""
    yaw = torch.linspace(yaw_range, -yaw_range, count) if count > 1 else torch.zeros(1)
    return orbit_camera(FRONT + yaw, torch.full([count], FRONT + STRIP_PITCH), view, fov_deg)


def wobble_cameras(view: ViewConfig, frames: int, yaw_range: float = 0.35, pitch_range: float = 0.25) -> Camera:
    """A closed path that swings around the frontal view, an ellipse in yaw and pitch."""
    turn = torch.arange(frames) * (2 * math.pi / frames)
    return orbit_camera(FRONT + yaw_range * turn.sin(), FRONT - 0.05 + pitch_range * turn.cos(), view)


def circle_cameras(view: ViewConfig, frames: int, pitch: float = 0.0) -> Camera:
    """A full turn around the scene at a constant pitch in radians."""
    turn = torch.arange(frames) * (2 * math.pi / frames)
    return orbit_camera(FRONT + turn, torch.full([frames], FRONT + pitch), view)
