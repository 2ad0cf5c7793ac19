"""Published systems and data sets as starting points of a configuration.

A preset is the table row of a system for a data set; every field of it can be overridden afterwards. The only code
file that names a system, beside `training.official`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from training.background import BackgroundConfig, SolidConfig, SphereConfig
from training.cameras.prior import ViewConfig
from training.config import ConfigError, TrainConfig
from training.generator import GeneratorConfig
from training.losses import DensityConfig, LossConfig
from training.rendering.renderer import RendererConfig
from training.scene.decoders import DecoderConfig, JointDecoderConfig, SplitDecoderConfig
from training.scene.triplane import TriplaneConfig
from training.synthesis import BackboneConfig, OutputInit
from training.upsampling.superresolution import SuperresolutionConfig, module_for


@dataclass(frozen=True)
class Geometry:
    """What a data set asks of any system: samples along rays, box, cameras; distances in scene units."""

    samples: int
    ray_start: float
    ray_end: float
    box_warp: float
    white_back: bool
    view: ViewConfig


GEOMETRIES = {
    "ffhq": Geometry(48, 2.25, 3.3, 1.0, False, ViewConfig(2.7, (0.0, 0.0, 0.2))),
    "afhq": Geometry(48, 2.25, 3.3, 1.0, False, ViewConfig(2.7, (0.0, 0.0, -0.06))),
    "shapenet": Geometry(64, 0.1, 2.6, 1.6, True, ViewConfig(1.7, (0.0, 0.0, 0.0))),
}
"""By the name that `--cfg` takes."""


def ballgan(geometry: Geometry, resolution: int) -> TrainConfig:
    """BallGAN (Shin et al. 2023): tri-planes in front of a sphere with a latent of its own, no regularizers."""
    config = _triplane_system(geometry, resolution, SphereConfig(), SplitDecoderConfig(), "kaiming", DensityConfig())
    return replace(config, run=replace(config.run, snap=20))


def eg3d(geometry: Geometry, resolution: int) -> TrainConfig:
    """EG3D (Chan et al. 2022): tri-planes without background, density regularized."""
    background = SolidConfig(white_back=geometry.white_back)
    return _triplane_system(geometry, resolution, background, JointDecoderConfig(), "normal", DensityConfig(0.25))


SYSTEMS: dict[str, Callable[[Geometry, int], TrainConfig]] = {"ballgan": ballgan, "eg3d": eg3d}
"""By the name that `--model` takes."""


def preset(system: str, dataset: str, resolution: int) -> TrainConfig:
    """The configuration of a system for a data set whose pictures have a resolution.

    Raises ConfigError for an unknown system or data set, or a resolution without an upsampler.
    """
    for option, name, table in (("--model", system, SYSTEMS), ("--cfg", dataset, GEOMETRIES)):
        if name not in table:
            raise ConfigError(f"{option}={name}: choose one of {', '.join(table)}")
    try:
        return SYSTEMS[system](GEOMETRIES[dataset], resolution)
    except ValueError as error:
        raise ConfigError(str(error)) from error


def _triplane_system(
    geometry: Geometry,
    resolution: int,
    background: BackgroundConfig,
    decoder: DecoderConfig,
    output_init: OutputInit,
    density: DensityConfig,
) -> TrainConfig:
    raw_resolution = min(64, resolution // 2)
    generator = GeneratorConfig(
        img_resolution=resolution,
        raw_resolution=raw_resolution,
        scene=TriplaneConfig(
            backbone=BackboneConfig(output_init=output_init), decoder=decoder, box_warp=geometry.box_warp
        ),
        background=background,
        renderer=RendererConfig(geometry.samples, geometry.samples, geometry.ray_start, geometry.ray_end),
        upsampler=SuperresolutionConfig(module=module_for(resolution), output_init=output_init),
        view=geometry.view,
    )
    config = TrainConfig(generator=generator, loss=LossConfig(density=density))
    return replace(
        config,
        schedule=replace(config.schedule, resolution=raw_resolution),
        data=replace(config.data, resolution=resolution),
    )
