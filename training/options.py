"""The command line of training: which option sets which field of the configuration.

An option that is not given leaves what the preset says. The published options of all systems are here; what such an
option names and the chosen model does not have is refused, unless its value is the one that means "as without it".
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, get_args

import click

from training.config import ConfigError, TrainConfig, override
from training.precision import Precision

SR_MODULES = ("2X", "4X", "8X", "8XDC", "deep")
SR_CLASSES = {f"SuperresolutionHybrid{name}": name for name in SR_MODULES} | {"SuperresolutionHybridDeepfp32": "deep"}
REFERENCE_BATCH = 32
"""Batch for which `--blur_fade_kimg` is given; other batches see the same number of steps."""


@dataclass(frozen=True)
class Option:
    """One option: the fields it sets, and the value that is published as its default.

    paths: dotted fields of the configuration; none for an option that has no effect any more or acts elsewhere.
    translate: from the option's value to the fields' value.
    """

    name: str
    paths: tuple[str, ...]
    type: Any
    default: Any
    help: str
    translate: Callable[[Any], Any] = lambda value: value

    @property
    def key(self) -> str:
        """The name of the option's parameter in Python."""
        return self.name.lstrip("-").replace("-", "_")


def _metrics(value: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in value.split(",") if name.strip() and name.strip().lower() != "none")


def _sr_module(value: str) -> str:
    name = value.rpartition(".")[2]
    return SR_CLASSES.get(name, name)


def _density_kind(value: str) -> str:
    if value in ("l1-alt", "total-variation"):
        raise ConfigError(f"--reg_type={value}: named by the published code but never implemented; choose l1")
    return value


def _sphere_version(value: str) -> str:
    if value not in ("ver0", "ver1"):
        raise ConfigError(f"--bg_ver={value}: choose ver0 or ver1 (the published code names others and defines none)")
    return "plain" if value == "ver0" else "styled"


POSITIVE, COUNT, PROBABILITY = click.IntRange(min=1), click.IntRange(min=0), click.FloatRange(0, 1)
AMOUNT, RATE = click.FloatRange(min=0), click.FloatRange(min=0, min_open=True)
CONV_CLAMP = 256.0
"""Limit of activations in the backbone if some of it runs in float16."""
BACKBONE, TRUNK = "generator.scene.backbone", "discriminator.trunk"

