"""The BallGAN background: one opaque sphere around the scene, coloured by a small network of two angles.

Shin et al. 2023 (arXiv 2301.09091): whatever light the scene lets through comes from the sphere, so foreground and
background separate without supervision.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from torch_utils.ops.bias_act import bias_act
from training.layers import EqualizedLinear, bounded_color
from training.types import BackgroundSamples, Rays

FREQUENCIES = 10
GAUSSIAN_FEATURES = 40

Encoding = Literal["seamless", "normal", "gauss", "raw"]


@dataclass(frozen=True)
class StyledTextureConfig:
    """Style-modulated texture with a mapping network of its own (version 1 of the release)."""

    kind: Literal["styled"] = "styled"
    w_dim: int = 512
    mapping_layers: int = 8

    def __post_init__(self) -> None:
        if self.mapping_layers < 1:
            raise ValueError("the background's mapping network needs at least one layer (--bg_mapping)")


@dataclass(frozen=True)
class PlainTextureConfig:
    """Plain network that reads the latent beside the encoded angles (version 0 of the release)."""

    kind: Literal["plain"] = "plain"


@dataclass(frozen=True)
class SphereConfig:
    """A textured sphere.

    radius: scene units; all cameras must lie inside. encoding: "seamless" is periodic in the azimuth; "normal" is
    the published one, whose lowest frequency jumps behind the camera's back; "gauss" and "raw" as published.
    angle_divisor: both angles are divided by it before they are encoded. white_back: what stands behind
    foreground-only pictures.
    """

    kind: Literal["sphere"] = "sphere"
    texture: StyledTextureConfig | PlainTextureConfig = field(default_factory=StyledTextureConfig)
    radius: float = 3.0
    z_dim: int = 512
    num_layers: int = 4
    hidden: int = 64
    encoding: Encoding = "seamless"
    angle_divisor: float = 2 * math.pi
    white_back: bool = False

    def __post_init__(self) -> None:
        if self.radius <= 0 or self.num_layers < 1:
            raise ValueError("a sphere needs a positive radius (--radius) and at least one layer (--n_blocks)")

    def build(self, features: int) -> SphereBackground:
        """The background for a number of feature channels."""
        return SphereBackground(self, features)


def intersect_sphere(rays: Rays, radius: float) -> tuple[Float[Tensor, "n rays 3"], Float[Tensor, "n rays 1"]]:
    """Points where rays leave a sphere about the origin, and their distances.

    A ray that misses the sphere gets its closest point, so that the result is always finite.
    """
    middle = -(rays.origins * rays.directions).sum(dim=-1, keepdim=True)
    closest = rays.origins + middle * rays.directions
    half_chord = (radius**2 - closest.square().sum(dim=-1, keepdim=True)).clamp(min=0).sqrt()
    distance = middle + half_chord
    return rays.origins + distance * rays.directions, distance


def sphere_angles(points: Float[Tensor, "*points 3"], radius: float) -> Float[Tensor, "*points 2"]:
    """Polar angle from +y in [0, pi] and azimuth in [0, 2 pi), zero at +z and pi/2 at +x."""
    polar = torch.arccos((points[..., 1] / radius).clamp(-1, 1))
    azimuth = torch.atan2(points[..., 0], points[..., 2]).remainder(2 * math.pi)
    return torch.stack([polar, azimuth], dim=-1)


def encode_angles(
    angles: Float[Tensor, "*points 2"], encoding: Encoding, divisor: float, gaussian: Tensor | None = None
) -> Float[Tensor, "*points encoded"]:
    """Fourier features of polar angle and azimuth.

    "normal": sine and cosine of 2^i pi v for i = 0..9 and v = angle / divisor, frequency by frequency.
    "seamless": the same for the polar angle; whole multiples 1..10 of the azimuth itself, hence the same values on
    both sides of azimuth 0. "gauss": sine and cosine of pi v B with the fixed matrix `gaussian`. "raw": v.
    """
    v = angles / divisor
    if encoding == "raw":
        return v
    if encoding == "gauss":
        if gaussian is None:
            raise ValueError('the encoding "gauss" needs its matrix')
        q = math.pi * v @ gaussian
        return torch.cat([q.sin(), q.cos()], dim=-1)
    multiples = math.pi * 2.0 ** torch.arange(FREQUENCIES, device=v.device, dtype=v.dtype)
    phases = v[..., None, :] * multiples[:, None]
    if encoding == "seamless":
        whole = torch.arange(1, FREQUENCIES + 1, device=v.device, dtype=v.dtype)
        phases = torch.stack([phases[..., 0], angles[..., 1:] * whole], dim=-1)
    return torch.cat([phases.sin(), phases.cos()], dim=-1).flatten(-2)


def encoded_size(encoding: Encoding) -> int:
    """Numbers that `encode_angles` gives for a point."""
    return {"raw": 2, "gauss": 2 * GAUSSIAN_FEATURES}.get(encoding, 4 * FREQUENCIES)


class StyledDense(nn.Module):
    """Dense layer whose inputs are scaled by a style: a modulated 1x1 convolution over rays."""

    def __init__(self, in_features: int, out_features: int, w_dim: int, *, output: bool = False):
        super().__init__()
        self.output = output
        self.style_gain = 1 / math.sqrt(in_features)
        self.affine = EqualizedLinear(w_dim, in_features, bias_init=1)
        self.weight = nn.Parameter(torch.randn(out_features, in_features))
        self.bias = nn.Parameter(torch.zeros(out_features))
        if output:
            nn.init.uniform_(self.weight, -self.style_gain, self.style_gain)
            nn.init.uniform_(self.bias, -self.style_gain, self.style_gain)

    def forward(self, x: Float[Tensor, "n rays in_features"], w: Float[Tensor, "n w_dim"]) -> Tensor:
        styles = self.affine(w)
        if self.output:
            return torch.baddbmm(self.bias, x, (self.weight * (styles * self.style_gain)[:, None]).transpose(1, 2))
        weight = self.weight * styles[:, None]
        weight = weight * (weight.square().sum(dim=2, keepdim=True) + 1e-8).rsqrt()
        return bias_act(x @ weight.transpose(1, 2), self.bias, dim=2, act="lrelu")


class StyledTexture(nn.Module):
    """Encoded angles -> features through style-modulated layers; one style row a layer."""

    def __init__(self, encoded: int, features: int, config: SphereConfig, w_dim: int):
        super().__init__()
        self.fc_in = StyledDense(encoded, config.hidden, w_dim)
        blocks = [StyledDense(config.hidden, config.hidden, w_dim) for _ in range(config.num_layers - 1)]
        self.blocks = nn.ModuleList(blocks)
        self.feat_out = StyledDense(config.hidden, features, w_dim, output=True)

    def forward(self, encoded: Float[Tensor, "n rays encoded"], ws: Float[Tensor, "n rows w_dim"]) -> Tensor:
        row = iter(ws.unbind(dim=1))
        x = self.fc_in(encoded, next(row))
        for block in self.blocks:
            x = block(x, next(row))
        return self.feat_out(x, next(row))


class PlainTexture(nn.Module):
    """Encoded angles beside the latent -> features through ordinary layers."""

    def __init__(self, encoded: int, features: int, config: SphereConfig):
        super().__init__()
        self.fc_in = nn.Linear(encoded + config.z_dim, config.hidden)
        blocks = [nn.Linear(config.hidden, config.hidden) for _ in range(config.num_layers - 1)]
        self.blocks = nn.ModuleList(blocks)
        self.feat_out = nn.Linear(config.hidden, features)

    def forward(self, encoded: Float[Tensor, "n rays encoded"], latent: Float[Tensor, "n 1 z_dim"]) -> Tensor:
        split = encoded.shape[-1]
        shared = nn.functional.linear(latent, self.fc_in.weight[:, split:], self.fc_in.bias)
        x = nn.functional.relu(encoded @ self.fc_in.weight[:, :split].t() + shared)
        for block in self.blocks:
            x = nn.functional.relu(block(x))
        return self.feat_out(x)


class SphereBackground(nn.Module):
    """Features where rays leave the sphere."""

    gaussian: Tensor | None
    texture: StyledTexture | PlainTexture

    def __init__(self, config: SphereConfig, features: int):
        super().__init__()
        self.config = config
        self.z_dim = config.z_dim
        self.backdrop = float(config.white_back)
        encoded = encoded_size(config.encoding)
        if isinstance(config.texture, StyledTextureConfig):
            self.mapping_layers = config.texture.mapping_layers
            self.w_dim, self.num_ws = config.texture.w_dim, config.num_layers + 1
            self.texture = StyledTexture(encoded, features, config, self.w_dim)
        else:
            self.mapping_layers = 0
            self.w_dim, self.num_ws = config.z_dim, 1
            self.texture = PlainTexture(encoded, features, config)
        gaussian = None
        if config.encoding == "gauss":
            draws = np.random.RandomState(2021).randn(2, GAUSSIAN_FEATURES)
            gaussian = torch.from_numpy(10 * draws).float()
        self.register_buffer("gaussian", gaussian, persistent=False)

    def forward(self, latent: Float[Tensor, "n rows w"], rays: Rays) -> BackgroundSamples:
        points, distance = intersect_sphere(rays, self.config.radius)
        angles = sphere_angles(points, self.config.radius)
        encoded = encode_angles(angles, self.config.encoding, self.config.angle_divisor, self.gaussian)
        return BackgroundSamples(bounded_color(self.texture(encoded, latent)), distance)
