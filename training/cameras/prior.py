"""Poses on a sphere around the scene: angles, look-at matrices and the distributions that cameras are drawn from."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from training.cameras.camera import fov_to_intrinsics
from training.types import Camera

FRONT = math.pi / 2
"""Azimuth and polar angle of the frontal view: the camera stands on the +z axis."""


@runtime_checkable
class CameraPrior(Protocol):
    """Where the cameras of generated pictures come from."""

    def sample(self, n: int, generator: torch.Generator | None = None) -> Camera:
        """n cameras drawn at random."""


@dataclass(frozen=True)
class ViewConfig:
    """The camera of pictures that no data set label describes: distance, look-at point, diagonal field of view."""

    radius: float = 2.7
    pivot: tuple[float, float, float] = (0.0, 0.0, 0.2)
    fov_deg: float = 18.837


def orbit_position(
    azimuth: Float[Tensor, " n"], polar: Float[Tensor, " n"], radius: float = 1.0
) -> Float[Tensor, "n 3"]:
    """Camera centres for angles in radians, as the published systems parametrize them.

    The polar value is uniform on the sphere: the true angle from +y is arccos(1 - 2 polar / pi), so pi/2 is the
    equator. It is clamped to the open interval (0, pi); the azimuth may have any value.
    """
    polar = polar.clamp(1e-5, math.pi - 1e-5)
    phi = torch.arccos(1 - 2 * polar / math.pi)
    towards_x = phi.sin() * (math.pi - azimuth).cos()
    towards_z = phi.sin() * (math.pi - azimuth).sin()
    return radius * torch.stack([towards_x, phi.cos(), towards_z], dim=1)


def look_at(position: Float[Tensor, "n 3"], target: Float[Tensor, "#n 3"]) -> Float[Tensor, "n 4 4"]:
    """Camera-to-world matrices (OpenCV axes) of upright cameras at `position` that look at `target`.

    No camera may look along the y axis, which is up in the world.
    """
    forward = torch.nn.functional.normalize(target - position, dim=1)
    up = position.new_tensor([0.0, 1.0, 0.0]).expand_as(forward)
    right = -torch.nn.functional.normalize(torch.linalg.cross(up, forward), dim=1)
    down = torch.nn.functional.normalize(torch.linalg.cross(forward, right), dim=1)
    matrix = torch.eye(4, dtype=position.dtype, device=position.device).repeat(len(position), 1, 1)
    matrix[:, :3, :] = torch.stack([right, down, forward, position], dim=2)
    return matrix


def orbit_camera(
    azimuth: Float[Tensor, " n"], polar: Float[Tensor, " n"], view: ViewConfig, fov_deg: float | None = None
) -> Camera:
    """Cameras around the view's pivot; the published pictures place the sphere of positions about the origin."""
    position = orbit_position(azimuth, polar, view.radius)
    target = torch.tensor([view.pivot], dtype=torch.float32, device=position.device)
    intrinsics = fov_to_intrinsics(view.fov_deg if fov_deg is None else fov_deg, position.device)
    return Camera(look_at(position, target), intrinsics.expand(len(position), 3, 3))


def frontal_camera(view: ViewConfig, n: int = 1, device: torch.device | str = "cpu") -> Camera:
    """n copies of the frontal camera, which conditions the mapping network where no label does."""
    angles = torch.full([n], FRONT, device=device)
    return orbit_camera(angles, angles, view)


@dataclass(frozen=True)
class AnglePrior:
    """Cameras whose angles are drawn around the frontal view: normal with, or uniform within, a spread in radians."""

    view: ViewConfig
    azimuth_spread: float
    polar_spread: float
    uniform: bool = False

    def sample(self, n: int, generator: torch.Generator | None = None) -> Camera:
        """n cameras drawn at random."""
        draw = torch.rand(2, n, generator=generator) * 2 - 1 if self.uniform else torch.randn(2, n, generator=generator)
        return orbit_camera(FRONT + draw[0] * self.azimuth_spread, FRONT + draw[1] * self.polar_spread, self.view)


@dataclass(frozen=True)
class LabelPrior:
    """Cameras of labels drawn from a table with replacement."""

    labels: Float[Tensor, "count 25"]

    def sample(self, n: int, generator: torch.Generator | None = None) -> Camera:
        """n cameras drawn at random."""
        return Camera.from_label(self.labels[torch.randint(len(self.labels), [n], generator=generator)])
