"""The renderer of synthetic data sets behind the interface of a generator: what perfect scores look like."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dataset_preprocessing.synthetic.render import Picture, Renderer, Scene, sample_scene
from training.rendering.quadrature import midpoint_weights
from training.types import Latents, Layer, NoiseMode, RayMarch, RenderOutput, RenderSettings

HALF_SHELL = 1e-3
"""Half the thickness, in scene units, of the shell of density that stands for a surface."""
EMPTY = -1e9
Z_DIM = 8


class GroundTruth:
    """Random scenes of the synthetic family, rendered exactly; `z` decides the scene, no label does.

    Nothing is learnt, so there are no weights: it scores like a generator that has learnt everything.
    """

    def __init__(self, resolution: int, white: bool, reach: tuple[float, float] = (2.25, 3.3)):
        self.z_dim = Z_DIM
        self.img_resolution = self.raw_resolution = resolution
        self.white, self.reach = white, reach
        self.training = False

    @staticmethod
    def like(options: Mapping[str, Any]) -> GroundTruth:
        """The renderer of a set made with these options (`parameters.json` beside it)."""
        return GroundTruth(int(options["resolution"]), bool(options["white"]))

    def train(self, mode: bool = True) -> GroundTruth:
        """Itself: there is nothing that training would change."""
        self.training = mode
        return self

    def mapping(self, z: Tensor, c: Tensor, truncation_psi: float = 1, truncation_cutoff: int | None = None) -> Latents:
        """The scene's draw as its one style row; truncation has no meaning here."""
        nothing = z.new_zeros(len(z), 0, 0)
        return Latents(z[:, None], nothing, nothing)

    def synthesis(
        self,
        latents: Latents,
        c: Tensor,
        settings: RenderSettings | None = None,
        *,
        layer: Layer = "full",
        noise_mode: NoiseMode = "random",
    ) -> RenderOutput:
        """The scenes of latents seen by cameras `n 25`."""
        resolution = self.raw_resolution if settings is None else settings.resolution
        pairs = zip(latents.scene[:, 0], c, strict=True)
        pictures = [self.picture(self.scene(row), label, resolution) for row, label in pairs]
        colors = {
            "full": [picture.image for picture in pictures],
            "foreground": [picture.foreground for picture in pictures],
            "background": [picture.background for picture in pictures],
            "hole": [picture.background * (1 - picture.mask[..., None]) for picture in pictures],
        }[layer]
        image = _stacked(colors).permute(0, 3, 1, 2).to(c.device) * 2 - 1
        surfaces = zip(*map(self.surface, pictures), strict=True)
        depth, opacity = (_stacked(maps)[:, None].to(c.device) for maps in surfaces)
        march = self.march(depth.flatten(1), opacity.flatten(1))
        shape = [len(c), 1, resolution, resolution]
        return RenderOutput(image, image, march.depth.reshape(shape), march.opacity.reshape(shape), march)

    def scene(self, row: Tensor) -> Scene:
        """The scene of a style row."""
        return _scene(row.cpu().numpy().tobytes(), self.white)

    def picture(self, scene: Scene, label: Tensor, resolution: int) -> Picture:
        """The scene seen from a camera label."""
        return _picture(scene, tuple(label.double().tolist()), resolution)

    def surface(self, picture: Picture) -> tuple[np.ndarray, np.ndarray]:
        """Depth and opacity `height width` of a picture; depth is that of the far end where there is no object."""
        hit = np.isfinite(picture.depth)
        return np.where(hit, picture.depth, self.reach[1]), picture.mask

    def march(self, depth: Tensor, opacity: Tensor) -> RayMarch:
        """What a march meets whose light stops in a thin shell at the depth, as much as the opacity says; `n rays`."""
        near, far = (torch.full_like(depth, end) for end in self.reach)
        middle = depth.clamp(self.reach[0] + 2 * HALF_SHELL, self.reach[1] - 2 * HALF_SHELL)
        # The activation is softplus(raw - 1), which is its argument where that is large.
        shell = -torch.log1p(-opacity.clamp(max=1 - 1e-7)) / (2 * HALF_SHELL) + 1
        raw = torch.where(opacity > 0, shell, EMPTY)
        empty = torch.full_like(raw, EMPTY)
        depths = torch.stack([near, middle - HALF_SHELL, middle + HALF_SHELL, far], dim=2)
        density = torch.stack([empty, raw, raw, empty], dim=2)
        weights, transmittance = midpoint_weights(density, depths)
        none = depths[..., :0]
        features = depths.new_zeros(*depth.shape, 3)
        return RayMarch(features, middle[..., None], weights, transmittance, depths, density, none, none)


@lru_cache(maxsize=4096)
def _scene(draw: bytes, white: bool) -> Scene:
    return sample_scene(np.random.default_rng(list(draw)), white)


@lru_cache(maxsize=256)
def _renderer(scene: Scene) -> Renderer:
    return Renderer(scene)


@lru_cache(maxsize=4096)
def _picture(scene: Scene, label: tuple[float, ...], resolution: int) -> Picture:
    return _renderer(scene)(label, resolution)


def _stacked(arrays: Any) -> Tensor:
    return torch.from_numpy(np.stack(list(arrays))).float()
