"""What the generator's density is asked for besides fooling the discriminator. One value an image, without strength.

Regularizers of a march look at densities along rays, those of a field at densities of single points.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from torch_utils import random
from training.types import RayMarch

DENSITY_POINTS = 1000
MONOTONIC_POINTS = 2000
VOXELS_PER_SIDE = 256
"""Points that are compared by the monotonic regularizers lie one such fraction of the box apart."""


@runtime_checkable
class DensityField(Protocol):
    """Anything that has a density at points."""

    def density(self, points: Tensor) -> Tensor:
        """Raw density `n points 1` at points `n points 3` in scene units."""


def ray_entropy(march: RayMarch) -> Float[Tensor, " n"]:
    """Mean over rays of the entropy of softmax(raw density) along the ray, in nats: small for one sharp surface.

    BallGAN, `--fg_density_spatial_reg`.
    """
    log_share = march.fine_density.float().log_softmax(dim=2)
    return -(log_share.exp() * log_share).sum(dim=2).mean(dim=1)


def density_spread(march: RayMarch) -> Float[Tensor, " n"]:
    """Mean over rays of how far apart in disparity their dense samples lie, plus a third of the density's integral.

    With g the sigmoid of the raw density and s the disparity 1/d, scaled to [0, 1] on each ray: the sum over pairs of
    g_i g_j |s_i - s_j|, as in the distortion loss of mip-NeRF 360 (eq. 15), but of densities instead of weights, plus
    sum g_i delta_i / 3. BallGAN, `--fg_density_reg`.
    """
    depths, order = march.fine_depths.float().sort(dim=2)
    dense = march.fine_density.float().gather(2, order).sigmoid()
    disparity = 1 / depths
    nearest, farthest = disparity[..., :1], disparity[..., -1:]
    extent = nearest - farthest
    position = (nearest - disparity) / torch.where(extent > 0, extent, 1)
    spacing = depths.diff(dim=2)
    spacing = torch.cat([spacing, spacing[..., -1:]], dim=2)
    spread = pair_distances(dense, position) + (dense * spacing).sum(dim=2) / 3
    return spread.mean(dim=1)


def pair_distances(
    weights: Float[Tensor, "*rays samples"], positions: Float[Tensor, "*rays samples"]
) -> Float[Tensor, "*rays"]:
    """Sum over pairs i < j of w_i w_j (x_j - x_i), for positions in ascending order.

    Linear in the number of samples: sample j meets the total weight and the total moment of all before it.
    """
    moments = weights * positions
    weight_before = weights.cumsum(dim=-1) - weights
    moment_before = moments.cumsum(dim=-1) - moments
    return (weights * (positions * weight_before - moment_before)).sum(dim=-1)


def transmittance_ambiguity(march: RayMarch) -> Float[Tensor, " n"]:
    """Mean over rays of min(T, 1 - T), T the share of light from behind: 0 where every ray is opaque or empty.

    BallGAN, `--bg_transmittance_reg`.
    """
    behind = march.transmittance.float().squeeze(2)
    return torch.minimum(behind, 1 - behind).mean(dim=1)


MARCH_REGULARIZERS: Mapping[str, Callable[[RayMarch], Tensor]] = {
    "fg_density": density_spread,
    "fg_density_spatial": ray_entropy,
    "bg_transmittance": transmittance_ambiguity,
}
"""Regularizers of densities along rays, by their name in `LossConfig`."""


@dataclass(frozen=True)
class PointPairs:
    """Points and a partner for each, in scene units."""

    points: Float[Tensor, "n points 3"]
    partners: Float[Tensor, "n points 3"]

    def densities(self, field: DensityField) -> tuple[Float[Tensor, "n points"], Float[Tensor, "n points"]]:
        """Raw density at the points and at their partners."""
        density = field.density(torch.cat([self.points, self.partners], dim=1)).squeeze(2)
        return density[:, : self.points.shape[1]], density[:, self.points.shape[1] :]


def neighbours(n: int, distance: float, device: torch.device | str) -> PointPairs:
    """1000 points of [-1, 1]^3, each with a partner a normal step of standard deviation `distance` away."""
    points = random.uniform([n, DENSITY_POINTS, 3], device) * 2 - 1
    return PointPairs(points, points + random.normal([n, DENSITY_POINTS, 3], device) * distance)


def farther_neighbours(n: int, distance: float, device: torch.device | str) -> PointPairs:
    """2000 points of [-1, 1]^3, each with a partner `distance` farther from the frontal camera."""
    points = random.uniform([n, MONOTONIC_POINTS, 3], device) * 2 - 1
    return PointPairs(points, points + points.new_tensor([0.0, 0.0, -distance]))


def density_variation(field: DensityField, pairs: PointPairs) -> Float[Tensor, " n"]:
    """Mean absolute difference of the raw density between neighbours: small for a smooth field (EG3D, `l1`)."""
    here, there = pairs.densities(field)
    return (here - there).abs().mean(dim=1)


def density_decrease(field: DensityField, pairs: PointPairs, detach_front: bool) -> Float[Tensor, " n"]:
    """Mean decrease of the raw density on the way from the front to the back (EG3D, `monotonic-*`).

    detach_front: only the density behind learns from it.
    """
    front, behind = pairs.densities(field)
    return torch.relu((front.detach() if detach_front else front) - behind).mean(dim=1)
