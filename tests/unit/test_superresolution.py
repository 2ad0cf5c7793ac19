"""From rendered features to the picture: super-resolution and the identity."""

from __future__ import annotations

from typing import get_args

import pytest
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from training import synthesis
from training.layers import EqualizedLinear
from training.upsampling import IdentityConfig, SuperresolutionConfig
from training.upsampling.superresolution import LAYOUTS, Module, Superresolution, module_for

W_DIM = 5
FEATURES = 6


def build(module: Module = "2X", resolution: int = 32, **changes) -> Superresolution:
    torch.manual_seed(0)
    config = SuperresolutionConfig(module=module, channels=(5, 4), **changes)
    return config.build(FEATURES, W_DIM, resolution)


@pytest.mark.parametrize(
    ("module", "size", "input_size", "ups", "channels"),
    [
        ("2X", 128, 64, (1, 2), (128, 64)),
        ("4X", 256, 128, (1, 2), (128, 64)),
        ("8X", 512, 128, (2, 2), (128, 64)),
        ("8XDC", 512, 128, (2, 2), (256, 128)),
        ("deep", 256, 128, (1, 2), (128, 64)),
    ],
)
def test_published_sizes(module, size, input_size, ups, channels):
    with torch.device("meta"):
        upsampler = SuperresolutionConfig(module=module).build(32, 512, size)
    assert upsampler.input_resolution == input_size
    assert (upsampler.block0.up, upsampler.block1.up) == ups
    assert upsampler.block0.conv0.weight.shape == (channels[0], 32, 3, 3)
    assert upsampler.block1.conv0.weight.shape == (channels[1], channels[0], 3, 3)
    assert upsampler.block1.torgb.weight.shape == (3, channels[1], 1, 1)
    assert set(LAYOUTS) == set(get_args(Module))


def test_picture_sizes_choose_their_module():
    assert [module_for(size) for size in (32, 64, 128, 256, 512)] == ["2X", "2X", "2X", "4X", "8XDC"]
    for size in (16, 48, 1024):
        with pytest.raises(ValueError, match=f"resolution {size} has no super-resolution module; choose 32, 64, 128,"):
            module_for(size)


def test_large_batches_are_enlarged_sample_by_sample_with_the_same_result(monkeypatch):
    upsampler, features, ws = build(), torch.randn(3, FEATURES, 8, 8), torch.randn(3, 7, W_DIM)
    at_once = upsampler(features, ws)
    monkeypatch.setattr(synthesis, "LARGE_ACTIVATIONS", 0)
    sizes: list[int] = []
    upsampler.block0.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    torch.testing.assert_close(upsampler(features, ws), at_once, rtol=1e-4, atol=1e-5)
    assert sizes == [1, 1, 1]


@pytest.mark.parametrize("module", list(LAYOUTS))
@pytest.mark.parametrize("resolution", [16, 32])
def test_pictures_have_their_size_whatever_was_rendered(module, resolution):
    upsampler, ws = build(module, resolution), torch.randn(2, 7, W_DIM)
    for raw in (4, 8, 16, 20):
        assert upsampler(torch.randn(2, FEATURES, raw, raw), ws).shape == (2, 3, resolution, resolution)


@pytest.mark.parametrize("module", ["2X", "8X"])
def test_it_is_its_two_blocks(module):
    upsampler, ws = build(module), torch.randn(2, 7, W_DIM)
    size = 16 if module == "2X" else 8
    features = torch.randn(2, FEATURES, size, size)
    rows = ws[:, -1:].expand(-1, 3, -1)
    x, image = upsampler.block0(features, features[:, :3], rows, "none")
    torch.testing.assert_close(upsampler(features, ws), upsampler.block1(x, image, rows, "none")[1])


def test_all_layers_read_the_last_row():
    upsampler = build()
    ws = torch.arange(7.0)[None, :, None].expand(1, -1, W_DIM)
    read: list[float] = []
    for module in upsampler.modules():
        if isinstance(module, EqualizedLinear):
            module.register_forward_pre_hook(lambda module, inputs: read.append(inputs[0][0, 0].item()))
    upsampler(torch.randn(1, FEATURES, 16, 16), ws)
    assert read == [6.0] * 6
    assert upsampler.num_ws == 0


@pytest.mark.parametrize("antialias", [True, False])
@pytest.mark.parametrize("raw", [8, 24])
def test_features_and_colours_are_resized_alike(antialias, raw):
    upsampler, ws = build(antialias=antialias), torch.randn(1, 1, W_DIM)
    features = torch.randn(1, FEATURES, raw, raw)
    resized = interpolate(features, [16, 16], mode="bilinear", align_corners=False, antialias=antialias)
    torch.testing.assert_close(upsampler(features, ws), upsampler(resized, ws))


def test_antialiasing_matters_when_shrinking():
    features, ws = torch.randn(1, FEATURES, 64, 64), torch.randn(1, 1, W_DIM)
    assert (build(antialias=True)(features, ws) - build(antialias=False)(features, ws)).abs().max() > 0.01


def test_no_noise_unless_asked_for():
    features, ws = torch.randn(1, FEATURES, 16, 16), torch.randn(1, 1, W_DIM)
    for mode, repeats in (("none", True), ("const", True), ("random", False)):
        upsampler = build(noise_mode=mode)
        for name, parameter in upsampler.named_parameters():
            if name.endswith("noise_strength"):
                torch.nn.init.constant_(parameter, 0.5)
        assert torch.equal(upsampler(features, ws), upsampler(features, ws)) == repeats


@pytest.mark.parametrize(("num_fp16_res", "clamps"), [(0, False), (4, True)])
def test_half_precision_comes_with_clamps(num_fp16_res, clamps):
    upsampler = build(num_fp16_res=num_fp16_res)
    for block in (upsampler.block0, upsampler.block1):
        assert block.use_fp16 == clamps
        assert {block.conv0.conv_clamp, block.conv1.conv_clamp, block.torgb.conv_clamp} == {256.0 if clamps else None}


def test_clamped_activations():
    upsampler, ws = build(conv_clamp=0.5), torch.randn(1, 1, W_DIM)
    seen: list[Tensor] = []
    for block in (upsampler.block0, upsampler.block1):
        for layer in (block.conv0, block.conv1, block.torgb):
            layer.register_forward_hook(lambda module, inputs, output: seen.append(output.abs().max()))
    upsampler(torch.randn(1, FEATURES, 16, 16) * 100, ws)
    assert len(seen) == 6
    assert max(seen) == 0.5


def test_gradients_reach_features_styles_and_weights():
    """At the input's own size nothing may be overwritten in place: the skip picture is a view of the features."""
    upsampler = build()
    features, ws = torch.randn(2, FEATURES, 16, 16, requires_grad=True), torch.randn(2, 7, W_DIM, requires_grad=True)
    before = features.detach().clone()
    upsampler(features, ws).square().sum().backward()
    assert torch.equal(features, before)
    assert features.grad is not None
    assert ws.grad is not None
    assert ws.grad[:, -1].abs().sum() > 0
    assert not ws.grad[:, :-1].any()
    without = {name for name, parameter in upsampler.named_parameters() if parameter.grad is None}
    assert all(name.endswith("noise_strength") for name in without)


def test_identity_shows_the_first_channels():
    upsampler = IdentityConfig().build(FEATURES, W_DIM, 16)
    features = torch.randn(2, FEATURES, 8, 8)
    assert torch.equal(upsampler(features, torch.zeros(2, 1, W_DIM)), features[:, :3])
    assert upsampler.num_ws == 0
    assert not upsampler.state_dict()
