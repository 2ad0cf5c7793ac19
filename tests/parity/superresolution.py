"""Golden files of the super-resolution modules by themselves."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tests.parity.fill import filled
from tests.parity.golden import Golden, Recipes, number
from training.types import NoiseMode
from training.upsampling.superresolution import LAYOUTS, Module, Superresolution, SuperresolutionConfig

recipes = Recipes()
OFFICIAL_PREFIX = "SuperresolutionHybrid"
W_DIM, FEATURES = 512, 32


@dataclass(frozen=True)
class Case:
    """A file of super-resolved pictures."""

    golden: Golden


def module_named(official: str) -> Module:
    """Our name of an official class."""
    name = official.rsplit(".", 1)[-1].removeprefix(OFFICIAL_PREFIX)
    modules: dict[str, Module] = {**{name: name for name in LAYOUTS}, "Deepfp32": "deep"}
    return modules[name]


def module(
    official: str, img_resolution: int, table: list, *, num_fp16_res: int, antialias: bool, noise_mode: NoiseMode
) -> Superresolution:
    """A filled module of an official class; the table's names have no prefix."""
    name = module_named(official)
    antialias = antialias and name != "deep"  # whose resizing has no such option
    config = SuperresolutionConfig(module=name, num_fp16_res=num_fp16_res, antialias=antialias, noise_mode=noise_mode)
    network = config.build(FEATURES, W_DIM, img_resolution)
    state = {key: value for key, value in filled(table).items() if not key.endswith("resample_filter")}
    network.load_state_dict(state)
    return network.eval()


@recipes.array(r"Superresolution.*")
@torch.no_grad()
def picture(case: Case, match: re.Match[str], entry: dict[str, Any]) -> Tensor:
    golden = case.golden
    official = entry["official_class"].rsplit(".", 1)[-1]
    text = golden.spec["constructor"]
    network = module(
        official,
        entry["img_resolution"],
        golden.spec["state_dicts"][official],
        num_fp16_res=int(number(text, r"sr_num_fp16_res=(\d+)")),
        antialias="sr_antialias=true" in text,
        noise_mode=entry["noise_mode"],
    )
    inputs = golden.spec["inputs"].replace("float32 ", "")
    features = golden.assigned(inputs, "features", R=entry["input_resolution"])
    rgb = golden.assigned(inputs, "rgb", features=features, R=entry["input_resolution"])
    image = network.enlarge(features, rgb, golden.assigned(inputs, "ws"))
    every = entry.get("subsample", {"start": 0, "step": 1})
    pixels = slice(every["start"], None, every["step"])
    return image[:, :, pixels, pixels]
