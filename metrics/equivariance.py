"""Equivariance: moving the camera's picture plane must move the picture and nothing else.

A 2-D generator is tested by transforming its input. Here the camera is that input: shifting the principal point of a
pinhole camera translates its picture exactly, rolling it about its axis rotates the picture exactly. What differs is
what the network painted onto the pixels instead of into the scene.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from metrics.evaluation import Evaluation
from metrics.names import Request
from metrics.types import Draw

LARGEST_SHIFT = 1 / 8
OVERSAMPLING = 4
BORDER = 1 / 16
"""Part of the side left out at the border of resampled pictures, where what lies outside would be needed."""


Move = Callable[[Tensor, Tensor, list[np.random.Generator]], tuple[Tensor, Tensor, Tensor]]


def measure_whole_shifts(evaluation: Evaluation, request: Request) -> dict[str, float]:
    """Signal-to-noise ratio (dB) under shifts by whole pixels, up to an eighth of the side; see `equivariance`."""
    return equivariance(evaluation, request, shift_whole)


def measure_part_shifts(evaluation: Evaluation, request: Request) -> dict[str, float]:
    """Signal-to-noise ratio (dB) under shifts by parts of pixels, up to an eighth of the side; see `equivariance`."""
    return equivariance(evaluation, request, shift_parts)


def measure_rotations(evaluation: Evaluation, request: Request) -> dict[str, float]:
    """Signal-to-noise ratio (dB) under rotations by any angle about the camera's axis; see `equivariance`."""
    return equivariance(evaluation, request, roll)


def equivariance(evaluation: Evaluation, request: Request, move: Move) -> dict[str, float]:
    """Peak signal-to-noise ratio in dB between moved pictures and pictures of moved cameras; larger is better.

    10 log10(4 / mean squared difference) for pictures in [-1, 1], over the pixels that both show, with the same noise
    maps (after Karras et al. 2021, appendix E).
    """

    def compute(draw: Draw) -> np.ndarray:
        with evaluation.stage("generate"):
            latents = evaluation.latents(draw, draw.labels)
            rngs = [np.random.default_rng([evaluation.sampling.seed, number, 1]) for number in draw.numbers]
            still = evaluation.view(latents, draw.labels, noise_mode="const").image
            cameras, expected, shown = move(still, draw.labels, rngs)
            moved = evaluation.view(latents, cameras, noise_mode="const").image
        squared = ((moved - expected).square() * shown).sum(dim=[1, 2, 3])
        return torch.stack([squared, shown.expand_as(moved).sum(dim=[1, 2, 3])], dim=1).double().cpu().numpy()

    def result(sums: np.ndarray) -> dict[str, float]:
        return {request.name: peak_signal_to_noise(sums[:, 0].sum() / sums[:, 1].sum())}

    return evaluation.summarize(evaluation.collect(request.count, compute, "moved pictures"), result)


def peak_signal_to_noise(mean_squared: float) -> float:
    """Decibels of a mean squared difference of pictures in [-1, 1]; at most 120, for what rounding leaves of zero."""
    return 10 * math.log10(4 / max(float(mean_squared), 4e-12))


def shift_whole(images: Tensor, labels: Tensor, rngs: list[np.random.Generator]) -> tuple[Tensor, Tensor, Tensor]:
    """Cameras shifted by whole pixels, the pictures expected of them, and where these are known."""
    side = images.shape[-1]
    reach = int(side * LARGEST_SHIFT)
    steps = np.array([rng.integers(-reach, reach + 1, 2) for rng in rngs])
    expected = torch.stack([image.roll((int(y), int(x)), (1, 2)) for image, (x, y) in zip(images, steps, strict=True)])
    return shifted(labels, steps / side), expected, _known(side, steps / side, 0.0, images)


