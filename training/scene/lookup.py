"""Interpolation in grids of features: planes, stacks of planes and volumes.

Every look-up is a weighted sum of a few rows of a table of feature vectors. The rows are gathered and summed in
one operation, so the features of single planes or corners never exist in memory; GPUs have a kernel for the whole.
Gradients of first order reach the table and the points. Those of second order do not exist: the gradient penalty acts
on pictures, not on fields.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import embedding_bag

from torch_utils.ops.sample_grids import can_sample_grids, sample_grids

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
    cell = position.detach().floor().int().clamp(0, size)
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
            counts = torch.bincount(rows, minlength=len(table))
            starts = counts.cumsum(dim=0) - counts
            shares = weights.flatten()[order].to(grad.dtype)
            grad_table = embedding_bag(order // taps.shape[1], grad, starts, per_sample_weights=shares, mode="sum")
        if ctx.needs_input_grad[2]:
            columns = [(table[tap] * grad).sum(dim=1) for tap in taps.unbind(dim=1)]
            grad_weights = torch.stack(columns, dim=1).to(weights.dtype)
        return grad_table, None, grad_weights


def plane_table(planes: Float[Tensor, "n planes channels height width"]) -> Float[Tensor, "n rows channels"]:
    """Planes as a table of pixels with a border of zeros: row by row, at each place the pixels of all planes.

    That is how planes lie in memory that come out of a network whose channels are last.
    """
    return torch.nn.functional.pad(planes.permute(0, 3, 4, 1, 2), (0, 0, 0, 0, 1, 1, 1, 1)).flatten(1, 3)


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
    if can_sample_grids(table, points):
        return sample_grids(table, points, axes, (resolution, resolution))
    cell, fraction = grid_cells(((points.t() + 1) * resolution - 1) / 2, resolution)
    planes, stride = len(axes), len(axes) * (resolution + 2)
    corners = [cell[row] * stride + cell[column] * planes + plane for plane, (column, row) in enumerate(axes)]
    ahead = torch.arange(2, device=points.device, dtype=cell.dtype)
    steps = (ahead[:, None] * stride + ahead * planes).flatten()
    taps = torch.stack(corners, dim=1)[:, :, None] + steps

    ends = (1 - fraction, fraction)
    shares = [end / planes for end in ends]
    weights = [share[row] * end[column] for column, row in axes for share in shares for end in ends]
    return gather_rows(table, taps.flatten(1), torch.stack(weights, dim=1))
