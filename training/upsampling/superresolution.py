"""Super-resolution: two StyleGAN2 blocks from rendered features to the picture (Chan et al. 2022, EG3D)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from torch_utils import random
from training.synthesis import OutputInit, SynthesisBlock, runs_one_by_one
from training.types import NoiseMode

Module = Literal["2X", "4X", "8X", "8XDC", "deep"]


@dataclass(frozen=True)
class Layout:
    """A published module: up-sampling and channels of its two blocks."""

    ups: tuple[int, int]
    channels: tuple[int, int]

    @property
    def factor(self) -> int:
        """How much larger the picture is than the size to which rendered features are brought first."""
        return math.prod(self.ups)


LAYOUTS: dict[Module, Layout] = {
    "2X": Layout((1, 2), (128, 64)),
    "4X": Layout((1, 2), (128, 64)),
    "8X": Layout((2, 2), (128, 64)),
    "8XDC": Layout((2, 2), (256, 128)),
    "deep": Layout((1, 2), (128, 64)),
}
"""The published modules; those of one layout differ in the picture sizes that they are made for."""


@dataclass(frozen=True)
class SuperresolutionConfig:
    """Which module, its precision, and the widths of its blocks (None: the published ones).

    num_fp16_res > 0 runs both blocks in float16 on GPUs and limits activations to conv_clamp. antialias: low-pass
    filter when the rendered features are resized to what the module works on.
    """

    kind: Literal["superresolution"] = "superresolution"
    module: Module = "8XDC"
    channels: tuple[int, int] | None = None
    num_fp16_res: int = 4
    conv_clamp: float = 256.0
    noise_mode: NoiseMode = "none"
    antialias: bool = True
    output_init: OutputInit = "normal"

    def build(self, features: int, w_dim: int, img_resolution: int) -> Superresolution:
        """The upsampler for rendered features and pictures of a size."""
        return Superresolution(self, features, w_dim, img_resolution)


def module_for(img_resolution: int) -> Module:
    """The published module for a picture size; the 2X layout serves all sizes below 128.

    Raises ValueError for a size that has none.
    """
    if img_resolution in (512, 256):
        return "8XDC" if img_resolution == 512 else "4X"
    if img_resolution in (128, 64, 32):
        return "2X"
    raise ValueError(f"resolution {img_resolution} has no super-resolution module; choose 32, 64, 128, 256 or 512")


class Superresolution(nn.Module):
    """Rendered features and their first three channels -> the picture, styled by the scene's last style row."""

    num_ws = 0

    def __init__(self, config: SuperresolutionConfig, features: int, w_dim: int, img_resolution: int):
        super().__init__()
        layout = LAYOUTS[config.module]
        self.noise_mode: NoiseMode = config.noise_mode
        self.antialias = config.antialias
        self.input_resolution = img_resolution // layout.factor
        widths = (features, *(config.channels or layout.channels))
        fp16 = config.num_fp16_res > 0
        size, blocks = self.input_resolution, []
        for width_in, width_out, up in zip(widths[:-1], widths[1:], layout.ups, strict=True):
            size *= up
            block = SynthesisBlock(
                width_in,
                width_out,
                w_dim,
                size,
                3,
                up=up,
                conv_clamp=config.conv_clamp if fp16 else None,
                use_fp16=fp16,
                output_init=config.output_init,
            )
            blocks.append(block)
        self.block0, self.block1 = blocks

    def forward(
        self, features: Float[Tensor, "n channels height width"], ws: Float[Tensor, "n rows w_dim"]
    ) -> Float[Tensor, "n 3 out_height out_width"]:
        return self.enlarge(features, features[:, :3], ws)

    def enlarge(
        self,
        features: Float[Tensor, "n channels height width"],
        image: Float[Tensor, "n 3 height width"],
        ws: Float[Tensor, "n rows w_dim"],
    ) -> Float[Tensor, "n 3 out_height out_width"]:
        """The picture of features and of a raw picture beside them."""
        if runs_one_by_one(ws, (self.block0, self.block1)):
            parts = [self.enlarge(features[rows], image[rows], ws[rows]) for rows in random.one_by_one(len(ws))]
            return torch.cat(parts)
        ws = ws[:, -1:].expand(-1, 3, -1)
        x, image = self.block0(self._resize(features), self._resize(image), ws, self.noise_mode)
        return self.block1(x, image, ws, self.noise_mode)[1]

    def _resize(self, x: Tensor) -> Tensor:
        if x.shape[-1] == self.input_resolution:
            return x
        size = [self.input_resolution] * 2
        return nn.functional.interpolate(x, size, mode="bilinear", align_corners=False, antialias=self.antialias)
