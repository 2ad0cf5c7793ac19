"""No up-sampling: the rendered features are the picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn


@dataclass(frozen=True)
class IdentityConfig:
    """Pictures straight from the renderer, at its resolution."""

    kind: Literal["identity"] = "identity"

    def build(self, features: int, w_dim: int, img_resolution: int) -> IdentityUpsampler:
        """The upsampler for rendered features and pictures of a size."""
        return IdentityUpsampler()


class IdentityUpsampler(nn.Module):
    """The first three channels are the picture."""

    num_ws = 0

    def forward(
        self, features: Float[Tensor, "n channels height width"], ws: Tensor
    ) -> Float[Tensor, "n 3 height width"]:
        return features[:, :3]
