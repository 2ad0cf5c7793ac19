"""Non-flatness score: how much of the depth range frontal views use."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from metrics.evaluation import Evaluation
from metrics.geometry import axial
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
    """
    multiplier = samples_multiplier(evaluation)

    def compute(draw: Draw) -> np.ndarray:
        with evaluation.stage("generate"):
            labels = evaluation.surround.front(len(draw)).to(evaluation.device)
            latents = evaluation.frontal_latents(draw)
            out = evaluation.view(latents, labels, noise_mode="const", samples_multiplier=multiplier)
        return non_flatness(out.march, labels).cpu().numpy()

    scores = evaluation.collect(request.count, compute, "frontal views")
    return evaluation.summarize(scores, lambda scores: {request.name: float(scores.mean())})


def samples_multiplier(evaluation: Evaluation) -> float:
    """Factor on the sample counts that gives at least 256 samples a ray."""
    draw = evaluation.draw(range(1))
    with torch.no_grad():
        out = evaluation.view(evaluation.latents(draw, draw.labels), draw.labels, noise_mode="const")
    return max(SAMPLES / out.march.depths.shape[-1], 1.0)


def non_flatness(march: RayMarch, labels: Tensor) -> Tensor:
    """Score `n` of marches over square frontal pictures."""
    middles = axial((march.depths[..., 1:] + march.depths[..., :-1]) / 2, labels)
    depth = (cut_weights(march) * middles).sum(dim=2)
    near, far = middles.amin(dim=[1, 2]), middles.amax(dim=[1, 2])
    scores = []
    for values, low, high in zip(depth, near, far, strict=True):
        place = (values.clamp(low, high) - low) / (high - low) * BINS
        share = torch.bincount(place.long().clamp(max=BINS - 1), minlength=BINS).double() / len(values)
        scores.append((-(share * share.clamp(min=1e-300).log()).sum()).exp())
    return torch.stack(scores)


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
