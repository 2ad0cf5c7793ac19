"""Fields in closed form, as scenes for tests."""

from __future__ import annotations

import torch

from training.types import FieldSamples


class FunctionField:
    """A field from a function of points that gives raw density and features."""

    def __init__(self, function):
        self.function = function

    def __call__(self, points: torch.Tensor, directions: torch.Tensor | None = None) -> FieldSamples:
        return self.function(points)

    def density(self, points: torch.Tensor) -> torch.Tensor:
        return self(points).density

    def expand(self, count: int) -> FunctionField:
        return self


@FunctionField
def ellipsoid(points: torch.Tensor) -> FieldSamples:
    """An asymmetric scene: an ellipsoid off the centre, coloured by position."""
    centre, radii = torch.tensor([0.2, -0.1, 0.05]), torch.tensor([0.15, 0.3, 0.45])
    distance = ((points - centre) / radii).norm(dim=-1, keepdim=True)
    density = 40 * (1 - distance) + 10
    return FieldSamples(density, torch.cat([points + 0.5, points * 0], dim=-1))
