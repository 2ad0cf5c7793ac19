"""Interpolation in grids of features: planes, stacks of planes and volumes.

Every look-up is a weighted sum of a few rows of a table of feature vectors. The rows are gathered and summed in
one operation, so the features of single planes or corners never exist in memory. Gradients of first order reach
the table and the points. Those of second order do not exist: the gradient penalty acts on pictures, not on fields.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import embedding_bag

PLANE_AXES = {
    "corrected": ((0, 1), (0, 2), (2, 1)),
    "legacy": ((0, 1), (0, 2), (2, 0)),
}
"""Coordinates (column, row) that each of three planes spans. The published planes 1 and 2 span the same axes."""


def grid_cells(
    position: Float[Tensor, "*points"], size: int
) -> tuple[Int[Tensor, "*points"], Float[Tensor, "*points"]]:
    """Cell and place in the cell of positions on one axis of a grid, with a border of one zero beyond either end.

    Positions are in pixels, 0 at the first pixel centre. The cell is the index of its lower end in the grid with its
    border, so it is never negative. Positions beyond the border are moved to it, where everything is zero; NaN stays
    NaN but gets a valid cell, so that a diverged network is reported by its losses and not by an index error.
    """
    position = position.clamp(-1, size) + 1
    cell = position.detach().floor().long().clamp(0, size)
    return cell, position - cell


def gather_rows(
    table: Float[Tensor, "rows channels"], taps: Int[Tensor, "points k"], weights: Float[Tensor, "points k"]
) -> Float[Tensor, "points channels"]:
    """Weighted sums of k rows of a table, with gradients of first order to table and weights."""
    return _GatherRows.apply(table, taps, weights)


class _GatherRows(torch.autograd.Function):
    """Weighted row sums of one table.

    The backward pass to the table is the same operation with the roles of rows and points exchanged, after a sort of
    the taps: deterministic, and many times faster than adding one tap after the other.
    """

    @staticmethod
    def forward(ctx, table: Tensor, taps: Tensor, weights: Tensor) -> Tensor:
        ctx.save_for_backward(table, taps, weights)
        return embedding_bag(taps, table, per_sample_weights=weights.to(table.dtype), mode="sum")

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, None, Tensor | None]:
        table, taps, weights = ctx.saved_tensors
        grad_table = grad_weights = None
        if ctx.needs_input_grad[0]:
            rows, order = taps.flatten().int().sort()
            starts = torch.searchsorted(rows, torch.arange(len(table), device=rows.device, dtype=rows.dtype))
            shares = weights.flatten()[order].to(grad.dtype)
            grad_table = embedding_bag(order // taps.shape[1], grad, starts, per_sample_weights=shares, mode="sum")
        if ctx.needs_input_grad[2]:
            columns = [(table[tap] * grad).sum(dim=1) for tap in taps.unbind(dim=1)]
            grad_weights = torch.stack(columns, dim=1).to(weights.dtype)
        return grad_table, None, grad_weights


def plane_table(planes: Float[Tensor, "n planes channels height width"]) -> Float[Tensor, "n rows channels"]:
    """Planes as a table of pixels, plane by plane and row by row, each plane with a border of zeros."""
    padded = torch.nn.functional.pad(planes, (1, 1, 1, 1))
    return padded.permute(0, 1, 3, 4, 2).flatten(1, 3).contiguous()


def sample_planes(
    table: Float[Tensor, "rows channels"],
    points: Float[Tensor, "points 3"],
    axes: tuple[tuple[int, int], ...],
    resolution: int,
) -> Float[Tensor, "points channels"]:
    """Mean over the planes of the features at points of [-1, 1]^3, each projected along the axis its plane lacks.

    -1 and 1 are the outer borders of a plane, half a pixel beyond the first and last pixel centre; a plane is zero
    outside.
    """
    cell, fraction = grid_cells(((points + 1) * resolution - 1) / 2, resolution)
    columns, rows = [list(names) for names in zip(*axes, strict=True)]
    stride = resolution + 2
    plane_start = torch.arange(len(axes), device=points.device) * stride**2
    corner = cell[..., rows] * stride + cell[..., columns] + plane_start
    taps = corner[..., None] + torch.tensor([0, 1, stride, stride + 1], device=points.device)

    ends = torch.stack([1 - fraction, fraction], dim=-1)
    weights = (ends / len(axes))[..., rows, :, None] * ends[..., columns, None, :]
    return gather_rows(table, taps.flatten(1), weights.flatten(1))
