"""The dual discriminator: the picture and the rendered picture below it, judged together (Chan et al. 2022, EG3D)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from torch_utils import random
from torch_utils.ops.upfirdn2d import downsample2d, setup_filter, upsample2d
from training.discriminators.blocks import Trunk, TrunkConfig
from training.layers import RESAMPLE_TAPS
from training.types import LABEL_SIZE, Camera, RenderSettings, Views

ResizeMode = Literal["antialiased", "none", "classic"] | float


@dataclass(frozen=True)
class DualDiscriminatorConfig:
    """Six input channels: the picture and the enlarged raw picture.

    label_noise: noise on the labels, as a fraction of their spread over the batch (`--disc_c_noise`).
    resize: how raw pictures are brought to size, see `filtered_resizing`.
    """

    kind: Literal["dual"] = "dual"
    trunk: TrunkConfig = field(default_factory=TrunkConfig)
    label_noise: float = 0.0
    resize: ResizeMode = "antialiased"

    def __post_init__(self) -> None:
        if not isinstance(self.resize, str) and not 0 <= self.resize <= 1:
            raise ValueError(f"resize={self.resize}: a blend lies between 0 (no antialiasing) and 1 (antialiased)")

    def build(self, img_resolution: int, c_dim: int = LABEL_SIZE) -> DualDiscriminator:
        """The discriminator for pictures of a size; c_dim 0 ignores cameras."""
        return DualDiscriminator(self, img_resolution, c_dim)


def filtered_resizing(
    images: Float[Tensor, "n channels height width"], size: int, resample_filter: Tensor, mode: ResizeMode
) -> Float[Tensor, "n channels size size"]:
    """Pictures at another size.

    "antialiased": bilinear with a low-pass filter when shrinking. "none": plain bilinear. "classic": up-sampled,
    resized and down-sampled with the StyleGAN2 filter. A number between 0 and 1 blends from "none" to "antialiased".
    """

    def bilinear(x: Tensor, out: int, antialias: bool) -> Tensor:
        return nn.functional.interpolate(x, [out, out], mode="bilinear", align_corners=False, antialias=antialias)

    if mode == "classic":
        wide = bilinear(upsample2d(images, resample_filter), 2 * size + 2, False)
        return downsample2d(wide, resample_filter, padding=-1, flip_filter=True)
    if isinstance(mode, float):
        return torch.lerp(bilinear(images, size, False), bilinear(images, size, True), mode)
    return bilinear(images, size, mode == "antialiased")


def noisy_labels(c: Float[Tensor, "n c_dim"], amount: float) -> Float[Tensor, "n c_dim"]:
    """Labels with noise in proportion to their spread over the batch; the caller's labels stay as they are."""
    return c + random.normal(c.shape, c.device) * c.std(dim=0) * amount if len(c) > 1 else c


class DualDiscriminator(nn.Module):
    """Logits of picture and raw picture, conditioned on the camera."""

    resample_filter: Tensor

    def __init__(self, config: DualDiscriminatorConfig, img_resolution: int, c_dim: int = LABEL_SIZE):
        super().__init__()
        self.config, self.img_resolution, self.c_dim = config, img_resolution, c_dim
        self.trunk = Trunk(config.trunk, 6, img_resolution, c_dim)
        self.register_buffer("resample_filter", setup_filter(RESAMPLE_TAPS), persistent=False)

    def real_views(self, images: Float[Tensor, "n 3 height width"], settings: RenderSettings) -> Views:
        """A real picture beside its copy at the resolution of the renderer."""
        raw = filtered_resizing(images, settings.resolution, self.resample_filter, self.config.resize)
        return Views(images, raw)

    def forward(self, views: Views, c: Camera | Float[Tensor, "n c_dim"]) -> Float[Tensor, "n 1"]:
        if views.raw is None:
            raise ValueError("a dual discriminator judges a picture together with its raw picture; views.raw is None")
        raw = filtered_resizing(views.raw, views.image.shape[-1], self.resample_filter, self.config.resize)
        c = c.to_label() if isinstance(c, Camera) else c
        if self.config.label_noise > 0:
            c = noisy_labels(c, self.config.label_noise)
        return self.trunk(torch.cat([views.image, raw], dim=1), c)
