"""Work dealt out to the processes that share one evaluation.

It is dealt out in whole batches whose contents do not depend on the number of processes, so that each picture meets
the same arithmetic however many there are.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from torch_utils import distributed


def batches_of(count: int, size: int) -> list[range]:
    """The numbers 0..count-1 in consecutive runs of `size`, the last one shorter."""
    return [range(start, min(start + size, count)) for start in range(0, count, size)]


def share(batches: Sequence[range]) -> Sequence[range]:
    """This process's part of a list of batches."""
    return batches[distributed.rank() :: distributed.world_size()]


def gather_batches(own: Sequence[np.ndarray], batches: Sequence[range]) -> np.ndarray:
    """The rows of all batches in order, on every process, from each process's results for its share."""
    shares = distributed.gather_objects(list(own))
    return np.concatenate([shares[i % len(shares)][i // len(shares)] for i in range(len(batches))])
