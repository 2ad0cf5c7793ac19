"""From densities along rays to the share of light of each sample: pure functions."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

TRANSMITTANCE_FLOOR = 1e-10


def midpoint_weights(
    density: Float[Tensor, "n rays samples"], depths: Float[Tensor, "n rays samples"]
) -> tuple[Float[Tensor, "n rays segments"], Float[Tensor, "n rays 1"]]:
    """Weights of the segments between sorted samples, and the transmittance behind the last of them.

    A segment has the mean raw density of its two ends, activated as softplus(raw - 1): the shift starts an untrained
    field nearly empty. alpha = 1 - exp(-density * length); weight = alpha * transmittance before it (Max 1995;
    Mildenhall et al. 2020, eq. 3).
    """
    raw = (density[..., 1:] + density[..., :-1]) / 2
    alpha = -torch.expm1(-torch.nn.functional.softplus(raw - 1) * depths.diff(dim=-1))
    through = torch.cumprod(1 - alpha + TRANSMITTANCE_FLOOR, dim=-1)
    before = torch.cat([torch.ones_like(through[..., :1]), through[..., :-1]], dim=-1)
    return alpha * before, through[..., -1:]


def sample_weights(weights: Float[Tensor, "n rays segments"]) -> Float[Tensor, "n rays samples"]:
    """Weights of the samples when a segment's value is the mean of its two ends: half goes to each."""
    halves = torch.nn.functional.pad(weights, (1, 1)) / 2
    return halves[..., 1:] + halves[..., :-1]


def expected_depth(
    weights: Float[Tensor, "n rays segments"],
    depths: Float[Tensor, "n rays samples"],
    nearest: Float[Tensor, "#n #rays 1"],
    farthest: Float[Tensor, "#n #rays 1"],
) -> Float[Tensor, "n rays 1"]:
    """Weighted mean of the segments' middles within [nearest, farthest]; `farthest` on rays without weight."""
    total = (sample_weights(weights) * depths).sum(dim=-1, keepdim=True)
    opacity = weights.sum(dim=-1, keepdim=True)
    seen = opacity != 0  # descending depths, which published ray limits can give, make weights negative
    depth = total / torch.where(seen, opacity, 1)
    return torch.where(seen, torch.minimum(torch.maximum(depth, nearest), farthest), farthest)


def weighted_features(
    weights: Float[Tensor, "n rays samples"], features: Float[Tensor, "n points channels"]
) -> Float[Tensor, "n rays channels"]:
    """Sums over each ray's samples; the points of a ray follow each other."""
    n, rays, samples = weights.shape
    per_ray = features.reshape(n * rays, samples, -1)
    return torch.bmm(weights.reshape(n * rays, 1, samples), per_ray).view(n, rays, -1)
