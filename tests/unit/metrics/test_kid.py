"""The kernel distance against a double loop and against what is known about it."""

from __future__ import annotations

import numpy as np
import pytest

from metrics.kid import kernel_distance, unbiased_mmd


def by_loops(x: np.ndarray, y: np.ndarray) -> float:
    n, d = x.shape

    def kernel(a: np.ndarray, b: np.ndarray) -> float:
        return float((a @ b / d + 1) ** 3)

    within = sum(kernel(x[i], x[j]) + kernel(y[i], y[j]) for i in range(n) for j in range(n) if i != j)
    cross = sum(kernel(x[i], y[j]) for i in range(n) for j in range(n))
    return within / (n * (n - 1)) - 2 * cross / n**2


def test_unbiased_estimate_is_the_double_sum() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=[9, 4]), rng.normal(size=[9, 4]) + 1
    assert unbiased_mmd(x, y) == pytest.approx(by_loops(x, y), rel=1e-12)


@pytest.mark.parametrize("counts", [(30, 30), (50, 20), (2100, 40)])
def test_shared_kernel_values_give_the_subsets_one_by_one(counts: tuple[int, int]) -> None:
    rng = np.random.default_rng(1)
    real, fake = rng.normal(size=[counts[0], 5]), rng.normal(size=[counts[1], 5]) * 1.5
    value = kernel_distance(real, fake, np.random.default_rng(7), subsets=12, size=15)
    again = np.random.default_rng(7)
    of_real = [again.permutation(counts[0])[:15] for _ in range(12)]
    of_fake = [again.permutation(counts[1])[:15] for _ in range(12)]
    expected = np.mean([by_loops(real[a], fake[b]) for a, b in zip(of_real, of_fake, strict=True)])
    assert value == pytest.approx(expected, rel=1e-10)


def test_mean_over_sets_of_one_distribution_is_zero() -> None:
    rng = np.random.default_rng(2)
    values = [unbiased_mmd(rng.normal(size=[20, 3]), rng.normal(size=[20, 3])) for _ in range(2000)]
    assert abs(np.mean(values)) < 4 * np.std(values) / np.sqrt(2000)


def test_another_distribution_is_told_apart() -> None:
    rng = np.random.default_rng(3)
    real, same, other = rng.normal(size=[3, 400, 6])
    far = kernel_distance(real, other + 0.7, np.random.default_rng(0), subsets=10, size=100)
    near = kernel_distance(real, same, np.random.default_rng(0), subsets=10, size=100)
    assert far > 20 * abs(near)
