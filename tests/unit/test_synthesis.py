"""The skip generator: layers and blocks against their formulas, which style row each layer reads, precision plan."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from torch_utils import random
from torch_utils.ops.upfirdn2d import upsample2d
from training import synthesis
from training.layers import EqualizedLinear, modulated_conv2d
from training.synthesis import BackboneConfig, OutputLayer, SynthesisBlock, SynthesisLayer, SynthesisNetwork

W_DIM = 5
TINY = BackboneConfig(resolution=16, channel_base=64, channel_max=6)


def lrelu(x: Tensor) -> Tensor:
    return torch.where(x > 0, x, 0.2 * x)


def test_channels_and_rows_of_the_published_backbone():
    config = BackboneConfig()
    assert config.resolutions == [4, 8, 16, 32, 64, 128, 256]
    assert [config.channels(r) for r in config.resolutions] == [512, 512, 512, 512, 512, 256, 128]
    assert config.num_ws == 14
    assert BackboneConfig(resolution=4).num_ws == 2


@pytest.mark.parametrize(("num_fp16_res", "lowest"), [(0, None), (1, 256), (2, 128), (4, 32), (6, 8), (7, 8), (20, 8)])
def test_highest_resolutions_run_in_float16(num_fp16_res, lowest):
    config = BackboneConfig(num_fp16_res=num_fp16_res)
    expected = [r for r in config.resolutions if lowest is not None and r >= lowest]
    assert [r for r in config.resolutions if config.uses_fp16(r)] == expected


@pytest.mark.parametrize("resolution", [0, 2, 3, 48, 255])
def test_resolutions_that_no_block_has_are_refused(resolution):
    with pytest.raises(
        ValueError, match=f"resolution {resolution} of a synthesis network is no power of two from 4 up"
    ):
        BackboneConfig(resolution=resolution)


@pytest.mark.parametrize("up", [1, 2])
@pytest.mark.parametrize("conv_clamp", [None, 0.3])
def test_layer_is_convolution_noise_bias_activation_clamp(up, conv_clamp):
    torch.manual_seed(0)
    layer = SynthesisLayer(3, 4, W_DIM, 8, up=up, conv_clamp=conv_clamp)
    nn.init.normal_(layer.bias)
    nn.init.constant_(layer.noise_strength, 0.7)
    x, w = torch.randn(2, 3, 8 // up, 8 // up), torch.randn(2, W_DIM)
    styles = w @ layer.affine.weight.t() / math.sqrt(W_DIM) + 1
    y = modulated_conv2d(x, layer.weight, styles, up=up, padding=1, resample_filter=layer.resample_filter)
    y = lrelu(y + layer.noise_const * 0.7 + layer.bias[:, None, None]) * math.sqrt(2)
    if conv_clamp is not None:
        y = y.clamp(-conv_clamp, conv_clamp)
    torch.testing.assert_close(layer(x, w, "const"), y)


def test_noise_modes():
    torch.manual_seed(0)
    layer = SynthesisLayer(3, 4, W_DIM, 8)
    x, w = torch.randn(2, 3, 8, 8), torch.randn(2, W_DIM)
    torch.testing.assert_close(layer(x, w, "random"), layer(x, w, "none"), msg="strength starts at zero")
    nn.init.constant_(layer.noise_strength, 0.5)
    assert not torch.equal(layer(x, w, "random"), layer(x, w, "random"))
    assert torch.equal(layer(x, w, "const"), layer(x, w, "const"))
    assert not torch.equal(layer(x, w, "const"), layer(x, w, "none"))
    twice = torch.cat([x[:1], x[:1]])
    y = layer(twice, torch.cat([w[:1], w[:1]]), "random")
    assert not torch.equal(y[0], y[1]), "every sample has noise of its own"
    y.square().sum().backward()
    assert layer.noise_strength.grad is not None
    assert layer.noise_strength.grad != 0


def test_random_noise_is_one_map_for_all_channels_of_the_stated_strength():
    torch.manual_seed(0)
    layer = SynthesisLayer(3, 4, W_DIM, 64)
    nn.init.constant_(layer.noise_strength, 0.5)
    nn.init.constant_(layer.bias, 100)  # keeps the rectifier open
    x, w = torch.randn(1, 3, 64, 64), torch.randn(1, W_DIM)
    added = (layer(x, w, "random") - layer(x, w, "none")) / math.sqrt(2)
    torch.testing.assert_close(added[:, 1], added[:, 0], atol=1e-3, rtol=0)
    assert added.std().item() == pytest.approx(0.5, rel=0.05)


def test_output_layer_is_a_modulated_matrix_without_demodulation():
    torch.manual_seed(0)
    layer = OutputLayer(6, 3, W_DIM)
    nn.init.normal_(layer.bias)
    x, w = torch.randn(2, 6, 4, 4), torch.randn(2, W_DIM)
    styles = (w @ layer.affine.weight.t() / math.sqrt(W_DIM) + 1) / math.sqrt(6)
    y = torch.einsum("oi,ni,nihw->nohw", layer.weight[:, :, 0, 0], styles, x) + layer.bias[:, None, None]
    torch.testing.assert_close(layer(x, w), y)
    clamped = OutputLayer(6, 3, W_DIM, conv_clamp=0.2)
    clamped.load_state_dict(layer.state_dict())
    torch.testing.assert_close(clamped(x, w), y.clamp(-0.2, 0.2))


def test_kaiming_initialization_of_outputs():
    torch.manual_seed(0)
    layer = OutputLayer(64, 200, W_DIM, init="kaiming")
    for values in (layer.weight, layer.bias):
        assert values.abs().max().item() <= 1 / 8
        assert values.std().item() == pytest.approx(1 / 8 / math.sqrt(3), rel=0.1)
    normal = OutputLayer(64, 200, W_DIM)
    assert normal.weight.std().item() == pytest.approx(1, rel=0.1)
    assert not normal.bias.any()


def test_first_block_starts_from_its_constant():
    torch.manual_seed(0)
    block = SynthesisBlock(0, 6, W_DIM, 4, 3)
    ws = torch.randn(2, 2, W_DIM)
    x, image = block(None, None, ws, "none")
    constant = block.const.expand(2, -1, -1, -1)
    torch.testing.assert_close(x, block.conv1(constant, ws[:, 0], "none"))
    torch.testing.assert_close(image, block.torgb(x, ws[:, 1]))
    assert block.num_convs == 1


@pytest.mark.parametrize("up", [1, 2])
def test_block_adds_its_output_to_the_picture_below(up):
    torch.manual_seed(0)
    block = SynthesisBlock(6, 4, W_DIM, 8, 3, up=up)
    ws, x, image = torch.randn(2, 3, W_DIM), torch.randn(2, 6, 8 // up, 8 // up), torch.randn(2, 3, 8 // up, 8 // up)
    y, out = block(x, image, ws, "none")
    expected = block.conv1(block.conv0(x, ws[:, 0], "none"), ws[:, 1], "none")
    torch.testing.assert_close(y, expected)
    below = upsample2d(image, block.resample_filter) if up == 2 else image
    torch.testing.assert_close(out, below + block.torgb(expected, ws[:, 2]))
    assert block.num_convs == 2


def test_each_layer_reads_its_row():
    """Convolutions take rows in turn; an output shares its row with the next block's first convolution."""
    network = SynthesisNetwork(TINY, W_DIM, 3)
    ws = torch.arange(network.num_ws).float()[None, :, None].expand(1, -1, W_DIM)
    read: dict[str, int] = {}

    def remember(name: str):
        return lambda module, inputs: read.update({name: int(inputs[0][0, 0])})

    for name, module in network.named_modules():
        if isinstance(module, EqualizedLinear):
            module.register_forward_pre_hook(remember(name.removesuffix(".affine")))
    network(ws)
    assert read == {
        "b4.conv1": 0,
        "b4.torgb": 1,
        "b8.conv0": 1,
        "b8.conv1": 2,
        "b8.torgb": 3,
        "b16.conv0": 3,
        "b16.conv1": 4,
        "b16.torgb": 5,
    }
    assert network.num_ws == 6


