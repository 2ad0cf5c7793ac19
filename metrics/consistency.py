"""Identity, or appearance, of one scene from two sides."""

from __future__ import annotations

import numpy as np
import torch

from metrics.estimators.source import embedder_of
from metrics.evaluation import Evaluation, to_uint8
from metrics.names import Request
from metrics.types import Draw


def measure(evaluation: Evaluation, request: Request) -> dict[str, float]:
    """Mean cosine of the embeddings of two views of one scene; 1 is best.

    The two cameras are drawn from the data set, the mapping is conditioned on the frontal camera (Chan et al. 2022,
    section 5.1). `_other` is the mean cosine of different scenes, and `_margin` = (same - other) / (1 - other): what
    part of the way from "any other scene" to "the same picture" two views go. Only the margin compares between
    embedders.
    """
    embed = embedder_of(evaluation, request)

    def compute(draw: Draw) -> np.ndarray:
        with evaluation.stage("generate"):
            latents = evaluation.frontal_latents(draw)
            sides = (draw.labels, evaluation.draw(draw.numbers, stream=1).labels)
            views = [evaluation.view(latents, labels, noise_mode="const").image for labels in sides]
        with evaluation.stage("generated features"):
            rows = [torch.nn.functional.normalize(embed(to_uint8(images)).double(), dim=1) for images in views]
        return torch.stack(rows, dim=1).cpu().numpy()

    rows = evaluation.collect(request.count, compute, "pairs")

    def result(rows: np.ndarray) -> dict[str, float]:
        same, other = cosines(rows)
        margin = (same - other) / max(1 - other, 1e-6)
        return {request.name: same, f"{request.name}_other": other, f"{request.name}_margin": margin}

    return evaluation.summarize(rows, result)


def cosines(rows: np.ndarray) -> tuple[float, float]:
    """Mean cosine of both views of a scene, and of the first of one with the second of the next; rows `n 2 d`.

    Views without an embedding (NaN) are left out.
    """
    first, second = rows[:, 0], rows[:, 1]
    same = np.nanmean((first * second).sum(axis=1))
    other = np.nanmean((first * np.roll(second, 1, axis=0)).sum(axis=1))
    return float(same), float(other)
