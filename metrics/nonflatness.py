"""Non-flatness score: how much of the depth range frontal views use."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from metrics.evaluation import Evaluation
from metrics.geometry import SOLID, axial
from metrics.names import Request
from metrics.types import Draw
from training.types import RayMarch

BINS = 64
SAMPLES = 256
CUT_QUANTILE = 0.5


def measure(evaluation: Evaluation, request: Request) -> dict[str, float]:
    """Mean over scenes of exp(entropy) of the 64-bin histogram of frontal depth; 1 is flat, 64 the most.

    256 samples a ray; the lower half of the densities of a scene counts as empty; the expected depth (not divided by
    the opacity) is clamped to the range of samples, which the bins cover (Skorokhodov et al. 2023, "3D generation on
    ImageNet", section 4). Depth is measured along the optical axis, so that an upright plane is exactly flat.
    `_solid` is the same over the rays of more than half opacity alone, their depth divided by it: the shape of the
    object without its outline.
    """
    multiplier = samples_multiplier(evaluation)

    def compute(draw: Draw) -> np.ndarray:
        with evaluation.stage("generate"):
            labels = evaluation.surround.front(len(draw)).to(evaluation.device)
            latents = evaluation.frontal_latents(draw)
            out = evaluation.view(latents, labels, noise_mode="const", samples_multiplier=multiplier)
        return non_flatness(out.march, labels).cpu().numpy()

    scores = evaluation.collect(request.count, compute, "frontal views")
    names = (request.name, f"{request.name}_solid")
    return evaluation.summarize(scores, lambda scores: dict(zip(names, scores.mean(axis=0).tolist(), strict=True)))


def samples_multiplier(evaluation: Evaluation) -> float:
    """Factor on the sample counts that gives at least 256 samples a ray."""
    draw = evaluation.draw(range(1))
    with torch.no_grad():
        out = evaluation.view(evaluation.latents(draw, draw.labels), draw.labels, noise_mode="const")
    return max(SAMPLES / out.march.depths.shape[-1], 1.0)


def non_flatness(march: RayMarch, labels: Tensor) -> Tensor:
    """Scores `n 2` of marches over square frontal pictures: over all rays, and over the solid ones."""
    middles = axial((march.depths[..., 1:] + march.depths[..., :-1]) / 2, labels)
    weights = cut_weights(march)
    opacity, depth = weights.sum(dim=2), (weights * middles).sum(dim=2)
    near, far = middles.amin(dim=[1, 2]), middles.amax(dim=[1, 2])
    scores = []
    for total, share, low, high in zip(depth, opacity, near, far, strict=True):
        solid = share > SOLID
        parts = (total, total[solid] / share[solid])
        scores.append(torch.stack([bins_used(values.clamp(low, high), low, high) for values in parts]))
    return torch.stack(scores)


def bins_used(values: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """exp(entropy) of the histogram of values over 64 bins from low to high; 1 where there are no values."""
    place = ((values - low) / (high - low) * BINS).long().clamp(max=BINS - 1)
    share = torch.bincount(place, minlength=BINS).double() / max(len(values), 1)
    return (-(share * share.clamp(min=1e-300).log()).sum()).exp()


def cut_weights(march: RayMarch) -> Tensor:
    """Segment weights `n rays segments` with the lower half of each scene's densities taken as empty."""
    raw = (march.density[..., 1:] + march.density[..., :-1]) / 2
    threshold = torch.stack([values.flatten().float().quantile(CUT_QUANTILE) for values in _thinned(raw)])
    density = torch.nn.functional.softplus(raw - 1) * (raw >= threshold[:, None, None])
    alpha = -torch.expm1(-density * march.depths.diff(dim=-1))
    through = torch.cumprod(1 - alpha, dim=-1)
    return alpha * torch.nn.functional.pad(through[..., :-1], (1, 0), value=1.0)


def _thinned(raw: Tensor) -> Tensor:
    """Every k-th ray, so that a quantile stays within the 2^24 numbers that torch sorts for one."""
    step = -(-raw[0].numel() // 2**24)
    return raw[:, ::step]
