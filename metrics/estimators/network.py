"""The estimator: a small encoder and decoder with one answer for each question."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

SIDE = 64
"""Pictures are brought to this size first."""
MAP_SIDE = 32
"""Depth and mask are told at this size."""
WIDTHS = (16, 32, 64, 96)


@dataclass(frozen=True)
class Answers:
    """What the network reads off pictures.

    rotation `n 3 3`: the camera's rotation. depth `n 1 32 32`: distance along the ray, in units and from the origin
    that training chose. mask `n 1 32 32`: logits. factors `n k`: drawn parameters, standardized.
    """

    rotation: Tensor
    depth: Tensor
    mask: Tensor
    factors: Tensor


class Estimator(nn.Module):
    """Pictures of any size in 0..255 -> Answers; 0.6 million weights, made for a CPU."""

    def __init__(self, factors: int):
        super().__init__()
        self.stem = nn.Conv2d(3, WIDTHS[0], 4, stride=2, padding=1)
        self.down = nn.ModuleList(block(a, b) for a, b in pairwise([WIDTHS[0], *WIDTHS]))
        self.up = nn.ModuleList(block(a + b, b) for a, b in pairwise(reversed(WIDTHS)))
        self.maps = nn.Conv2d(WIDTHS[0], 2, 1)
        self.dense = nn.Sequential(nn.Linear(WIDTHS[-1] * 16, 192), nn.SiLU())
        self.pose = nn.Linear(192, 6)
        # One output even where there is nothing to tell: an empty layer has no weights to draw.
        self.factors = nn.Linear(192, max(factors, 1))
        self.told = factors

    def forward(self, images: Tensor) -> Answers:
        """The answers for pictures `n 3 height width` in 0..255."""
        x = self.stem(prepare(images))
        seen = []
        for level, down in enumerate(self.down):
            x = down(x if level == 0 else nn.functional.avg_pool2d(x, 2))
            seen.append(x)
        summary = self.dense(x.flatten(1))
        for up, skip in zip(self.up, seen[-2::-1], strict=True):
            x = up(torch.cat([nn.functional.interpolate(x, scale_factor=2.0), skip], dim=1))
        depth, mask = self.maps(x).split(1, dim=1)
        return Answers(rotation_of(self.pose(summary)), depth, mask, self.factors(summary)[:, : self.told])


def prepare(images: Tensor) -> Tensor:
    """Network input: 64x64, range [-1, 1]."""
    return resize(images.float() / 127.5 - 1, SIDE)


def resize(values: Tensor, side: int) -> Tensor:
    """Maps brought to a size, by averaging where it is smaller."""
    if values.shape[-1] == side:
        return values
    return nn.functional.interpolate(values, [side, side], mode="bilinear", antialias=side < values.shape[-1])


def block(inputs: int, outputs: int) -> nn.Sequential:
    """Two convolutions, normalized over groups so that single pictures give what batches give."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1),
        nn.GroupNorm(8, outputs),
        nn.SiLU(),
        nn.Conv2d(outputs, outputs, 3, padding=1),
        nn.GroupNorm(8, outputs),
        nn.SiLU(),
    )


def rotation_of(six: Tensor) -> Tensor:
    """Rotations `n 3 3` whose first two columns are the orthonormalized halves of six numbers (Zhou et al. 2019)."""
    first = nn.functional.normalize(six[:, :3] + torch.tensor([1.0, 0, 0], device=six.device), dim=1)
    second = six[:, 3:] + torch.tensor([0, 1.0, 0], device=six.device)
    second = nn.functional.normalize(second - (first * second).sum(dim=1, keepdim=True) * first, dim=1)
    return torch.stack([first, second, torch.linalg.cross(first, second)], dim=2)
