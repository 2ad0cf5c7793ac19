"""Whether compiled kernels give what plain torch gives, on inputs so small that asking costs milliseconds."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from torch_utils.ops import fused_bias_act, upfirdn2d
from torch_utils.ops.activations import ACTIVATIONS
from torch_utils.ops.binding import FORMATS, Kernels

TOLERANCE = {torch.float32: 1e-5, torch.float16: 1e-3, torch.bfloat16: 8e-3}
"""Largest difference as a share of the largest expected number: some units of the last place."""

Comparison = tuple[str, Tensor, Tensor]
"""What is compared, what the kernels gave, and what they should have given, in float64."""


def disagreement(kernels: Kernels, device: torch.device) -> str | None:
    """What differs by how much; None where all agrees."""
    for dtype in FORMATS:
        draw = Draw(dtype, device)
        for compare in (_bias_act, _upfirdn2d, _sample_grids):
            for name, actual, expected in compare(kernels, draw):
                error = (actual.double() - expected).abs().max() / expected.abs().max().clamp(min=1)
                if not error <= TOLERANCE[dtype]:
                    kind = str(dtype).removeprefix("torch.")
                    return f"{name} in {kind} differs from plain torch by {error.item():.1e}"
    return None


class Draw:
    """Random tensors in a format on a device, the same at every call of the program."""

    def __init__(self, dtype: torch.dtype, device: torch.device):
        self.dtype, self.device = dtype, device
        self.generator = torch.Generator().manual_seed(0)

    def normal(self, *shape: int) -> Tensor:
        """Normally distributed, with a standard deviation of 2."""
        return (2 * torch.randn(shape, generator=self.generator)).to(self.device, self.dtype)

    def uniform(self, *shape: int) -> Tensor:
        """Points in float32 in and around [-1, 1]."""
        return (torch.rand(shape, generator=self.generator) * 2.4 - 1.2).to(self.device)


def _bias_act(kernels: Kernels, draw: Draw) -> Iterator[Comparison]:
    for layout in (torch.contiguous_format, torch.channels_last):
        x, first, second = [draw.normal(2, 8, 3, 5).contiguous(memory_format=layout) for _ in range(3)]
        b = draw.normal(8)
        for act in ACTIVATIONS:
            yield from bias_act_of_all_orders(kernels, x, b, first, second, (1, act, 0.2, 1.5, 2.5))


def bias_act_of_all_orders(
    kernels: Kernels,
    x: Tensor,
    b: Tensor | None,
    first: Tensor,
    second: Tensor,
    settings: tuple[int, str, float, float, float | None],
) -> Iterator[Comparison]:
    """Value and derivatives of bias_act; settings: dim, act, alpha, gain, clamp."""

    def of_order(order: int, at: Tensor, *others: Tensor | None) -> Comparison:
        b, first, second = others
        actual = kernels.bias_act(order, at, b, first, second, *settings)
        b, first, second = [None if t is None else t.double() for t in others]
        expected = fused_bias_act.reference(order, at.double(), b, first, second, *settings)
        return f"bias_act ({settings[1]}, order {order})", actual, expected

    value = of_order(0, x, b, None, None)
    yield value
    if fused_bias_act.is_rectifier(settings[1]):
        yield of_order(1, value[1], None, first, None)
    else:
        yield of_order(1, x, b, first, None)
        yield of_order(2, x, b, first, second)


def _upfirdn2d(kernels: Kernels, draw: Draw) -> Iterator[Comparison]:
    f = torch.outer(torch.tensor([0.1, 0.2, 0.3, 0.4]), torch.tensor([0.4, 0.3, 0.1, 0.2])).to(draw.device)
    for layout in (torch.contiguous_format, torch.channels_last):
        x = draw.normal(2, 8, 7, 6).contiguous(memory_format=layout)
        for up, down in ((1, 1), (2, 1), (1, 2), (2, 3)):
            settings = (up, up), (down, down), (2, 3, -1, 4), False, 2.0
            expected = upfirdn2d.reference(x.double(), f.double(), *settings)
            actual = kernels.upfirdn2d(x, f, *settings, expected.shape[2:])
            yield f"upfirdn2d (up {up}, down {down})", actual, expected


def _sample_grids(kernels: Kernels, draw: Draw) -> Iterator[Comparison]:
    columns_rows_layers = (5, 4, 3)
    for axes in (((0, 1), (0, 2), (2, 1)), ((0, 1, 2), (2, 0, 1))):
        sizes = columns_rows_layers[: len(axes[0])]
        grids = draw.normal(len(axes), 8, *sizes[::-1])
        points, grad = draw.uniform(50, 3), draw.normal(50, 8)
        exact_grids, exact_points = grids.double().requires_grad_(), points.double().requires_grad_()
        expected = sample_plainly(exact_grids, exact_points, axes)
        to_grids, to_points = torch.autograd.grad(expected, (exact_grids, exact_points), grad.double())
        table, flat = grid_table(grids), [axis for grid in axes for axis in grid]
        yield "sample_grids", kernels.sample_grids(table, points, flat, sizes), expected.detach()
        backward = kernels.sample_grids_backward(grad, table, points, flat, sizes, True, True)
        for name, actual, exact in zip(("grids", "points"), backward, (grid_table(to_grids), to_points), strict=True):
            assert actual is not None
            yield f"sample_grids (gradient of {name})", actual, exact


def grid_table(grids: Tensor) -> Tensor:
    """The table that `sample_grids` reads: of grids [grids, channels, (layers,) rows, columns]."""
    if grids.ndim == 4:
        return F.pad(grids.permute(2, 3, 0, 1), (0, 0, 0, 0, 1, 1, 1, 1)).flatten(0, 2)
    return F.pad(grids.permute(3, 4, 0, 2, 1), (0, 0, 1, 1, 0, 0, 1, 1, 1, 1)).flatten(0, 3)


def sample_plainly(grids: Tensor, points: Tensor, axes: tuple[tuple[int, ...], ...]) -> Tensor:
    """What `sample_grids` should give, by torch's own sampling of each grid."""
    samples = []
    for grid, axis in zip(grids, axes, strict=True):
        places = points[:, axis].view(1, len(points), *[1] * (len(axis) - 1), len(axis))
        sampled = F.grid_sample(grid[None], places, padding_mode="zeros", align_corners=False)
        samples.append(sampled.flatten(2)[0].t())
    return torch.stack(samples).mean(dim=0)
