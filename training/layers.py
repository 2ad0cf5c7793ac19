"""The layers that StyleGAN2 networks are made of: equalized learning rate, style modulation, minibatch statistics."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from torch_utils.ops.bias_act import ACTIVATIONS, bias_act
from torch_utils.ops.conv2d_resample import conv2d_resample
from torch_utils.ops.upfirdn2d import setup_filter

RESAMPLE_TAPS = (1, 3, 3, 1)
SQRT_HALF = math.sqrt(0.5)
COLOR_MARGIN = 0.001


def normalize_second_moment(x: Float[Tensor, "n channels"], eps: float = 1e-8) -> Float[Tensor, "n channels"]:
    """Rows scaled to a mean square of one."""
    return x * (x.square().mean(dim=1, keepdim=True) + eps).rsqrt()


def bounded_color(x: Tensor) -> Tensor:
    """Sigmoid stretched to (-0.001, 1.001), so that the ends of [0, 1] are reached (mip-NeRF, appendix)."""
    return torch.add(x.new_full([], -COLOR_MARGIN), torch.sigmoid(x), alpha=1 + 2 * COLOR_MARGIN)


class EqualizedLinear(nn.Module):
    """Dense layer whose weights are stored with unit variance and scaled at run time (StyleGAN2, equalized rate)."""

    def __init__(
        self,
        in_features: int,
        out_features: int,
        activation: str = "linear",
        lr_multiplier: float = 1.0,
        bias_init: float = 0.0,
    ):
        super().__init__()
        self.in_features, self.out_features = in_features, out_features
        self.activation = activation
        self.weight_gain = lr_multiplier / math.sqrt(in_features)
        self.bias_gain = lr_multiplier
        self.weight = nn.Parameter(torch.randn(out_features, in_features) / lr_multiplier)
        self.bias = nn.Parameter(torch.full([out_features], float(bias_init)))

    def forward(self, x: Float[Tensor, "*rows in_features"]) -> Float[Tensor, "*rows out_features"]:
        weight = (self.weight * self.weight_gain).to(x.dtype)
        bias = (self.bias if self.bias_gain == 1 else self.bias * self.bias_gain).to(x.dtype)
        if self.activation == "linear":
            return nn.functional.linear(x, weight, bias)
        return bias_act(nn.functional.linear(x, weight), bias, dim=x.ndim - 1, act=self.activation)

    def extra_repr(self) -> str:
        return f"{self.in_features}, {self.out_features}, {self.activation}"


class EqualizedConv2d(nn.Module):
    """Convolution with equalized rate, bias, activation and optional 2x down-sampling, as the discriminators use it.

    A frozen layer holds its weights as buffers, so that no optimizer sees them (Freeze-D).
    """

    weight: Tensor
    bias: Tensor | None
    resample_filter: Tensor

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        activation: str = "linear",
        *,
        bias: bool = True,
        down: int = 1,
        gain: float = 1.0,
        conv_clamp: float | None = None,
        frozen: bool = False,
    ):
        super().__init__()
        self.activation, self.down = activation, down
        self.conv_clamp = None if conv_clamp is None else conv_clamp * gain
        self.padding = kernel_size // 2
        self.weight_gain = 1 / math.sqrt(in_channels * kernel_size**2)
        self.activation_gain = ACTIVATIONS[activation].gain * gain
        self.register_buffer("resample_filter", setup_filter(RESAMPLE_TAPS), persistent=False)
        weight = torch.randn(out_channels, in_channels, kernel_size, kernel_size)
        values = {"weight": weight, "bias": torch.zeros(out_channels) if bias else None}
        for name, value in values.items():
            if frozen or value is None:
                self.register_buffer(name, value)
            else:
                self.register_parameter(name, nn.Parameter(value))

    def forward(self, x: Float[Tensor, "n in_channels height width"]) -> Tensor:
        # The activations have positive gains and commute with them, so that the weights can carry them.
        weight = (self.weight * (self.weight_gain * self.activation_gain)).to(x.dtype)
        bias = None if self.bias is None else self.bias * self.activation_gain
        x = conv2d_resample(x, weight, self.resample_filter, down=self.down, padding=self.padding)
        return bias_act(x, bias, act=self.activation, gain=1, clamp=self.conv_clamp, inplace=True)


def modulated_conv2d(
    x: Float[Tensor, "n in_channels height width"],
    weight: Float[Tensor, "out_channels in_channels kernel kernel"],
    styles: Float[Tensor, "n in_channels"],
    *,
    demodulate: bool = True,
    up: int = 1,
    down: int = 1,
    padding: int = 0,
    resample_filter: Tensor | None = None,
    noise: Tensor | None = None,
    gain: float = 1.0,
) -> Float[Tensor, "n out_channels out_height out_width"]:
    """Convolution whose input channels are scaled by a style per sample (Karras et al. 2020, eq. 1 and 3).

    With `demodulate` each output channel is divided by the norm of its modulated weights. `gain` is a factor of the
    result, to which `noise` is added. The activations are scaled instead of the weights, so that one kernel serves
    the whole batch; but a single sample carries its scales in the weights where these are smaller.
    """
    if demodulate and x.dtype == torch.float16:
        weight, styles = _guard_half(weight, styles)
    scales = None
    if demodulate:
        energy = weight.square().sum(dim=(2, 3))
        scales = (styles.square() @ energy.t() + 1e-8).rsqrt() * gain
    elif gain != 1:
        styles = styles * gain

    def convolve(x: Tensor, kernel: Tensor) -> Tensor:
        return conv2d_resample(x, kernel.to(x.dtype), resample_filter, up, down, padding, flip_weight=up == 1)

    if len(x) == 1 and weight.numel() <= x.numel():
        factors = styles if scales is None else scales.t() * styles
        x = convolve(x, weight * factors[:, :, None, None])
        return x if noise is None else x.add_(noise.to(x.dtype))

    x = convolve(x * styles.to(x.dtype)[:, :, None, None], weight)
    if scales is None:
        return x if noise is None else x.add_(noise.to(x.dtype))
    scales = scales.to(x.dtype)[:, :, None, None]
    return x * scales if noise is None else torch.addcmul(noise.to(x.dtype), x, scales)


def _guard_half(weight: Tensor, styles: Tensor) -> tuple[Tensor, Tensor]:
    """Weights and styles scaled so that float16 sums cannot overflow; demodulation cancels both factors."""
    fan_in = weight[0].numel()
    weight = weight / (math.sqrt(fan_in) * weight.abs().amax(dim=(1, 2, 3), keepdim=True))
    return weight, styles / styles.abs().amax(dim=1, keepdim=True)


def minibatch_std(
    x: Float[Tensor, "n channels height width"], group_size: int | None, num_features: int = 1
) -> Float[Tensor, "n channels+{num_features} height width"]:
    """The input with further channels that hold the standard deviation over groups of samples.

    A group has `group_size` samples (None, or a smaller batch: all of it); sample i belongs to group
    i mod (n / group size). The deviation is averaged over pixels and over channels, in as many parts as there are
    features (Karras et al. 2018, section 3).
    Raises ValueError where the batch does not divide into groups.
    """
    n, channels, height, width = x.shape
    group = n if group_size is None else min(group_size, n)
    if n % group:
        raise ValueError(f"batch of {n} does not divide into minibatch-std groups of {group} (--mbstd-group)")
    grouped = x.reshape(group, n // group, num_features, channels // num_features, height, width)
    deviation = (grouped.var(dim=0, correction=0) + 1e-8).sqrt().mean(dim=(2, 3, 4))
    deviation = deviation.reshape(-1, num_features, 1, 1).repeat(group, 1, height, width)
    return torch.cat([x, deviation.to(x.dtype)], dim=1)
