"""Networks of the golden files: built from the official constructor arguments, filled by the file's rule."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from training.background.sphere import SphereBackground
from training.cameras.camera import make_rays
from training.generator import Generator
from training.official import OPTIONAL, official_to_ours, our_key
from training.official_config import config_from_official
from training.recipe import build_with
from training.rendering.quadrature import midpoint_weights
from training.rendering.renderer import composite
from training.types import Camera, Latents, Layer, RayMarch, Rays, RenderOutput, RenderSettings

GENERATOR = "TriPlaneGenerator"


def network(class_name: str, kwargs: Mapping[str, Any], state: Mapping[str, Tensor]) -> Any:
    """The network of an official class with weights by official names, in eval mode."""
    recipe = config_from_official(class_name, {name: value for name, value in kwargs.items() if name != "note"})
    return build_with(recipe, official_to_ours(state, recipe), OPTIONAL)


def with_options(kwargs: Mapping[str, Any], **options: Any) -> dict[str, Any]:
    """Constructor arguments with other rendering options."""
    return {**kwargs, "rendering_kwargs": {**kwargs["rendering_kwargs"], **options}}


def gradient_norms(network: nn.Module, names: list[str]) -> Tensor:
    """Norms of the gradients of parameters with official names; 0 for one that has none."""
    parameters = dict(network.named_parameters())
    gradients = [parameters[our_key(name) or name].grad for name in names]
    return torch.stack([torch.zeros([]) if gradient is None else gradient.norm() for gradient in gradients])


@dataclass(frozen=True)
class Shot:
    """Scenes seen from cameras, without randomness."""

    G: Generator
    latents: Latents
    labels: Tensor
    resolution: int
    background_labels: Tensor | None = None

    @property
    def settings(self) -> RenderSettings:
        """Settings under which depths are not jittered and importance samples are evenly spaced."""
        return RenderSettings(self.resolution, jitter="center")

    @property
    def rays(self) -> Rays:
        """The rays of the cameras."""
        return make_rays(Camera.from_label(self.labels), self.settings)

    @property
    def rays_behind(self) -> Rays:
        """The rays that meet the background."""
        labels = self.labels if self.background_labels is None else self.background_labels
        return make_rays(Camera.from_label(labels), self.settings)

    @cached_property
    def planes(self) -> Tensor:
        """The planes [n, 3, channels, height, width]."""
        with torch.no_grad():
            return self.G.scene.planes(self.latents.scene, "const")

    @cached_property
    def field(self) -> Any:
        """The scenes."""
        with torch.no_grad():
            return self.G.scene.field(self.planes)

    @cached_property
    def full(self) -> RenderOutput:
        """The whole picture."""
        with torch.no_grad():
            return self.G.synthesis(
                self.latents,
                self.labels,
                self.settings,
                background_camera=self.background_labels,
                noise_mode="const",
                field=self.field,
            )

    @property
    def march(self) -> RayMarch:
        """The foreground."""
        return self.full.march

    @cached_property
    def layers(self) -> dict[Layer, RenderOutput]:
        """Pictures of layers that have been asked for."""
        return {"full": self.full}

    @torch.no_grad()
    def output(self, layer: Layer) -> RenderOutput:
        """The picture of a layer."""
        if layer not in self.layers:
            behind = self.labels if self.background_labels is None else self.background_labels
            self.layers[layer] = self.G.compose(self.march, self.latents, behind, self.settings, layer)
        return self.layers[layer]

    @torch.no_grad()
    def features(self) -> Tensor:
        """All rendered features [n, channels, r, r] in [-1, 1]."""
        behind = self.G.background(self.latents.background, self.rays_behind)
        values, _ = composite(self.march, behind, self.G.background.backdrop, "full", self.G.config.renderer)
        return self.square(values.transpose(1, 2)) * 2 - 1

    @torch.no_grad()
    def alpha(self) -> Tensor:
        """Opacity of each segment [n, rays, segments]: its weight when nothing stands before it."""
        pairs = (values.unfold(2, 2, 1) for values in (self.march.density, self.march.depths))
        density, depths = (values.flatten(1, 2) for values in pairs)
        return midpoint_weights(density, depths)[0].view(*self.march.weights.shape)

    @property
    def sphere(self) -> SphereBackground:
        """The background, which must be a sphere."""
        if not isinstance(self.G.background, SphereBackground):
            raise ValueError("the file describes a sphere, but its generator has none")
        return self.G.background

    def square(self, values: Tensor) -> Tensor:
        """Values whose last axis runs over rays, as pictures."""
        return values.unflatten(-1, (self.resolution, self.resolution))


def style_rows(ws: Tensor, ws_background: Tensor | None = None) -> Latents:
    """Latents of given style rows; super-resolution reads the last of them."""
    return Latents(ws, ws.new_zeros(len(ws), 0, 0) if ws_background is None else ws_background, ws[:, -1:])
