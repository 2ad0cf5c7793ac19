"""Querying fields in pieces, so that memory does not grow with the number of points.

A query turns points into hundreds of numbers each on its way to a density and a colour. Pieces that fit the cache
are faster than the whole; and when gradients are wanted and there are many points, the pieces are computed again in
the backward pass instead of being kept.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.checkpoint import checkpoint

CHUNK_POINTS = {"cpu": 2**16, "cuda": 2**20}
RECOMPUTE_ABOVE_POINTS = 2**18

Query = Callable[[Tensor, Tensor], tuple[Tensor, ...]]


def in_chunks(
    query: Query, table: Float[Tensor, "n rows channels"], points: Float[Tensor, "n points 3"]
) -> tuple[Tensor, ...]:
    """The results of `query(one sample's table, some of its points)` for all samples and points, as one batch."""
    n, count, _ = points.shape
    run = query
    if torch.is_grad_enabled() and n * count > RECOMPUTE_ABOVE_POINTS:

        def run(table: Tensor, points: Tensor) -> tuple[Tensor, ...]:
            return checkpoint(query, table, points, use_reentrant=False, preserve_rng_state=False)

    size = CHUNK_POINTS.get(points.device.type, RECOMPUTE_ABOVE_POINTS)
    samples = zip(table.unbind(), points.unbind(), strict=True)
    parts = [run(rows, chunk) for rows, sample in samples for chunk in sample.split(size)]
    return tuple(torch.cat(results).view(n, count, -1) for results in zip(*parts, strict=True))
