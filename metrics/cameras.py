"""The cameras of a data set as a whole: where they look, from how far, and the views that 3-D metrics choose."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from training.cameras.prior import look_at
from training.types import Camera

HORIZONTAL_SPREAD = 0.25
"""Cameras whose mean direction is shorter than this (1: all the same) stand all around and have no front."""


@dataclass(frozen=True)
class Surround:
    """A sphere of cameras that fits a set of labels.

    pivot `3`: the point nearest to all optical axes. radius: median distance from it. yaw, pitch: the mean direction
    from the pivot, in radians; yaw turns about +y from +z towards +x. intrinsics `3 3`: the medians.
    """

    pivot: Tensor
    radius: float
    yaw: float
    pitch: float
    intrinsics: Tensor

    @staticmethod
    def of(labels: Tensor) -> Surround:
        """The sphere of camera labels `n 25`; cameras all around get yaw 0, the +z side, as their front."""
        camera = Camera.from_label(labels.double())
        axes, positions = camera.cam2world[:, :3, 2], camera.position
        # Least squares: the projections of (pivot - position) across the axes, summed.
        across = torch.eye(3, dtype=axes.dtype) - axes[:, :, None] * axes[:, None, :]
        normal = across.sum(dim=0) + 1e-9 * torch.eye(3, dtype=axes.dtype)
        pivot = torch.linalg.solve(normal, (across @ positions[:, :, None]).sum(dim=0)[:, 0])
        offset = positions - pivot
        radius = offset.norm(dim=1)
        towards = (offset / radius[:, None]).mean(dim=0)
        has_front = float(towards[[0, 2]].norm()) > HORIZONTAL_SPREAD
        yaw = float(torch.atan2(towards[0], towards[2])) if has_front else 0.0
        pitch = float((offset[:, 1] / radius).asin().mean())
        return Surround(pivot, float(radius.median()), yaw, pitch, camera.intrinsics.median(dim=0).values)

    def labels(self, yaw: Tensor, pitch: Tensor) -> Tensor:
        """Camera labels `n 25` at angles `n` in radians from the front of the set."""
        azimuth, elevation = yaw.double() + self.yaw, pitch.double() + self.pitch
        flat = elevation.cos()
        towards = torch.stack([flat * azimuth.sin(), elevation.sin(), flat * azimuth.cos()], dim=1)
        position = (self.pivot + self.radius * towards).float()
        intrinsics = self.intrinsics.float().expand(len(position), 3, 3)
        return Camera(look_at(position, self.pivot.float()[None]), intrinsics).to_label()

    def front(self, count: int) -> Tensor:
        """The frontal label `n 25`, `count` times."""
        zeros = torch.zeros(count)
        return self.labels(zeros, zeros)
