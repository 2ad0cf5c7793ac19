"""Golden files of single operations: resampling, bias and activation, convolutions, statistics, marching."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from tests.parity.golden import Golden, Recipes, found
from torch_utils.ops import upfirdn2d as resampling
from torch_utils.ops.bias_act import bias_act
from torch_utils.ops.conv2d_resample import conv2d_resample
from training.background.solid import BackgroundSamples
from training.discriminators.dual import filtered_resizing
from training.layers import minibatch_std, modulated_conv2d, normalize_second_moment
from training.rendering.quadrature import midpoint_weights
from training.rendering.renderer import RendererConfig, composite, gather
from training.rendering.sampling import importance_depths
from training.types import RayMarch

recipes = Recipes()
LOWPASS = resampling.setup_filter([1, 3, 3, 1])


@dataclass(frozen=True)
class Case:
    """A file of operations with the inputs that they share."""

    golden: Golden

    @cached_property
    def x(self) -> Tensor:
        """The image that most operations take."""
        formula = found(self.golden.spec["inputs"], r"x = float32 (RandomState\(seed\)\.randn\([^)]*\))")
        return self.golden.formula(formula, size=self.golden.spec["size"])

    def first(self, key: str, start: str) -> str:
        """What the first array with such a name says under a key; several share one description."""
        arrays = self.golden.spec["arrays"].items()
        return next(entry[key] for name, entry in arrays if name.startswith(start) and key in entry)


def options(entry: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: entry[name] for name in names if name in entry}


@recipes.array(r"upfirdn2d_.*")
def upfirdn2d(case: Case, match: re.Match[str], entry: dict[str, Any]) -> Tensor:
    f = None if entry["filter"] is None else resampling.setup_filter(entry["filter"])
    return resampling.upfirdn2d(case.x, f, **options(entry, "up", "down", "padding", "flip_filter", "gain"))


@recipes.array(r"(upsample2d|downsample2d|filter2d)_.*")
def resample(case: Case, match: re.Match[str], entry: dict[str, Any]) -> Tensor:
    arguments = options(entry, "padding", "flip_filter", "gain")
    if factor := re.search(r"factor (\d+|\[.*?\])", entry["op"]):
        arguments["factor"] = json.loads(factor[1])
    return getattr(resampling, match[1])(case.x, resampling.setup_filter(entry["filter"]), **arguments)


@recipes.array(r"bias_act_nobias_dim(\d+)")
def bias_act_along(case: Case, match: re.Match[str], entry: dict[str, Any]) -> Tensor:
    dim = int(match[1])
    seed = found(entry["op"], r"\((seed\+\d+)\)")
    b = case.golden.formula(f"RandomState({seed}).randn({case.x.shape[dim]})")
    return bias_act(case.x, b, dim=dim, act=entry.get("act", "lrelu"), **options(entry, "alpha", "gain", "clamp"))


@recipes.array(r"bias_act_\d+")
def bias_act_of_channels(case: Case, match: re.Match[str], entry: dict[str, Any]) -> Tensor:
    b = case.golden.formula(f"RandomState(seed+1).randn({case.x.shape[1]})")
    return bias_act(case.x, b, **options(entry, "act", "alpha", "gain", "clamp"))


@recipes.array(r"conv2d_resample_(?:\d+|groups(\d+)_.*)")
def conv2d(case: Case, match: re.Match[str], entry: dict[str, Any]) -> Tensor:
    groups = int(match[1] or 1)
    weight = case.golden.formula(entry["weight"])
    if case.x.shape[1] != weight.shape[1] * groups:
        raise ValueError(f"weight of shape {list(weight.shape)} does not fit {case.x.shape[1]} channels")
    taps = re.search(r"filter (\[.*\])", entry["op"])
    f = LOWPASS if taps is None else resampling.setup_filter(json.loads(taps[1]))
    arguments = options(entry, "up", "down", "padding", "flip_weight")
    return conv2d_resample(case.x, weight, f, groups=groups, **arguments)


@recipes.array(r"modulated_conv2d_.*_(fused|unfused)")
def modulated(case: Case, match: re.Match[str], entry: dict[str, Any]) -> Tensor:
    weight, styles = (case.golden.formula(entry[name]) for name in ("weight", "styles"))
    noise = case.golden.formula(entry["noise"]) if "noise" in entry else None
    if entry.get("flip_weight", True) != (entry.get("up", 1) == 1):
        weight = weight.flip([2, 3])  # layers turn the kernel where they enlarge
    arguments = options(entry, "up", "down", "padding", "demodulate")

    def convolve(x: Tensor, styles: Tensor) -> Tensor:
        return modulated_conv2d(x, weight, styles, noise=noise, resample_filter=LOWPASS, **arguments)

    if match[1] == "unfused":
        return convolve(case.x, styles)
    # A single sample takes the form that is fused into the weights.
    return torch.cat([convolve(case.x[i : i + 1], styles[i : i + 1]) for i in range(len(case.x))])


@recipes.array(r"mbstd_g(None|\d+)(?:_f(\d+))?")
def minibatch(case: Case, match: re.Match[str], entry: dict[str, Any]) -> Tensor:
    group = None if match[1] == "None" else int(match[1])
    return minibatch_std(case.golden.formula(case.first("input", "mbstd")), group, int(match[2] or 1))


@recipes.array(r"normalize_2nd_moment")
def normalize(case: Case, match: re.Match[str], entry: dict[str, Any]) -> Tensor:
    rows, columns = entry["shape"]
    offset = re.match(r"seed\+(\d+) flattened", entry["input"])
    if offset is None:
        raise ValueError(f"cannot read the input {entry['input']!r}")
    return normalize_second_moment(case.golden.formula(f"RandomState(seed+{offset[1]}).randn({rows},{columns})"))


@recipes.array(r"filtered_resizing_.*")
def resize(case: Case, match: re.Match[str], entry: dict[str, Any]) -> Tensor:
    return filtered_resizing(case.x, entry["size"], LOWPASS, entry["filter_mode"])


@dataclass(frozen=True)
class March:
    """Samples along rays: depths and raw densities [n, rays, samples], features [n, rays * samples, channels]."""

    depths: Tensor
    density: Tensor
    features: Tensor

    def marched(self) -> RayMarch:
        """The light along the rays, with the depth limits of the release."""
        config = RendererConfig(depth_limits="batch")
        none = self.depths[..., :0]
        return gather(self.depths, self.density, [self.features], none, none, config)

    def rgb(self, white_back: bool) -> Tensor:
        """Features in [-1, 1] on black or white."""
        march = self.marched()
        nothing = BackgroundSamples(torch.zeros_like(march.features))
        features, _ = composite(march, nothing, float(white_back), "foreground", RendererConfig(depth_limits="batch"))
        return features * 2 - 1


def march_of(case: Case) -> March:
    colors, density = (case.golden.formula(case.first(name, "march")) for name in ("colors", "densities"))
    text = case.first("depths", "march")
    depths = case.golden.formula(text.split(" of ", 1)[1]) if text.startswith("sort along dim 2 of ") else None
    if depths is None:
        raise ValueError(f"cannot read the depths {text!r}")
    return March(depths.sort(dim=2).values.squeeze(-1), density.squeeze(-1), colors.flatten(1, 2))


@recipes.array(r"march_(rgb|depth|weights)_wb(\d)")
def march(case: Case, match: re.Match[str], entry: dict[str, Any]) -> Tensor:
    samples = march_of(case)
    if match[1] == "rgb":
        return samples.rgb(match[2] == "1")
    return samples.marched().depth if match[1] == "depth" else samples.marched().weights[..., None]


@recipes.array(r"importance_depths")
def importance(case: Case, match: re.Match[str], entry: dict[str, Any]) -> Tensor:
    samples = march_of(case)
    weights, _ = midpoint_weights(samples.density, samples.depths)
    return importance_depths(samples.depths, weights, entry["shape"][2], "center")[..., None]
