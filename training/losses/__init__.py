"""Losses, and their part of the configuration."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from training.losses.regularizers import VOXELS_PER_SIDE

MONOTONIC_STRENGTH = 10.0

DensityKind = Literal["l1", "monotonic-detach", "monotonic-fixed"]


@dataclass(frozen=True)
class DensityConfig:
    """Regularizer of the density at random points.

    "l1" makes it smooth; the monotonic kinds also ask that it does not fall behind a surface, in front of it too
    ("monotonic-fixed") or only behind ("monotonic-detach"). distance: step between the points that "l1" compares, in
    scene units; the monotonic kinds use the side of the scene's box over 256.
    """

    strength: float = 0.0
    kind: DensityKind = "l1"
    distance: float = 0.004

    @property
    def is_monotonic(self) -> bool:
        """Whether the density may not fall from front to back."""
        return self.kind != "l1"

    def step(self, box_side: float) -> float:
        """Distance between compared points in scene units."""
        return box_side / VOXELS_PER_SIDE if self.is_monotonic else self.distance


@dataclass(frozen=True)
class MarchConfig:
    """Regularizer of the density along rays. It begins after `start` images; warm_up: gently over 15,000 images."""

    strength: float = 0.0
    start: int = 0
    warm_up: bool = False


@dataclass(frozen=True)
class LossConfig:
    """What the networks are trained for; every regularizer with a strength above 0 acts, on its own.

    background_pairs: two samples of a batch share each foreground latent, in front of different backgrounds.
    """

    r1_gamma: float = 1.0
    style_mixing_prob: float = 0.0
    background_pairs: bool = False
    density: DensityConfig = field(default_factory=DensityConfig)
    fg_density: MarchConfig = field(default_factory=MarchConfig)
    fg_density_spatial: MarchConfig = field(default_factory=MarchConfig)
    bg_transmittance: MarchConfig = field(default_factory=MarchConfig)

    @property
    def march(self) -> dict[str, MarchConfig]:
        """The regularizers along rays by name."""
        names = ("fg_density", "fg_density_spatial", "bg_transmittance")
        return {name: getattr(self, name) for name in names}

    @property
    def regularizes(self) -> bool:
        """Whether any regularizer of the generator ever acts."""
        return self.density.strength > 0 or any(config.strength > 0 for config in self.march.values())
