"""Where to sample along rays: pure functions of depths, in scene units."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from torch_utils import random
from training.types import Jitter, Rays

PDF_FLOOR = 1e-5
WEIGHT_FLOOR = 0.01


def uniform_draws(shape: tuple[int, ...], jitter: Jitter, device: torch.device) -> Tensor:
    """Numbers of [0, 1): random, or one half everywhere where the render is to be deterministic."""
    return random.uniform(shape, device) if jitter == "uniform" else torch.full(shape, 0.5, device=device)


def box_limits(rays: Rays, side: float) -> tuple[Float[Tensor, "n rays 1"], Float[Tensor, "n rays 1"]]:
    """Distances at which rays enter and leave the cube of a side about the origin.

    A camera inside starts at distance 0. A ray that misses, or has the cube behind it, gets an empty interval at its
    closest approach to the origin, so that it gathers no weight.
    """
    near, far = _slab_distances(rays, side)
    hit = (far > near) & (far > 0)
    closest = -(rays.origins * rays.directions).sum(dim=-1, keepdim=True).clamp(max=0)
    return torch.where(hit, near.clamp(min=0), closest), torch.where(hit, far, closest)


def published_box_limits(rays: Rays, side: float) -> tuple[Float[Tensor, "n rays 1"], Float[Tensor, "n rays 1"]]:
    """The limits that published files were trained with, for their sake alone.

    A box behind the camera counts as hit. A ray that misses runs from the smallest to the largest entry distance of
    the whole batch, or from -1 to -2 where no ray hits.
    """
    near, far = _slab_distances(rays, side)
    hit = near <= far
    if not hit.any():
        return torch.full_like(near, -1), torch.full_like(far, -2)
    return torch.where(hit, near, near[hit].min()), torch.where(hit, far, near[hit].max())


def _slab_distances(rays: Rays, side: float) -> tuple[Tensor, Tensor]:
    tiny = torch.finfo(rays.directions.dtype).tiny
    inverse = 1 / torch.where(rays.directions == 0, tiny, rays.directions)
    ends = torch.stack([(-side / 2 - rays.origins) * inverse, (side / 2 - rays.origins) * inverse])
    near = ends.amin(dim=0).amax(dim=-1, keepdim=True)
    return near, ends.amax(dim=0).amin(dim=-1, keepdim=True)


def stratified_depths(
    near: Float[Tensor, "n rays 1"], far: Float[Tensor, "n rays 1"], draws: Float[Tensor, "n rays samples"]
) -> Float[Tensor, "n rays samples"]:
    """Evenly spaced depths from near to far, each moved up by its draw of [0, 1) times the spacing."""
    samples = draws.shape[-1]
    steps = torch.arange(samples, device=near.device, dtype=near.dtype)
    return near + (far - near) * ((steps + draws) / (samples - 1))


def disparity_depths(
    near: Float[Tensor, "n rays 1"], far: Float[Tensor, "n rays 1"], draws: Float[Tensor, "n rays samples"]
) -> Float[Tensor, "n rays samples"]:
    """Depths evenly spaced in 1/depth, jittered likewise.

    As published, the jitter moves the last sample beyond `far`; it stays in front of the camera where far is less
    than the number of samples times near.
    """
    samples = draws.shape[-1]
    steps = torch.arange(samples, device=near.device, dtype=near.dtype)
    t = (steps + draws) / (samples - 1)
    return 1 / ((1 - t) / near + t / far)


@torch.no_grad()
def importance_depths(
    depths: Float[Tensor, "n rays samples"], weights: Float[Tensor, "n rays segments"], count: int, jitter: Jitter
) -> Float[Tensor, "n rays count"]:
    """Depths drawn where the coarse weights are large, by inverting their cumulative distribution.

    The weights are widened (the larger of two neighbours, then the mean of two) and lifted by 0.01, so that
    places near a surface are found too. As published, the last bin between sample midpoints is never drawn from.
    """
    pdf = smoothed_weights(weights)[..., 1:-1] + PDF_FLOOR
    cdf = torch.cumsum(pdf / pdf.sum(dim=-1, keepdim=True), dim=-1)
    cdf = torch.cat([torch.zeros_like(cdf[..., :1]), cdf], dim=-1)
    edges = (depths[..., 1:] + depths[..., :-1]) / 2
    if jitter == "uniform":
        u = random.uniform((*depths.shape[:-1], count), depths.device)
    else:
        u = ((torch.arange(count, device=depths.device) + 0.5) / count).expand(*depths.shape[:-1], count).contiguous()
    return invert_cdf(cdf, edges, u)


def smoothed_weights(weights: Float[Tensor, "n rays segments"]) -> Float[Tensor, "n rays segments"]:
    """Segment weights after a maximum over two neighbours, a mean of two, and a floor."""
    padded = torch.nn.functional.pad(weights, (1, 1))
    widened = torch.maximum(padded[..., 1:], padded[..., :-1])
    return (widened[..., 1:] + widened[..., :-1]) / 2 + WEIGHT_FLOOR


def invert_cdf(
    cdf: Float[Tensor, "n rays steps"], edges: Float[Tensor, "n rays edges"], u: Float[Tensor, "n rays count"]
) -> Float[Tensor, "n rays count"]:
    """Positions between `edges` at which a piecewise linear cumulative distribution reaches u."""
    upper = torch.searchsorted(cdf.contiguous(), u, right=True)
    below = (upper - 1).clamp(min=0)
    above = upper.clamp(max=cdf.shape[-1] - 1)
    low, high = cdf.gather(-1, below), cdf.gather(-1, above)
    step = torch.where(high - low < PDF_FLOOR, 1.0, high - low)
    start, end = edges.gather(-1, below), edges.gather(-1, above)
    return start + (u - low) / step * (end - start)
