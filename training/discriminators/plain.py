"""The plain discriminator: the picture alone."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn

from training.discriminators.blocks import Trunk, TrunkConfig
from training.types import LABEL_SIZE, Camera, RenderSettings, Views


@dataclass(frozen=True)
class PlainDiscriminatorConfig:
    """Three input channels: the picture."""

    kind: Literal["plain"] = "plain"
    trunk: TrunkConfig = field(default_factory=TrunkConfig)

    def build(self, img_resolution: int, c_dim: int = LABEL_SIZE) -> PlainDiscriminator:
        """The discriminator for pictures of a size; c_dim 0 ignores cameras."""
        return PlainDiscriminator(self, img_resolution, c_dim)


class PlainDiscriminator(nn.Module):
    """Logits of the picture, conditioned on the camera where it has a label."""

    def __init__(self, config: PlainDiscriminatorConfig, img_resolution: int, c_dim: int = LABEL_SIZE):
        super().__init__()
        self.config, self.img_resolution, self.c_dim = config, img_resolution, c_dim
        self.trunk = Trunk(config.trunk, 3, img_resolution, c_dim)

    def real_views(self, images: Float[Tensor, "n 3 height width"], settings: RenderSettings) -> Views:
        """A real picture as it is."""
        return Views(images)

    def forward(self, views: Views, c: Camera | Float[Tensor, "n c_dim"]) -> Float[Tensor, "n 1"]:
        return self.trunk(views.image, c.to_label() if isinstance(c, Camera) else c)
