"""Golden scalars and tables, which files of gaps hold beside their arrays.

A recipe gives the largest error over its tolerance. Facts about the released code alone have none.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tests.parity.cameras import single_ray_limits
from tests.parity.gaps_case import Case
from tests.parity.gaps_parts import judged_views, large_features, named_module
from tests.parity.golden import Recipes, found
from tests.parity.networks import style_rows
from training import ema
from training.augment import adapted_probability
from training.batches import WindowShuffle
from training.layers import SQRT_HALF, minibatch_std
from training.losses import DensityConfig, LossConfig
from training.official import our_key, ours_to_official
from training.step import adam, build_phases

recipes = Recipes()
ADA_INTERVAL = 4
SHARE_TOLERANCE = 1e-3
"""Values next to a limit may fall on either side of it."""


def error(actual: Any, expected: Any, tolerance: float = 1e-6) -> float:
    """The largest difference over a tolerance relative to the expected value, or to 1 where that is smaller."""
    actual, expected = np.asarray(actual, dtype=np.float64), np.asarray(expected, dtype=np.float64)
    if actual.shape != expected.shape:
        return float("inf")
    return float((np.abs(actual - expected) / (tolerance * np.maximum(np.abs(expected), 1))).max(initial=0))


def same(actual: Any, expected: Any) -> float:
    """0 where both are equal, infinite where not."""
    return 0.0 if actual == expected else float("inf")


# Networks


@recipes.array(r"clamp_(planes|sr|D): layer .*")
def clamped_layers(case: Case, match: re.Match[str], table: dict[str, list[float]]) -> float:
    """Largest activation of each layer, and the share of its activations at the limit."""
    if match[1] == "planes":
        shot = case.shot("clamp", case.golden.meaning("clamp_planes"))
        clamp = shot.G.config.scene.backbone.conv_clamp or math.inf
        seen = watch(shot.G, {name: our_key(f"backbone.{name}") for name in table}, lambda: replace(shot).planes)
    elif match[1] == "sr":
        network = named_module(case, case.golden.meaning("clamp_sr"), num_fp16_res=1, antialias=True)
        clamp = network.block0.conv0.conv_clamp or math.inf
        seen = watch(network, {name: name for name in table}, lambda: network.enlarge(*large_features(case)))
    else:
        text = case.golden.meaning("clamp_D_logits")
        D, views = case.discriminator(), judged_views(case, text, 0)
        clamp = D.config.trunk.conv_clamp or math.inf
        seen = watch(D, {name: our_key(name) for name in table}, lambda: D(views, case.labels(text)))

    def errors(name: str, largest: float, share: float) -> float:
        output = seen[name][1].abs()
        limit = clamp * (SQRT_HALF if match[1] == "D" and name.endswith(("conv1", "skip")) else 1)
        at_limit = (output >= limit * (1 - 1e-6)).float().mean().item()
        return max(error(output.max().item(), largest, 1e-4), abs(at_limit - share) / SHARE_TOLERANCE)

    return max(errors(name, *values) for name, values in table.items())


@recipes.array(r"ws .*row read by each layer.*")
def rows_read(case: Case, match: re.Match[str], table: dict[str, list[int]]) -> float:
    """Which style row each layer reads."""
    shot = case.shot("", "")
    random = torch.Generator().manual_seed(0)
    scene, behind = (
        torch.randn(rows.shape, generator=random) for rows in (shot.latents.scene, shot.latents.background)
    )
    mixed = replace(shot, latents=style_rows(scene, behind))
    seen = watch(shot.G, {name: our_key(name) for name in table}, lambda: mixed.full)

    def row(name: str) -> list[int]:
        rows = behind if name.startswith("BG_") else scene
        return [i for i in range(rows.shape[1]) if torch.equal(rows[:, i], seen[name][0])]

    return same({name: row(name) for name in table}, table)


def watch(
    network: nn.Module, paths: Mapping[str, str | None], call: Callable[[], Any]
) -> dict[str, tuple[Tensor, Tensor]]:
    """First input and output of the modules at some paths during a call, over all samples of the batch."""
    seen: dict[str, list[tuple[Tensor, Tensor]]] = {name: [] for name in paths}

    def keep(name: str) -> Callable[..., None]:
        # Samples may come one by one, and what follows a module may overwrite its output.
        return lambda module, inputs, output: seen[name].append((inputs[0], output.clone()))

    hooks = [network.get_submodule(path or "").register_forward_hook(keep(name)) for name, path in paths.items()]
    with torch.no_grad():
        call()
    for hook in hooks:
        hook.remove()
    return {
        name: (torch.cat([first for first, _ in calls]), torch.cat([output for _, output in calls]))
        for name, calls in seen.items()
    }


@recipes.array(r"mbstd_accepted")
@torch.no_grad()
def batches_accepted(case: Case, match: re.Match[str], table: dict[str, str]) -> float:
    """Which batches divide into groups."""

    def accepts(n: int, group: int) -> bool:
        try:
            minibatch_std(torch.zeros(n, 2, 4, 4), group)
        except ValueError:
            return False
        return True

    sizes = {text: [int(size) for size in re.findall(r"=(\d+)", text)] for text in table}
    return same({text: accepts(*size) for text, size in sizes.items()}, {t: v == "accepted" for t, v in table.items()})


@recipes.array(r"fraction of rays that miss")
def rays_missing(case: Case, match: re.Match[str], table: dict[str, float]) -> float:
    """Share of the rays that pass the box."""

    def share(name: str) -> float:
        shot = case.limited_shot(name)
        near, far = single_ray_limits(shot.rays, shot.G.config.scene.box_warp)
        return ((near == -1) & (far == -2)).float().mean().item()

    return max(error(share(name), value) for name, value in table.items())


@recipes.array(r"layers")
def layers(case: Case, match: re.Match[str], table: dict[str, list]) -> float:
    """Official names and shapes of the background's weights."""

    def background(scene: str) -> list:
        state = ours_to_official(case.shot(scene, case.description(scene)).G)
        return sorted([name, list(tensor.shape)] for name, tensor in state.items() if name.startswith("BG_Net."))

    return max(same(background(scene), sorted(expected)) for scene, expected in table.items())


