"""No background network: rays that pass the scene end on black or white."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from training.types import BackgroundSamples, Rays


@dataclass(frozen=True)
class SolidConfig:
    """Black, or white, behind the scene."""

    kind: Literal["solid"] = "solid"
    white_back: bool = False

    def build(self, features: int) -> SolidBackground:
        """The background for a number of feature channels."""
        return SolidBackground(self, features)


class SolidBackground(nn.Module):
    """The same features for every ray."""

    z_dim = 0
    w_dim = 0
    num_ws = 0
    mapping_layers = 0

    def __init__(self, config: SolidConfig, features: int):
        super().__init__()
        self.features = features
        self.backdrop = float(config.white_back)

    def forward(self, latent: Float[Tensor, "n rows w"], rays: Rays) -> BackgroundSamples:
        n, count, _ = rays.origins.shape
        return BackgroundSamples(torch.full([n, count, self.features], self.backdrop, device=rays.origins.device))
