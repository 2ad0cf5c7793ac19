"""Golden files of whole networks: what a generator gives at every stage, logits, losses and gradient norms."""

from __future__ import annotations

import copy
import json
import re
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from tests.parity import networks, phases
from tests.parity.fill import filled
from tests.parity.golden import Golden, Recipes, block_image, every, every_pixel, number, truncation
from tests.parity.networks import GENERATOR, Shot
from training.background.sphere import encode_angles, intersect_sphere, sphere_angles
from training.losses import MarchConfig
from training.losses.regularizers import MARCH_REGULARIZERS, PointPairs, density_variation
from training.schedule import blur_sigma, march_scale
from training.types import Layer, Views

recipes = Recipes()
LAYERS: dict[str, Layer] = {"": "full", "only_fg": "foreground", "only_bg": "hole"}


@dataclass(frozen=True)
class Case:
    """A file of a generator, with a discriminator where it has losses."""

    golden: Golden

    @cached_property
    def n(self) -> int:
        """Samples of the renderings."""
        return int(number(self.golden.spec["how"], r"N = (\d+)"))

    @cached_property
    def z(self) -> Tensor:
        """All latents, those of the background beside those of the scene."""
        names = [name for name in ("in_z", "in_z_bg") if name in self.golden.values]
        return torch.cat([self.golden.tensor(name) for name in names], dim=1)

    @cached_property
    def labels(self) -> Tensor:
        """All labels."""
        return self.golden.tensor("in_c")

    @cached_property
    def G(self) -> Any:
        """The generator."""
        return self.variant(self.golden.spec["G_kwargs"])

    @cached_property
    def D(self) -> Any:
        """The discriminator."""
        spec = self.golden.spec
        return networks.network(spec["D_class"].rsplit(".", 1)[-1], spec["D_kwargs"], filled(spec["D_state_dict"]))

    def variant(self, kwargs: dict[str, Any]) -> Any:
        """The generator with other constructor arguments."""
        return networks.network(GENERATOR, kwargs, filled(self.golden.spec["G_state_dict"]))

    def shot_of(self, G: Any) -> Shot:
        """The file's renderings with a generator."""
        resolution = int(number(self.golden.spec["how"], r"neural_rendering_resolution ?=? ?(\d+)"))
        with torch.no_grad():
            latents = G.mapping(self.z[: self.n], self.labels[: self.n])
        return Shot(G, latents, self.labels[: self.n], resolution)

    @cached_property
    def shot(self) -> Shot:
        """The file's renderings."""
        return self.shot_of(self.G)

    def first(self, count: int) -> Shot:
        """The first of the renderings."""
        if count == len(self.shot.labels):
            return self.shot
        return replace(self.shot, latents=self.shot.latents[:count], labels=self.shot.labels[:count])

    def generated(self, name: str) -> Tensor:
        """Pictures by the file's rule."""
        inputs = self.golden.spec["generated_inputs"]
        count = int(number(inputs["rule"], r"randn\((\d+),3,"))
        return torch.from_numpy(block_image(inputs[name]["seed"], count, inputs[name]["res"], inputs[name]["blk"]))

    @cached_property
    def outcomes(self) -> dict[tuple[str, bool], phases.Outcome]:
        """Phases that have run, by name and blur."""
        return {}

    def outcome(self, phase: str, blurred: bool) -> phases.Outcome:
        """A phase on copies of the networks."""
        key = (phase, blurred)
        if key not in self.outcomes:
            how, sigma = self.golden.spec["loss"]["how"], 0.0
            if blurred:
                images, initial, fade = (
                    number(how, pattern)
                    for pattern in (r"cur_nimg (\d+)", r"blur_init_sigma ([\d.]+)", r"blur_fade_kimg ([\d.]+)")
                )
                sigma = blur_sigma(int(images), fade, initial)
            batch = phases.Batch.of(
                self.z,
                self.labels,
                self.generated("D_image"),
                resolution=int(number(how, r"raw resolution (\d+)")),
                gamma=self.golden.spec["loss"]["r1_gamma"],
                blur=sigma,
                swap="labels are swapped" in how,
            )
            self.outcomes[key] = phases.run(phase, copy.deepcopy(self.G), copy.deepcopy(self.D), batch)
        return self.outcomes[key]


