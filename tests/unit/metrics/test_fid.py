"""Fréchet distance against closed forms and SciPy's matrix square root."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg

from metrics.fid import frechet_distance
from metrics.statistics import Moments


def gaussian(mean: np.ndarray, covariance: np.ndarray) -> Moments:
    return Moments(1000, np.asarray(mean, float), np.asarray(covariance, float) * 1000)


def by_scipy(a: Moments, b: Moments) -> float:
    root = scipy.linalg.sqrtm(a.covariance @ b.covariance)
    return float(np.sum((a.mean - b.mean) ** 2) + np.trace(a.covariance + b.covariance - 2 * root.real))


@pytest.mark.parametrize("dimensions", [1, 5, 40])
def test_full_rank_agrees_with_the_matrix_square_root(dimensions: int) -> None:
    rng = np.random.default_rng(dimensions)
    a = Moments.of(rng.normal(size=[500, dimensions]) @ rng.normal(size=[dimensions, dimensions]))
    b = Moments.of(rng.normal(size=[400, dimensions]) + rng.normal(size=dimensions))
    assert frechet_distance(a, b) == pytest.approx(by_scipy(a, b), rel=1e-9)


def test_known_gaussians_have_the_closed_form() -> None:
    a = gaussian(np.array([1.0, 0, 0]), np.diag([4.0, 9.0, 1.0]))
    b = gaussian(np.array([0.0, 2, 0]), np.diag([1.0, 16.0, 0.0]))
    # Commuting covariances: sum of squared differences of the standard deviations.
    assert frechet_distance(a, b) == pytest.approx(1 + 4 + (2 - 1) ** 2 + (3 - 4) ** 2 + 1, rel=1e-12)


def test_identical_sets_give_zero_even_when_singular() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=[30, 200]) * 3 + 5
    assert frechet_distance(Moments.of(features), Moments.of(features)) < 1e-9
    shuffled = Moments.of(features[rng.permutation(30)])
    assert frechet_distance(Moments.of(features), shuffled) < 1e-9


def test_constant_features_leave_the_distance_of_the_means() -> None:
    a, b = Moments.of(np.full([5, 3], 2.0)), Moments.of(np.full([7, 3], 4.0))
    assert frechet_distance(a, b) == pytest.approx(12.0, rel=1e-12)


@pytest.mark.parametrize("smallest", [0.0, 1e-18, 1e-12, 1e-6])
def test_near_singular_covariances_are_stable(smallest: float) -> None:
    rng = np.random.default_rng(1)
    basis_a, basis_b = (np.linalg.qr(rng.normal(size=[50, 50]))[0] for _ in range(2))
    spread = np.where(np.arange(50) < 10, 1.0, smallest)
    a, b = (gaussian(np.zeros(50), basis * spread @ basis.T) for basis in (basis_a, basis_b))
    value = frechet_distance(a, b)
    exact = frechet_distance(
        gaussian(np.zeros(50), basis_a[:, :10] @ basis_a[:, :10].T),
        gaussian(np.zeros(50), basis_b[:, :10] @ basis_b[:, :10].T),
    )
    assert np.isfinite(value)
    assert value == pytest.approx(exact, abs=200 * np.sqrt(smallest) + 1e-9)


def test_rank_deficient_sets_are_stable_under_rounding() -> None:
    """Two processes add in another order; the value must not feel it although 100 features are seen 20 times only."""
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=[20, 100]) + 3, rng.normal(size=[25, 100]) + 3
    whole = frechet_distance(Moments.of(x), Moments.of(y))
    parts = frechet_distance(
        Moments.merge([Moments.of(x[:7]), Moments.of(x[7:])]), Moments.merge([Moments.of(y[10:]), Moments.of(y[:10])])
    )
    assert parts == pytest.approx(whole, rel=1e-9)


def test_symmetric() -> None:
    rng = np.random.default_rng(3)
    a, b = Moments.of(rng.normal(size=[60, 12])), Moments.of(rng.normal(size=[8, 12]))
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(b, a), rel=1e-12)
