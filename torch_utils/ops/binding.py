"""The compiled kernels as functions of tensors."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from torch_utils.ops.activations import ACTIVATIONS

FORMATS = {torch.float32: 0, torch.float16: 1, torch.bfloat16: 2}
"""Number formats by the code that the kernels know them by."""

MAX_ELEMENTS = 2**31 - 1
"""Most numbers in a tensor that a kernel reads or writes."""

_INT, _UNSIGNED, _FLOAT, _POINTER = ctypes.c_int, ctypes.c_uint, ctypes.c_float, ctypes.c_void_p


def dense_layout(x: Tensor) -> torch.memory_format:
    """The layout that results have: channels last where x has it and no other, else the usual one."""
    last = x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
    return torch.channels_last if last else torch.contiguous_format


class Kernels:
    """The kernels of one compiled library; tensors of a call share a device, and its current stream runs them.

    Raises OSError where the file cannot be loaded. The calls raise RuntimeError with CUDA's words where a kernel
    does not start.
    """

    def __init__(self, library: Path):
        found = ctypes.CDLL(str(library))
        self._bias_act = found.gan3d_bias_act
        self._bias_act.argtypes = [*[_INT] * 3, *[_POINTER] * 5, *[_UNSIGNED] * 3, *[_FLOAT] * 3, _POINTER]
        self._upfirdn2d = found.gan3d_upfirdn2d
        self._upfirdn2d.argtypes = [_INT, *[_POINTER] * 3, *[_INT] * 15, _FLOAT, _POINTER]
        self._error = found.gan3d_error
        self._error.argtypes, self._error.restype = [_INT], ctypes.c_char_p
        self._sample_grids = found.gan3d_sample_grids
        self._sample_grids.argtypes = [_INT, *[_POINTER] * 6, _UNSIGNED, *[_INT] * 4, _POINTER, _POINTER]

    def bias_act(
        self,
        order: int,
        at: Tensor,
        b: Tensor | None,
        first: Tensor | None,
        second: Tensor | None,
        dim: int,
        act: str,
        alpha: float,
        gain: float,
        clamp: float | None,
    ) -> Tensor:
        """What `torch_utils.ops.fused_bias_act.reference` defines."""
        layout = dense_layout(at)
        at, b = at.contiguous(memory_format=layout), None if b is None else b.contiguous()
        gradients = [None if x is None else x.contiguous(memory_format=layout) for x in (first, second)]
        out = torch.empty_like(at)
        self._launch(
            self._bias_act,
            at,
            *(FORMATS[at.dtype], list(ACTIVATIONS).index(act), order),
            *map(_address, (at, b, *gradients, out)),
            *(at.numel(), at.stride(dim), at.shape[dim]),
            *(alpha, gain, -1 if clamp is None else clamp),
        )
        return out

    def upfirdn2d(
        self,
        x: Tensor,
        f: Tensor,
        up: Sequence[int],
        down: Sequence[int],
        padding: Sequence[int],
        flip_filter: bool,
        gain: float,
        size: Sequence[int],
    ) -> Tensor:
        """What `torch_utils.ops.upfirdn2d` defines, for a 2-D filter; size: rows and columns of the result."""
        layout = dense_layout(x)
        x, f = x.contiguous(memory_format=layout), f.float().contiguous()
        n, channels, height, width = x.shape
        out = torch.empty((n, channels, *size), dtype=x.dtype, device=x.device, memory_format=layout)
        outer, inner = (n, channels) if layout == torch.channels_last else (n * channels, 1)
        self._launch(
            self._upfirdn2d,
            x,
            FORMATS[x.dtype],
            *map(_address, (x, f, out)),
            *(outer, inner, height, width, *size, *up, *down, padding[0], padding[2]),
            *(f.shape[1], f.shape[0], flip_filter, gain),
        )
        return out

    def sample_grids(self, table: Tensor, points: Tensor, axes: Sequence[int], sizes: Sequence[int]) -> Tensor:
        """What `torch_utils.ops.sample_grids.sample_grids` defines; axes: those of all grids, one after the other."""
        out = table.new_empty(len(points), table.shape[1])
        self._run_sample_grids(table, points, axes, sizes, out, None, None, None)
        return out

    def sample_grids_backward(
        self,
        grad: Tensor,
        table: Tensor,
        points: Tensor,
        axes: Sequence[int],
        sizes: Sequence[int],
        to_table: bool,
        to_points: bool,
    ) -> tuple[Tensor | None, Tensor | None]:
        """Gradients to table and points where they are asked for."""
        grad_table = torch.zeros_like(table, dtype=torch.float32) if to_table else None
        grad_points = torch.zeros_like(points) if to_points else None
        self._run_sample_grids(table, points, axes, sizes, None, grad.contiguous(), grad_table, grad_points)
        return None if grad_table is None else grad_table.to(table.dtype), grad_points

    def _run_sample_grids(
        self,
        table: Tensor,
        points: Tensor,
        axes: Sequence[int],
        sizes: Sequence[int],
        *others: Tensor | None,
    ) -> None:
        grids = len(axes) // len(sizes)
        # Rows from one cell to the next: at each place of (row, column) lie all grids, each with its layers.
        inner = sizes[2] + 2 if len(sizes) == 3 else 1
        strides = [grids * inner, grids * inner * (sizes[0] + 2), 1][: len(sizes)]
        layout = [*sizes, *strides, inner, *axes]
        self._launch(
            self._sample_grids,
            table,
            FORMATS[table.dtype],
            *map(_address, (table, points, *others)),
            *(len(points), table.shape[1], points.shape[1], grids, len(sizes)),
            (ctypes.c_int * len(layout))(*layout),
        )

    def _launch(self, function, x: Tensor, *arguments) -> None:
        """Queues a kernel on the current stream of x's device; CPUs, for which tests compile the kernels, have none."""
        if x.is_cuda:
            with torch.cuda.device(x.device):
                code = function(*arguments, torch.cuda.current_stream(x.device).cuda_stream)
        else:
            code = function(*arguments, None)
        if code:
            raise RuntimeError(f"{function.__name__} did not start: {self._error(code).decode()}")


def _address(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()
