"""The generator: mapping, scene, rays, background and up-sampling, wired together."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor, nn

from training.background import Background, BackgroundConfig, SolidConfig
from training.cameras.camera import make_rays
from training.cameras.prior import ViewConfig
from training.mapping import MappingConfig, MappingNetwork
from training.rendering.renderer import RendererConfig, composite, render
from training.scene import Field, SceneConfig
from training.scene.triplane import TriplaneConfig
from training.types import LABEL_SIZE, Camera, Latents, Layer, NoiseMode, RayMarch, RenderOutput, RenderSettings
from training.upsampling import SuperresolutionConfig, UpsamplerConfig


@dataclass(frozen=True)
class GeneratorConfig:
    """The parts of a generator.

    z_dim: size of the scene's latent; a background with a latent adds its own. c_dim: numbers of a camera label,
    0 where the mapping network has none. raw_resolution: rays per side unless a call says otherwise. view: the camera
    of pictures that no label describes.
    """

    img_resolution: int = 512
    z_dim: int = 512
    w_dim: int = 512
    c_dim: int = LABEL_SIZE
    raw_resolution: int = 64
    mapping: MappingConfig = field(default_factory=MappingConfig)
    scene: SceneConfig = field(default_factory=TriplaneConfig)
    background: BackgroundConfig = field(default_factory=SolidConfig)
    renderer: RendererConfig = field(default_factory=RendererConfig)
    upsampler: UpsamplerConfig = field(default_factory=SuperresolutionConfig)
    view: ViewConfig = field(default_factory=ViewConfig)


def as_camera(c: Camera | Float[Tensor, "n 25"]) -> Camera:
    """A camera from a camera or from a batch of labels."""
    return c if isinstance(c, Camera) else Camera.from_label(c)


def as_label(c: Camera | Float[Tensor, "n c_dim"]) -> Float[Tensor, "n c_dim"]:
    """A batch of labels from a camera or from labels."""
    return c.to_label() if isinstance(c, Camera) else c


class GeneratorMapping(nn.Module):
    """One latent -> the style rows of every part.

    The scene's part of z is mapped with the camera label; the background's has a network of its own without label,
    or is passed on as it is.
    """

    def __init__(self, config: GeneratorConfig, scene_ws: int, upsampler_ws: int, background: Background):
        super().__init__()
        self.config, self.scene_ws, self.upsampler_ws = config.mapping, scene_ws, upsampler_ws
        self.c_dim, self.z_dims = config.c_dim, (config.z_dim, background.z_dim)
        self.background_ws = background.num_ws
        self.scene = MappingNetwork(
            config.z_dim,
            config.c_dim,
            config.w_dim,
            config.mapping.num_layers,
            layer_features=config.mapping.layer_features,
            embed_features=config.mapping.embed_features,
            lr_multiplier=config.mapping.lr_multiplier,
        )
        self.background: MappingNetwork | None = None
        if background.mapping_layers:
            self.background = MappingNetwork(background.z_dim, 0, background.w_dim, background.mapping_layers)

    def forward(
        self,
        z: Float[Tensor, "n z_dim"],
        c: Camera | Float[Tensor, "n c_dim"] | None = None,
        truncation_psi: float = 1.0,
        truncation_cutoff: int | None = None,
        background_psi: float | None = None,
        update_emas: bool = False,
    ) -> Latents:
        """Style rows for z and the label of the conditioning camera (None: zeros).

        truncation_psi pulls the first truncation_cutoff rows (None: all) towards the average style; background_psi
        does so for the background (None: like the scene). update_emas: the average styles move towards these ones.
        """
        if z.shape[1] != sum(self.z_dims):
            raise ValueError(f"z has {z.shape[1]} numbers a row; this generator takes {sum(self.z_dims)} (G.z_dim)")
        z_scene, z_background = z.split(list(self.z_dims), dim=1)
        count = self.scene_ws + self.upsampler_ws
        w = self.scene(z_scene, self._label(c, z), update_emas)
        ws = self.scene.rows(w, count, truncation_psi, truncation_cutoff)
        scene = ws[:, : self.scene_ws]
        upsampler = ws[:, self.scene_ws :] if self.upsampler_ws else scene[:, -1:]
        psi = truncation_psi if background_psi is None else background_psi
        return Latents(scene, self._background(z_background, psi, truncation_cutoff, update_emas), upsampler)

    def _label(self, c: Camera | Tensor | None, z: Tensor) -> Tensor | None:
        if self.c_dim == 0:
            return None
        if c is None or not self.config.pose_conditioning:
            return z.new_zeros(len(z), self.c_dim)
        return as_label(c) * self.config.label_scale

    def _background(self, z: Tensor, psi: float, cutoff: int | None, update_emas: bool) -> Tensor:
        if self.background is None:
            return z[:, None] if z.shape[1] else z.new_zeros(len(z), 0, 0)
        w = self.background(z, None, update_emas)
        return self.background.rows(w, self.background_ws, psi, cutoff)


class Generator(nn.Module):
    """Latents and cameras -> pictures, depth and opacity.

    `G(z, c)` maps and synthesizes; `G.mapping` and `G.synthesis` do one of the two; `G.field` gives the scene itself,
    which can be looked at from many cameras and queried at any points. `c` is a Camera or a batch of 25-number labels.
    """

    def __init__(self, config: GeneratorConfig):
        super().__init__()
        config.renderer.check()
        self.config = config
        self.img_resolution, self.img_channels = config.img_resolution, 3
        self.c_dim, self.w_dim = config.c_dim, config.w_dim
        self.raw_resolution = config.raw_resolution
        self.scene = config.scene.build(config.w_dim)
        self.background = config.background.build(self.scene.features)
        self.upsampler = config.upsampler.build(self.scene.features, config.w_dim, config.img_resolution)
        self.mapping = GeneratorMapping(config, self.scene.num_ws, self.upsampler.num_ws, self.background)
        self.register_buffer("dataset_label_std", torch.zeros(LABEL_SIZE))

    @property
    def scene_z_dim(self) -> int:
        """Size of the scene's part of z, which comes first."""
        return self.mapping.z_dims[0]

    @property
    def background_z_dim(self) -> int:
        """Size of the background's part of z; 0 where it has no latent."""
        return self.mapping.z_dims[1]

    @property
    def z_dim(self) -> int:
        """Size of z."""
        return sum(self.mapping.z_dims)

    def field(self, latents: Latents, noise_mode: NoiseMode = "const") -> Field:
        """The scenes of latents, built once; pass it to `synthesis` for every further camera."""
        return self.scene(latents.scene, noise_mode)

    def forward(
        self,
        z: Float[Tensor, "n z_dim"],
        c: Camera | Float[Tensor, "n 25"],
        truncation_psi: float = 1.0,
        truncation_cutoff: int | None = None,
        settings: RenderSettings | None = None,
        noise_mode: NoiseMode = "random",
        layer: Layer = "full",
    ) -> RenderOutput:
        """Pictures of z seen from c, which also conditions the mapping."""
        latents = self.mapping(z, c, truncation_psi, truncation_cutoff)
        return self.synthesis(latents, c, settings, noise_mode=noise_mode, layer=layer)

    def synthesis(
        self,
        latents: Latents,
        c: Camera | Float[Tensor, "n 25"],
        settings: RenderSettings | None = None,
        *,
        layer: Layer = "full",
        background_camera: Camera | Float[Tensor, "n 25"] | None = None,
        noise_mode: NoiseMode = "random",
        field: Field | None = None,
    ) -> RenderOutput:
        """Pictures of latents seen from c.

        settings: None renders `raw_resolution` rays a side with random jitter. layer: see `composite`.
        background_camera: another camera for what lies behind. field: scenes built before (`G.field`).
        noise_mode: the backbone's per-pixel noise, where the scene is built here.
        """
        camera = as_camera(c)
        settings = settings or RenderSettings(self.raw_resolution)
        if len(camera) != len(latents):
            raise ValueError(
                f"{len(camera)} cameras for {len(latents)} latents; `Latents.expand` and `Field.expand` repeat one"
            )
        field = self.field(latents, noise_mode) if field is None else field
        march = render(field, make_rays(camera, settings), self.config.renderer, settings, self.config.scene.box_warp)
        return self.compose(march, latents, camera if background_camera is None else background_camera, settings, layer)

    def compose(
        self,
        march: RayMarch,
        latents: Latents,
        background_camera: Camera | Float[Tensor, "n 25"],
        settings: RenderSettings,
        layer: Layer = "full",
    ) -> RenderOutput:
        """The picture of rays that have been marched: one march serves any number of layers and backgrounds."""
        behind = self.background(latents.background, make_rays(as_camera(background_camera), settings))
        features, depth = composite(march, behind, self.background.backdrop, layer, self.config.renderer)

        def picture(values: Tensor) -> Tensor:
            return values.transpose(1, 2).unflatten(2, (settings.resolution, settings.resolution))

        features = picture(features) * 2 - 1
        image = self.upsampler(features, latents.upsampler)
        return RenderOutput(
            image=image,
            image_raw=features[:, :3],
            image_depth=picture(depth),
            opacity=picture(march.opacity),
            march=march,
            patch=settings.patch,
        )
