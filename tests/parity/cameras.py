"""Golden files of cameras, rays, box limits and the projection to planes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tests.parity.golden import Golden, Recipes, found, number
from training.cameras.camera import fov_to_intrinsics, make_rays
from training.cameras.prior import look_at, orbit_position
from training.rendering.sampling import published_box_limits
from training.scene.lookup import PLANE_AXES, plane_table, sample_planes
from training.types import Camera, Rays, RenderSettings

recipes = Recipes()


@dataclass(frozen=True)
class Case:
    """A file of camera functions."""

    golden: Golden


def pose(entry: dict[str, Any]) -> Tensor:
    """The camera-to-world matrix of an entry with angles, radius and, unless it is the origin, a target."""
    azimuth, polar = (torch.tensor([entry[name]]) for name in ("horizontal_mean", "vertical_mean"))
    target = torch.tensor([entry.get("lookat", [0, 0, 0])], dtype=torch.float32)
    return look_at(orbit_position(azimuth, polar, entry["radius"]), target)[0]


@recipes.array(r"lookat_.*|origin_.*")
def matrix(case: Case, match: re.Match[str], entry: dict[str, Any]) -> Tensor:
    return pose(entry)


@recipes.array(r"fov_.*")
def intrinsics(case: Case, match: re.Match[str], entry: dict[str, Any]) -> Tensor:
    return fov_to_intrinsics(entry["fov_degrees"])


def rays(case: Case) -> Rays:
    entry = case.golden.entry("ray_origins")
    poses = [pose(case.golden.entry(name)) for name in re.findall(r"lookat_\d+_\d+", entry["op"])]
    camera = Camera(torch.stack(poses), torch.tensor(entry["intrinsics"]))
    return make_rays(camera, RenderSettings(round(entry["shape"][1] ** 0.5)))


@recipes.array(r"ray_(origins|directions)")
def ray(case: Case, match: re.Match[str], entry: dict[str, Any]) -> Tensor:
    return getattr(rays(case), match[1])


@recipes.array(r"box_(near|far)")
def box(case: Case, match: re.Match[str], entry: dict[str, Any]) -> Tensor:
    side = number(case.golden.entry("box_near")["op"], r"side ([\d.]+)")
    return single_ray_limits(rays(case), side)[match[1] == "far"]


def single_ray_limits(rays: Rays, side: float) -> tuple[Tensor, Tensor]:
    """Limits of every ray by itself: -1 and -2 for one that misses, since no other lends it its own."""
    n, count, _ = rays.origins.shape
    pairs = zip(rays.origins.flatten(0, 1), rays.directions.flatten(0, 1), strict=True)
    limits = [published_box_limits(Rays(o[None, None], d[None, None]), side) for o, d in pairs]
    near, far = (torch.cat(ends).view(n, count, 1) for ends in zip(*limits, strict=True))
    return near, far


@recipes.array(r"plane_projection")
def projection(case: Case, match: re.Match[str], entry: dict[str, Any]) -> Tensor:
    points = plane_points(case)
    return torch.stack([points[..., list(axes)] for axes in PLANE_AXES["legacy"]], dim=1).flatten(0, 1)


@recipes.array(r"plane_features")
def features(case: Case, match: re.Match[str], entry: dict[str, Any]) -> Tensor:
    planes = case.golden.formula(found(entry["op"], r"planes (RandomState\S*\)),"))
    scaled = plane_points(case) * (2 / number(entry["op"], r"box_warp ([\d.]+)"))
    tables = [plane_table(planes[:, i : i + 1]) for i in range(planes.shape[1])]

    def sampled(sample: int) -> Tensor:
        pairs = zip(tables, PLANE_AXES["legacy"], strict=True)
        found = [sample_planes(table[sample], scaled[sample], (axes,), planes.shape[-1]) for table, axes in pairs]
        return torch.stack(found)

    return torch.stack([sampled(i) for i in range(len(planes))])


def plane_points(case: Case) -> Tensor:
    return case.golden.formula(found(case.golden.entry("plane_projection")["op"], r"points (RandomState.*)$"))
