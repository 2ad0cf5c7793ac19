"""Golden files of official snapshots: what the networks in a pickle hold and give."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tests.parity import networks
from tests.parity.fill import filled
from tests.parity.golden import Golden, Recipes, number, truncation
from tests.parity.networks import GENERATOR, Shot
from training import snapshot
from training.official import OPTIONAL, ours_to_official
from training.types import Views

recipes = Recipes()
TABLES = {"G": "G", "D": "D", "G_ema": "G"}


@dataclass(frozen=True)
class Case:
    """A description of a snapshot, and the snapshot; without one its networks are built from the description."""

    golden: Golden
    pickle: Path | None = None

    @cached_property
    def networks(self) -> dict[str, Any]:
        """The networks by their names in the snapshot."""
        if self.pickle is not None:
            loaded = snapshot.load(self.pickle)
            return {name: loaded[name] for name in TABLES}
        spec = self.golden.spec
        G = networks.network(GENERATOR, spec["G_kwargs"], filled(spec["G"]))
        return {"G": G, "G_ema": G, "D": networks.network("DualDiscriminator", spec["D_kwargs"], filled(spec["D"]))}

    @cached_property
    def shot(self) -> Shot:
        """The pictures of the averaged generator."""
        G, text = self.networks["G_ema"], self.golden.spec["outputs"]
        names = [name for name in ("in_z", "in_z_bg") if name in self.golden.values]
        z = torch.cat([self.golden.tensor(name) for name in names], dim=1)
        labels = self.golden.tensor("in_c")
        with torch.no_grad():
            latents = G.mapping(z, labels, *truncation(text))
        return Shot(G, latents, labels, int(number(text, r"neural_rendering_resolution (\d+)")))

    def weight_errors(self) -> dict[str, float]:
        """For each network: 0 if its weights have the names and numbers of the table, the largest difference if not."""

        def largest(name: str) -> float:
            held, stated = ours_to_official(self.networks[name]), filled(self.golden.spec[TABLES[name]])
            held = {key: value for key, value in held.items() if key in stated or key not in OPTIONAL}
            if {key: value.shape for key, value in held.items()} != {key: value.shape for key, value in stated.items()}:
                return float("inf")
            return max((held[key] - stated[key]).abs().max().item() for key in stated)

        return {name: largest(name) for name in self.networks}


@recipes.array(r"image|image_raw|image_depth")
def picture(case: Case, match: re.Match[str], entry: dict[str, Any]) -> Tensor:
    return case.shot.full[match[0]]


@recipes.array(r"fg_weights|bg_transmittance")
def light(case: Case, match: re.Match[str], entry: dict[str, Any]) -> Tensor:
    march = case.shot.march
    return (march.opacity if match[0] == "fg_weights" else march.transmittance).squeeze(2)


@recipes.array(r"ws(_bg)?_psi\d+")
def styles(case: Case, match: re.Match[str], entry: dict[str, Any]) -> Tensor:
    latents = case.shot.latents
    return (latents.background if match[1] else latents.scene)[:, 0]


@recipes.array(r"D_logits")
@torch.no_grad()
def logits(case: Case, match: re.Match[str], entry: dict[str, Any]) -> Tensor:
    out = case.shot.full
    return case.networks["D"](Views(out.image, out.image_raw), case.shot.labels)
