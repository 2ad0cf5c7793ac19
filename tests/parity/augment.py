"""Golden files of the augmentation pipe, with every random number at a percentile."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from tests.parity.golden import Golden, Recipes
from training.augment import AugmentConfig, AugmentPipe
from training.official_config import config_from_official

recipes = Recipes()


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

    config = config_from_official("AugmentPipe", entry["options"])
    assert isinstance(config, AugmentConfig)
    pipe = AugmentPipe(replace(config, mode="fixed", p=1))
    return pipe(images, debug_percentile=float(entry["debug_percentile"]))[:, :, :: int(steps[1]), :: int(steps[2])]
