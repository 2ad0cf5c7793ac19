"""Golden numbers of the files of gaps about single parts: discriminators, resizing, super-resolution, marching."""

from __future__ import annotations

import re
from typing import Any
from unittest import mock

import torch
from torch import Tensor

from tests.parity import superresolution
from tests.parity.gaps_case import Case
from tests.parity.golden import Recipes, every_pixel, found, number
from tests.parity.ops import LOWPASS, March
from training.discriminators.dual import filtered_resizing, noisy_labels
from training.types import Views

recipes = Recipes()
RAW_FADE_PER_CALL = 32 / 500_000


# Discriminators


def judged_views(case: Case, text: str, n: int) -> Views:
    """The pictures that a text names; those that the discriminators see elsewhere where it names none."""
    if "images" not in text:
        texts = [text for text in map(case.golden.meaning, case.golden.outputs) if "images" in text and "raw" in text]
        text = next((text for text in texts if "[:N]" in text), re.sub(r"[\d.]+ \* ", "", texts[0]))
    return Views(case.golden.assigned(text, "images", N=n), case.golden.assigned(text, "raw", N=n))


@recipes.array(r"(clamp|noclamp)_D_(logits|b\d+|grad_image|grad_raw)")
def clamped(case: Case, match: re.Match[str], entry: dict[str, Any]) -> Tensor:
    text = case.golden.meaning("clamp_D_logits")
    D = case.discriminator() if match[1] == "clamp" else case.discriminator(conv_clamp=None)
    views = judged_views(case, text, 0)
    for picture in views.tensors():
        picture.requires_grad_()
    values: dict[str, Tensor] = {}
    if match[2].startswith("b"):
        block = getattr(D.trunk, match[2])
        block.register_forward_hook(lambda module, inputs, output: values.update({match[2]: output}))
    logits = D(views, case.labels(text))
    if match[2] == "logits":
        return logits.squeeze(1)
    if match[2].startswith("grad"):
        scale = number(case.golden.meaning("clamp_D_grad_image"), r"(\d+) \* gradient")
        gradients = torch.autograd.grad(logits.sum(), views.tensors())
        values = {name: scale * value for name, value in zip(("grad_image", "grad_raw"), gradients, strict=True)}
    rows, columns = (int(step) for step in re.findall(r"::(\d+)", entry["meaning"]))
    return values[match[2]][:, :, ::rows, ::columns]


@recipes.array(r"mbstd_N(\d+)_g(None|\d+)")
@torch.no_grad()
def groups(case: Case, match: re.Match[str], entry: dict[str, Any]) -> Tensor:
    n, group = int(match[1]), None if match[2] == "None" else int(match[2])
    D = case.discriminator(epilogue_kwargs={"mbstd_group_size": group})
    return D(judged_views(case, entry["meaning"], n), case.golden.tensor("in_c")[:n]).squeeze(1)


@recipes.array(r"single_D_logits")
@torch.no_grad()
def single(case: Case, match: re.Match[str], entry: dict[str, Any]) -> Tensor:
    n = entry["shape"][0]
    views = judged_views(case, entry["meaning"], n)
    return case.discriminator("SingleDiscriminator")(Views(views.image), case.golden.tensor("in_c")[:n]).squeeze(1)


@recipes.array(r"dummy_D_logits_call(\d+)")
@torch.no_grad()
def fading_raw(case: Case, match: re.Match[str], entry: dict[str, Any]) -> Tensor:
    n = entry["shape"][0]
    views = judged_views(case, "", n)
    fade = max(1 - (int(match[1]) + 1) * RAW_FADE_PER_CALL, 0)
    raw = views.tensors()[1] * (number(entry["meaning"], r"raw image times (\d+)") * fade)
    return case.discriminator()(Views(views.image, raw), case.golden.tensor("in_c")[:n]).squeeze(1)


