"""Improved precision and recall."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from metrics.evaluation import Evaluation, real_count
from metrics.names import Request
from metrics.types import GeneratorLike, MetricError
from training.dataset import ImageDataset

MAX_REAL = 200_000
BLOCK = 4096


def check(request: Request, generator: GeneratorLike, dataset: ImageDataset) -> None:
    """Raises MetricError where a set has too few pictures for its neighbourhoods."""
    k, real = request.neighbours, real_count(request, dataset)
    if min(real, request.count) <= k:
        raise MetricError(f"needs more than {k} real and {k} generated pictures, not {real} and {request.count}")


def measure(evaluation: Evaluation, request: Request) -> dict[str, float]:
    """Precision: share of generated pictures among the real ones; recall: the reverse. In [0, 1], 1 is best.

    A picture is among a set where its features lie within the distance of some member to that member's k-th nearest
    neighbour in the set (Kynkaanniemi et al. 2019, eq. 2).
    """
    detector = evaluation.detector("lite" if request.lite else "vgg16")
    real = evaluation.real_features(detector, MAX_REAL if request.full else request.count, request.full)
    fake = evaluation.fake_features(detector, request.count, request.full)

    def compute(fake: np.ndarray) -> dict[str, float]:
        precision, recall = precision_recall(real, fake, request.neighbours, evaluation.device)
        return {f"{request.name}_precision": precision, f"{request.name}_recall": recall}

    return evaluation.summarize(fake, compute)


def precision_recall(
    real: np.ndarray, fake: np.ndarray, k: int, device: torch.device | str = "cpu", block: int = BLOCK
) -> tuple[float, float]:
    """Precision and recall of two sets of features `n d`; memory grows with the block, not with the sets' product."""
    # Centring keeps what single precision loses in |a|^2 - 2 a.b + |b|^2 small.
    centre = real.mean(axis=0)
    a, b = (torch.from_numpy(np.asarray(rows - centre, dtype=np.float32)).to(device) for rows in (real, fake))
    return _share_inside(b, a, k, block), _share_inside(a, b, k, block)


def _share_inside(points: Tensor, members: Tensor, k: int, block: int) -> float:
    """Share of the points that lie within the neighbourhood of at least one member."""
    # The nearest of all is the member itself, hence k + 1.
    radii = torch.cat(
        [_squared_distances(rows, members).kthvalue(k + 1, dim=1).values for rows in members.split(block)]
    )
    inside = [(_squared_distances(rows, members) <= radii).any(dim=1) for rows in points.split(block)]
    return float(torch.cat(inside).double().mean())


def _squared_distances(a: Tensor, b: Tensor) -> Tensor:
    return a.square().sum(dim=1, keepdim=True) + b.square().sum(dim=1) - 2 * a @ b.T
