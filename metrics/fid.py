"""Fréchet inception distance."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import scipy.linalg
from torch import Tensor

from metrics.evaluation import KEPT_PICTURES, Evaluation, Pictures, as_drawn, moments_of
from metrics.names import Request
from metrics.statistics import Moments
from metrics.types import Draw, GeneratorLike, MetricError
from training.dataset import ImageDataset


def measure(evaluation: Evaluation, request: Request) -> dict[str, float]:
    """Fréchet distance between the features of real and generated pictures; 0 is best, no upper limit.

    |mu_g - mu_r|^2 + tr(S_g + S_r - 2 (S_g S_r)^(1/2)) with covariances S of divisor n (Heusel et al. 2017, eq. 6).
    """
    return distance_to_real(evaluation, request, as_drawn)


def measure_fixed_pose(evaluation: Evaluation, request: Request) -> dict[str, float]:
    """Fréchet distance when the mapping is told the frontal camera while pictures are seen from drawn ones.

    Far above the plain distance, the scene itself depends on the camera label: the pose leaks (CGS-GAN's FID3D).
    """
    return distance_to_real(evaluation, request, seen_from_elsewhere)


def check_background(request: Request, generator: GeneratorLike, dataset: ImageDataset) -> None:
    """Raises MetricError for a generator whose background has no latent."""
    if getattr(generator, "background_z_dim", 0) == 0:
        raise MetricError("the background of this generator has no latent of its own to exchange")


def measure_recomposed(evaluation: Evaluation, request: Request) -> dict[str, float]:
    """Fréchet distance of pictures whose foreground stands before the background of another draw.

    Close to the plain distance where both are complete without each other. A foreground that hides all of the
    background passes unchanged; `separation` tells.
    """
    return distance_to_real(evaluation, request, on_other_backgrounds)


def seen_from_elsewhere(evaluation: Evaluation, draw: Draw) -> Tensor:
    """Pictures from the cameras of the draw with the mapping conditioned on the frontal camera."""
    return evaluation.view(evaluation.frontal_latents(draw), draw.labels).image


def on_other_backgrounds(evaluation: Evaluation, draw: Draw) -> Tensor:
    """Pictures with the background latents of other draws."""
    latents = evaluation.latents(draw, draw.labels)
    others = evaluation.latents(evaluation.draw(draw.numbers, stream=2), draw.labels)
    return evaluation.view(replace(latents, background=others.background), draw.labels).image


def distance_to_real(evaluation: Evaluation, request: Request, make: Pictures) -> dict[str, float]:
    """The Fréchet distance of the pictures that `make` gives to the real ones."""
    detector = evaluation.detector("lite" if request.lite else "inception")
    real = evaluation.real_moments(detector, None if request.full else request.count, request.full)
    fake = evaluation.fake_moments(detector, request.count, request.full, make)
    fewest, dimensions = min(real.count, fake.count), len(real.mean)
    if fewest <= dimensions:
        evaluation.warn(
            f"{request.name}: {fewest} pictures cannot fill a covariance of {dimensions} dimensions; the value is too "
            f"high and compares only with others of the same counts (take more than {dimensions})"
        )
    if evaluation.resamples == 0 or request.count > KEPT_PICTURES:
        return evaluation.lead(lambda: {request.name: frechet_distance(real, fake)})
    features = evaluation.fake_features(detector, request.count, request.full, make=make)
    return evaluation.summarize(features, lambda rows: {request.name: frechet_distance(real, moments_of(rows))})


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
    values, vectors = scipy.linalg.eigh(moments.covariance, driver="evd")
    noise = np.finfo(np.float64).eps * len(values) * max(values[-1], 0.0)
    kept = values > noise
    return vectors[:, kept] * np.sqrt(values[kept])
