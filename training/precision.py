"""Which number format the networks compute in: the one place that decides.

A policy is chosen once per process, as torch's own switches are; it is no part of a network or of its file. Weights,
mapping networks, rays, the march and all sums of pictures stay in float32 under every policy.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from torch import Tensor

Precision = Literal["mixed", "float32", "bfloat16"]
"""What the convolutions and the point decoder compute in.

"mixed": float16 on GPUs in the blocks that their configs mark (num_fp16_res), float32 elsewhere, as published.
"float32": everything. "bfloat16": every block from 16x16 up and, where no derivatives are wanted, the point decoder,
on any device; made for processors with units for it.
"""

LOWEST_BFLOAT16_RESOLUTION = 16
"""Blocks below this cost nothing, and every later one builds on them."""

_policy: Precision = "mixed"


def use(policy: Precision, tf32: bool = False) -> None:
    """Chooses the policy of this process. tf32: whether GPUs may round the factors of float32 products to 10 bits."""
    global _policy
    _policy = policy
    torch.backends.cuda.matmul.allow_tf32 = tf32
    torch.backends.cudnn.allow_tf32 = tf32


@contextmanager
def using(policy: Precision) -> Iterator[None]:
    """Another policy within a block."""
    global _policy
    before, _policy = _policy, policy
    try:
        yield
    finally:
        _policy = before


def enter_block(x: Tensor, full: torch.dtype, resolution: int, uses_fp16: bool) -> Tensor:
    """Activations as a convolution block at a resolution wants them, in number format and in layout.

    full: the format of what is not reduced; uses_fp16: whether the block's config marks it. Channels come last where
    that is faster: on CPUs always, on GPUs in the formats that their matrix units take.
    """
    dtype = full
    if _policy == "bfloat16" and resolution >= LOWEST_BFLOAT16_RESOLUTION:
        dtype = torch.bfloat16
    elif _policy == "mixed" and uses_fp16 and x.is_cuda:
        dtype = torch.float16
    channels_last = not x.is_cuda or dtype.itemsize == 2
    return x.to(dtype, memory_format=torch.channels_last if channels_last else torch.contiguous_format)


def field_dtype(full: torch.dtype) -> torch.dtype:
    """Format of planes at look-up and of the point decoder; `full` where derivatives are wanted.

    The gradients of planes are sums over thousands of points, and density regularizers compare nearly equal numbers.
    """
    return torch.bfloat16 if _policy == "bfloat16" and not torch.is_grad_enabled() else full
