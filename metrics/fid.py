"""Fréchet inception distance."""

from __future__ import annotations

import numpy as np
import scipy.linalg

from metrics.evaluation import Evaluation
from metrics.names import Request
from metrics.statistics import Moments


def measure(evaluation: Evaluation, request: Request) -> dict[str, float]:
    """Fréchet distance between the features of real and generated pictures; 0 is best, no upper limit.

    |mu_g - mu_r|^2 + tr(S_g + S_r - 2 (S_g S_r)^(1/2)) with covariances S of divisor n (Heusel et al. 2017, eq. 6).
    """
    detector = evaluation.detector("lite" if request.lite else "inception")
    real = evaluation.real_moments(detector, None if request.full else request.count, request.full)
    fake = evaluation.fake_moments(detector, request.count, request.full)
    dimensions = len(real.mean)
    for kind, moments in (("real", real), ("generated", fake)):
        if moments.count <= dimensions:
            evaluation.warn(
                f"{request.name}: {moments.count} {kind} pictures cannot fill a covariance of {dimensions} dimensions; "
                f"the value is too high and only comparable at the same counts (take more than {dimensions})"
            )
    return evaluation.lead(lambda: {request.name: frechet_distance(real, fake)})


def frechet_distance(a: Moments, b: Moments) -> float:
    """Squared Fréchet distance of two Gaussians with these moments; never negative, exactly symmetric up to rounding.

    With covariances S = F F^T the trace of the root of S_a S_b is the sum of the singular values of F_a^T F_b.
    This needs no root of a non-symmetric product, stays real, and is stable where covariances are singular.
    """
    factor_a, factor_b = _factor(a), _factor(b)
    overlap = scipy.linalg.svdvals(factor_a.T @ factor_b).sum() if factor_a.size and factor_b.size else 0.0
    shift = a.mean - b.mean
    distance = shift @ shift + np.square(factor_a).sum() + np.square(factor_b).sum() - 2 * overlap
    return float(max(distance, 0.0))


def _factor(moments: Moments) -> np.ndarray:
    """F of shape `d rank` with F F^T = covariance; directions that are only rounding noise are left out."""
    values, vectors = scipy.linalg.eigh(moments.covariance, check_finite=True)
    noise = np.finfo(np.float64).eps * len(values) * max(values[-1], 0.0)
    kept = values > noise
    return vectors[:, kept] * np.sqrt(values[kept])
