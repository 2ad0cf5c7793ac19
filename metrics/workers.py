"""Work dealt out to the processes that share one evaluation.

It is dealt out in whole batches whose contents do not depend on the number of processes, so that each picture meets
the same arithmetic however many there are.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from metrics.types import MISHAPS, MetricError, in_words
from torch_utils import distributed


def batches_of(count: int, size: int) -> list[range]:
    """The numbers 0..count-1 in consecutive runs of `size`, the last one shorter."""
    return [range(start, min(start + size, count)) for start in range(0, count, size)]


def share(batches: Sequence[range]) -> Sequence[range]:
    """This process's part of a list of batches."""
    return batches[distributed.rank() :: distributed.world_size()]


@contextmanager
def together() -> Iterator[None]:
    """A block of work, without talk between processes, that fails in all of them if it fails in one.

    One that failed alone would leave the others waiting for its part. Raises MetricError with the words of the first.
    """
    caught = None
    try:
        yield
    except MISHAPS as error:
        caught = error
    words = distributed.gather_objects(None if caught is None else in_words(caught))
    first = next((text for text in words if text is not None), None)
    if first is not None:
        raise MetricError(first) from caught


def joined(parts: Iterable[np.ndarray], count: int) -> np.ndarray:
    """The rows of arrays that come one after the other, `count` in all, in one array; empty where none come.

    They are copied at once into their place. Kept as they come, each would hold the memory around it: large pictures
    are allocated and freed between them, and the next ones would not fit into the holes.
    """
    rows = np.empty([0])
    start = 0
    for part in parts:
        if start == 0:
            rows = np.empty([count, *part.shape[1:]], part.dtype)
        rows[start : start + len(part)] = part
        start += len(part)
    return rows


def gather_batches(own: np.ndarray, batches: Sequence[range]) -> np.ndarray:
    """The rows of all batches in order, on every process, from the joined rows of each process's share."""
    if distributed.world_size() == 1:
        return own
    shares = distributed.gather_objects(own)
    starts = [0] * len(shares)
    ordered = []
    for i, batch in enumerate(batches):
        owner = i % len(shares)
        ordered.append(shares[owner][starts[owner] : starts[owner] + len(batch)])
        starts[owner] += len(batch)
    return np.concatenate(ordered)
