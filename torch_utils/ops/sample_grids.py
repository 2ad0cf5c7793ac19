"""Look-up of features in grids, by one kernel that keeps nothing but the features.

Serves planes (2-D grids), planes in stacks (3-D grids of few layers) and volumes. It reads the same tables as the
look-up in plain torch (`training/scene/lookup.py`), which runs everywhere else.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from torch_utils.ops import kernels
from torch_utils.ops.binding import MAX_ELEMENTS

MAX_GRIDS = 16


def can_sample_grids(table: Tensor, points: Tensor) -> bool:
    """Whether `sample_grids` runs for these tensors.

    Not where torch is told to be deterministic: the gradients of a table are sums whose order is that of time.
    """
    fits = points.dtype == torch.float32 and len(points) * table.shape[-1] <= MAX_ELEMENTS
    return fits and not torch.are_deterministic_algorithms_enabled() and kernels.serve(table, points)


def sample_grids(table: Tensor, points: Tensor, axes: Sequence[Sequence[int]], sizes: Sequence[int]) -> Tensor:
    """Mean over grids of their bi- or trilinear samples at points: [points, channels] in the format of the table.

    table: [rows, channels]. Row by row and column by column lie the feature vectors of all grids, of each all its
    layers where it has any, with a border of one zero around every grid. points: [points, coordinates], float32, where
    -1 and 1 are the outer borders of a grid, half a cell beyond its first and last centre; a grid is zero outside.
    axes: for each grid which coordinates run along its columns, rows and layers. sizes: columns, rows and, for 3-D
    grids, layers, without the border.

    Gradients of first order reach the table and the points; asking for second ones raises RuntimeError. Only for
    tensors that `can_sample_grids` names. Raises ValueError where table, axes and sizes do not fit.
    """
    rows = len(axes)
    for size in sizes:
        rows *= size + 2
    if len(sizes) not in (2, 3) or any(len(grid) != len(sizes) for grid in axes):
        raise ValueError(f"grids have 2 or 3 sizes and as many axes each, got sizes={sizes} and axes={axes}")
    if not 0 < len(axes) <= MAX_GRIDS or any(not 0 <= axis < points.shape[1] for grid in axes for axis in grid):
        raise ValueError(f"1 to {MAX_GRIDS} grids along {points.shape[1]} coordinates are possible, got axes={axes}")
    if rows != len(table):
        raise ValueError(f"{len(axes)} grids of {sizes} with their borders have {rows} rows, the table {len(table)}")
    return _sample(table.contiguous(), points.contiguous(), [axis for grid in axes for axis in grid], list(sizes))


@torch.library.custom_op("gan3d::sample_grids", mutates_args=())
def _sample(table: Tensor, points: Tensor, axes: Sequence[int], sizes: Sequence[int]) -> Tensor:
    return _kernels(table).sample_grids(table, points, axes, sizes)


@torch.library.custom_op("gan3d::sample_grids_backward", mutates_args=())
def _backward(
    grad: Tensor,
    table: Tensor,
    points: Tensor,
    axes: Sequence[int],
    sizes: Sequence[int],
    to_table: bool,
    to_points: bool,
) -> tuple[Tensor, Tensor]:
    """Gradients to table and points; empty where they are not asked for."""
    found = _kernels(table).sample_grids_backward(grad, table, points, axes, sizes, to_table, to_points)
    none = table.new_empty(0), points.new_empty(0)
    return none[0] if found[0] is None else found[0], none[1] if found[1] is None else found[1]


def _kernels(table: Tensor):
    found = kernels.loaded(table.device)
    if found is None:
        raise RuntimeError("sample_grids has kernels alone; use the look-up in plain torch")
    return found


@_sample.register_fake
def _(table, points, axes, sizes):
    return table.new_empty(len(points), table.shape[1])


@_backward.register_fake
def _(grad, table, points, axes, sizes, to_table, to_points):
    grad_table = torch.empty_like(table) if to_table else table.new_empty(0)
    return grad_table, torch.empty_like(points) if to_points else points.new_empty(0)


def _remember(ctx, inputs, output) -> None:
    table, points, ctx.axes, ctx.sizes = inputs
    ctx.save_for_backward(table, points)


def _differentiate(ctx, grad: Tensor) -> tuple:
    wanted = ctx.needs_input_grad[:2]
    gradients = _backward(grad, *ctx.saved_tensors, ctx.axes, ctx.sizes, *wanted)
    return *[gradient if want else None for gradient, want in zip(gradients, wanted, strict=True)], None, None


def _refuse(ctx, *gradients: Tensor) -> tuple:
    raise RuntimeError(
        "second derivatives of feature look-ups do not exist: let gradient penalties act on pictures, or query the "
        "field with finite differences"
    )


_sample.register_autograd(_differentiate, setup_context=_remember)
_backward.register_autograd(_refuse)
