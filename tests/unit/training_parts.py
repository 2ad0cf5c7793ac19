"""Networks small enough for unit tests, and cameras for them."""

from __future__ import annotations

import torch

from training.background import SphereConfig
from training.background.sphere import StyledTextureConfig
from training.cameras.prior import FRONT, LabelPrior, ViewConfig, orbit_camera
from training.discriminators import Discriminator, DualDiscriminatorConfig
from training.discriminators.blocks import TrunkConfig
from training.generator import Generator, GeneratorConfig
from training.inputs import Reals
from training.mapping import MappingConfig
from training.rendering.renderer import RendererConfig
from training.scene.triplane import TriplaneConfig
from training.synthesis import BackboneConfig
from training.types import Camera
from training.upsampling import SuperresolutionConfig

RESOLUTION = 32

GENERATOR = GeneratorConfig(
    img_resolution=RESOLUTION,
    z_dim=12,
    w_dim=16,
    raw_resolution=8,
    mapping=MappingConfig(pose_conditioning=True),
    scene=TriplaneConfig(backbone=BackboneConfig(resolution=16, channel_base=128, channel_max=8)),
    background=SphereConfig(z_dim=10, hidden=8, texture=StyledTextureConfig(w_dim=8, mapping_layers=2)),
    renderer=RendererConfig(depth_resolution=4, depth_resolution_importance=4),
    upsampler=SuperresolutionConfig(module="2X", channels=(8, 8)),
)
DISCRIMINATOR = DualDiscriminatorConfig(trunk=TrunkConfig(channel_base=128, channel_max=8))


def networks(seed: int = 0) -> tuple[Generator, Discriminator]:
    """A generator and a discriminator in training mode."""
    torch.manual_seed(seed)
    return Generator(GENERATOR).train(), DISCRIMINATOR.build(RESOLUTION).train()


def camera_labels(count: int, seed: int = 0) -> torch.Tensor:
    """Labels of cameras around the frontal view."""
    generator = torch.Generator().manual_seed(seed)
    yaw, pitch = torch.randn(2, count, generator=generator) * 0.3
    return orbit_camera(FRONT + yaw, FRONT + pitch, ViewConfig()).to_label()


def prior(count: int = 40) -> LabelPrior:
    """Cameras to draw from."""
    return LabelPrior(camera_labels(count))


def reals(n: int, seed: int = 0) -> Reals:
    """Random pictures with cameras."""
    images = torch.rand(n, 3, RESOLUTION, RESOLUTION, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    return Reals(images, Camera.from_label(camera_labels(n, seed)))
