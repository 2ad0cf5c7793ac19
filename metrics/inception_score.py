"""Inception score."""

from __future__ import annotations

import numpy as np

from metrics.evaluation import Evaluation
from metrics.names import Request
from metrics.types import GeneratorLike, MetricError
from training.dataset import ImageDataset

SPLITS = 10


def check(request: Request, generator: GeneratorLike, dataset: ImageDataset) -> None:
    """Raises MetricError where a split would have no picture."""
    if request.count < SPLITS:
        raise MetricError(f"needs at least {SPLITS} generated pictures, one for each of its splits")


def measure(evaluation: Evaluation, request: Request) -> dict[str, float]:
    """Mean and standard deviation over 10 splits of exp(E KL(p(y|x) | p(y))); 1 is worst, the class count best.

    p(y|x) is the detector's softmax without bias for a generated picture (Salimans et al. 2016, section 4).
    """
    detector = evaluation.detector("lite" if request.lite else "inception")
    probabilities = evaluation.fake_features(detector, request.count, request.full, output="probabilities")

    def compute(probabilities: np.ndarray) -> dict[str, float]:
        scores = split_scores(probabilities, SPLITS)
        return {f"{request.name}_mean": float(np.mean(scores)), f"{request.name}_std": float(np.std(scores))}

    return evaluation.summarize(probabilities, compute)


def split_scores(probabilities: np.ndarray, splits: int) -> list[float]:
    """The score of each of `splits` consecutive parts of class probabilities `n classes`."""
    scores = []
    for part in np.array_split(np.asarray(probabilities, dtype=np.float64), splits):
        marginal = part.mean(axis=0, keepdims=True)
        # A class of probability 0 adds nothing: p log p -> 0.
        ratio = np.log(np.maximum(part, 1e-300)) - np.log(np.maximum(marginal, 1e-300))
        scores.append(float(np.exp(np.mean(np.sum(part * ratio, axis=1)))))
    return scores
