"""Multi-view reprojection: does the rendered depth say where the pixels of another view went?"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch

from metrics.evaluation import Evaluation
from metrics.geometry import seen_surface, warp_by_looking, warp_by_splatting
from metrics.names import Request
from metrics.types import Draw, MetricError

YAWS = (0.4, 0.2, 0.0, -0.2, -0.4)
TOLERANCE = 0.01
"""Part of the camera distance by which two depths may differ and still be the same place."""


def measure(evaluation: Evaluation, request: Request) -> dict[str, float]:
    """Mean squared difference of neighbouring views warped onto each other by depth; 0 is best.

    Five cameras at yaws 0.4 to -0.4 in steps of 0.2 rad from the front, mapping conditioned on the frontal camera,
    pictures in [-1, 1], foreground pixels only, each of the four neighbouring pairs warped both ways. The plain value
    puts each pixel at the nearest pixel of the other view (Carver's definition); `_visible` looks colours up in the
    other view, between its pixels, where both see the same place. `_overlap` is the share of foreground pixels that
    this could compare.
    """
    tolerance = TOLERANCE * evaluation.surround.radius

    def compute(draw: Draw) -> np.ndarray:
        with evaluation.stage("generate"):
            latents = evaluation.frontal_latents(draw)
            views = []
            for yaw in YAWS:
                angle = torch.full([len(draw)], yaw)
                labels = evaluation.surround.labels(angle, torch.zeros_like(angle)).to(evaluation.device)
                views.append(seen_surface(evaluation.view(latents, labels, noise_mode="const"), labels))
        with evaluation.stage("warp"):
            pairs = [pair for a, b in pairwise(views) for pair in ((a, b), (b, a))]
            splatted = torch.stack([warp_by_splatting(a, b) for a, b in pairs]).sum(dim=0)
            looked = torch.stack([warp_by_looking(a, b, tolerance) for a, b in pairs]).sum(dim=0)
            solid = torch.stack([b.solid.sum(dim=[1, 2, 3]) for _, b in pairs]).sum(dim=0)
            return torch.cat([splatted, looked, solid[:, None]], dim=1).double().cpu().numpy()

    rows = evaluation.collect(request.count, compute, "views")

    def result(rows: np.ndarray) -> dict[str, float]:
        if not rows[:, 1].any():
            raise MetricError("nothing generated is opaque, so there is no surface to follow")
        splat = per_scene(rows[:, 0], rows[:, 1])
        visible = per_scene(rows[:, 2], rows[:, 3])
        overlap = rows[:, 3].sum() / rows[:, 4].sum()
        return {request.name: splat, f"{request.name}_visible": visible, f"{request.name}_overlap": float(overlap)}

    return evaluation.summarize(rows, result)


def per_scene(sums: np.ndarray, counts: np.ndarray) -> float:
    """Mean over scenes of their means; scenes without a single pixel are left out."""
    filled = counts > 0
    return float(np.mean(sums[filled] / counts[filled])) if filled.any() else 0.0
