"""Surfaces of rendered pictures: pure functions of depth, opacity and cameras, for the 3-D metrics.

Depths are distances along rays of unit directions, in scene units. A pixel is solid where more than half of its light
comes from the foreground.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from training.cameras.camera import make_rays, project
from training.types import Camera, RayMarch, RenderOutput, RenderSettings

SOLID = 0.5


@dataclass(frozen=True)
class SeenSurface:
    """What one camera sees of a surface: colours `n 3 s s`, depth `n 1 s s`, solid `n 1 s s` (bool), cameras `n 25`."""

    image: Tensor
    depth: Tensor
    solid: Tensor
    labels: Tensor

    @property
    def points(self) -> Tensor:
        """Places in the world `n pixels 3` of all pixels, row by row."""
        rays = make_rays(Camera.from_label(self.labels), RenderSettings(self.depth.shape[-1]))
        return rays.origins + rays.directions * self.depth.flatten(2).transpose(1, 2)


def foreground_depth(out: RenderOutput) -> Tensor:
    """Depth `n 1 r r` of the foreground alone, whatever the composed depth holds behind it."""
    return out.march.depth.transpose(1, 2).reshape(out.opacity.shape)


def seen_surface(out: RenderOutput, labels: Tensor) -> SeenSurface:
    """The picture with depth and solid mask at its own resolution.

    Depth is interpolated between solid rays only, so that no pixel lies between an object and what is behind it.
    """
    side = out.image.shape[-1]
    solid = (out.opacity > SOLID).float()
    depth = foreground_depth(out)
    if side != depth.shape[-1]:
        total = _resized(depth * solid, side)
        solid = _resized(solid, side)
        depth = total / solid.clamp(min=1e-6)
    return SeenSurface(out.image[:, :3], depth, solid > 0.999, labels)


def axial(depth: Tensor, labels: Tensor) -> Tensor:
    """Distances along the optical axis for distances along rays `n pixels ...`, row by row over a square picture."""
    camera = Camera.from_label(labels)
    rays = make_rays(camera, RenderSettings(round(depth.shape[1] ** 0.5)))
    cosine = (rays.directions * camera.cam2world[:, None, :3, 2]).sum(dim=2)
    return depth * cosine.reshape(*cosine.shape, *[1] * (depth.ndim - 2))


def warp_by_splatting(source: SeenSurface, target: SeenSurface) -> Tensor:
    """Squared error and count of pixels `n 2` when each solid pixel of the source is put at its place in the target.

    Each goes to the nearest pixel, the nearest surface wins, and pixels that none reaches do not count.
    """
    n, side = len(source.labels), source.depth.shape[-1]
    u, v, distance = project(Camera.from_label(target.labels), source.points).unbind(dim=2)
    column, row = (u * side).floor().long(), (v * side).floor().long()
    inside = (column >= 0) & (column < side) & (row >= 0) & (row < side) & source.solid.flatten(1) & (distance > 0)
    sums = []
    for i in range(n):
        place = (row[i] * side + column[i])[inside[i]]
        # Written from the farthest to the nearest, the last one stays.
        order = distance[i][inside[i]].argsort(descending=True)
        place, colors = place[order], source.image[i].flatten(1)[:, inside[i]][:, order]
        last = torch.full([side * side], -1, dtype=torch.long, device=place.device)
        last.scatter_reduce_(0, place, torch.arange(len(place), device=place.device), "amax")
        hit = last >= 0
        error = (target.image[i].flatten(1)[:, hit] - colors[:, last[hit]]).square().mean(dim=0).sum()
        sums.append(torch.stack([error, hit.sum().to(error)]))
    return torch.stack(sums)


def warp_by_looking(source: SeenSurface, target: SeenSurface, tolerance: float) -> Tensor:
    """Squared error and count of pixels `n 2` when each solid pixel of the target looks itself up in the source.

    It is compared where the source sees the same place: inside its picture, on solid pixels, at the same depth within
    `tolerance` (scene units). Colours are interpolated, so a perfect renderer is left with the error of that.
    """
    side = target.depth.shape[-1]
    places = project(Camera.from_label(source.labels), target.points)
    grid = (places[..., :2] * 2 - 1).unflatten(1, (side, side))

    def look(values: Tensor) -> Tensor:
        return torch.nn.functional.grid_sample(values, grid, mode="bilinear", align_corners=False)

    solid, depth = look(source.solid.float()), look(source.depth)
    distance = places[..., 2].unflatten(1, (side, side))[:, None]
    seen = target.solid & (solid > 0.999) & ((depth - distance).abs() < tolerance) & (distance > 0)
    error = (look(source.image) - target.image).square().mean(dim=1, keepdim=True)
    return torch.stack([(error * seen).sum(dim=[1, 2, 3]), seen.sum(dim=[1, 2, 3]).to(error)], dim=1)


def ray_spread(march: RayMarch) -> tuple[Tensor, Tensor]:
    """Thickness and entropy `n rays` of the light along each ray, as if its weights summed to one.

    Thickness is the standard deviation of the depth, in scene units; the entropy is in nats.
    """
    middles = (march.depths[..., 1:] + march.depths[..., :-1]) / 2
    share = march.weights / march.weights.sum(dim=2, keepdim=True).clamp(min=1e-8)
    mean = (share * middles).sum(dim=2, keepdim=True)
    thickness = (share * (middles - mean).square()).sum(dim=2).sqrt()
    return thickness, -(share * share.clamp(min=1e-12).log()).sum(dim=2)


def _resized(values: Tensor, side: int) -> Tensor:
    return torch.nn.functional.interpolate(values, [side, side], mode="bilinear", antialias=side < values.shape[-1])
