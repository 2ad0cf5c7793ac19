"""Random numbers that belong to samples, not to the order of calls.

`uniform` and `normal` are `torch.rand` and `torch.randn` until a block `per_sample(keys)` surrounds them. Inside it
every row of a batch draws from a stream of its own, named by its 64-bit key: the numbers of a sample are the same
however a batch is cut into processes and micro-batches, on every device, and after a restart. Nothing needs saving.

The streams are counter-based: splitmix64 (Steele et al. 2014) of key and position.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import torch
from torch import Tensor

GOLDEN = 0x9E3779B97F4A7C15 - 2**64
FIRST, SECOND = 0xBF58476D1CE4E5B9 - 2**64, 0x94D049BB133111EB - 2**64
FLOAT_BITS = 24


@dataclass
class _Streams:
    """Keys of the samples of a batch and the number of draws made so far."""

    keys: Tensor
    draws: int = 0


_streams: ContextVar[_Streams | None] = ContextVar("streams", default=None)


def seed_of(name: tuple) -> int:
    """A 63-bit seed for the purpose that `name` describes; two names give unrelated seeds."""
    return int.from_bytes(hashlib.blake2b(repr(name).encode(), digest_size=8).digest(), "little") >> 1


def sample_keys(name: tuple, samples: Tensor) -> Tensor:
    """Keys [n] of samples given by their numbers [n], for the purpose that `name` describes."""
    return _mix(samples * GOLDEN + seed_of(name))


@contextmanager
def per_sample(keys: Tensor | None) -> Iterator[None]:
    """Makes `uniform` and `normal` draw each row of a batch [n, ...] from the stream of its key [n] (None: as ever)."""
    token = _streams.set(None if keys is None else _Streams(keys))
    try:
        yield
    finally:
        _streams.reset(token)


def one_by_one(n: int) -> Iterator[slice]:
    """The rows of a batch of n as slices of one, each drawing the numbers that it would draw in the batch."""
    streams = _streams.get()
    if streams is None:
        yield from (slice(row, row + 1) for row in range(n))
        return
    draws = streams.draws
    for row in range(n):
        rows = slice(row, row + 1)
        own = _Streams(streams.keys[rows], draws)
        token = _streams.set(own)
        try:
            yield rows
        finally:
            _streams.reset(token)
        streams.draws = own.draws


def uniform(shape: Sequence[int], device: torch.device | str = "cpu") -> Tensor:
    """Uniform numbers in [0, 1) with 24 random bits."""
    streams = _streams.get()
    return torch.rand(shape, device=device) if streams is None else _stream_uniform(streams, shape)


def normal(shape: Sequence[int], device: torch.device | str = "cpu") -> Tensor:
    """Standard normal numbers."""
    streams = _streams.get()
    if streams is None:
        return torch.randn(shape, device=device)
    # Box and Muller 1958; 1 - u lies in (0, 1], where the logarithm is finite.
    radius, angle = _stream_uniform(streams, [*shape[:1], 2, *shape[1:]]).unbind(dim=1)
    return (-2 * torch.log1p(-radius)).sqrt() * torch.cos(2 * math.pi * angle)


def _stream_uniform(streams: _Streams, shape: Sequence[int]) -> Tensor:
    keys = streams.keys
    if not shape or shape[0] != len(keys):
        raise ValueError(f"a draw of shape {list(shape)} inside a block for {len(keys)} samples")
    count = math.prod(shape[1:])
    start = _mix(keys + streams.draws)
    streams.draws += 1
    counters = torch.arange((count + 1) // 2, device=keys.device) * GOLDEN
    bits = _mix(start[:, None] + counters)
    halves = torch.stack([bits >> (64 - FLOAT_BITS), bits], dim=2).flatten(1)[:, :count]
    return ((halves & (2**FLOAT_BITS - 1)).float() * 2.0**-FLOAT_BITS).reshape(*shape)


def _mix(x: Tensor) -> Tensor:
    """The splitmix64 finalizer of int64 numbers, which wrap around as unsigned ones do."""
    x = (x ^ _shift(x, 30)) * FIRST
    x = (x ^ _shift(x, 27)) * SECOND
    return x ^ _shift(x, 31)


def _shift(x: Tensor, bits: int) -> Tensor:
    """Logical shift to the right, which torch lacks for signed numbers."""
    return (x >> bits) & (2 ** (64 - bits) - 1)
