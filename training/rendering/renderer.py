"""Marching rays through a field, and putting the result in front of a background."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from torch_utils import random
from training.rendering.quadrature import expected_depth, midpoint_weights, sample_weights, weighted_features
from training.rendering.sampling import (
    box_limits,
    disparity_depths,
    importance_depths,
    published_box_limits,
    stratified_depths,
    uniform_draws,
)
from training.types import BackgroundSamples, FieldSamples, Layer, RayMarch, Rays, RenderSettings

FEWEST_SAMPLES = 4
"""Coarse samples of a ray: fewer leave no intervals to place fine ones in."""


@runtime_checkable
class PointField(Protocol):
    """Anything that has a density and features at points."""

    def __call__(self, points: Tensor, directions: Tensor | None = None) -> FieldSamples:
        """Raw density and features at points in scene units, seen along unit directions."""


@dataclass(frozen=True)
class RendererConfig:
    """How rays are sampled.

    depth_resolution coarse samples and depth_resolution_importance fine ones a ray, between ray_start and ray_end in
    scene units, or where the ray meets the scene's box ("auto"). disparity: coarse samples even in 1/depth.
    depth_limits: "ray" keeps depths within the samples of their ray; "batch" limits them by the whole batch and
    gives rays that miss the box the limits of others, as published files expect.
    """

    depth_resolution: int = 48
    depth_resolution_importance: int = 48
    ray_start: float | Literal["auto"] = 2.25
    ray_end: float | Literal["auto"] = 3.3
    disparity: bool = False
    depth_limits: Literal["ray", "batch"] = "ray"

    def check(self) -> None:
        """Raises ValueError where the fields do not go together."""
        start, end, samples = self.ray_start, self.ray_end, self.depth_resolution
        if samples < FEWEST_SAMPLES or self.depth_resolution_importance < 0:
            raise ValueError(
                f"a ray needs at least {FEWEST_SAMPLES} coarse samples (depth_resolution); the fine ones may be 0"
            )
        if isinstance(start, str) or isinstance(end, str):
            if start != end or self.disparity:
                raise ValueError(
                    f"ray_start={start}, ray_end={end}: auto is for both or neither, and not for disparity"
                )
            return
        if not 0 <= start < end:
            raise ValueError(f"ray_start={start} and ray_end={end} are no distances in ascending order")
        if self.disparity and end >= start * samples and self.depth_limits == "ray":  # published files may do so
            raise ValueError(
                f"disparity with {samples} samples needs a ray_start above ray_end / {samples}, not {start}"
            )


def render(
    field: PointField, rays: Rays, config: RendererConfig, settings: RenderSettings, box_side: float
) -> RayMarch:
    """The light that a field sends along rays: a coarse pass, importance samples where it found something, their sum.

    `box_side` is the side of the cube that holds the scene, for automatic ray limits.
    """
    depths = coarse_depths(rays, config, settings, box_side)
    coarse = query(field, rays, depths, settings.density_noise)
    density = coarse.density.view_as(depths)
    count = round(config.depth_resolution_importance * settings.samples_multiplier)
    if count == 0:
        return gather(depths, density, [coarse.features], depths[..., :0], density[..., :0], config)
    with torch.no_grad():
        weights, _ = midpoint_weights(density, depths)
        fine_depths = importance_depths(depths, weights, count, settings.jitter)
    fine = query(field, rays, fine_depths, settings.density_noise)
    return gather(
        depths, density, [coarse.features, fine.features], fine_depths, fine.density.view_as(fine_depths), config
    )


def coarse_depths(
    rays: Rays, config: RendererConfig, settings: RenderSettings, box_side: float
) -> Float[Tensor, "n rays samples"]:
    """Depths of the coarse samples."""
    n, count, _ = rays.origins.shape
    samples = max(round(config.depth_resolution * settings.samples_multiplier), FEWEST_SAMPLES)
    draws = uniform_draws((n, count, samples), settings.jitter, rays.origins.device)
    if isinstance(config.ray_start, str) or isinstance(config.ray_end, str):
        limits = published_box_limits if config.depth_limits == "batch" else box_limits
        return stratified_depths(*limits(rays, box_side), draws)
    near = torch.full_like(rays.origins[..., :1], config.ray_start)
    far = torch.full_like(rays.origins[..., :1], config.ray_end)
    place = disparity_depths if config.disparity else stratified_depths
    return place(near, far, draws)


def query(field: PointField, rays: Rays, depths: Float[Tensor, "n rays samples"], density_noise: float) -> FieldSamples:
    """The field at the samples of all rays; the points of a ray follow each other."""
    points = rays.origins[:, :, None] + depths[..., None] * rays.directions[:, :, None]
    directions = rays.directions[:, :, None].expand_as(points)
    samples = field(points.flatten(1, 2), directions.flatten(1, 2))
    if density_noise == 0:
        return samples
    noise = random.normal(samples.density.shape, samples.density.device) * density_noise
    return FieldSamples(samples.density + noise, samples.features)


def gather(
    depths: Float[Tensor, "n rays coarse"],
    density: Float[Tensor, "n rays coarse"],
    features: list[Tensor],
    fine_depths: Float[Tensor, "n rays fine"],
    fine_density: Float[Tensor, "n rays fine"],
    config: RendererConfig,
) -> RayMarch:
    """The march over coarse and fine samples in order of depth.

    Only depths and densities are sorted. The weights go back to the order in which the samples were taken, so that
    the features, which are much larger, stay where they are.
    """
    order = None
    if len(features) > 1:
        depths, order = torch.cat([depths, fine_depths], dim=-1).sort(dim=-1)
        density = torch.cat([density, fine_density], dim=-1).gather(-1, order)
    weights, transmittance = midpoint_weights(density, depths)
    shares = sample_weights(weights)
    if order is not None:
        shares = torch.empty_like(shares).scatter(-1, order, shares)
    counts = [part.shape[1] // shares.shape[1] for part in features]
    parts = zip(shares.split(counts, dim=-1), features, strict=True)
    total = sum((weighted_features(share, part) for share, part in parts), torch.zeros([], device=shares.device))

    nearest, farthest = depths.amin(dim=-1, keepdim=True), depths.amax(dim=-1, keepdim=True)
    if config.depth_limits == "batch":
        nearest, farthest = nearest.amin().view(1, 1, 1), farthest.amax().view(1, 1, 1)
    depth = expected_depth(weights, depths, nearest, farthest)
    return RayMarch(total, depth, weights, transmittance, depths, density, fine_depths, fine_density)


def composite(
    march: RayMarch, background: BackgroundSamples, backdrop: float, layer: Layer, config: RendererConfig
) -> tuple[Float[Tensor, "n rays channels"], Float[Tensor, "n rays 1"]]:
    """Features and depth of one layer of the picture.

    "full": foreground + transmittance * background. "foreground": on a backdrop of 0 (black) or 1 (white).
    "background": all that lies behind, as if the scene were empty. "hole": what the foreground lets through of it.
    """
    if layer == "foreground":
        return march.features + (1 - march.opacity) * backdrop, march.depth
    if layer == "full":
        features = march.features + march.transmittance * background.features
        if background.depth is None:
            return features, march.depth
        total = march.opacity + march.transmittance
        return features, (march.opacity * march.depth + march.transmittance * background.depth) / total
    depth = march.depths[..., -1:] if background.depth is None else background.depth
    if layer == "background":
        return background.features, depth
    if config.depth_limits == "batch":
        depth = (march.transmittance * depth).clamp(depth.min(), depth.max())
    return march.transmittance * background.features, depth
