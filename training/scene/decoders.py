"""Point decoders: from interpolated features to raw density and colour features."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn

from torch_utils.ops.bias_act import bias_act
from training.layers import EqualizedLinear, bounded_color


@dataclass(frozen=True)
class JointDecoderConfig:
    """One hidden layer, one output layer for density and colour features (EG3D)."""

    kind: Literal["joint"] = "joint"
    hidden: int = 64
    lr_multiplier: float = 1.0

    def build(self, in_features: int, out_features: int) -> JointDecoder:
        """The decoder for features of a scene."""
        return JointDecoder(self, in_features, out_features)


class JointDecoder(nn.Module):
    """Mean features -> raw density and bounded colour features through one small network."""

    def __init__(self, config: JointDecoderConfig, in_features: int, out_features: int):
        super().__init__()
        self.hidden = EqualizedLinear(in_features, config.hidden, lr_multiplier=config.lr_multiplier)
        self.out = EqualizedLinear(config.hidden, 1 + out_features, lr_multiplier=config.lr_multiplier)

    def forward(self, features: Float[Tensor, "points in_features"]) -> tuple[Tensor, Tensor]:
        out = self.out(nn.functional.softplus(self.hidden(features)))
        return out[:, :1], bounded_color(out[:, 1:])

    def density_only(self, features: Float[Tensor, "points in_features"]) -> Float[Tensor, "points 1"]:
        """Raw density alone."""
        return self.out(nn.functional.softplus(self.hidden(features)))[:, :1]


@dataclass(frozen=True)
class SplitDecoderConfig:
    """One hidden layer, a head for colour features and one for density that starts at zero (BallGAN).

    density_activation: what the density head ends with.
    """

    kind: Literal["split"] = "split"
    hidden: int = 64
    lr_multiplier: float = 1.0
    density_activation: Literal["linear", "relu", "lrelu"] = "linear"

    def build(self, in_features: int, out_features: int) -> SplitDecoder:
        """The decoder for features of a scene."""
        return SplitDecoder(self, in_features, out_features)


class SplitDecoder(nn.Module):
    """Mean features -> raw density and bounded colour features through separate heads.

    The zero initialization of the density head makes an untrained scene evenly translucent.
    """

    def __init__(self, config: SplitDecoderConfig, in_features: int, out_features: int):
        super().__init__()
        self.density_activation = config.density_activation
        self.hidden = EqualizedLinear(in_features, config.hidden, lr_multiplier=config.lr_multiplier)
        self.color = EqualizedLinear(config.hidden, out_features, lr_multiplier=config.lr_multiplier)
        self.density = EqualizedLinear(config.hidden, 1, lr_multiplier=config.lr_multiplier)
        nn.init.zeros_(self.density.weight)

    def forward(self, features: Float[Tensor, "points in_features"]) -> tuple[Tensor, Tensor]:
        hidden = nn.functional.softplus(self.hidden(features))
        return self._raw(hidden), bounded_color(self.color(hidden))

    def density_only(self, features: Float[Tensor, "points in_features"]) -> Float[Tensor, "points 1"]:
        """Raw density alone."""
        return self._raw(nn.functional.softplus(self.hidden(features)))

    def _raw(self, hidden: Tensor) -> Tensor:
        return bias_act(self.density(hidden), dim=1, act=self.density_activation)


DecoderConfig = JointDecoderConfig | SplitDecoderConfig
