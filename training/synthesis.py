"""StyleGAN2 synthesis: styled convolutions and skip outputs, stacked from a learned constant.

Serves as the backbone of planes and, block by block, as super-resolution.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from torch_utils import random
from torch_utils.ops.bias_act import bias_act
from torch_utils.ops.upfirdn2d import setup_filter, upsample2d
from training.layers import RESAMPLE_TAPS, EqualizedLinear, modulated_conv2d
from training.precision import enter_block
from training.types import NoiseMode

OutputInit = Literal["normal", "kaiming"]

LARGE_ACTIVATIONS = 2**24
"""Numbers in the activations of a batch above which memory counts for more than the overhead of many small calls."""


@dataclass(frozen=True)
class BackboneConfig:
    """Size and precision of a synthesis network.

    resolution: a power of two from 4 up. Channels at resolution r: min(channel_base // r, channel_max).
    The num_fp16_res highest resolutions run in float16 on GPUs. output_init: "normal" (StyleGAN2) or "kaiming"
    (uniform, as BallGAN initializes its outputs).
    """

    resolution: int = 256
    channel_base: int = 32768
    channel_max: int = 512
    num_fp16_res: int = 0
    conv_clamp: float | None = None
    output_init: OutputInit = "normal"

    def __post_init__(self) -> None:
        if self.resolution < 4 or self.resolution & (self.resolution - 1):
            raise ValueError(f"resolution {self.resolution} of a synthesis network is no power of two from 4 up")

    @property
    def resolutions(self) -> list[int]:
        """Resolutions of the blocks, from 4 up."""
        return [2**power for power in range(2, int(math.log2(self.resolution)) + 1)]

    @property
    def num_ws(self) -> int:
        """Style rows that the network reads."""
        return 2 * len(self.resolutions)

    def channels(self, resolution: int) -> int:
        """Channels of the block at a resolution."""
        return min(self.channel_base // resolution, self.channel_max)

    def uses_fp16(self, resolution: int) -> bool:
        """Whether the block at a resolution runs in float16 on GPUs."""
        return self.num_fp16_res > 0 and resolution >= max(2 * self.resolution >> self.num_fp16_res, 8)


class SynthesisLayer(nn.Module):
    """Styled convolution with noise, bias and leaky ReLU; doubles the resolution where `up` is 2."""

    noise_const: Tensor
    resample_filter: Tensor

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        w_dim: int,
        resolution: int,
        *,
        kernel_size: int = 3,
        up: int = 1,
        conv_clamp: float | None = None,
    ):
        super().__init__()
        self.resolution, self.up, self.conv_clamp = resolution, up, conv_clamp
        self.padding = kernel_size // 2
        self.affine = EqualizedLinear(w_dim, in_channels, bias_init=1)
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, kernel_size, kernel_size))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        self.noise_strength = nn.Parameter(torch.zeros([]))
        self.register_buffer("noise_const", torch.randn(resolution, resolution))
        self.register_buffer("resample_filter", setup_filter(RESAMPLE_TAPS), persistent=False)

    def forward(self, x: Tensor, w: Float[Tensor, "n w_dim"], noise_mode: NoiseMode) -> Tensor:
        x = modulated_conv2d(
            x,
            self.weight,
            self.affine(w),
            up=self.up,
            padding=self.padding,
            resample_filter=self.resample_filter,
            noise=self._noise(len(x), noise_mode),
        )
        return bias_act(x, self.bias.to(x.dtype), act="lrelu", clamp=self.conv_clamp)

    def _noise(self, n: int, mode: NoiseMode) -> Tensor | None:
        if mode == "none":
            return None
        if mode == "const":
            return self.noise_const * self.noise_strength
        maps = random.normal([n, 1, self.resolution, self.resolution], self.noise_const.device)
        return maps * self.noise_strength


class OutputLayer(nn.Module):
    """Styled 1x1 convolution without demodulation or activation: a block's contribution to the picture or planes."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        w_dim: int,
        *,
        conv_clamp: float | None = None,
        init: OutputInit = "normal",
    ):
        super().__init__()
        self.conv_clamp = conv_clamp
        self.style_gain = 1 / math.sqrt(in_channels)
        self.affine = EqualizedLinear(w_dim, in_channels, bias_init=1)
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, 1, 1))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        if init == "kaiming":
            bound = 1 / math.sqrt(in_channels)
            nn.init.uniform_(self.weight, -bound, bound)
            nn.init.uniform_(self.bias, -bound, bound)

    def forward(self, x: Tensor, w: Float[Tensor, "n w_dim"]) -> Tensor:
        styles = self.affine(w) * self.style_gain
        x = modulated_conv2d(x, self.weight, styles, demodulate=False)
        return bias_act(x, self.bias, clamp=self.conv_clamp, inplace=True)