@recipes.array(r"max difference of raw colours, .*white_back.*")
def white_behind_everything(case: Case, match: re.Match[str], difference: float) -> float:
    """A white backdrop cannot be seen in front of a sphere."""
    with_white, without = (case.shot(name, case.description(name)) for name in ("white_back", "reference"))
    return error((with_white.full.image_raw - without.full.image_raw).abs().max().item(), 0, 1e-5)


# Training


@recipes.array(r"adam")
def optimizer(case: Case, match: re.Match[str], table: dict[str, dict[str, Any]]) -> float:
    """Rate, decays and steps of the optimizers, lazy ones among them."""

    def errors(run: dict[str, Any]) -> float:
        k = run["interval"]
        ratio = 1 if k is None else k / (k + 1)
        parameter = nn.Parameter(torch.tensor(run["parameter"]))
        beta_1, beta_2 = (beta ** (1 / ratio) for beta in run["betas"])
        steps = adam([parameter], run["lr"] / ratio, (beta_1, beta_2), run["eps"], k)
        worst = error([steps.defaults["lr"], *steps.defaults["betas"]], [run["lr"], *run["betas"]])
        for gradient, expected in zip(run["gradients"], run["after_each_step"], strict=True):
            parameter.grad = torch.tensor(gradient)
            steps.step()
            worst = max(worst, error(parameter.tolist(), expected))
        return worst

    return max(errors(run) for run in table.values())


@recipes.array(r"phases")
def phase_order(case: Case, match: re.Match[str], table: dict[str, Any]) -> float:
    """Phases that are due in each of the first iterations."""
    intervals = [int(number) for number in re.findall(r"\d+", found(table["rule"], r"intervals ([\d, ]+)"))]
    built = build_phases(LossConfig(density=DensityConfig(strength=1)), intervals[1], intervals[3])
    due = [[phase.name for phase in built if phase.is_due(i)] for i in range(len(table["first_20"]))]
    return same(due, table["first_20"])


@recipes.array(r"ema")
def average(case: Case, match: re.Match[str], table: dict[str, Any]) -> float:
    """Decay of the average and its result for a parameter of 2 and an average of -1."""

    def errors(batch: int, ramp_up: float | None, images: int, beta: float, result: float) -> float:
        keep = ema.decay(ema.EmaConfig(ramp_up=ramp_up), batch, images)
        averaged, network = nn.BatchNorm1d(1), nn.BatchNorm1d(1)
        nn.init.constant_(averaged.weight, -1)
        nn.init.constant_(network.weight, 2)
        ema.update(averaged, network, keep)
        return max(error(keep, beta), error(averaged.weight.item(), result))

    return max(errors(*row) for row in table["rows"])


@recipes.array(r"ada")
def adaptation(case: Case, match: re.Match[str], table: dict[str, Any]) -> float:
    """The augmentation probability after each update."""
    worst = 0.0
    for run in table["runs"]:
        p = 0.0
        for _, seen, expected in run["rows"]:
            p = adapted_probability(p, seen, run["target"], run["batch"], ADA_INTERVAL, run["ada_kimg"])
            worst = max(worst, error(p, expected))
    return worst


@recipes.array(r"sampler")
def order(case: Case, match: re.Match[str], table: dict[str, Any]) -> float:
    """The order of the pictures for each process."""

    def taken(run: dict[str, Any]) -> list[int]:
        shuffle = WindowShuffle(run["size"], run["seed"], run["window_size"])
        count = len(run["first_64"])
        return shuffle.take(count * run["num_replicas"])[run["rank"] :: run["num_replicas"]].tolist()

    return max(same(taken(run), run["first_64"]) for run in table["runs"])
