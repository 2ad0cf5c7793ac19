from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metrics.statistics import Moments


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=6), st.floats(-1e4, 1e4))
def test_merged_parts_are_the_moments_of_all_rows(sizes: list[int], offset: float) -> None:
    rng = np.random.default_rng(sum(sizes))
    parts = [rng.normal(size=[size, 3]) + offset for size in sizes]
    rows = np.concatenate(parts)
    merged = Moments.merge(Moments.of(part) for part in parts)
    assert merged.count == len(rows)
    np.testing.assert_allclose(merged.mean, rows.mean(axis=0), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(merged.covariance, np.cov(rows.T, bias=True), atol=1e-8)


def test_small_spread_beside_a_large_mean_does_not_cancel() -> None:
    rng = np.random.default_rng(0)
    rows = 1e6 + 1e-4 * rng.normal(size=[1000, 2])
    merged = Moments.merge(Moments.of(part) for part in np.split(rows, 10))
    np.testing.assert_allclose(merged.covariance, np.cov(rows.T, bias=True), rtol=1e-5)


def test_nothing_to_merge() -> None:
    with pytest.raises(ValueError, match="no features"):
        Moments.merge([])