def test_network_is_its_blocks_in_turn():
    torch.manual_seed(0)
    network = SynthesisNetwork(TINY, W_DIM, 7)
    ws = torch.randn(2, 6, W_DIM)
    x = image = None
    for name, first, last in (("b4", 0, 1), ("b8", 1, 3), ("b16", 3, 5)):
        x, image = network.get_submodule(name)(x, image, ws[:, first : last + 1], "const")
    assert image is not None
    assert image.shape == (2, 7, 16, 16)
    torch.testing.assert_close(network(ws, "const"), image)


def test_samples_do_not_touch_each_other():
    torch.manual_seed(0)
    network = SynthesisNetwork(TINY, W_DIM, 3)
    ws = torch.randn(3, 6, W_DIM)
    together = network(ws, "const")
    for i in range(3):
        torch.testing.assert_close(network(ws[i : i + 1], "const"), together[i : i + 1], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("noise_mode", ["const", "random"])
def test_large_batches_are_synthesized_sample_by_sample_with_the_same_result(noise_mode, monkeypatch):
    torch.manual_seed(0)
    network = SynthesisNetwork(TINY, W_DIM, 3).double()
    for name, parameter in network.named_parameters():
        if name.endswith("noise_strength"):
            nn.init.ones_(parameter)
    ws = torch.randn(3, network.num_ws, W_DIM, dtype=torch.float64)
    keys = random.sample_keys(("test",), torch.arange(3))
    sizes = []
    network.get_submodule("b4").register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[2])))

    def run() -> list[Tensor]:
        with random.per_sample(keys):
            planes = network(ws, noise_mode)
        return [planes, *torch.autograd.grad(planes.square().sum(), [*network.parameters()])]

    at_once = run()
    largest = 3 * max(TINY.channels(r) * r**2 for r in TINY.resolutions)
    monkeypatch.setattr(synthesis, "LARGE_ACTIVATIONS", largest)
    run()
    monkeypatch.setattr(synthesis, "LARGE_ACTIVATIONS", largest - 1)
    one_by_one = run()
    assert sizes == [3, 3, 1, 1, 1]
    torch.testing.assert_close(one_by_one, at_once, rtol=1e-5, atol=1e-7)


def test_state_has_the_published_names():
    names = set(SynthesisNetwork(BackboneConfig(resolution=8, channel_base=32, channel_max=4), W_DIM, 3).state_dict())
    layer = {"affine.weight", "affine.bias", "weight", "bias", "noise_strength", "noise_const"}
    expected = {"b4.const"}
    for block, convs in (("b4", ["conv1"]), ("b8", ["conv0", "conv1"])):
        expected |= {f"{block}.{conv}.{name}" for conv in convs for name in layer}
        expected |= {f"{block}.torgb.{name}" for name in layer if not name.startswith("noise")}
    assert names == expected


def test_gradients_reach_every_weight():
    network = SynthesisNetwork(TINY, W_DIM, 3)
    network(torch.randn(2, 6, W_DIM), "random").square().sum().backward()
    without = [name for name, parameter in network.named_parameters() if parameter.grad is None]
    assert without == []
