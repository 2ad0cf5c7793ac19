"""What must fit together before a run may begin. Nothing here writes, and every message names an option."""

from __future__ import annotations

import os

import numpy as np
import torch

from dataset_preprocessing.camera_checks import camera_errors
from dataset_preprocessing.cameras import Floats, split_label
from dataset_preprocessing.conventions import focus
from metrics import registry
from metrics.types import MetricError
from torch_utils import distributed
from training.background import SphereConfig
from training.cameras.camera import diagonal_fov
from training.config import ConfigError, TrainConfig
from training.dataset import ImageDataset
from training.generator import Generator
from training.upsampling import IdentityConfig


def check(config: TrainConfig, dataset: ImageDataset) -> None:
    """Returns if a run can be trained with a configuration on a data set.

    Raises ConfigError with what is wrong and what mends it.
    """
    check_batch(config)
    check_regularizers(config)
    check_resolution(config, dataset)
    check_cameras(config, dataset)
    check_metrics(config, check_networks(config), dataset)
    if set(config.run.desc) & set("/\\"):
        raise ConfigError(f"--desc={config.run.desc}: it becomes part of a folder's name, so no slashes")


def check_batch(config: TrainConfig) -> None:
    """Batch, processes, portions and groups of the minibatch statistics must divide each other."""
    run, group = config.run, config.discriminator.trunk.mbstd_group_size
    if run.batch % run.gpus:
        raise ConfigError(f"--batch={run.batch} is not divisible by --gpus={run.gpus}")
    portion = run.batch_gpu or run.batch // run.gpus
    if run.batch % (run.gpus * portion):
        raise ConfigError(f"--batch={run.batch} is not divisible by --gpus={run.gpus} times --batch-gpu={portion}")
    if group is not None and portion % group:
        what = "is smaller than" if portion < group else "is not divisible by"
        raise ConfigError(f"the batch of one GPU, {portion}, {what} --mbstd-group={group}")
    if config.loss.background_pairs and portion % 2:
        raise ConfigError(f"--bg-pairs needs an even batch on each GPU, not {portion} (--batch-gpu)")


def check_regularizers(config: TrainConfig) -> None:
    """Regularizers need what they look at."""
    fine = config.generator.renderer.depth_resolution_importance
    for option, regularizer in (
        ("--fg_density_reg", config.loss.fg_density),
        ("--fg_density_spatial_reg", config.loss.fg_density_spatial),
    ):
        if regularizer.strength > 0 and fine < 2:
            raise ConfigError(f"{option} looks at importance samples, of which each ray has {fine}")
    if config.loss.background_pairs and getattr(config.generator.background, "z_dim", 0) == 0:
        raise ConfigError("--bg-pairs needs a background with a latent of its own")


def check_resolution(config: TrainConfig, dataset: ImageDataset) -> None:
    """Networks and pictures must have one size."""
    generator, schedule = config.generator, config.schedule
    if generator.img_resolution != dataset.resolution:
        raise ConfigError(
            f"generator.img_resolution={generator.img_resolution}, but the pictures in {config.data.path} "
            f"have {dataset.resolution} pixels a side"
        )
    rendered = {schedule.resolution, schedule.resolution_final or schedule.resolution}
    if isinstance(generator.upsampler, IdentityConfig) and rendered != {generator.img_resolution}:
        raise ConfigError(
            f"without an upsampler the raw resolution is that of the pictures: set "
            f"--neural_rendering_resolution_initial={generator.img_resolution}"
        )


