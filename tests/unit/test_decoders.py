"""Point decoders against their formulas."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from training.layers import bounded_color
from training.scene.decoders import JointDecoderConfig, SplitDecoderConfig


def dense(layer, x: Tensor, lr: float = 1.0) -> Tensor:
    return x @ layer.weight.t() * (lr / math.sqrt(x.shape[-1])) + layer.bias * lr


def randomized(decoder):
    for parameter in decoder.parameters():
        torch.nn.init.normal_(parameter)
    return decoder


def test_colours_reach_beyond_both_ends():
    x = torch.tensor([-200.0, 0.0, 200.0, 1.0])
    torch.testing.assert_close(bounded_color(x)[:3], torch.tensor([-0.001, 0.5, 1.001]))
    torch.testing.assert_close(bounded_color(x), torch.sigmoid(x) * 1.002 - 0.001)


@pytest.mark.parametrize("lr_multiplier", [1.0, 0.5])
def test_joint_decoder_is_its_formula(lr_multiplier):
    torch.manual_seed(0)
    decoder = randomized(JointDecoderConfig(hidden=8, lr_multiplier=lr_multiplier).build(4, 3))
    features = torch.randn(5, 4)
    hidden = torch.log1p(dense(decoder.hidden, features, lr_multiplier).exp())
    out = dense(decoder.out, hidden, lr_multiplier)
    density, color = decoder(features)
    torch.testing.assert_close(density, out[:, :1])
    torch.testing.assert_close(color, torch.sigmoid(out[:, 1:]) * 1.002 - 0.001)
    assert color.shape == (5, 3)


@pytest.mark.parametrize("lr_multiplier", [1.0, 0.5])
@pytest.mark.parametrize("activation", ["linear", "relu", "lrelu"])
def test_split_decoder_is_its_formula(activation, lr_multiplier):
    torch.manual_seed(0)
    decoder = randomized(
        SplitDecoderConfig(hidden=8, lr_multiplier=lr_multiplier, density_activation=activation).build(4, 3)
    )
    features = torch.randn(50, 4)
    hidden = torch.log1p(dense(decoder.hidden, features, lr_multiplier).exp())
    raw = dense(decoder.density, hidden, lr_multiplier)
    slope = {"linear": 1.0, "relu": 0.0, "lrelu": 0.2}[activation]
    gain = 1 if activation == "linear" else math.sqrt(2)
    density, color = decoder(features)
    torch.testing.assert_close(density, torch.where(raw > 0, raw, slope * raw) * gain)
    torch.testing.assert_close(color, torch.sigmoid(dense(decoder.color, hidden, lr_multiplier)) * 1.002 - 0.001)
    assert (raw < 0).any()


def test_density_of_a_split_decoder_starts_at_zero_everywhere():
    decoder = SplitDecoderConfig(hidden=8).build(4, 3)
    density, color = decoder(torch.randn(50, 4))
    assert not density.any()
    assert color.std() > 0
    density.sum().backward()
    assert decoder.density.weight.grad is not None
    assert decoder.density.weight.grad.abs().sum() > 0, "and can leave it"


@pytest.mark.parametrize(
    "config", [JointDecoderConfig(hidden=8), SplitDecoderConfig(hidden=8, density_activation="lrelu")]
)
def test_density_alone_is_that_of_the_samples(config):
    decoder = randomized(config.build(4, 3))
    features = torch.randn(9, 4)
    torch.testing.assert_close(decoder.density_only(features), decoder(features)[0])
