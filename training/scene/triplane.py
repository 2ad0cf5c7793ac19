"""The tri-plane scene: three feature planes from one backbone picture (Chan et al. 2022, EG3D)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn

from training.precision import field_dtype
from training.scene.chunks import in_chunks
from training.scene.decoders import DecoderConfig, JointDecoder, JointDecoderConfig, SplitDecoder
from training.scene.lookup import PLANE_AXES, plane_table, sample_planes
from training.synthesis import BackboneConfig, SynthesisNetwork
from training.types import FieldSamples, NoiseMode


@dataclass(frozen=True)
class TriplaneConfig:
    """Three planes and a point decoder.

    axes: "corrected" has one plane for every pair of axes; "legacy" repeats the XZ plane as published and lacks the
    YZ plane. box_warp: side in scene units of the cube that the planes cover.
    """

    kind: Literal["triplane"] = "triplane"
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    channels: int = 32
    features: int = 32
    decoder: DecoderConfig = field(default_factory=JointDecoderConfig)
    axes: Literal["corrected", "legacy"] = "corrected"
    box_warp: float = 1.0

    def build(self, w_dim: int) -> TriplaneScene:
        """The scene for styles of a width."""
        return TriplaneScene(self, w_dim)


class TriplaneScene(nn.Module):
    """Styles -> planes, kept as a table of pixels that a field looks up."""

    def __init__(self, config: TriplaneConfig, w_dim: int):
        super().__init__()
        self.config = config
        self.num_ws = config.backbone.num_ws
        self.features = config.features
        self.backbone = SynthesisNetwork(config.backbone, w_dim, len(PLANE_AXES[config.axes]) * config.channels)
        self.decoder = config.decoder.build(config.channels, config.features)

    def planes(
        self, ws: Float[Tensor, "n num_ws w_dim"], noise_mode: NoiseMode = "random"
    ) -> Float[Tensor, "n 3 channels resolution resolution"]:
        """The feature planes of each sample."""
        return self.backbone(ws, noise_mode).unflatten(1, (-1, self.config.channels))

    def forward(self, ws: Float[Tensor, "n num_ws w_dim"], noise_mode: NoiseMode = "random") -> TriplaneField:
        return self.field(self.planes(ws, noise_mode))

    def field(self, planes: Float[Tensor, "n 3 channels resolution resolution"]) -> TriplaneField:
        """The field of given planes."""
        return TriplaneField(plane_table(planes).to(field_dtype(planes.dtype)), self.config, self.decoder)


@dataclass(frozen=True)
class TriplaneField:
    """Planes that can be queried at any points, in scene units; the viewing direction plays no part."""

    table: Float[Tensor, "n rows channels"]
    config: TriplaneConfig
    decoder: JointDecoder | SplitDecoder

    def __call__(self, points: Float[Tensor, "n points 3"], directions: Tensor | None = None) -> FieldSamples:
        """Raw density and features at points."""
        return FieldSamples(*in_chunks(self._samples, self.table, points))

    def density(self, points: Float[Tensor, "n points 3"]) -> Float[Tensor, "n points 1"]:
        """Raw density alone, at less cost."""
        return in_chunks(self._density, self.table, points)[0]

    def expand(self, count: int) -> TriplaneField:
        """One scene seen by `count` cameras, without copying its planes."""
        return TriplaneField(self.table.expand(count, -1, -1), self.config, self.decoder)

    def _samples(self, table: Tensor, points: Tensor) -> tuple[Tensor, ...]:
        return tuple(values.to(points.dtype) for values in self.decoder(self._features(table, points)))

    def _density(self, table: Tensor, points: Tensor) -> tuple[Tensor, ...]:
        return (self.decoder.density_only(self._features(table, points)).to(points.dtype),)

    def _features(self, table: Tensor, points: Tensor) -> Tensor:
        axes, resolution = PLANE_AXES[self.config.axes], self.config.backbone.resolution
        return sample_planes(table, points * (2 / self.config.box_warp), axes, resolution)
