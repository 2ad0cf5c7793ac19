"""Kernel inception distance."""

from __future__ import annotations

import numpy as np

from metrics.evaluation import Evaluation, real_count
from metrics.names import Request
from metrics.types import GeneratorLike, MetricError
from training.dataset import ImageDataset

SUBSETS = 100
SUBSET_SIZE = 1000
MAX_REAL = 1_000_000


def check(request: Request, generator: GeneratorLike, dataset: ImageDataset) -> None:
    """Raises MetricError where there are too few pictures for an unbiased estimate."""
    real = real_count(request, dataset)
    if min(real, request.count) < 2:
        raise MetricError(f"needs at least 2 real and 2 generated pictures, not {real} and {request.count}")


def measure(evaluation: Evaluation, request: Request) -> dict[str, float]:
    """Squared maximum mean discrepancy between features of real and generated pictures; 0 is best, may fall below.

    Mean over 100 pairs of random subsets of at most 1000 pictures, kernel (x.y/d + 1)^3, unbiased
    (Binkowski et al. 2018, section 4).
    """
    detector = evaluation.detector("lite" if request.lite else "inception")
    real = evaluation.real_features(detector, MAX_REAL if request.full else request.count, request.full)
    fake = evaluation.fake_features(detector, request.count, request.full)

    def compute(fake: np.ndarray) -> dict[str, float]:
        return {request.name: kernel_distance(real, fake, np.random.default_rng(evaluation.sampling.seed))}

    return evaluation.summarize(fake, compute)


def kernel_distance(
    real: np.ndarray, fake: np.ndarray, rng: np.random.Generator, subsets: int = SUBSETS, size: int = SUBSET_SIZE
) -> float:
    """Mean of the unbiased estimate over random subsets, drawn without replacement within a subset."""
    size = min(size, len(real), len(fake))
    of_real = [rng.permutation(len(real))[:size] for _ in range(subsets)]
    of_fake = [rng.permutation(len(fake))[:size] for _ in range(subsets)]
    if len(real) * len(fake) > subsets * size**2:
        estimates = [unbiased_mmd(real[a], fake[b]) for a, b in zip(of_real, of_fake, strict=True)]
        return float(np.mean(estimates))
    # The subsets overlap so much that all pairs of pictures together are fewer: each kernel value is computed once.
    real_rows, fake_rows = _indicators(of_real, len(real)), _indicators(of_fake, len(fake))
    real_pairs = _subset_sums(real, real, real_rows, real_rows) - real_rows @ _with_itself(real)
    fake_pairs = _subset_sums(fake, fake, fake_rows, fake_rows) - fake_rows @ _with_itself(fake)
    cross_pairs = _subset_sums(real, fake, real_rows, fake_rows)
    return float(np.mean((real_pairs + fake_pairs) / (size * (size - 1)) - 2 * cross_pairs / size**2))


def unbiased_mmd(x: np.ndarray, y: np.ndarray) -> float:
    """Unbiased squared maximum mean discrepancy of two sets of the same size `n d` (Gretton et al. 2012, eq. 3)."""
    n = len(x)
    x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    within = _cubic(x, x) + _cubic(y, y)
    return float((within.sum() - within.trace()) / (n * (n - 1)) - 2 * _cubic(x, y).mean())


def _cubic(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return (x @ y.T / x.shape[1] + 1) ** 3


def _indicators(subsets: list[np.ndarray], rows: int) -> np.ndarray:
    """Matrix `subsets rows`: 1 where a subset holds a row."""
    held = np.zeros([len(subsets), rows])
    for subset, chosen in enumerate(subsets):
        held[subset, chosen] = 1
    return held


def _with_itself(x: np.ndarray) -> np.ndarray:
    return (np.square(x, dtype=np.float64).sum(axis=1) / x.shape[1] + 1) ** 3


def _subset_sums(x: np.ndarray, y: np.ndarray, x_rows: np.ndarray, y_rows: np.ndarray, block: int = 1024) -> np.ndarray:
    """For each subset the sum of the kernel over all its pairs."""
    y = np.asarray(y, dtype=np.float64)
    sums = np.zeros(len(x_rows))
    for start in range(0, len(x), block):
        rows = slice(start, start + block)
        kernel = _cubic(np.asarray(x[rows], dtype=np.float64), y)
        sums += ((x_rows[:, rows] @ kernel) * y_rows).sum(axis=1)
    return sums
