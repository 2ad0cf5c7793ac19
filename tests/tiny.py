"""Networks small enough for tests: the parts of the real ones, a few channels wide."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from training.background import SolidConfig, SphereConfig
from training.background.sphere import StyledTextureConfig
from training.generator import Generator, GeneratorConfig
from training.rendering.renderer import RendererConfig
from training.scene.decoders import SplitDecoder, SplitDecoderConfig
from training.scene.triplane import TriplaneConfig
from training.synthesis import BackboneConfig
from training.upsampling import SuperresolutionConfig

SURROUNDINGS = SphereConfig(texture=StyledTextureConfig(w_dim=16, mapping_layers=2), z_dim=16, hidden=16)


def generator_config(background: SphereConfig | SolidConfig = SURROUNDINGS, resolution: int = 32) -> GeneratorConfig:
    """A BallGAN of 32 by 32 pixels, or an EG3D where the background is solid."""
    return GeneratorConfig(
        img_resolution=resolution,
        z_dim=16,
        w_dim=16,
        raw_resolution=resolution // 2,
        scene=TriplaneConfig(
            backbone=BackboneConfig(resolution=16, channel_base=256, channel_max=16),
            channels=8,
            features=8,
            decoder=SplitDecoderConfig(hidden=16),
        ),
        background=background,
        renderer=RendererConfig(depth_resolution=8, depth_resolution_importance=8),
        upsampler=SuperresolutionConfig(module="2X", channels=(8, 8), num_fp16_res=0),
    )


def generator(background: SphereConfig | SolidConfig = SURROUNDINGS, solid: float = 40.0, seed: int = 0) -> Generator:
    """A generator with random weights whose scenes are dense here and empty there; `solid` scales their densities."""
    torch.manual_seed(seed)
    network = Generator(generator_config(background)).eval().requires_grad_(False)
    decoder = network.scene.decoder
    assert isinstance(decoder, SplitDecoder)
    head = decoder.density
    torch.nn.init.normal_(head.weight, std=solid)
    points = torch.rand(1, 1000, 3) - 0.5
    latents = network.mapping(torch.randn(1, network.z_dim))
    head.bias.sub_(network.field(latents).density(points).mean())
    return network


def counted(calls: list[int], function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, which adds an entry to the list whenever it is called."""

    def call(*arguments: Any) -> Any:
        calls.append(1)
        return function(*arguments)

    return call
