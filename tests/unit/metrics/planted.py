"""Perfect renderers with one thing wrong: what a score card has to find."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from dataset_preprocessing.synthetic.render import Picture
from metrics.cameras import Surround
from metrics.ground_truth import GroundTruth
from training.cameras.camera import make_rays, project
from training.rendering.quadrature import midpoint_weights
from training.types import Camera, Latents, RayMarch, RenderSettings


class Flat(GroundTruth):
    """Billboards: the frontal picture stands upright in the plane z = 0, and is seen there from every side."""

    def picture(self, scene, label: Tensor, resolution: int) -> Picture:
        front_label = Surround(torch.zeros(3).double(), 2.7, 0.0, 0.0, label[16:].reshape(3, 3).double()).front(1)
        front = super().picture(scene, front_label[0], resolution)
        there = super().picture(scene, label, resolution)
        rays = make_rays(Camera.from_label(label[None]), RenderSettings(resolution))
        depth = -rays.origins[..., 2:] / rays.directions[..., 2:]
        places = project(Camera.from_label(front_label), rays.origins + depth * rays.directions)[..., :2] * 2 - 1
        layers = np.concatenate([front.foreground, front.mask[..., None]], axis=2)
        texture = torch.from_numpy(layers).float().permute(2, 0, 1)[None]
        seen = torch.nn.functional.grid_sample(texture, places.view(1, resolution, resolution, 2), align_corners=False)
        foreground, mask = seen[0, :3].permute(1, 2, 0).double().numpy(), seen[0, 3].double().numpy()
        return replace(
            there,
            foreground=foreground,
            mask=mask,
            image=foreground + (1 - mask[..., None]) * there.background,
            depth=np.where(mask > 0, depth[0, :, 0].view(resolution, resolution).double().numpy(), np.inf),
        )


class Painted(GroundTruth):
    """The surroundings are painted on a wall of the foreground."""

    def picture(self, scene, label: Tensor, resolution: int) -> Picture:
        right = super().picture(scene, label, resolution)
        return replace(right, foreground=right.image, mask=np.ones_like(right.mask))


class Leaking(GroundTruth):
    """The side from which the mapping is told to look decides about the scene."""

    def mapping(self, z: Tensor, c: Tensor, truncation_psi: float = 1, truncation_cutoff=None) -> Latents:
        told = torch.zeros_like(z)
        told[:, 0] = (torch.atan2(c[:, 3], c[:, 11]) / 0.02).round()
        told[:, 1] = (z[:, 0] * 2).round()
        return super().mapping(told, c)


class Collapsed(GroundTruth):
    """Four scenes, whatever the latent."""

    def mapping(self, z: Tensor, c: Tensor, truncation_psi: float = 1, truncation_cutoff=None) -> Latents:
        few = torch.zeros_like(z)
        few[:, 0] = (z[:, 0] > 0).float() + 2 * (z[:, 1] > 0)
        return super().mapping(few, c)


class Foggy(GroundTruth):
    """The light of every ray comes from half a unit of its way, and a haze lies over everything."""

    def march(self, depth: Tensor, opacity: Tensor) -> RayMarch:
        steps = torch.linspace(-0.25, 0.25, 33)
        depths = depth[..., None] + steps
        hazy = 0.25 + 0.5 * opacity
        raw = (-torch.log1p(-hazy) / 0.5).expm1().log() + 1
        density = raw[..., None].expand_as(depths)
        weights, transmittance = midpoint_weights(density, depths)
        none = depths[..., :0]
        return RayMarch(none, depth[..., None], weights, transmittance, depths, density, none, none)
