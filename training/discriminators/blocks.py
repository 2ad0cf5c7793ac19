"""Residual discriminator blocks of StyleGAN2, their epilogue, and the label that the logit is projected on."""

from __future__ import annotations

import math
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, nn

from training.layers import SQRT_HALF, EqualizedConv2d, EqualizedLinear, minibatch_std
from training.mapping import MappingNetwork
from training.precision import enter_block

LABEL_LAYERS = 8


@dataclass(frozen=True)
class TrunkConfig:
    """Size and precision of a discriminator.

    Channels at resolution r: min(channel_base // r, channel_max). The num_fp16_res highest resolutions run in
    float16 on GPUs, and then activations are limited to conv_clamp. The first freeze_layers layers do not train.
    mbstd_group_size: samples whose spread is compared (None: the whole batch).
    """

    channel_base: int = 32768
    channel_max: int = 512
    num_fp16_res: int = 4
    conv_clamp: float | None = 256.0
    freeze_layers: int = 0
    mbstd_group_size: int | None = 4

    def channels(self, resolution: int) -> int:
        """Channels of the block at a resolution."""
        return min(self.channel_base // resolution, self.channel_max)

    def uses_fp16(self, resolution: int, highest: int) -> bool:
        """Whether the block at a resolution runs in float16 on GPUs."""
        return self.num_fp16_res > 0 and resolution >= max(2 * highest >> self.num_fp16_res, 8)


class DiscriminatorBlock(nn.Module):
    """Halves the resolution: two convolutions beside a 1x1 shortcut. The first block also reads the picture."""

    def __init__(
        self,
        img_channels: int,
        in_channels: int,
        out_channels: int,
        resolution: int,
        *,
        conv_clamp: float | None,
        use_fp16: bool,
        frozen_layers: int,
    ):
        super().__init__()
        self.resolution, self.use_fp16 = resolution, use_fp16
        names = ["fromrgb", "conv0", "conv1", "skip"] if img_channels else ["conv0", "conv1", "skip"]
        self.num_layers = len(names)
        frozen = {name: index < frozen_layers for index, name in enumerate(names)}
        if img_channels:
            self.fromrgb = EqualizedConv2d(
                img_channels, in_channels, 1, "lrelu", conv_clamp=conv_clamp, frozen=frozen["fromrgb"]
            )
        self.conv0 = EqualizedConv2d(
            in_channels, in_channels, 3, "lrelu", conv_clamp=conv_clamp, frozen=frozen["conv0"]
        )
        self.conv1 = EqualizedConv2d(
            in_channels,
            out_channels,
            3,
            "lrelu",
            down=2,
            gain=SQRT_HALF,
            conv_clamp=conv_clamp,
            frozen=frozen["conv1"],
        )
        self.skip = EqualizedConv2d(
            in_channels, out_channels, 1, bias=False, down=2, gain=SQRT_HALF, frozen=frozen["skip"]
        )

    def forward(self, x: Tensor) -> Tensor:
        """Activations of the next resolution, from the picture (first block) or the activations above."""
        x = enter_block(x, self.conv0.weight.dtype, self.resolution, self.use_fp16)
        if hasattr(self, "fromrgb"):
            x = self.fromrgb(x)
        return self.skip(x).add_(self.conv1(self.conv0(x)))


class DiscriminatorEpilogue(nn.Module):
    """4x4 activations, with the spread of the minibatch beside them -> one feature vector."""

    def __init__(self, channels: int, out_features: int, *, conv_clamp: float | None, mbstd_group_size: int | None):
        super().__init__()
        self.mbstd_group_size = mbstd_group_size
        self.conv = EqualizedConv2d(channels + 1, channels, 3, "lrelu", conv_clamp=conv_clamp)
        self.fc = EqualizedLinear(channels * 16, channels, "lrelu")
        self.out = EqualizedLinear(channels, out_features)

    def forward(self, x: Float[Tensor, "n channels 4 4"]) -> Float[Tensor, "n out_features"]:
        x = minibatch_std(x.to(self.conv.weight.dtype), self.mbstd_group_size)
        return self.out(self.fc(self.conv(x).flatten(1)))


class Trunk(nn.Module):
    """Blocks from the picture down to 4x4, the epilogue, and the projection on the camera label.

    The logit is the product of the picture's features with those of the label (projection discriminator); without
    a label (c_dim 0) the epilogue gives it directly.
    """

    def __init__(self, config: TrunkConfig, img_channels: int, img_resolution: int, c_dim: int):
        super().__init__()
        if img_resolution < 8 or img_resolution & (img_resolution - 1):
            raise ValueError(f"resolution {img_resolution} of a discriminator is no power of two from 8 up")
        self.config = config
        resolutions = [2**power for power in range(int(math.log2(img_resolution)), 2, -1)]
        self.block_names = [f"b{resolution}" for resolution in resolutions]
        layers_before = 0
        for resolution in resolutions:
            block = DiscriminatorBlock(
                img_channels if resolution == img_resolution else 0,
                config.channels(resolution),
                config.channels(resolution // 2),
                resolution,
                conv_clamp=config.conv_clamp if config.num_fp16_res > 0 else None,
                use_fp16=config.uses_fp16(resolution, img_resolution),
                frozen_layers=config.freeze_layers - layers_before,
            )
            layers_before += block.num_layers
            self.add_module(f"b{resolution}", block)
        width = config.channels(4)
        self.label_width = width if c_dim else 0
        if c_dim:
            self.mapping = MappingNetwork(0, c_dim, width, LABEL_LAYERS, keep_average=False)
        self.b4 = DiscriminatorEpilogue(
            width,
            self.label_width or 1,
            conv_clamp=config.conv_clamp if config.num_fp16_res > 0 else None,
            mbstd_group_size=config.mbstd_group_size,
        )

    def forward(
        self, x: Float[Tensor, "n img_channels height width"], c: Float[Tensor, "n c_dim"] | None
    ) -> Float[Tensor, "n 1"]:
        for name in self.block_names:
            x = getattr(self, name)(x)
        x = self.b4(x)
        if not self.label_width:
            return x
        return (x * self.mapping(None, c)).sum(dim=1, keepdim=True) / math.sqrt(self.label_width)
