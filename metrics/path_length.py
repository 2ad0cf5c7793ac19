"""Perceptual path length of generators that render from a camera."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from metrics.evaluation import Evaluation
from metrics.features import Detector
from metrics.names import Request
from metrics.types import Draw, GeneratorLike, MetricError
from training.dataset import ImageDataset

EPSILON = 1e-4
LARGEST_SIDE = 256


def check(request: Request, generator: GeneratorLike, dataset: ImageDataset) -> None:
    """Raises MetricError for a single path."""
    if request.count < 2:
        raise MetricError("needs at least 2 paths")


def measure(evaluation: Evaluation, request: Request) -> dict[str, float]:
    """Mean perceptual distance of pictures of neighbouring latents, divided by their squared distance; 0 is best.

    Two latents of one draw are mapped with the draw's camera label, and seen by its camera with the same noise. The
    step of 1e-4 of their way starts at the first ("end" of the path in W). Values outside the 1st to 99th percentile
    are left out (Karras et al. 2019, section 4.1).
    """
    detector = evaluation.detector("lite" if request.lite else "vgg16")
    lengths = evaluation.collect(request.count, lambda draw: path_lengths(evaluation, detector, draw), "paths")
    return evaluation.summarize(lengths, lambda lengths: {request.name: trimmed_mean(lengths)})


def path_lengths(evaluation: Evaluation, detector: Detector, draw: Draw) -> np.ndarray:
    """Squared perceptual distance over squared step for each latent of a draw."""
    with evaluation.stage("generate"):
        start = evaluation.latents(draw, draw.labels)
        end = evaluation.latents(replace(draw, z=torch.randn_like(draw.z)), draw.labels)
        images = [
            evaluation.view(latents, draw.labels, noise_mode="const").image
            for latents in (start, start.lerp(end, EPSILON))
        ]
    with evaluation.stage("generated features"):
        a, b = (detector.perceptual(shrink((x + 1) * 127.5)).double() for x in images)
        return ((a - b).square().sum(dim=1) / EPSILON**2).cpu().numpy()


def shrink(images: Tensor) -> Tensor:
    """Pictures of at most 256 pixels a side, by averaging whole blocks."""
    factor = images.shape[2] // LARGEST_SIDE
    return torch.nn.functional.avg_pool2d(images, factor) if factor > 1 else images


def trimmed_mean(values: np.ndarray) -> float:
    """Mean of the values from the 1st to the 99th percentile, both included."""
    low = np.percentile(values, 1, method="lower")
    high = np.percentile(values, 99, method="higher")
    return float(values[(values >= low) & (values <= high)].mean())
