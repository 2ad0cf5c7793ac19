"""Geometry and content judged by estimators: depth, pose, mask, and which of the drawn parameters appear."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from metrics.estimators.network import resize
from metrics.estimators.source import estimator_of, trained_for
from metrics.evaluation import Evaluation, to_uint8
from metrics.geometry import SOLID, foreground_depth
from metrics.names import Request
from metrics.types import Draw, MetricError
from training.types import Camera, RenderOutput

FEWEST_PIXELS = 16


def measure_depth(evaluation: Evaluation, request: Request) -> dict[str, float]:
    """Mean squared difference of rendered and estimated depth, each with mean 0 and deviation 1 per picture.

    Over the pixels that are solid for both; 0 is best, flat depth gives 1, unrelated depth 2 (Chan et al. 2022,
    section 5.1). Pictures that share fewer than 16 solid pixels do not count; `_compared` is the share that do.
    """
    estimator = estimator_of(evaluation, request, "depth")

    def compute(draw: Draw) -> np.ndarray:
        out = as_drawn(evaluation, draw)
        with evaluation.stage("estimate"):
            answers = estimator(to_uint8(out.image))
        side = answers.depth.shape[-1]
        solid = (out.opacity > SOLID).float()
        share = resize(solid, side)
        depth = resize(foreground_depth(out) * solid, side) / share.clamp(min=1e-6)
        both = (share > SOLID) & (answers.mask > 0)
        return standardized_error(depth, answers.depth, both).double().cpu().numpy()

    errors = evaluation.collect(request.count, compute, "depth")

    def result(errors: np.ndarray) -> dict[str, float]:
        compared = np.isfinite(errors)
        if not compared.any():
            raise MetricError("no generated picture shows a solid object to both renderer and estimator")
        return {request.name: float(errors[compared].mean()), f"{request.name}_compared": float(compared.mean())}

    return evaluation.summarize(errors, result)


def standardized_error(a: Tensor, b: Tensor, mask: Tensor) -> Tensor:
    """Mean squared difference `n` of maps `n 1 h w`, standardized over the mask of each; NaN below 16 pixels."""
    errors = []
    for first, second, chosen in zip(a, b, mask, strict=True):
        if int(chosen.sum()) < FEWEST_PIXELS:
            errors.append(torch.tensor(float("nan"), device=a.device))
            continue
        x, y = (standardized(values[chosen].double()) for values in (first, second))
        errors.append((x - y).square().mean())
    return torch.stack(errors)


def standardized(values: Tensor) -> Tensor:
    """Values with mean 0 and deviation 1; all 0 where they do not differ beyond rounding."""
    centred = values - values.mean()
    spread = centred.square().mean().sqrt()
    return centred / spread if spread > 1e-6 * values.abs().max() else torch.zeros_like(values)


def measure_pose(evaluation: Evaluation, request: Request) -> dict[str, float]:
    """Mean squared rotation vector (rad^2) from the rendering camera to the camera that an estimator sees; 0 is best.

    The rotation vector is that of the relative rotation, which has no seam where the frontal camera of OpenCV axes
    lies. `_degrees` is the median angle.
    """
    estimator = estimator_of(evaluation, request, "pose")

    def compute(draw: Draw) -> np.ndarray:
        out = as_drawn(evaluation, draw)
        with evaluation.stage("estimate"):
            rotation = estimator(to_uint8(out.image)).rotation
        wanted = Camera.from_label(draw.labels).cam2world[:, :3, :3]
        return angle_between(wanted, rotation).double().cpu().numpy()

    angles = evaluation.collect(request.count, compute, "poses")

    def result(angles: np.ndarray) -> dict[str, float]:
        degrees = float(np.degrees(np.median(angles)))
        return {request.name: float(np.square(angles).mean()), f"{request.name}_degrees": degrees}

    return evaluation.summarize(angles, result)


def angle_between(a: Tensor, b: Tensor) -> Tensor:
    """Angles `n` in [0, pi] of the rotations from `a` to `b`, both `n 3 3`; exact for small ones too."""
    relative = a.double().transpose(1, 2) @ b.double()
    axis = torch.stack(
        [
            relative[:, 2, 1] - relative[:, 1, 2],
            relative[:, 0, 2] - relative[:, 2, 0],
            relative[:, 1, 0] - relative[:, 0, 1],
        ],
        dim=1,
    )
    trace = relative.diagonal(dim1=1, dim2=2).sum(dim=1)
    return torch.atan2(axis.norm(dim=1), trace - 1)


def measure_mask(evaluation: Evaluation, request: Request) -> dict[str, float]:
    """Mean intersection over union of solid pixels with the estimator's object mask; 1 is best.

    Also `_error`, the mean absolute difference of opacity and estimated mask.
    """
    estimator = estimator_of(evaluation, request, "mask")

    def compute(draw: Draw) -> np.ndarray:
        out = as_drawn(evaluation, draw)
        with evaluation.stage("estimate"):
            mask = estimator(to_uint8(out.image)).mask.sigmoid()
        opacity = resize(out.opacity, mask.shape[-1])
        error = (opacity - mask).abs().mean(dim=[1, 2, 3])
        return torch.stack([overlap(opacity > SOLID, mask > SOLID), error], dim=1).double().cpu().numpy()

    rows = evaluation.collect(request.count, compute, "masks")
    names = (request.name, f"{request.name}_error")
    return evaluation.summarize(rows, lambda rows: dict(zip(names, rows.mean(axis=0).tolist(), strict=True)))


def overlap(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union `n` of boolean maps `n 1 h w`; 1 where both are empty."""
    both, either = (a & b).sum(dim=[1, 2, 3]), (a | b).sum(dim=[1, 2, 3])
    return torch.where(either > 0, both / either.clamp(min=1), torch.ones_like(both, dtype=torch.float32))


