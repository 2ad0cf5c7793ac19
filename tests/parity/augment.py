"""Golden files of the augmentation pipe, with every random number at a percentile."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from tests.parity.golden import Golden, Recipes
from training.augment import AugmentConfig, AugmentPipe

recipes = Recipes()
TRANSFORMS = (
    *("xflip", "rotate90", "xint", "scale", "rotate", "aniso", "xfrac"),
    *("brightness", "contrast", "lumaflip", "hue", "saturation", "imgfilter", "cutout"),
)


@dataclass(frozen=True)
class Case:
    """A file of augmented images."""

    golden: Golden


@recipes.array(r".*_q[\d.]+")
def augmented(case: Case, match: re.Match[str], entry: dict[str, Any]) -> Tensor:
    text = case.golden.spec["inputs"]
    formula = re.search(r"RandomState\(seed\+channels\)\.randn\([^)]*\)", text)
    repeats = re.search(r"(\d+) along rows and columns", text)
    steps = re.search(r"sub-sampled ::(\d+),::(\d+)", text)
    if formula is None or repeats is None or steps is None:
        raise ValueError(f"cannot read the inputs {text!r}")
    coarse = case.golden.formula(formula[0], channels=entry["channels"])
    blocks = int(repeats[1])
    images = torch.tanh(coarse.repeat_interleave(blocks, dim=2).repeat_interleave(blocks, dim=3))

    strengths: dict[str, Any] = dict.fromkeys(TRANSFORMS, 0) | entry["options"]
    pipe = AugmentPipe(replace(AugmentConfig(mode="fixed", p=1), **strengths))
    return pipe(images, debug_percentile=entry["debug_percentile"])[:, :, :: int(steps[1]), :: int(steps[2])]