@recipes.array(r"disc_c_noise_(logits|labels)")
@torch.no_grad()
def label_noise(case: Case, match: re.Match[str], entry: dict[str, Any]) -> Tensor:
    text = case.golden.meaning("disc_c_noise_logits")
    amount, labels = number(text, r"disc_c_noise ([\d.]*\d)"), case.labels(text)
    draw = case.golden.assigned(text, "draw is")
    with mock.patch("torch_utils.random.normal", return_value=draw):
        if match[1] == "labels":
            return noisy_labels(labels, amount)
        D = case.discriminator(disc_c_noise=amount)
        return D(judged_views(case, "", len(labels)), labels).squeeze(1)


# Resizing


@recipes.array(r"resize_(\w+|[\d.]+)_(\d+)(_grad)?")
def resize(case: Case, match: re.Match[str], entry: dict[str, Any]) -> Tensor:
    texts = [case.golden.meaning(name) for name in case.golden.outputs if name.startswith("resize_")]
    x = case.golden.assigned(next(text for text in texts if "x = " in text), "x").requires_grad_()
    mode: Any = match[1] if match[1].isalpha() else float(match[1])
    out = filtered_resizing(x, int(match[2]), LOWPASS, mode)
    if match[3] is None:
        return out
    shape = ",".join(map(str, out.shape))
    w = case.golden.assigned(entry["meaning"].replace("*out.shape", shape), "w")
    return torch.autograd.grad((out * w).sum(), x)[0]


# Super-resolution


def named_module(case: Case, text: str, **options: Any) -> superresolution.Superresolution:
    """The filled module that a text begins with the name of."""
    official = found(text, r"^(\w+)")
    img_resolution = re.match(r"\w+ \((\d+)\)", text)
    return superresolution.module(
        official,
        int(img_resolution[1]) if img_resolution else case.golden.spec["G_kwargs"]["img_resolution"],
        case.golden.spec["state_dicts"][official],
        noise_mode="none",
        **options,
    )


def large_features(case: Case) -> tuple[Tensor, Tensor, Tensor]:
    """Features, raw picture and style rows of the test of limits."""
    text = case.golden.meaning("clamp_sr")
    x = case.golden.assigned(text, "x")
    features, rgb = (case.golden.assigned(text, name, x=x) for name in ("features", "rgb"))
    return features, rgb, case.golden.assigned(text, "ws")


@recipes.array(r"(?:no)?clamp_sr")
@torch.no_grad()
def clamped_superresolution(case: Case, match: re.Match[str], entry: dict[str, Any]) -> Tensor:
    text = case.golden.meaning("clamp_sr")
    fp16 = int(number(entry["meaning"], r"sr_num_fp16_res (\d+)"))
    network = named_module(case, text, num_fp16_res=fp16, antialias=True)
    pixels = every_pixel(text)
    return network.enlarge(*large_features(case))[:, :, pixels, pixels]


@recipes.array(r"deepfp32_\d+")
@torch.no_grad()
def deep_superresolution(case: Case, match: re.Match[str], entry: dict[str, Any]) -> Tensor:
    text, fp16 = entry["meaning"], case.golden.spec["G_kwargs"]["sr_num_fp16_res"]
    network = named_module(case, text, num_fp16_res=fp16, antialias=False)
    pixels = every_pixel(text)
    return network(case.golden.assigned(text, "features"), case.golden.assigned(text, "ws"))[:, :, pixels, pixels]


# Marching


@recipes.array(r"march_edge_(?:(rgb)_wb\d|(depth|weights))")
def march(case: Case, match: re.Match[str], entry: dict[str, Any]) -> Tensor:
    colors, depths, density = (
        case.golden.tensor(f"march_edge_in_{name}") for name in ("colors", "depths", "densities")
    )
    samples = March(depths.squeeze(3), density.squeeze(3), colors.flatten(1, 2))
    if match[1]:
        return samples.rgb(entry["white_back"])
    return samples.marched().depth if match[2] == "depth" else samples.marched().weights[..., None]