def check_cameras(config: TrainConfig, dataset: ImageDataset) -> None:
    """Generated pictures are seen from the cameras of the data set, all inside the sphere if there is one."""
    if not dataset.has_labels:
        raise ConfigError("data.use_labels=false: generated pictures are seen from the cameras of the data set")
    names = dataset.image_names
    for fault in camera_errors(dataset.archive.path, names, dataset.labels[: len(names)].double().numpy()):
        raise ConfigError(f"{config.data.path}: {fault}")
    background = config.generator.background
    if not isinstance(background, SphereConfig):
        return
    distance = dataset.labels[:, [3, 7, 11]].norm(dim=1)
    farthest = int(distance.argmax())
    if float(distance[farthest]) >= background.radius:
        raise ConfigError(
            f"--radius={background.radius:g}: the sphere must contain all cameras, but that of "
            f"{dataset.image_names[farthest % len(dataset.image_names)]} is {float(distance[farthest]):.4g} from the "
            "centre; choose a larger radius"
        )
    if config.generator.view.radius >= background.radius:
        raise ConfigError(
            f"--radius={background.radius:g}: the sphere must contain the camera of the snapshot pictures, at "
            f"{config.generator.view.radius:g} (generator.view.radius)"
        )


def view_advice(config: TrainConfig, dataset: ImageDataset) -> str | None:
    """What to set so that pictures and films are seen as the data set's cameras see, or None where they are.

    A pivot is off where the median camera has it further beside the middle of the picture than a twentieth of its
    width, and the point that the cameras look at less than half as far; distance (from the origin, as published
    pictures count it) and field of view are off by a tenth.
    """
    poses, matrices = split_label(dataset.labels.double().numpy())
    focal, positions, axes = float(np.median(matrices[:, 0, 0])), poses[:, :3, 3], poses[:, :3, 2]

    def beside(point: Floats) -> float:
        towards = point - positions
        depth = (towards * axes).sum(axis=1)
        return float(np.median(np.linalg.norm(towards - depth[:, None] * axes, axis=1) / depth) * focal)

    view, point = config.generator.view, focus(poses).round(2) + 0.0
    radius = float(np.median(np.linalg.norm(positions, axis=1)))
    fov = diagonal_fov(focal)
    better = []
    if beside(np.array(view.pivot)) > max(0.05, 2 * beside(point)):
        better.append(f"--set generator.view.pivot={','.join(f'{value:g}' for value in point)}")
    if not 0.9 < view.radius / radius < 1.1:
        better.append(f"--set generator.view.radius={radius:.3g}")
    if not 0.9 < view.fov_deg / fov < 1.1:
        better.append(f"--set generator.view.fov_deg={fov:.3g}")
    if not better:
        return None
    return f"Pictures and films would not be seen as this data set's cameras see: {' '.join(better)} mends that."


def check_networks(config: TrainConfig) -> Generator:
    """The networks must be possible; they are built without memory here. Returns the generator."""
    try:
        with torch.device("meta"):
            config.discriminator.build(config.generator.img_resolution, config.generator.c_dim)
            return Generator(config.generator)
    except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise ConfigError(f"the configuration gives no network: {error}") from error


def check_metrics(config: TrainConfig, generator: Generator, dataset: ImageDataset) -> None:
    """Generator and data set must be able to give the metrics, one of which says what the best snapshot is."""
    if config.run.keep_best and not config.run.metrics:
        raise ConfigError("--keep-best=True: the best snapshot is that of the first metric; name one with --metrics")
    try:
        registry.check(config.run.metrics, generator, dataset)
    except MetricError as error:
        raise ConfigError(f"--metrics: {error}; choose others, or none") from error


def check_devices(config: TrainConfig) -> None:
    """The machine must have what the run asks for, and torchrun must have started as many processes."""
    run = config.run
    if run.device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("--device=cuda: there is no usable GPU here; use --device=cpu")
    if distributed.started_by_torchrun():
        started = int(os.environ["WORLD_SIZE"])
        if started != run.gpus:
            raise ConfigError(f"--gpus={run.gpus}, but torchrun has started {started} processes")
    elif run.device == "cuda" and run.gpus > torch.cuda.device_count():
        raise ConfigError(f"--gpus={run.gpus}: this machine has {torch.cuda.device_count()}")
