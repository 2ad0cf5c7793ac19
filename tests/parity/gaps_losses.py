"""Golden losses and gradient norms of the files of gaps."""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import Tensor

from tests.parity import phases
from tests.parity.gaps_case import Case
from tests.parity.golden import Recipes, found, number
from training.losses import MONOTONIC_STRENGTH, DensityConfig, LossConfig
from training.losses.regularizers import DENSITY_POINTS, MONOTONIC_POINTS, PointPairs

recipes = Recipes()
MARCH_PHASES = {
    "Greg_fgdensity": ("fg_density", "fg_density_reg"),
    "Greg_fgdensity_spatial": ("fg_density_spatial", "fg_density_spatial_reg"),
    "Greg_bgtransmittance": ("bg_transmittance", "bg_transmittance_reg"),
}
"""Phases of the released code: our name of the regularizer and the option that holds its strength."""


def read(case: Case, outcome: phases.Outcome, what: str, entry: dict[str, Any]) -> Tensor:
    """Gradient norms or a statistic of a phase; where the file has one number, the mean over the batch."""
    if what == "grad_norms":
        return outcome.norms(case.golden.spec["numbers"]["grad_names"][entry["names"]])
    values = outcome.statistic(what)
    return values.mean()[None] if entry["shape"] == [1] else values


@recipes.array(r"(ver\d)_(Greg_\w+?)__(Loss\..*|grad_norms)")
def march_regularizer(case: Case, match: re.Match[str], entry: dict[str, Any]) -> Tensor:
    key = (match[1], entry["phase"], entry.get("gain", 1))
    if key not in case.outcomes:
        name, option = MARCH_PHASES[entry["phase"]]
        scale = {name: case.golden.spec["G_kwargs"]["rendering_kwargs"][option]}
        G = case.trained_generator(match[1])
        case.outcomes[key] = phases.regularize(G, case.batch, scale, LossConfig(), entry.get("gain", 1))
    return read(case, case.outcomes[key], match[3], entry)


@recipes.array(r"(ver\d)_(Gmain|Dmain|Dreg)__(Loss\..*|grad_norms)")
def adversarial(case: Case, match: re.Match[str], entry: dict[str, Any]) -> Tensor:
    key = (match[1], match[2], entry.get("gain", 1))
    if key not in case.outcomes:
        note = case.golden.spec["D_kwargs"]["note"].split("losses:")[1]
        sizes: dict[str, Any] = {name: int(value) for name, value in re.findall(r"(\w+) (\d+)", note)}
        D = case.discriminator(**sizes)
        G = case.trained_generator(match[1])
        case.outcomes[key] = phases.run(match[2], G, D, case.batch, entry.get("gain", 1))
    return read(case, case.outcomes[key], match[3], entry)


@recipes.array(r"(lazy\d+|single)_(Dreg)__(Loss\..*|grad_norms)")
def penalty(case: Case, match: re.Match[str], entry: dict[str, Any]) -> Tensor:
    D = case.discriminator("SingleDiscriminator" if match[1] == "single" else "DualDiscriminator")
    return read(case, phases.run(match[2], None, D, case.batch, entry.get("gain", 1)), match[3], entry)


@recipes.array(r"Greg_([\w-]+?)(?:_gain(\d+))?__(values|grad_norms)")
def density_regularizer(case: Case, match: re.Match[str], entry: dict[str, Any]) -> Tensor:
    outcome = regularized(case, match[1], float(match[2] or 1))
    if match[3] == "grad_norms":
        return read(case, outcome, match[3], entry)
    names = ["Loss.reg_density", "Loss.reg_density_monotonic"][: entry["shape"][0]]
    return torch.stack([outcome.statistic(name).mean() for name in names])


def regularized(case: Case, kind: Any, gain: float) -> phases.Outcome:
    """The density regularizer of a kind, at the points of the file."""
    how, options = case.golden.spec["how"], case.golden.spec["G_kwargs"]["rendering_kwargs"]
    config = DensityConfig(options["density_reg"], kind, options["density_reg_p_dist"])
    labels = case.golden.formula(found(how, r"Greg_\*\): in_z\[:\d+\], label (in_c\[[\d:]+\])"))
    seed = int(number(how, r"RandomState\((\d+)\+n\)"))
    noise = found(how, r"perturbation noise = (RandomState\(\d+\)\.randn\([\d,]+\))")

    def points(n: int) -> Tensor:
        return case.golden.formula(f"RandomState({seed + n}).rand({len(labels)},{n},3)") * 2 - 1

    step = config.step(options["box_warp"])
    near = points(DENSITY_POINTS)
    pairs = {"density": PointPairs(near, near + case.golden.formula(noise) * step)}
    scale = {"density": config.strength}
    if config.is_monotonic:
        front = points(MONOTONIC_POINTS)
        pairs["density_monotonic"] = PointPairs(front, front + torch.tensor([0.0, 0.0, -step]))
        scale["density_monotonic"] = MONOTONIC_STRENGTH
    batch = phases.Batch.of(case.z[: len(labels)], labels.flip(0), torch.zeros(0, 3, 1, 1), case.resolution, gamma=0)
    return phases.regularize(case.trained_generator(), batch, scale, LossConfig(density=config), gain, pairs)
