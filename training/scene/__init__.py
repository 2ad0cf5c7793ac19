"""Scenes: what stands in front of the background.

A scene turns style rows into a `Field`, once; the field answers density and features at any points, often.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from torch import Tensor

from training.scene.triplane import TriplaneConfig
from training.types import FieldSamples

SceneConfig = TriplaneConfig


@runtime_checkable
class Field(Protocol):
    """Density and features at points of scenes that have been built."""

    def __call__(self, points: Tensor, directions: Tensor | None = None) -> FieldSamples:
        """Raw density `n points 1` and features `n points channels` at points `n points 3` in scene units."""

    def density(self, points: Tensor) -> Tensor:
        """Raw density alone, `n points 1`."""

    def expand(self, count: int) -> Field:
        """One scene seen by `count` cameras."""
