"""Mean and covariance of features that are seen once and not kept."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import reduce

import numpy as np


@dataclass(frozen=True)
class Moments:
    """Count, mean `d` and scatter `d d` (sum of outer products of the centred rows) in float64.

    Centred sums are merged pairwise, so nothing cancels when the spread is small beside the mean
    (Chan, Golub & LeVeque 1983, eq. 2.1).
    """

    count: int
    mean: np.ndarray
    scatter: np.ndarray

    @staticmethod
    def of(features: np.ndarray) -> Moments:
        """Moments of the rows of a matrix `n d`."""
        rows = np.asarray(features, dtype=np.float64)
        mean = rows.mean(axis=0)
        centred = rows - mean
        return Moments(len(rows), mean, centred.T @ centred)

    @staticmethod
    def merge(parts: Iterable[Moments]) -> Moments:
        """Moments of all rows of several disjoint sets.

        Raises ValueError where there are none.
        """
        filled = [part for part in parts if part.count > 0]
        if not filled:
            raise ValueError("no features to take statistics of")
        return reduce(Moments._with, filled)

    def _with(self, other: Moments) -> Moments:
        count = self.count + other.count
        shift = other.mean - self.mean
        between = np.outer(shift, shift) * (self.count * other.count / count)
        return Moments(count, self.mean + shift * (other.count / count), self.scatter + other.scatter + between)

    @property
    def covariance(self) -> np.ndarray:
        """Covariance with divisor n, as published scores use it."""
        return self.scatter / self.count
