"""Golden files of generators in what the other files leave out: other options, cameras, styles and backgrounds."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from tests.parity import gaps_losses, gaps_parts
from tests.parity.cameras import single_ray_limits
from tests.parity.gaps_case import Case
from tests.parity.generator import LAYERS, sphere_stage, subsampled_planes
from tests.parity.golden import Recipes, every, every_pixel, found
from tests.parity.networks import Shot
from training.rendering.sampling import published_box_limits

__all__ = ["Case", "recipes"]

recipes = Recipes()
recipes.include(gaps_losses.recipes)
recipes.include(gaps_parts.recipes)


NAMED = r"(fgcam|act_\w+?|mix|white_back|reference|trunc[\d._]*?|bg_R\S+?|ver0_x)"


@recipes.array(NAMED + r"_(?:(only_fg|only_bg)_)?(image_raw|image_depth|image)")
def picture(case: Case, match: re.Match[str], entry: dict[str, Any]) -> Tensor:
    shot = case.shot(match[1], case.description(match[1]))
    value = shot.output(LAYERS[match[2] or ""])[match[3]]
    pixels = slice(None)
    if match[3] == "image":
        pixels = every_pixel(entry.get("meaning", ""))
    return value[:, :, pixels, pixels]


@recipes.array(NAMED + r"_(?:(only_fg|only_bg)_)?bg_transmittance")
def transmittance(case: Case, match: re.Match[str], entry: dict[str, Any]) -> Tensor:
    return case.shot(match[1], case.description(match[1])).march.transmittance.squeeze(2)


@recipes.array(NAMED + r"_(angles|encoding|bg_distance)")
@torch.no_grad()
def sphere(case: Case, match: re.Match[str], entry: dict[str, Any]) -> Tensor:
    stage = {"encoding": "posenc", "bg_distance": "distance"}.get(match[2], match[2])
    return sphere_stage(case.shot(match[1], case.description(match[1])), stage)[:, every(entry["meaning"], "rays")]


@recipes.array(NAMED + r"_sigma")
@torch.no_grad()
def density(case: Case, match: re.Match[str], entry: dict[str, Any]) -> Tensor:
    points = case.golden.assigned(entry["meaning"], "raw density at")
    return case.shot(match[1], case.description(match[1])).field(points).density.squeeze(2)


@recipes.array(r"(?:(mix|clamp)_planes|planes_sub)")
def planes(case: Case, match: re.Match[str], entry: dict[str, Any]) -> Tensor:
    return subsampled_planes(case.shot(match[1] or "", entry["meaning"]), entry["meaning"])


# Ray limits


@recipes.array(r"auto_(\w+?)_(limits_raw|limits_used|rgb|depth|weight)")
def automatic(case: Case, match: re.Match[str], entry: dict[str, Any]) -> Tensor:
    shot = case.limited_shot(match[1])
    side = shot.G.config.scene.box_warp
    if match[2].startswith("limits"):
        limits = single_ray_limits if match[2] == "limits_raw" else published_box_limits
        return torch.cat(limits(shot.rays, side), dim=2)
    return rendered(shot, match[2])


@recipes.array(r"empty_fixed_wb(\d)_(rgb|depth)")
def empty(case: Case, match: re.Match[str], entry: dict[str, Any]) -> Tensor:
    text = case.golden.meaning(f"empty_fixed_wb{match[1]}_rgb")
    side = int(found(text, r"(\d+)x\d+ rays"))
    shot = case.shot("empty", f"{text}; white_back {'true' if match[1] == '1' else 'false'}")
    return rendered(replace(shot, resolution=side), match[2])


def rendered(shot: Shot, what: str) -> Tensor:
    """Colour, depth or opacity by ray."""
    if what == "rgb":
        return shot.full.image_raw.flatten(2).transpose(1, 2)
    return (shot.full.image_depth if what == "depth" else shot.full.opacity).flatten(1)
