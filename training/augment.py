"""Adaptive discriminator augmentation: the same random transforms in front of D for real and generated images.

Karras et al., "Training Generative Adversarial Networks with Limited Data", NeurIPS 2020, section 2 and
appendix B. All transforms are differentiable, to first and second order, with respect to the images.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from torch_utils import random
from torch_utils.ops.upfirdn2d import downsample2d, setup_filter, upsample2d


@dataclass(frozen=True)
class AugmentConfig:
    """When and how strongly images are augmented; the defaults of the transforms are the set "bgc".

    mode: "noaug" never, "ada" with an adapted probability, "fixed" with probability `p`.
    target: mean sign of D on real images that "ada" steers to. kimg: thousands of images in which the
    adapted probability can rise from 0 to 1. interval: steps between adaptations.
    The other fields belong to the transforms: a plain name is the factor on the probability (0: never), and
    `_max`, `_std`, `_size` say how far a transform goes, in fractions of the image or of a full turn, in
    octaves for scales, contrast, saturation and filter bands, in units of the image's values for brightness.
    """

    mode: Literal["noaug", "ada", "fixed"] = "noaug"
    p: float = 0.2
    target: float = 0.6
    kimg: float = 500
    interval: int = 4

    xflip: float = 1
    rotate90: float = 1
    xint: float = 1
    xint_max: float = 0.125
    scale: float = 1
    scale_std: float = 0.2
    rotate: float = 1
    rotate_max: float = 1
    aniso: float = 1
    aniso_std: float = 0.2
    xfrac: float = 1
    xfrac_std: float = 0.125

    brightness: float = 1
    brightness_std: float = 0.2
    contrast: float = 1
    contrast_std: float = 0.5
    lumaflip: float = 1
    hue: float = 1
    hue_max: float = 1
    saturation: float = 1
    saturation_std: float = 1

    imgfilter: float = 0
    imgfilter_std: float = 1
    cutout: float = 0
    cutout_size: float = 0.5

    @property
    def moves_pixels(self) -> bool:
        """Whether any geometric transform can happen."""
        return any((self.xflip, self.rotate90, self.xint, self.scale, self.rotate, self.aniso, self.xfrac))

    @property
    def recolors(self) -> bool:
        """Whether any colour transform can happen."""
        return any((self.brightness, self.contrast, self.lumaflip, self.hue, self.saturation))


def adapted_probability(p: float, sign_mean: float, target: float, batch: int, interval: int, kimg: float) -> float:
    """The augmentation probability after one adaptation; at least 0, without an upper limit.

    It moves by one constant step, up if D tells real images too surely (sign_mean > target) and down if not,
    so that `kimg` thousand images lead from 0 to 1. sign_mean: mean sign of D's logits on the real images seen
    since the last adaptation, `interval` steps of `batch` images ago.
    """
    direction = (sign_mean > target) - (sign_mean < target)
    return max(p + direction * batch * interval / (kimg * 1000), 0.0)


class AugmentPipe(nn.Module):
    """Images [n, channels, height, width] -> augmented images of the same shape, each sample on its own.

    The probability is the buffer `p`, so that it can change without a new module and travels in the state.
    Raises ValueError for images with neither 1 nor a multiple of 3 channels where colours change.
    """

    p: Tensor
    Hz_geom: Tensor
    Hz_fbank: Tensor

    def __init__(self, config: AugmentConfig) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("p", torch.tensor(config.p if config.mode == "fixed" else 0.0))
        self.register_buffer("Hz_geom", setup_filter(SYM6))
        self.register_buffer("Hz_fbank", octave_bands(4))

    def forward(
        self, images: Float[Tensor, "n channels height width"], debug_percentile: float | None = None
    ) -> Float[Tensor, "n channels height width"]:
        """With a `debug_percentile` every transform happens, by what its random number would be at that percentile."""
        height, width = images.shape[2:]
        draws = Draws(len(images), self.p, images.device, debug_percentile)
        if self.config.moves_pixels:
            images = warp(images, geometry_matrix(self.config, draws, width, height), self.Hz_geom)
        if self.config.recolors:
            images = recolor(images, *color_map(self.config, draws))
        if self.config.imgfilter:
            images = filter_bands(images, band_gains(self.config, draws, len(self.Hz_fbank)), self.Hz_fbank)
        if self.config.cutout:
            images = images * cutout_mask(self.config, draws, width, height)[:, None]
        return images


class Draws:
    """The random numbers of one batch, [n] each."""

    def __init__(self, count: int, p: Tensor, device: torch.device, percentile: float | None = None) -> None:
        self.count, self.p, self.device, self.percentile = count, p, device, percentile

    def uniform(self) -> Tensor:
        """Numbers in [0, 1)."""
        if self.percentile is not None:
            return torch.full([self.count], self.percentile, device=self.device)
        return random.uniform([self.count], self.device)

    def normal(self) -> Tensor:
        """Standard normal numbers; the percentile counts on the scale of the published code, sqrt(2) narrower."""
        if self.percentile is not None:
            return torch.full([self.count], 2 * self.percentile - 1, device=self.device).erfinv()
        return random.normal([self.count], self.device)

    def gate(self, strength: float, value: Tensor, otherwise: float) -> Tensor:
        """`value` in those samples in which a transform of this strength happens, `otherwise` in the others."""
        return self.gate_at(strength * self.p, value, otherwise)

    def gate_at(self, probability: Tensor, value: Tensor, otherwise: float) -> Tensor:
        """The same with a probability of its own."""
        if self.percentile is not None:
            return value
        happens = self.uniform() < probability
        return torch.where(happens, value, otherwise)


# Geometry. Matrices map pixels of the result to pixels of the source, both measured from the image centre.


def geometry_matrix(config: AugmentConfig, draws: Draws, width: int, height: int) -> Float[Tensor, "n 3 3"]:
    """A random homogeneous map from output to input positions; lengths in pixels, x right, y down."""
    matrix = torch.eye(3, device=draws.device).expand(draws.count, 3, 3)
    if config.xflip:
        flip = draws.gate(config.xflip, (draws.uniform() * 2).floor(), 0)
        matrix = matrix @ scaling(1 - 2 * flip, torch.ones_like(flip))
    if config.rotate90:
        quarters = draws.gate(config.rotate90, (draws.uniform() * 4).floor(), 0)
        matrix = matrix @ rotation(quarters * (math.pi / 2))
    if config.xint:
        shift_x, shift_y = ((draws.uniform() * 2 - 1) * config.xint_max for _ in range(2))
        matrix = matrix @ _shift(draws, config.xint, (shift_x * width).round(), (shift_y * height).round())
    if config.scale:
        scale = draws.gate(config.scale, torch.exp2(draws.normal() * config.scale_std), 1)
        matrix = matrix @ scaling(1 / scale, 1 / scale)
    if config.rotate:
        # Two rotations around the anisotropic scale; both left out with probability 1 - strength * p.
        probability = 1 - (1 - (config.rotate * draws.p).clamp(0, 1)).sqrt()
        angle = (draws.uniform() * 2 - 1) * (math.pi * config.rotate_max)
        matrix = matrix @ rotation(draws.gate_at(probability, angle, 0))
    if config.aniso:
        scale = draws.gate(config.aniso, torch.exp2(draws.normal() * config.aniso_std), 1)
        matrix = matrix @ scaling(1 / scale, scale)
    if config.rotate and draws.percentile is None:
        angle = (draws.uniform() * 2 - 1) * (math.pi * config.rotate_max)
        matrix = matrix @ rotation(draws.gate_at(probability, angle, 0))
    if config.xfrac:
        shift_x, shift_y = (draws.normal() * config.xfrac_std for _ in range(2))
        matrix = matrix @ _shift(draws, config.xfrac, shift_x * width, shift_y * height)
    return matrix


def _shift(draws: Draws, strength: float, x: Tensor, y: Tensor) -> Float[Tensor, "n 3 3"]:
    """The map for an image moved by (x, y) pixels, where that happens."""
    x, y = draws.gate(strength, torch.stack([x, y]), 0)
    return translation(-x, -y)


def translation(x: Tensor, y: Tensor) -> Float[Tensor, "n 3 3"]:
    """Homogeneous matrices that add (x, y)."""
    return _matrices([[1, 0, x], [0, 1, y], [0, 0, 1]])


def scaling(x: Tensor, y: Tensor) -> Float[Tensor, "n 3 3"]:
    """Homogeneous matrices that multiply by (x, y)."""
    return _matrices([[x, 0, 0], [0, y, 0], [0, 0, 1]])


def rotation(angle: Tensor) -> Float[Tensor, "n 3 3"]:
    """Homogeneous matrices that turn the x axis towards the y axis by `angle` radians."""
    cos, sin = angle.cos(), angle.sin()
    return _matrices([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])


def _matrices(rows: list[list[Tensor | float]]) -> Tensor:
    """Matrices [n, rows, columns] of entries that are numbers or tensors [n]."""
    entries = [entry for row in rows for entry in row]
    like = next(entry for entry in entries if isinstance(entry, Tensor))
    columns = [entry if isinstance(entry, Tensor) else torch.full_like(like, entry) for entry in entries]
    return torch.stack(columns, dim=1).unflatten(1, (len(rows), -1))


def warp(
    images: Float[Tensor, "n channels height width"],
    matrix: Float[Tensor, "n 3 3"],
    lowpass: Float[Tensor, " taps"],
) -> Float[Tensor, "n channels height width"]:
    """Images seen through a map from output to input pixels, sampled at twice the resolution against aliasing.

    Outside of an image its mirror picture is seen, and black where even that ends.
    """
    n, channels, height, width = images.shape
    margin = len(lowpass) // 4
    images, matrix = _pad_to_reach(images, matrix, 2 * margin)

    # In units of half an image, as grids are: pixels of the enlarged result -> pixels of the result, whose
    # centres lie half an enlarged pixel further on; pixels of the source -> its enlarged pixels, and back by half.
    images = upsample2d(images, lowpass)
    out_width, out_height = 2 * (width + 2 * margin), 2 * (height + 2 * margin)
    in_width, in_height = images.shape[3], images.shape[2]
    from_grid = images.new_tensor([[out_width / 4, 0, 0.25], [0, out_height / 4, 0.25], [0, 0, 1]])
    to_grid = images.new_tensor([[4 / in_width, 0, -1 / in_width], [0, 4 / in_height, -1 / in_height], [0, 0, 1]])
    matrix = to_grid @ matrix @ from_grid
    grid = F.affine_grid(matrix[:, :2], [n, channels, out_height, out_width], align_corners=False)
    return downsample2d(sample_bilinear(images, grid), lowpass, padding=-2 * margin, flip_filter=True)


def _pad_to_reach(images: Tensor, matrix: Tensor, extra: int) -> tuple[Tensor, Tensor]:
    """Images mirrored outwards as far as the map looks beyond them, plus `extra` pixels, and the map for them."""
    height, width = images.shape[2:]
    right, bottom = (width - 1) / 2, (height - 1) / 2
    corners = matrix.new_tensor([[-right, right, right, -right], [-bottom, -bottom, bottom, bottom], [1, 1, 1, 1]])
    seen = (matrix @ corners)[:, :2]
    reach = torch.cat([-seen, seen], dim=1).amax(dim=(0, 2))  # left, top, right, bottom
    beyond = reach - matrix.new_tensor([right, bottom, right, bottom]) + extra
    most = matrix.new_tensor([width - 1, height - 1, width - 1, height - 1])
    left, top, right, bottom = (int(side) for side in beyond.clamp(min=0).minimum(most).ceil().tolist())
    images = F.pad(images, [left, right, top, bottom], mode="reflect")
    shift = matrix.new_tensor([[(left - right) / 2], [(top - bottom) / 2]])
    return images, translation(*shift) @ matrix


class _Gather(torch.autograd.Function):
    """Bilinear sampling of images at fixed places: linear in the images, so differentiable without end.

    `F.grid_sample` has no second derivative before torch 2.13, which R1 behind an augmentation needs.
    """

    @staticmethod
    def forward(ctx, images: Tensor, grid: Tensor) -> Tensor:
        ctx.save_for_backward(grid)
        ctx.size = images.shape[2:]
        return F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:
        return _Scatter.apply(gradient, *ctx.saved_tensors, ctx.size), None


class _Scatter(torch.autograd.Function):
    """The transpose of `_Gather`."""

    @staticmethod
    def forward(ctx, gradient: Tensor, grid: Tensor, size: torch.Size) -> Tensor:
        ctx.save_for_backward(grid)
        with torch.enable_grad():
            images = gradient.new_zeros([*gradient.shape[:2], *size], requires_grad=True)
            samples = F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
        return torch.autograd.grad(samples, images, gradient)[0]

    @staticmethod
    def backward(ctx, images: Tensor) -> tuple[Tensor, None, None]:
        return _Gather.apply(images, *ctx.saved_tensors), None, None


def sample_bilinear(
    images: Float[Tensor, "n channels height width"], grid: Float[Tensor, "n rows columns 2"]
) -> Float[Tensor, "n channels rows columns"]:
    """Images at the places (x, y) of a grid in [-1, 1] from edge to edge; zero outside, no gradient to the grid."""
    return _Gather.apply(images, grid)


# Colour. Every change but that of brightness keeps black and leaves the grey axis in place.


def color_map(config: AugmentConfig, draws: Draws) -> tuple[Float[Tensor, "n 3 3"], Float[Tensor, "n 3 1"]]:
    """A random affine map of colours, as its matrix and its offset: brightness first, then the linear changes."""
    identity = torch.eye(3, device=draws.device)
    along = torch.full_like(identity, 1 / 3)  # projection to the grey axis
    across = identity - along
    turn = identity.new_tensor([[0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / math.sqrt(3)  # cross product with that axis

    linear = identity.expand(draws.count, 3, 3)
    if config.contrast:
        factor = draws.gate(config.contrast, torch.exp2(draws.normal() * config.contrast_std), 1)
        linear = factor[:, None, None] * linear
    if config.lumaflip:
        flip = draws.gate(config.lumaflip, (draws.uniform() * 2).floor(), 0)
        linear = (identity - 2 * flip[:, None, None] * along) @ linear
    if config.hue:
        angle = draws.gate(config.hue, (draws.uniform() * 2 - 1) * (math.pi * config.hue_max), 0)[:, None, None]
        linear = (along + angle.cos() * across + angle.sin() * turn) @ linear
    if config.saturation:
        factor = draws.gate(config.saturation, torch.exp2(draws.normal() * config.saturation_std), 1)
        linear = (along + factor[:, None, None] * across) @ linear

    brightness = torch.zeros(draws.count, device=draws.device)
    if config.brightness:
        brightness = draws.gate(config.brightness, draws.normal() * config.brightness_std, 0)
    return linear, linear.sum(dim=2, keepdim=True) * brightness[:, None, None]


def recolor(
    images: Float[Tensor, "n channels height width"],
    linear: Float[Tensor, "n 3 3"],
    offset: Float[Tensor, "n 3 1"],
) -> Float[Tensor, "n channels height width"]:
    """Images with each triple of channels mapped alike; a single channel takes what the map does to greys."""
    channels = images.shape[1]
    if channels == 1:
        return images * linear.sum(dim=2).mean(dim=1)[:, None, None, None] + offset.mean(dim=1)[:, :, None, None]
    if channels % 3:
        raise ValueError(f"colours can change in images of 1 channel or of triples of channels, not of {channels}")
    colors = images.unflatten(1, (-1, 3)).flatten(3)
    return (linear[:, None] @ colors + offset[:, None]).view_as(images)


# Filtering.


def band_gains(config: AugmentConfig, draws: Draws, bands: int) -> Float[Tensor, "n bands"]:
    """Random gains of the octave bands, from low to high, that keep the power of a natural image."""
    expected_power = torch.tensor([10.0] + [1.0] * (bands - 1), device=draws.device) / (9 + bands)
    gains = torch.ones(draws.count, bands, device=draws.device)
    for band in range(bands):
        factor = draws.gate(config.imgfilter, torch.exp2(draws.normal() * config.imgfilter_std), 1)
        change = torch.where(torch.arange(bands, device=draws.device) == band, factor[:, None], 1.0)
        gains = gains * change / (change.square() @ expected_power).sqrt()[:, None]
    return gains


def filter_bands(
    images: Float[Tensor, "n channels height width"],
    gains: Float[Tensor, "n bands"],
    bank: Float[Tensor, "bands taps"],
) -> Float[Tensor, "n channels height width"]:
    """Images whose octave bands are multiplied by gains, along both axes; the images are mirrored at their edges."""
    n, channels, height, width = images.shape
    margin = bank.shape[1] // 2
    if min(height, width) <= margin:
        raise ValueError(f"augment.imgfilter needs images of more than {margin} pixels a side, not {width}x{height}")
    kernels = (gains @ bank).repeat_interleave(channels, dim=0)
    images = F.pad(images.flatten(0, 1)[None], [margin] * 4, mode="reflect")
    images = F.conv2d(images, kernels[:, None, None, :], groups=n * channels)
    images = F.conv2d(images, kernels[:, None, :, None], groups=n * channels)
    return images.view(n, channels, height, width)


def cutout_mask(config: AugmentConfig, draws: Draws, width: int, height: int) -> Float[Tensor, "n height width"]:
    """0 in a square around a random centre, 1 elsewhere."""
    half = draws.gate(config.cutout, torch.full([draws.count], config.cutout_size / 2, device=draws.device), 0)
    x = (torch.arange(width, device=draws.device) + 0.5) / width
    y = (torch.arange(height, device=draws.device) + 0.5) / height
    outside_x = (x - draws.uniform()[:, None]).abs() >= half[:, None]
    outside_y = (y - draws.uniform()[:, None]).abs() >= half[:, None]
    return (outside_y[:, :, None] | outside_x[:, None, :]).float()


# Low-pass of the symlet with 6 vanishing moments (Daubechies 1992, the least asymmetric factor).
SYM6 = (
    0.01540411, 0.00349071, -0.11799011, -0.04831174, 0.49105594, 0.78764114,
    0.33792942, -0.07263752, -0.02106029, 0.04472490, 0.00176771, -0.00780071,
)  # fmt: skip


def octave_bands(count: int) -> Float[Tensor, "bands taps"]:
    """Kernels of octave bands, from low to high, whose sum is the unit impulse.

    Halves of the autocorrelations of the symlet with 2 vanishing moments split a signal into a low and a high
    part; each further band splits the low part of twice the resolution.
    """
    low = torch.tensor([-1, 0, 9, 16, 9, 0, -1]) / 32
    high = torch.tensor([1, 0, -9, 16, -9, 0, 1]) / 32
    bank = torch.zeros(count, 1)
    bank[0] = 1
    for band in range(1, count):
        spread = torch.zeros(count, 2 * bank.shape[1] - 1)
        spread[:, ::2] = bank
        bank = F.conv1d(spread[:, None], low[None, None], padding=len(low) - 1)[:, 0]
        center = bank.shape[1] // 2
        bank[band, center - 3 : center + 4] += high
    return bank
