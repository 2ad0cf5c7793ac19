"""Reading the files of gaps: the networks, cameras and styles that their descriptions ask for."""

from __future__ import annotations

import copy
import operator
import re
from dataclasses import dataclass, replace
from functools import cache, cached_property
from typing import Any

import torch
from torch import Tensor

from tests.parity import networks, phases
from tests.parity.fill import filled
from tests.parity.generator import option
from tests.parity.golden import Golden, found, number, truncation
from tests.parity.networks import GENERATOR, Shot, style_rows
from training.types import Latents

OPERATORS = {"*": operator.mul, "+": operator.add, "-": operator.sub}
VERSION_0 = {"bg_ver": "ver0"}


@dataclass(frozen=True, eq=False)
class Case:
    """A file of variants of one generator."""

    golden: Golden

    @cached_property
    def z(self) -> Tensor:
        """All latents, those of the background beside those of the scene."""
        names = [name for name in ("in_z", "in_z_bg") if name in self.golden.values]
        return torch.cat([self.golden.tensor(name) for name in names], dim=1)

    @cached_property
    def resolution(self) -> int:
        """Rays per side of the files' pictures."""
        names = [name for name in self.golden.outputs if name.endswith(("image_raw", "image_depth"))]
        return self.golden.entry(names[0])["shape"][-1] if names else self.loss_resolution

    @cached_property
    def outcomes(self) -> dict[tuple[str, str, float], phases.Outcome]:
        """Phases that have run, by version, name and gain."""
        return {}

    @cached_property
    def batch(self) -> phases.Batch:
        """The inputs of all phases."""
        how = self.golden.spec["how"]
        labels = self.golden.formula(found(how, r"labels (in_c\[:\d+\])"))
        gamma = number(how, r"r1_gamma ([\d.]*\d)")
        real = self.golden.assigned(how, "real")
        return phases.Batch.of(self.z[: len(labels)], labels, real, self.loss_resolution, gamma)

    @property
    def loss_resolution(self) -> int:
        """Rays per side of the losses."""
        return int(number(self.golden.spec["how"], r"raw (?:image at )?resolution (\d+)"))

    @cache  # noqa: B019 (a case lives as long as the check of its file)
    def generator(self, scene: str, text: str) -> Any:
        """The generator of a scene: the file's, with what the text changes in arguments and weights."""
        spec = self.golden.spec
        kwargs, state = dict(spec["G_kwargs"]), filled(spec["state_dicts"]["G"])
        rendering = dict(kwargs["rendering_kwargs"]) | rendering_options(text)
        for name in ("conv_clamp", "num_fp16_res"):
            if match := re.search(rf"(?<!sr_){name} (\d+)", text):
                kwargs[name] = int(match[1])
        if "BG_kwargs" in kwargs:
            table = f"G_{scene}" if f"G_{scene}" in spec["state_dicts"] else "G_ver0" if "ver0" in text else "G"
            background = {key: value for key, value in filled(spec["state_dicts"][table]).items() if "BG_" in key}
            layers = {
                "n_blocks": 1 + sum(bool(re.fullmatch(r"BG_Net\.blocks\.\d+\.weight", key)) for key in background)
            }
            kwargs["BG_kwargs"] = kwargs["BG_kwargs"] | layers | background_options(text)
            state = {key: value for key, value in state.items() if "BG_" not in key} | background
        return networks.network(
            GENERATOR, kwargs | {"rendering_kwargs": rendering}, changed_weights(state, text, rendering)
        )

    def labels(self, text: str, default: str = "in_c[:2]") -> Tensor:
        """The labels that a text names."""
        match = re.search(r"in_c\[[\d:]*\]", text)
        return self.golden.formula(match[0] if match else default)

    @cache  # noqa: B019
    def shot(self, scene: str, text: str) -> Shot:
        """Two latents of a generator, seen from the cameras that a text names."""
        G = self.generator(scene, text)
        labels = self.labels(text)
        behind = re.search(r"background camera (in_c\[[\d:]*\])", text)
        behind_labels = None if behind is None else self.golden.formula(behind[1])
        return Shot(G, self.latents(G, text, labels), labels, self.resolution, behind_labels)

    @torch.no_grad()
    def latents(self, G: Any, text: str, labels: Tensor) -> Latents:
        """The style rows that a text gives, or those of the first latents, truncated as it says."""
        if "ws = " in text:
            behind = self.golden.assigned(text, "ws_bg") if "ws_bg = " in text else None
            return style_rows(self.golden.assigned(text, "ws"), behind)
        return G.mapping(self.z[: len(labels)], labels, *truncation(text))

    def description(self, scene: str) -> str:
        """All that the file says of a scene."""
        texts = [self.golden.meaning(name) for name in self.golden.outputs if name.startswith(f"{scene}_")]
        if not any(re.search(r"in_c|in_z|ws = |same", text) for text in texts):
            raise ValueError(f"the file does not describe {scene!r}")
        return "; ".join(dict.fromkeys(texts))

    @cache  # noqa: B019
    def limited_shot(self, name: str) -> Shot:
        """The file's first scenes from the cameras of a test of automatic ray limits."""
        shot = self.shot(name, self.golden.meaning(f"auto_{name}_rgb"))
        rays = self.golden.values[f"auto_{name}_rgb"].shape[1]
        return replace(shot, labels=self.golden.tensor(f"auto_{name}_c"), resolution=round(rays**0.5))

    def trained_generator(self, version: str = "") -> Any:
        """A generator of one's own, whose weights may get gradients."""
        return copy.deepcopy(self.generator("", version))

    def discriminator(self, class_name: str = "DualDiscriminator", **changes: Any) -> Any:
        """A discriminator of the file, with other constructor arguments."""
        spec = self.golden.spec
        tables = spec["state_dicts"]
        state = filled(tables[class_name] if class_name in tables else tables["D"])
        return networks.network(class_name, spec["D_kwargs"] | changes, state)


def rendering_options(text: str) -> dict[str, Any]:
    """Rendering options that a description changes."""
    changes: dict[str, Any] = {}
    if match := re.search(r"ray_start = ray_end = '(\w+)'", text):
        changes |= {"ray_start": match[1], "ray_end": match[1]}
    for name in ("box_warp", "white_back", "sigma_act"):
        if match := re.search(rf"(?<!without ){name} ([\w.]+)", text):
            changes[name] = option(match[1])
    return changes


def background_options(text: str) -> dict[str, Any]:
    """Options of the sphere that a description changes."""
    changes: dict[str, Any] = dict(VERSION_0) if re.search(r"\bver0\b", text) else {}
    for name in ("R", "downscale_p_by", "n_blocks", "positional_encoding"):
        if match := re.search(rf"\b{name} ([\w.]+)", text):
            value = option(match[1])
            changes[name] = "none" if value is None else value
    return changes


def changed_weights(state: dict[str, Tensor], text: str, rendering: dict[str, Any]) -> dict[str, Tensor]:
    """Weights by official names after the changes that a description names."""
    state = dict(state)
    for key, sign, amount in re.findall(r"([\w.]+) = filled value ([*+-]) (\d+(?:\.\d+)?)", text):
        state[key] = OPERATORS[sign](state[key], float(amount))
    if "nothing is opaque" in text or "empty decoder" in text:
        bias = state["decoder.net.2.bias"].clone()
        bias[0] = number(text, r"effective bias (?:is )?(-?\d+)") / rendering.get("decoder_lr_mul", 1)
        state["decoder.net.2.bias"] = bias
    return state