OPTIONS = (
    # The run
    Option(
        "--outdir",
        ("run.outdir",),
        str,
        None,
        "Folder in which the run gets a numbered folder of its own.",
        os.path.expanduser,
    ),
    Option(
        "--data",
        ("data.path",),
        str,
        None,
        "Training pictures: zip or folder with dataset.json.",
        os.path.expanduser,
    ),
    Option("--gpus", ("run.gpus",), POSITIVE, None, "GPUs; with --device=cpu, processes."),
    Option("--batch", ("run.batch",), POSITIVE, None, "Pictures a step, over all GPUs."),
    Option("--batch-gpu", ("run.batch_gpu",), POSITIVE, None, "Pictures a GPU handles at a time. [batch / gpus]"),
    Option("--gamma", ("loss.r1_gamma",), AMOUNT, None, "Weight of the gradient penalty R1."),
    Option("--kimg", ("run.kimg",), RATE, 25000, "Length of the run in thousands of pictures."),
    Option("--tick", ("run.tick",), RATE, 4, "Thousands of pictures between two progress lines."),
    Option("--snap", ("run.snap",), POSITIVE, None, "Ticks between two snapshots. [20 or 50, by model]"),
    Option("--metrics", ("run.metrics",), str, None, "Names, separated by commas, or none. [fid50k_full]", _metrics),
    Option(
        "--keep-best", ("run.keep_best",), bool, False, "Keep the newest snapshot and the best by the first metric."
    ),
    Option("--seed", ("run.seed",), COUNT, 0, "Random seed of the whole run."),
    Option("--desc", ("run.desc",), str, None, "Text at the end of the run folder's name."),
    Option("--device", ("run.device",), click.Choice(["cuda", "cpu"]), None, "[cuda if there is a GPU]"),
    Option(
        "--nobench",
        ("run.cudnn_benchmark",),
        bool,
        False,
        "Do not try out cuDNN's algorithms: slower, but no memory peak at the start.",
        lambda value: not value,
    ),
    Option(
        "--precision",
        ("run.precision",),
        click.Choice(get_args(Precision)),
        "mixed",
        "mixed: float16 on GPUs where the --*_num_fp16_res options say so; float32; or bfloat16, on CPUs too.",
    ),
    Option("--tf32", ("run.tf32",), bool, False, "Let GPUs round the factors of float32 products to TF32."),
    Option("--workers", ("data.workers",), COUNT, 3, "Threads that decode pictures ahead; 0: none."),
    # Data
    Option("--mirror", ("data.mirror",), bool, False, "Add flipped pictures, their cameras flipped with them."),
    Option(
        "--cond",
        ("generator.c_dim",),
        bool,
        True,
        "Tell both networks the cameras. Without, cameras of the data set still render.",
        lambda value: 25 if value else 0,
    ),
    Option("--aug", ("augment.mode",), click.Choice(["noaug", "ada", "fixed"]), "noaug", "Augmentation before D."),
    Option("--p", ("augment.p",), PROBABILITY, 0.2, "Augmentation probability of --aug=fixed."),
    Option("--target", ("augment.target",), PROBABILITY, 0.6, "Mean sign of D on real pictures that --aug=ada seeks."),
    # Networks
    Option(
        "--cbase", (f"{BACKBONE}.channel_base", f"{TRUNK}.channel_base"), POSITIVE, 32768, "Channels times resolution."
    ),
    Option("--cmax", (f"{BACKBONE}.channel_max", f"{TRUNK}.channel_max"), POSITIVE, 512, "Most channels of a layer."),
    Option("--map-depth", ("generator.mapping.num_layers",), POSITIVE, 2, "Layers of the mapping network."),
    Option(
        "--mbstd-group", (f"{TRUNK}.mbstd_group_size",), POSITIVE, 4, "Samples compared by the minibatch statistics."
    ),
    Option("--freezed", (f"{TRUNK}.freeze_layers",), COUNT, 0, "First layers of D that do not train (Freeze-D)."),
    Option(
        "--g_num_fp16_res", (f"{BACKBONE}.num_fp16_res",), COUNT, 0, "Highest resolutions of the backbone in float16."
    ),
    Option("--d_num_fp16_res", (f"{TRUNK}.num_fp16_res",), COUNT, 4, "Highest resolutions of D in float16."),
    Option(
        "--sr_num_fp16_res", ("generator.upsampler.num_fp16_res",), COUNT, 4, "Above 0: super-resolution in float16."
    ),
    Option(
        "--sr-module",
        ("generator.upsampler.module",),
        str,
        None,
        "Super-resolution other than the one for the picture size: 2X, 4X, 8X, 8XDC, deep, or a published class path.",
        _sr_module,
    ),
    Option(
        "--sr_noise_mode",
        ("generator.upsampler.noise_mode",),
        click.Choice(["random", "none"]),
        "none",
        "Per-pixel noise of the super-resolution.",
    ),
    Option(
        "--decoder_lr_mul", ("generator.scene.decoder.lr_multiplier",), RATE, 1, "Factor on the point decoder's rate."
    ),
    Option(
        "--sigma_act",
        ("generator.scene.decoder.density_activation",),
        click.Choice(["linear", "relu", "lrelu"]),
        "linear",
        "What the density head ends with.",
    ),
    Option(
        "--plane-axes",
        ("generator.scene.axes",),
        click.Choice(["corrected", "legacy"]),
        None,
        "Three different planes, or the published ones, of which two span the same axes. "
        "[corrected; those of the snapshot that --resume names]",
    ),
    # Background
    Option(
        "--bg_ver", ("generator.background.texture",), str, "ver1", "Background network: ver1 or ver0.", _sphere_version
    ),
    Option("--n_blocks", ("generator.background.num_layers",), POSITIVE, 4, "Layers of the background network."),
    Option("--hidden_size", ("generator.background.hidden",), POSITIVE, 64, "Width of the background network."),
    Option("--radius", ("generator.background.radius",), RATE, 3.0, "Radius of the sphere; all cameras are inside."),
    Option(
        "--bg_pe", ("generator.background.angle_divisor",), RATE, 2 * math.pi, "Divisor of the sphere's angles. [2 pi]"
    ),
    Option("--z_bg_dim", ("generator.background.z_dim",), POSITIVE, 512, "Size of the background's latent."),
    Option("--w_bg_dim", ("generator.background.texture.w_dim",), POSITIVE, 512, "Size of the background's style."),
    Option(
        "--bg_mapping", ("generator.background.texture.mapping_layers",), POSITIVE, 8, "Layers of its mapping network."
    ),
    Option(
        "--bg-seamless",
        ("generator.background.encoding",),
        bool,
        None,
        "Encode the azimuth without the published seam behind the frontal camera. [True]",
        lambda value: "seamless" if value else "normal",
    ),
    Option(
        "--bg-pairs",
        ("loss.background_pairs",),
        bool,
        False,
        "Each foreground twice a batch, in front of two backgrounds.",
    ),
    # Optimizers and losses
    Option("--glr", ("optim.generator_lr",), RATE, 0.0025, "Learning rate of G."),
    Option("--dlr", ("optim.discriminator_lr",), RATE, 0.002, "Learning rate of D."),
    Option("--style_mixing_prob", ("loss.style_mixing_prob",), PROBABILITY, 0, "Chance that a batch mixes two styles."),
    Option(
        "--disc_c_noise",
        ("discriminator.label_noise",),
        AMOUNT,
        0,
        "Noise on D's labels, in their standard deviations.",
    ),
    Option("--density_reg", ("loss.density.strength",), AMOUNT, None, "Strength of the density regularizer at points."),
    Option(
        "--density_reg_every", ("optim.generator_reg_interval",), POSITIVE, 4, "Steps between G's regularizer steps."
    ),
    Option("--density_reg_p_dist", ("loss.density.distance",), RATE, 0.004, "Distance of the points that l1 compares."),
    Option("--reg_type", ("loss.density.kind",), str, "l1", "l1, monotonic-detach or monotonic-fixed.", _density_kind),
    Option("--fg_density_reg", ("loss.fg_density.strength",), AMOUNT, 0, "Strength of: density together on each ray."),
    Option("--fg_density_reg_scheduler", ("loss.fg_density.warm_up",), bool, False, "Warm it up over 15,000 pictures."),
    Option(
        "--fg_density_spatial_reg",
        ("loss.fg_density_spatial.strength",),
        AMOUNT,
        0,
        "Strength of: low entropy on each ray.",
    ),
    Option(
        "--bg_transmittance_reg", ("loss.bg_transmittance.strength",), AMOUNT, 0, "Strength of: rays opaque or empty."
    ),
    Option(
        "--bg_transmittance_reg_start", ("loss.bg_transmittance.start",), COUNT, 0, "Pictures after which it begins."
    ),
    Option(
        "--bg_density_reg_scheduler",
        ("loss.bg_transmittance.warm_up",),
        bool,
        False,
        "Warm it up over 15,000 pictures.",
    ),
    # Schedules
    Option(
        "--neural_rendering_resolution_initial",
        ("schedule.resolution", "generator.raw_resolution"),
        POSITIVE,
        None,
        "Rays per side at first. [64, less below 128 pixels]",
    ),
    Option(
        "--neural_rendering_resolution_final",
        ("schedule.resolution_final",),
        POSITIVE,
        None,
        "Rays per side in the end. [the same]",
    ),
    Option(
        "--neural_rendering_resolution_fade_kimg",
        ("schedule.resolution_fade_kimg",),
        AMOUNT,
        1000,
        "Length of that change.",
    ),
    Option("--blur_fade_kimg", ("schedule.blur_fade_kimg",), AMOUNT, 200, "Length of the initial blur, at batch 32."),
    Option(
        "--gen_pose_cond", ("generator.mapping.pose_conditioning",), bool, False, "Tell the mapping network the camera."
    ),
    Option("--c-scale", ("generator.mapping.label_scale",), float, 1, "Factor on the label that it is told."),
    Option(
        "--gpc_reg_prob", ("schedule.swap_probability",), PROBABILITY, 0.5, "Chance that it is told another camera."
    ),
    Option(
        "--gpc_reg_fade_kimg",
        ("schedule.swap_fade_kimg",),
        AMOUNT,
        1000,
        "Length of the fade from always to that chance.",
    ),
    # Accepted for the sake of published command lines
    Option("--c-noise", (), float, 0, "Has no effect."),
    Option("--sr_first_cutoff", (), float, 2, "Has no effect."),
    Option("--sr_first_stopband", (), float, 2**2.1, "Has no effect."),
)


