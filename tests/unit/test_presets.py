"""Presets are the published configurations, with the mends of new runs."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
import torch

from tests.official_files import PUBLISHED
from tests.unit import training_parts as parts
from training.background import SolidConfig
from training.config import ConfigError
from training.generator import Generator
from training.mapping import MappingConfig
from training.official import config_from_official, ours_to_official
from training.presets import preset
from training.recipe import DiscriminatorRecipe, build, build_with
from training.types import RenderSettings

CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "ffhq": {"avg_camera_pivot": [0, 0, 0.2]},
    "afhq": {"avg_camera_pivot": [0, 0, -0.06]},
    "shapenet": {
        "avg_camera_pivot": [0, 0, 0],
        "avg_camera_radius": 1.7,
        "box_warp": 1.6,
        "ray_end": 2.6,
        "ray_start": 0.1,
        **dict.fromkeys(("depth_resolution_importance", "depth_resolution"), 64),
    },
}
"""Rendering options of `--cfg`, as far as they differ from those of full-size portraits."""


@pytest.mark.parametrize("dataset", CONFIGURATIONS)
@pytest.mark.parametrize("system", ["eg3d", "ballgan"])
def test_presets_are_the_published_configurations(system, dataset):
    kwargs = json.loads((PUBLISHED / f"{system}_ffhq512.json").read_text())["G_kwargs"]
    kwargs["rendering_kwargs"] |= CONFIGURATIONS[dataset]
    if (system, dataset) == ("eg3d", "shapenet"):
        kwargs["rendering_kwargs"]["white_back"] = True
    published: Any = config_from_official("TriPlaneGenerator", kwargs)
    new: Any = preset(system, dataset, 512).generator
    assert published.mapping == MappingConfig(pose_conditioning=True)  # the table is of a run with --gen_pose_cond
    mended = replace(
        published,
        mapping=replace(published.mapping, pose_conditioning=False),
        scene=replace(published.scene, axes="corrected"),
        renderer=replace(published.renderer, depth_limits="ray"),
    )
    if system == "ballgan":
        mended = replace(mended, background=replace(mended.background, encoding="seamless"))
    assert new == mended


@pytest.mark.parametrize(("resolution", "module"), [(512, "8XDC"), (256, "4X"), (128, "2X"), (64, "2X"), (32, "2X")])
def test_superresolution_of_the_picture_size(resolution, module):
    config: Any = preset("eg3d", "ffhq", resolution).generator
    assert config.upsampler.module == module
    assert config.raw_resolution == min(64, resolution // 2)


def test_regularization_of_the_systems():
    assert preset("eg3d", "ffhq", 512).loss.density.strength == 0.25
    assert not preset("ballgan", "ffhq", 512).loss.regularizes


def test_unknown_presets():
    for arguments, message in (
        (("stylegan", "ffhq", 512), "--model=stylegan: choose one of ballgan, eg3d"),
        (("eg3d", "faces", 512), "--cfg=faces: choose one of ffhq, afhq, shapenet"),
        (("eg3d", "ffhq", 48), "resolution 48"),
    ):
        with pytest.raises(ConfigError, match=message):
            preset(*arguments)


def test_white_back():
    torch.manual_seed(0)
    G: Any = Generator(replace(parts.GENERATOR, background=SolidConfig(white_back=True))).eval()
    G.scene.decoder.out.bias.data[0] = -100
    z, labels = torch.randn(1, G.z_dim), parts.camera_labels(1)
    with torch.no_grad():
        out = G(z, labels, settings=RenderSettings(8, jitter="center"))
    assert torch.allclose(out.image_raw, torch.ones(1, 3, 8, 8), atol=1e-5)


def test_frozen_layers_keep_their_names():
    D: Any = parts.networks()[1]
    frozen = replace(D.config, trunk=replace(D.config.trunk, freeze_layers=4))
    recipe = DiscriminatorRecipe(frozen, parts.RESOLUTION)
    network: Any = build(recipe)
    trained = {name for name, _ in network.named_parameters()}
    assert not any(name.startswith("trunk.b32") for name in trained)
    assert "trunk.b16.conv0.weight" in trained
    again = build_with(recipe, D.state_dict())
    for name, tensor in ours_to_official(D).items():
        assert torch.equal(ours_to_official(again)[name], tensor)
