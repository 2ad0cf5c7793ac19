"""Interpolation in grids of features: planes, stacks of planes and volumes.

Every look-up is a weighted sum of a few rows of a table of feature vectors. The rows are gathered and summed in
one operation, so the features of single planes or corners never exist in memory. Gradients of first order reach
the table and the points; nothing needs the second.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

PLANE_AXES = {
    "corrected": ((0, 1), (0, 2), (2, 1)),
    "legacy": ((0, 1), (0, 2), (2, 0)),
}
"""Coordinates (column, row) that each of three planes spans. The published planes 1 and 2 span the same axes."""


def bilinear_taps(
    uv: Float[Tensor, "*points 2"], width: int, height: int
) -> tuple[Int[Tensor, "*points 4"], Float[Tensor, "*points 4"]]:
    """Indices (row-major) and weights of the four pixels around points of [-1, 1]^2.

    -1 and 1 are the outer borders of the image (pixel centres lie half a pixel inside); beyond them the image is
    zero, so that a neighbour outside has weight 0.
    """
    size = torch.tensor([width, height], device=uv.device, dtype=uv.dtype)
    position = ((uv + 1) * size - 1) * 0.5
    low = position.detach().floor()
    fraction = position - low
    index = torch.stack([low, low + 1], dim=-1)
    inside = (index >= 0) & (index < size[:, None])
    weight = torch.stack([1 - fraction, fraction], dim=-1) * inside
    index = torch.minimum(index.clamp(min=0), size[:, None] - 1).long()
    taps = index[..., 1, :, None] * width + index[..., 0, None, :]
    weights = weight[..., 1, :, None] * weight[..., 0, None, :]
    return taps.flatten(-2), weights.flatten(-2)


def gather_rows(
    table: Float[Tensor, "n rows channels"], taps: Int[Tensor, "n points k"], weights: Float[Tensor, "n points k"]
) -> Float[Tensor, "n points channels"]:
    """Weighted sums of k rows of each sample's table."""
    n, rows, channels = table.shape
    taps = taps + torch.arange(n, device=taps.device)[:, None, None] * rows
    gathered = torch.nn.functional.embedding_bag(
        taps.flatten(0, 1),
        table.reshape(n * rows, channels),
        per_sample_weights=weights.flatten(0, 1).to(table.dtype),
        mode="sum",
    )
    return gathered.view(n, -1, channels)


def plane_table(planes: Float[Tensor, "n planes channels height width"]) -> Float[Tensor, "n rows channels"]:
    """Planes as a table of pixels: plane by plane, row-major."""
    return planes.permute(0, 1, 3, 4, 2).flatten(1, 3).contiguous()


def sample_planes(
    table: Float[Tensor, "n rows channels"],
    points: Float[Tensor, "n points 3"],
    axes: tuple[tuple[int, int], ...],
    resolution: int,
) -> Float[Tensor, "n points channels"]:
    """Mean over the planes of the features at points of [-1, 1]^3, each projected along the axis its plane lacks."""
    uv = torch.stack([points[..., pair] for pair in axes], dim=2)
    taps, weights = bilinear_taps(uv, resolution, resolution)
    taps = taps + torch.arange(len(axes), device=taps.device)[:, None] * resolution**2
    return gather_rows(table, taps.flatten(2), weights.flatten(2) / len(axes))