# Styles and planes


@recipes.array(r"ws(_bg)?(_psi.*)?")
@torch.no_grad()
def styles(case: Case, match: re.Match[str], entry: dict[str, Any]) -> Tensor:
    latents = case.G.mapping(case.z[: case.n], case.labels[: case.n], *truncation(entry["meaning"] if match[2] else ""))
    return latents.background if match[1] else latents.scene


@recipes.array(r"planes_sub")
def planes(case: Case, match: re.Match[str], entry: dict[str, Any]) -> Tensor:
    return subsampled_planes(case.shot, entry["meaning"])


def subsampled_planes(shot: Shot, text: str) -> Tensor:
    channels, rows, columns = (every(text, what) for what in ("channels", "rows", "columns"))
    return shot.planes.flatten(1, 2)[:, channels, rows, columns]


# Pictures


@recipes.array(r"(?:(only_fg|only_bg)_)?(image|image_raw|image_depth)")
def picture(case: Case, match: re.Match[str], entry: dict[str, Any]) -> Tensor:
    value = case.shot.output(LAYERS[match[1] or ""])[match[2]]
    pixels = every_pixel(entry["meaning"]) if match[2] == "image" else slice(None)
    return value[:, :, pixels, pixels]


@recipes.array(r"(?:(only_fg|only_bg)_)?(fg_weights|bg_transmittance)")
def light(case: Case, match: re.Match[str], entry: dict[str, Any]) -> Tensor:
    march = case.shot.march
    behind = match[2] == "bg_transmittance" or match[1] == "only_bg"
    return (march.transmittance if behind else march.opacity).squeeze(2)


@recipes.array(r"weight_total")
def opacity(case: Case, match: re.Match[str], entry: dict[str, Any]) -> Tensor:
    return case.shot.full.opacity.squeeze(1)


@recipes.array(r"feature_raw_sub")
def features(case: Case, match: re.Match[str], entry: dict[str, Any]) -> Tensor:
    return case.shot.features()[:, every(entry["meaning"], "channels")]


@recipes.array(r"(opt_.*)_(rgb|depth|weights?)")
def variant(case: Case, match: re.Match[str], entry: dict[str, Any]) -> Tensor:
    kwargs = case.golden.spec["G_kwargs"]
    options = changed_options(case.golden.spec["option_variants"][match[1]], kwargs["rendering_kwargs"])
    out = case.shot_of(case.variant(networks.with_options(kwargs, **options))).full
    if match[2] == "rgb":
        return out.image_raw
    return (out.image_depth if match[2] == "depth" else out.opacity).squeeze(1)


def changed_options(text: str, options: dict[str, Any]) -> dict[str, Any]:
    """Rendering options of a text such as `ray_start = ray_end = 'auto', box_warp 1.0, x toggled`."""
    changes: dict[str, Any] = {}
    for part in re.split(r", (?![^\[]*\])", text):
        *names, value = re.split(r" = | (?![^\[]*\])", part)
        changes |= {name: not options.get(name) if value == "toggled" else option(value) for name in names}
    return changes


def option(text: str) -> Any:
    """The value of an option as it stands in a description: a number, true, false, none, or a word."""
    try:
        return json.loads(text.replace("none", "null"))
    except json.JSONDecodeError:
        return text.strip("'")


# Rays and samples


@recipes.array(r"ray_(origins|directions)")
def rays(case: Case, match: re.Match[str], entry: dict[str, Any]) -> Tensor:
    rays = case.shot.rays
    return rays.origins[:, :1] if match[1] == "origins" else rays.directions[:, every(entry["meaning"], "rays")]


@recipes.array(r"alpha|fg_(depths|density)_fine")
def along_rays(case: Case, match: re.Match[str], entry: dict[str, Any]) -> Tensor:
    values = getattr(case.shot.march, f"fine_{match[1]}") if match[1] else case.shot.alpha()
    pixels = every(entry["meaning"], "pixels")
    return case.shot.square(values.transpose(1, 2))[:, :, pixels, pixels].permute(0, 2, 3, 1)