def measure_modes(evaluation: Evaluation, request: Request) -> dict[str, float]:
    """Share, in [0, 1], of the variety of the drawn parameters that generated pictures show; 1 is best.

    An estimator reads every drawn parameter off the pictures, and off the real ones that it was not trained on. For
    each parameter the histograms of the two over eighths of the real ones are compared: 1 minus half the sum of
    absolute differences, then the mean.
    """
    estimator = trained_for(evaluation)
    dataset = evaluation.real_dataset(full=True)
    images, _ = dataset.gather(estimator.unseen)
    real = (
        torch.cat([estimator(part.to(evaluation.device)).factors for part in images.split(64)]).double().cpu().numpy()
    )

    def compute(draw: Draw) -> np.ndarray:
        out = as_drawn(evaluation, draw)
        with evaluation.stage("estimate"):
            return estimator(to_uint8(out.image)).factors.double().cpu().numpy()

    fake = evaluation.collect(request.count, compute, "parameters")
    return evaluation.summarize(fake, lambda fake: {request.name: histogram_overlap(real, fake)})


def histogram_overlap(real: np.ndarray, fake: np.ndarray, bins: int = 8) -> float:
    """Mean over columns of the overlap of two sets' histograms over the quantiles of the first."""
    shares = []
    for column in range(real.shape[1]):
        edges = np.quantile(real[:, column], np.linspace(0, 1, bins + 1)[1:-1])
        a, b = (
            np.bincount(np.searchsorted(edges, rows[:, column]), minlength=bins) / len(rows) for rows in (real, fake)
        )
        shares.append(np.minimum(a, b).sum())
    return float(np.mean(shares))


def as_drawn(evaluation: Evaluation, draw: Draw) -> RenderOutput:
    """The draw rendered from its own cameras, which also condition the mapping."""
    with evaluation.stage("generate"):
        return evaluation.view(evaluation.latents(draw, draw.labels), draw.labels)