def apply_options(config: TrainConfig, given: Mapping[str, Any]) -> TrainConfig:
    """The configuration with the options that were given, by parameter name.

    Raises ConfigError, with the option's name, for one that the model has no part for.
    """
    for option in OPTIONS:
        value = given.get(option.key)
        if value is None:
            continue
        translated = option.translate(value)
        try:
            for path in option.paths:
                config = override(config, path, translated)
        except ConfigError as error:
            if value != option.default:
                raise ConfigError(f"{option.name}={value}: {error}") from error
    if given.get("g_num_fp16_res"):
        config = override(config, f"{BACKBONE}.conv_clamp", CONV_CLAMP)
    if given.get("batch") is not None or given.get("blur_fade_kimg") is not None:
        config = _scale_blur(config, given.get("blur_fade_kimg"))
    return config


def _scale_blur(config: TrainConfig, fade_kimg: float | None) -> TrainConfig:
    default = type(config.schedule)().blur_fade_kimg
    fade = (default if fade_kimg is None else fade_kimg) * config.run.batch / REFERENCE_BATCH
    return replace(config, schedule=replace(config.schedule, blur_fade_kimg=fade))


def data_options(given: Mapping[str, Any]) -> dict[str, Any]:
    """The given options that say which pictures are read."""
    reading = {option.key for option in OPTIONS if option.paths and option.paths[0].startswith("data.")}
    return {key: value for key, value in given.items() if key in reading}


def options_without_effect(given: Mapping[str, Any]) -> list[str]:
    """Names of the given options that nothing reads."""
    return [option.name for option in OPTIONS if not option.paths and given.get(option.key) is not None]