@recipes.array(r"sample_(sigma|rgb)")
@torch.no_grad()
def samples(case: Case, match: re.Match[str], entry: dict[str, Any]) -> Tensor:
    points = case.golden.tensor("in_points")
    samples = case.first(len(points)).field(points)
    return samples.density.squeeze(2) if match[1] == "sigma" else samples.features


@recipes.array(r"density_reg_l1")
@torch.no_grad()
def density_regularizer(case: Case, match: re.Match[str], entry: dict[str, Any]) -> Tensor:
    steps = case.golden.tensor("in_perturbation")
    points = case.golden.tensor("in_points")[:, : steps.shape[1]]
    strength = case.golden.spec["G_kwargs"]["rendering_kwargs"]["density_reg"]
    pairs = PointPairs(points, points + steps)
    return strength * density_variation(case.first(len(points)).field, pairs).mean()[None]


# The sphere


@recipes.array(r"bg_(angles|distance|posenc|feature)")
@torch.no_grad()
def sphere(case: Case, match: re.Match[str], entry: dict[str, Any]) -> Tensor:
    return sphere_stage(case.shot, match[1])[:, every(entry["meaning"], "rays")]


def sphere_stage(shot: Shot, stage: str) -> Tensor:
    """What the background knows of each ray: hit point, its encoding, the colour."""
    background, config = shot.sphere, shot.sphere.config
    points, distance = intersect_sphere(shot.rays_behind, config.radius)
    angles = sphere_angles(points, config.radius)
    if stage == "feature":
        return background(shot.latents.background, shot.rays_behind).features
    if stage == "posenc":
        return encode_angles(angles, config.encoding, config.angle_divisor, background.gaussian)
    return angles if stage == "angles" else distance.squeeze(2)


@recipes.array(r"probe_(points|angles)")
def probe(case: Case, match: re.Match[str], entry: dict[str, Any]) -> Tensor:
    points, radius = case.golden.tensor("probe_points"), case.shot.sphere.config.radius
    if match[1] == "angles":
        return sphere_angles(points, radius)
    return points / points.norm(dim=1, keepdim=True) * radius  # they must lie on the sphere


# Training


@recipes.array(r"reg_(fg_density|fg_spatial|bg_transmittance)")
@torch.no_grad()
def march_regularizer(case: Case, match: re.Match[str], entry: dict[str, Any]) -> Tensor:
    return MARCH_REGULARIZERS[match[1].replace("fg_spatial", "fg_density_spatial")](case.shot.march)


@recipes.array(r"scheduler_at_nimg")
def warm_up(case: Case, match: re.Match[str], entry: dict[str, Any]) -> Tensor:
    counts = case.golden.values["scheduler_at_nimg"][:, 0]
    config = MarchConfig(strength=1, warm_up=True)
    return torch.tensor([[count, march_scale(config, int(count))] for count in counts])


@recipes.array(r"D_logits")
@torch.no_grad()
def logits(case: Case, match: re.Match[str], entry: dict[str, Any]) -> Tensor:
    views = Views(case.generated("D_image"), case.generated("D_image_raw"))
    return case.D(views, case.labels[: len(views.image)]).squeeze(1)


@recipes.array(r"(blur_)?([GD]\w+)__(grad_norms|Loss\..*)")
def loss(case: Case, match: re.Match[str], entry: dict[str, Any]) -> Tensor:
    outcome = case.outcome(match[2], bool(match[1]))
    if match[3] == "grad_norms":
        return outcome.norms(case.golden.spec["loss"]["grad_names"][f"{match[2]}_grad_names"])
    return outcome.statistic(match[3])


@recipes.array(r"w_avg_after_(\w+)")
def average(case: Case, match: re.Match[str], entry: dict[str, Any]) -> Tensor:
    return case.outcome(match[1], False).G.mapping.scene.w_avg