def shift_parts(images: Tensor, labels: Tensor, rngs: list[np.random.Generator]) -> tuple[Tensor, Tensor, Tensor]:
    """Cameras shifted by parts of pixels, the pictures expected of them, and where these are known."""
    steps = np.array([rng.uniform(-LARGEST_SHIFT, LARGEST_SHIFT, 2) for rng in rngs])
    matrix = torch.eye(2, 3).repeat(len(images), 1, 1)
    matrix[:, :, 2] = -2 * torch.from_numpy(steps).float()
    expected = resampled(images, matrix.to(images))
    return shifted(labels, steps), expected, _known(images.shape[-1], steps, BORDER, images)


def roll(images: Tensor, labels: Tensor, rngs: list[np.random.Generator]) -> tuple[Tensor, Tensor, Tensor]:
    """Cameras rolled by any angle, the pictures expected of them, and the disc where these are known."""
    angles = torch.tensor([rng.uniform(0, 2 * math.pi) for rng in rngs], dtype=torch.float32)
    cos, sin = angles.cos(), angles.sin()
    zero, one = torch.zeros_like(cos), torch.ones_like(cos)
    # In OpenCV axes a camera turned by the angle sees at picture position p what it saw before at R p.
    turn = torch.stack([cos, -sin, zero, sin, cos, zero, zero, zero, one], dim=1).view(-1, 3, 3).to(labels)
    poses = labels[:, :16].reshape(-1, 4, 4).clone()
    poses[:, :3, :3] = poses[:, :3, :3] @ turn
    cameras = torch.cat([poses.flatten(1), labels[:, 16:]], dim=1)
    matrix = torch.nn.functional.pad(turn[:, :2, :2], (0, 1)).to(images)
    side = images.shape[-1]
    axis = (torch.arange(side, device=images.device) + 0.5) / side * 2 - 1
    disc = (axis[:, None] ** 2 + axis**2).sqrt() < 1 - 2 * BORDER
    return cameras, resampled(images, matrix), disc.float().expand(len(images), 1, side, side)


def shifted(labels: Tensor, steps: np.ndarray) -> Tensor:
    """Camera labels whose pictures are moved by `steps` `n 2`, in fractions of the side to the right and down."""
    moved = labels.clone()
    moved[:, [18, 21]] += torch.from_numpy(steps).to(labels)
    return moved


def resampled(images: Tensor, matrix: Tensor) -> Tensor:
    """Pictures read at `matrix @ (x, y, 1)`, coordinates in [-1, 1], band-limited.

    They are brought to four times their size through their spectrum (mirrored at the border, so that it does not
    ring), and read from there by cubic interpolation.
    """
    n, _, side, _ = images.shape
    mirrored = torch.cat([images, images.flip(3)], dim=3)
    mirrored = torch.cat([mirrored, mirrored.flip(2)], dim=2)
    spectrum = torch.fft.fftshift(torch.fft.fft2(mirrored.double()), dim=(2, 3))
    margin = side * (OVERSAMPLING - 1)
    padded = torch.nn.functional.pad(spectrum, [margin] * 4)
    fine = torch.fft.ifft2(torch.fft.ifftshift(padded, dim=(2, 3))).real * OVERSAMPLING**2
    big = side * OVERSAMPLING
    # Sample k of the fine picture lies at the centre of pixel k / 4, not at the centre of a fine pixel.
    grid = torch.nn.functional.affine_grid(matrix.double(), [n, 1, side, side], align_corners=False)
    place = ((grid + 1) / 2 * side - 0.5) * OVERSAMPLING
    fine = fine[:, :, :big, :big]
    return torch.nn.functional.grid_sample(
        fine, place / (big - 1) * 2 - 1, mode="bicubic", padding_mode="border", align_corners=True
    ).to(images)


def _known(side: int, steps: np.ndarray, border: float, images: Tensor) -> Tensor:
    """1 where a picture moved by `steps` shows what was inside before, else 0; `n 1 side side`."""
    centres = (np.arange(side) + 0.5) / side

    def inside(step: np.ndarray) -> np.ndarray:
        source = centres - step[:, None]
        return (source > border) & (source < 1 - border)

    known = inside(steps[:, 1])[:, :, None] & inside(steps[:, 0])[:, None, :]
    return torch.from_numpy(known[:, None]).to(images)
