"""The rule by which the golden files fill a network's weights, so that they need not hold them."""

from __future__ import annotations

import zlib
from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from torch_utils.ops.upfirdn2d import setup_filter

GAUSSIAN_SEED = 2021
SCALED_KINDS = ("weight", "plain_weight", "bias", "noise_strength", "noise", "w_avg", "other")


def filled(table: Iterable[tuple[str, list[int], str, float | None]]) -> dict[str, Tensor]:
    """Tensors by their official names, from rows of key, shape, kind and scale. Raises ValueError for a new kind."""
    return {key: fill(key, shape, kind, scale) for key, shape, kind, scale in table}


def fill(key: str, shape: list[int], kind: str, scale: float | None) -> Tensor:
    """One tensor: normal numbers seeded by the checksum of its name, times the scale."""
    if kind == "constant":
        return constant(key, shape)
    if kind == "zero":
        return torch.zeros(shape)
    draws = np.random.RandomState(zlib.crc32(key.encode("utf-8"))).randn(*shape)
    values = np.asarray(draws, dtype=np.float32) * np.float32(scale)
    if kind == "affine_bias":
        values = 1 + values
    elif kind not in SCALED_KINDS:
        raise ValueError(f"{key}: no rule to fill the kind {kind!r}")
    return torch.from_numpy(np.asarray(values, dtype=np.float32))


def constant(key: str, shape: list[int]) -> Tensor:
    """What the official constructors set once and for all."""
    if key.endswith("resample_filter"):
        return setup_filter([1, 3, 3, 1])
    if key.endswith(("B_pos", "B_view")):
        state = np.random.RandomState(GAUSSIAN_SEED)
        matrices = {"B_pos": 10 * state.randn(2, 40), "B_view": 10 * state.randn(3, 12)}
        return torch.from_numpy(matrices[key.rsplit(".", 1)[-1]].astype(np.float32))
    raise ValueError(f"{key}: no constant of that name, shape {shape}")