class SynthesisBlock(nn.Module):
    """One resolution of a skip generator: two styled convolutions and an output added to the up-sampled one below.

    The first block of a network starts from a learned constant (in_channels 0) and has one convolution. `up` is 1
    where the block stays at the resolution of its input.
    """

    resample_filter: Tensor

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        w_dim: int,
        resolution: int,
        img_channels: int,
        *,
        up: int = 2,
        conv_clamp: float | None = None,
        use_fp16: bool = False,
        output_init: OutputInit = "normal",
    ):
        super().__init__()
        self.resolution, self.up, self.use_fp16 = resolution, up, use_fp16
        self.register_buffer("resample_filter", setup_filter(RESAMPLE_TAPS), persistent=False)
        if in_channels:
            self.conv0 = SynthesisLayer(in_channels, out_channels, w_dim, resolution, up=up, conv_clamp=conv_clamp)
        else:
            self.const = nn.Parameter(torch.randn(out_channels, resolution, resolution))
        self.conv1 = SynthesisLayer(out_channels, out_channels, w_dim, resolution, conv_clamp=conv_clamp)
        self.torgb = OutputLayer(out_channels, img_channels, w_dim, conv_clamp=conv_clamp, init=output_init)

    @property
    def activations(self) -> int:
        """Numbers in one sample's activations."""
        return self.conv1.bias.numel() * self.resolution**2

    @property
    def num_convs(self) -> int:
        """Convolutions of the block, each with a style row of its own; the output reads the row after them."""
        return 1 if hasattr(self, "const") else 2

    def forward(
        self, x: Tensor | None, image: Tensor | None, ws: Float[Tensor, "n rows w_dim"], noise_mode: NoiseMode
    ) -> tuple[Tensor, Tensor]:
        """Activations and the picture (in full precision) of this resolution, from those of the one below."""
        row = iter(ws.unbind(dim=1))
        start = self.const.expand(len(ws), -1, -1, -1) if x is None else x
        x = enter_block(start, ws.dtype, self.resolution, self.use_fp16)
        if self.num_convs == 2:
            x = self.conv0(x, next(row), noise_mode)
        x = self.conv1(x, next(row), noise_mode)
        if image is not None and self.up == 2:
            image = upsample2d(image, self.resample_filter)
        output = self.torgb(x, next(row)).to(ws.dtype)
        return x, output if image is None else output.add_(image)


def runs_one_by_one(ws: Float[Tensor, "n rows w_dim"], blocks: Iterable[SynthesisBlock]) -> bool:
    """Whether a batch is better synthesized sample by sample.

    A sample alone carries its styles in the weights, so that its activations need not be scaled, nor kept in several
    versions for the backward pass. On CPUs that halves the memory of large networks; small ones, and GPUs, are faster
    with all the work at once.
    """
    if len(ws) == 1 or ws.is_cuda:
        return False
    return len(ws) * max(block.activations for block in blocks) > LARGE_ACTIVATIONS


class SynthesisNetwork(nn.Module):
    """A skip generator from a 4x4 constant to `config.resolution` with any number of output channels."""

    def __init__(self, config: BackboneConfig, w_dim: int, img_channels: int):
        super().__init__()
        self.num_ws = config.num_ws
        self.block_names = [f"b{resolution}" for resolution in config.resolutions]
        for resolution in config.resolutions:
            block = SynthesisBlock(
                config.channels(resolution // 2) if resolution > 4 else 0,
                config.channels(resolution),
                w_dim,
                resolution,
                img_channels,
                conv_clamp=config.conv_clamp,
                use_fp16=config.uses_fp16(resolution),
                output_init=config.output_init,
            )
            self.add_module(f"b{resolution}", block)

    def forward(
        self, ws: Float[Tensor, "n num_ws w_dim"], noise_mode: NoiseMode = "random"
    ) -> Float[Tensor, "n img_channels resolution resolution"]:
        """Output of the last block; the row of a block's output is also that of the next block's first convolution."""
        blocks: list[SynthesisBlock] = [getattr(self, name) for name in self.block_names]
        if runs_one_by_one(ws, blocks):
            return torch.cat([self(ws[rows], noise_mode) for rows in random.one_by_one(len(ws))])
        x: Tensor | None = None
        image: Tensor | None = None
        row = 0
        for block in blocks:
            x, image = block(x, image, ws[:, row : row + block.num_convs + 1], noise_mode)
            row += block.num_convs
        assert image is not None
        return image
