"""The works that are measured: what a user waits for, at the sizes of published systems."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

import torch

from benchmarks.measure import Step, count_flop, peak_memory, time_step
from torch_utils.ops import kernels
from torch_utils.training_stats import Collector
from training import precision
from training.cameras.paths import strip_cameras
from training.cameras.prior import AnglePrior, frontal_camera
from training.discriminators.blocks import TrunkConfig
from training.discriminators.dual import DualDiscriminatorConfig
from training.generator import Generator
from training.inputs import Draw, Reals
from training.losses import LossConfig
from training.precision import Precision
from training.presets import preset
from training.schedule import Schedule
from training.step import Networks, Trainer, adam, build_phases
from training.types import Camera, RenderSettings
from training.views import BuiltScene

PHASES = {"Gmain": "generator_step", "Dmain": "discriminator_step", "Dreg": "r1_step"}
"""Names that a training step's phases are reported under."""


@dataclass(frozen=True)
class Setup:
    """Where and how large. Lengths in pixels or samples; training has sizes of its own."""

    system: str = "ballgan"
    device: str = "cpu"
    precision: Precision = "float32"
    threads: int = 2
    kernels: bool = True
    warmup: int = 2
    repeats: int = 3
    batch: int = 1
    raw_resolution: int = 128
    samples: int = 48
    points: int = 1_000_000
    train_batch: int = 4


Work = Callable[[Setup], dict[str, Step]]
"""Builds what one process measures: steps by name, run in turn."""


def image(setup: Setup) -> dict[str, Step]:
    """Full pictures of 512^2 pixels: mapping, planes, rendering, super-resolution."""
    G = _generator(setup)
    z, camera = torch.randn(setup.batch, G.z_dim, device=setup.device), _camera(G, setup)
    settings = RenderSettings(setup.raw_resolution)

    @torch.inference_mode()
    def step() -> None:
        G.synthesis(G.mapping(z, camera), camera, settings, noise_mode="const")

    return {"image": step}


def image_of_field(setup: Setup) -> dict[str, Step]:
    """Full pictures of scenes that are built already, as films and viewers ask for."""
    G = _generator(setup)
    camera, settings = _camera(G, setup), RenderSettings(setup.raw_resolution)
    with torch.inference_mode():
        latents = G.mapping(torch.randn(setup.batch, G.z_dim, device=setup.device), camera)
        field = G.field(latents)

    @torch.inference_mode()
    def step() -> None:
        G.synthesis(latents, camera, settings, field=field)

    return {"image_of_field": step}


def views(setup: Setup) -> dict[str, Step]:
    """8 views of one seed as gen_samples makes them, and what they are held against; half as many rays a side."""
    G = _generator(setup)
    cameras, settings = strip_cameras(G.config.view, 8).to(setup.device), RenderSettings(setup.raw_resolution // 2)
    latents = G.mapping(torch.randn(1, G.z_dim, device=setup.device), cameras[:1])
    built = BuiltScene.build(G, latents)

    def show(scene: BuiltScene, count: int) -> None:
        for index in range(count):
            scene.shoot(cameras[index : index + 1], settings).output()

    return {
        "8_views": lambda: show(BuiltScene.build(G, latents), 8),
        "1_view": lambda: show(BuiltScene.build(G, latents), 1),
        "view_of_built": lambda: show(built, 1),
    }


def backbone(setup: Setup) -> dict[str, Step]:
    """The planes alone."""
    G = _generator(setup)
    with torch.inference_mode():
        latents = G.mapping(torch.randn(setup.batch, G.z_dim, device=setup.device), _camera(G, setup))

    @torch.inference_mode()
    def step() -> None:
        G.field(latents)

    return {"backbone": step}


def density(setup: Setup) -> dict[str, Step]:
    """Densities, alone and with features, at random points of one scene whose planes exist already."""
    G = _generator(setup)
    points = torch.rand(1, setup.points, 3, device=setup.device) - 0.5
    with torch.inference_mode():
        field = G.field(G.mapping(torch.randn(1, G.z_dim, device=setup.device)))

    @torch.inference_mode()
    def alone() -> None:
        field.density(points)

    @torch.inference_mode()
    def with_features() -> None:
        field(points)

    return {"density": alone, "density_with_features": with_features}


def train(setup: Setup) -> dict[str, Step]:
    """Training phases, optimizer included: 256^2 pictures, 64^2 rays, 24 + 24 samples, at most 128 channels."""
    config = preset(setup.system, "ffhq", 256)
    trunk = TrunkConfig(channel_base=8192, channel_max=128)
    networks = Networks(
        _generator(setup, resolution=256, channels=(8192, 128)).train().requires_grad_(True),
        DualDiscriminatorConfig(trunk=trunk).build(256).to(setup.device),
    )
    cameras = AnglePrior(config.generator.view, 0.3, 0.15)
    optimizers = {
        "G": adam(networks.G.parameters(), 0.0025, (0, 0.99), 1e-8, None),
        "D": adam(networks.D.parameters(), 0.002, (0, 0.99), 1e-8, 16),
    }
    reals = Reals(
        torch.rand(setup.train_batch, 3, 256, 256, device=setup.device) * 2 - 1,
        cameras.sample(setup.train_batch).to(setup.device),
    )
    settings = replace(Schedule().at(10**6), render=RenderSettings(64))
    device = torch.device(setup.device)

    def step_of(phase: str) -> Step:
        due = [found for found in build_phases(LossConfig(), 4, 16) if found.name == phase]
        trainer = Trainer(networks, optimizers, due, Draw(cameras), Collector(device), device, setup.train_batch)
        return lambda: trainer.step(reals, settings, 0)

    return {name: step_of(phase) for phase, name in PHASES.items()}


WORKS: dict[str, Work] = {
    "image": image,
    "image_of_field": image_of_field,
    "views": views,
    "backbone": backbone,
    "density": density,
    "train": train,
}
"""By the name that `--only` takes."""


def measure(name: str, setup: Setup) -> dict[str, dict[str, float]]:
    """Times, memory and operations of the steps of a work, by name; memory is that of all of them so far."""
    torch.set_num_threads(setup.threads)
    torch.manual_seed(0)
    precision.use(setup.precision)
    kernels.use(setup.kernels)
    device = torch.device(setup.device)
    steps, results = WORKS[name](setup), {}
    for step_name, step in steps.items():
        timing = time_step(step, device, setup.warmup, setup.repeats)
        results[step_name] = asdict(timing) | {"peak_bytes": peak_memory(device)}
    for step_name, step in steps.items():
        results[step_name]["flop"] = count_flop(step)
    return results


def _generator(setup: Setup, resolution: int = 512, channels: tuple[int, int] | None = None) -> Generator:
    config = preset(setup.system, "ffhq", resolution).generator
    samples = 24 if channels else setup.samples
    renderer = replace(config.renderer, depth_resolution=samples, depth_resolution_importance=samples)
    scene = config.scene
    if channels:
        scene = replace(scene, backbone=replace(scene.backbone, channel_base=channels[0], channel_max=channels[1]))
    config = replace(config, renderer=renderer, scene=scene)
    return Generator(config).eval().requires_grad_(False).to(setup.device)


def _camera(G: Generator, setup: Setup) -> Camera:
    return frontal_camera(G.config.view, setup.batch, setup.device)
