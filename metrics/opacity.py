"""What separates a scene from its background, and how hard its surface is."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from metrics.evaluation import Evaluation
from metrics.geometry import SOLID, ray_spread
from metrics.names import Request
from metrics.types import Draw

WALL = 0.09
"""c (1 - c) for a coverage c of a tenth, or of nine tenths, of the picture."""
OPAQUE = 0.95


def measure_separation(evaluation: Evaluation, request: Request) -> dict[str, float]:
    """How clearly the foreground is told from the background, in [0, 1]; 1 is best; see `separation`.

    Also the mean `_coverage` of the picture by the foreground and its `_softness`, the mean of 4 a (1 - a) over the
    opacities a (0 where all are 0 or 1).
    """

    def compute(draw: Draw) -> np.ndarray:
        with evaluation.stage("generate"):
            opacity = evaluation.view(evaluation.latents(draw, draw.labels), draw.labels).opacity
        return torch.stack(separation(opacity), dim=1).double().cpu().numpy()

    rows = evaluation.collect(request.count, compute, "opacities")
    names = (request.name, f"{request.name}_coverage", f"{request.name}_softness")
    return evaluation.summarize(rows, lambda rows: dict(zip(names, rows.mean(axis=0).tolist(), strict=True)))


def separation(opacity: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Separation, coverage and softness `n` of opacities `n 1 r r`.

    Separation is (1 - softness) times min(1, c (1 - c) / 0.09) for the coverage c: full marks for hard edges around
    an object that fills a tenth to nine tenths of the picture, none for a wall (c = 1), for nothing (c = 0), or for
    fog.
    """
    coverage = opacity.mean(dim=[1, 2, 3])
    softness = (4 * opacity * (1 - opacity)).mean(dim=[1, 2, 3])
    return (1 - softness) * (coverage * (1 - coverage) / WALL).clamp(0, 1), coverage, softness


def measure_tightness(evaluation: Evaluation, request: Request) -> dict[str, float]:
    """Mean entropy (nats) of the light's distribution along the rays that meet the foreground; 0 is a hard surface.

    Also its mean `_thickness` (standard deviation of depth, scene units) and the share `_opaque` of these rays whose
    opacity exceeds 0.95. The entropy grows with the number of samples a ray; compare at equal numbers.
    """

    def compute(draw: Draw) -> np.ndarray:
        with evaluation.stage("generate"):
            march = evaluation.view(evaluation.latents(draw, draw.labels), draw.labels).march
        thickness, entropy = ray_spread(march)
        opacity = march.opacity[..., 0]
        solid = opacity > SOLID
        sums = [(values * solid).sum(dim=1) for values in (entropy, thickness, opacity > OPAQUE)]
        return torch.stack([*sums, solid.sum(dim=1)], dim=1).double().cpu().numpy()

    rows = evaluation.collect(request.count, compute, "rays")
    names = (request.name, f"{request.name}_thickness", f"{request.name}_opaque")

    def result(rows: np.ndarray) -> dict[str, float]:
        return dict(zip(names, solid_means(evaluation, request, rows), strict=True))

    return evaluation.summarize(rows, result)


def solid_means(evaluation: Evaluation, request: Request, rows: np.ndarray) -> list[float]:
    """Means over all solid rays; of a scene without any, the values of the thickest fog, so that it cannot win."""
    total = rows.sum(axis=0)
    if total[3] == 0:
        evaluation.warn(f"{request.name}: no generated ray is more than half opaque; there is no surface")
        return [float(np.log(64)), evaluation.surround.radius, 0.0]
    return (total[:3] / total[3]).tolist()
