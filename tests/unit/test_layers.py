"""Layers against literal twins."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.autograd import gradcheck, gradgradcheck

from torch_utils.ops.upfirdn2d import setup_filter, upfirdn2d
from training.layers import (
    RESAMPLE_TAPS,
    EqualizedConv2d,
    EqualizedLinear,
    _guard_half,
    minibatch_std,
    modulated_conv2d,
    normalize_second_moment,
)

FILTER = setup_filter(RESAMPLE_TAPS).double()


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_normalized_rows_have_mean_square_one():
    x = randn(4, 7) * torch.tensor([1e-2, 1, 5, 1e3])[:, None]
    y = normalize_second_moment(x)
    torch.testing.assert_close(y.square().mean(1), torch.ones(4).double(), rtol=2e-4, atol=0)
    torch.testing.assert_close(y[2], x[2] / x[2].square().mean().sqrt())
    assert torch.equal(normalize_second_moment(torch.zeros(2, 3)), torch.zeros(2, 3))


@pytest.mark.parametrize("activation", ["linear", "lrelu", "softplus"])
@pytest.mark.parametrize("lr_multiplier", [1.0, 0.01])
def test_linear_is_its_formula(activation, lr_multiplier):
    layer = EqualizedLinear(6, 5, activation, lr_multiplier, bias_init=2).double()
    nn.init.normal_(layer.bias)
    x = randn(3, 4, 6)
    y = x @ layer.weight.t() * lr_multiplier / math.sqrt(6) + layer.bias * lr_multiplier
    if activation == "lrelu":
        y = torch.where(y > 0, y, 0.2 * y) * math.sqrt(2)
    if activation == "softplus":
        y = torch.log1p(y.exp())
    torch.testing.assert_close(layer(x), y)


@pytest.mark.parametrize("lr_multiplier", [1.0, 0.01])
def test_linear_starts_with_unit_variance(lr_multiplier):
    torch.manual_seed(0)
    layer = EqualizedLinear(64, 64, lr_multiplier=lr_multiplier, bias_init=1)
    assert layer.weight.std().item() * lr_multiplier == pytest.approx(1, rel=0.05)
    assert torch.equal(layer.bias, torch.ones(64))
    assert layer(torch.randn(512, 64)).var().item() == pytest.approx(1, rel=0.1)


def test_equalized_rate_scales_the_gradients():
    """The same function with a smaller multiplier moves more slowly: that is what the multiplier is for."""
    slow, fast = EqualizedLinear(4, 3, lr_multiplier=0.01), EqualizedLinear(4, 3)
    with torch.no_grad():
        slow.weight.copy_(fast.weight * 100)
    x = torch.randn(5, 4)
    torch.testing.assert_close(slow(x), fast(x))
    gradients = [torch.autograd.grad(layer(x).square().sum(), layer.weight)[0] for layer in (slow, fast)]
    torch.testing.assert_close(gradients[0], gradients[1] * 0.01)


@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("down", [1, 2])
@pytest.mark.parametrize("bias", [True, False])
def test_convolution_is_filter_convolution_bias_activation_gain_clamp(kernel, down, bias):
    gain = math.sqrt(0.5)
    layer = EqualizedConv2d(3, 4, kernel, "lrelu", bias=bias, down=down, gain=gain, conv_clamp=0.7).double()
    x = randn(2, 3, 8, 8)
    if layer.bias is not None:
        nn.init.normal_(layer.bias)
    weight = layer.weight / math.sqrt(3 * kernel**2)
    pad = kernel // 2
    if down == 2:
        y = upfirdn2d(x, FILTER, padding=(pad + 1, pad + 1, pad + 1, pad + 1))
        y = nn.functional.conv2d(y, weight, stride=2)
    else:
        y = nn.functional.conv2d(x, weight, padding=pad)
    y = y if layer.bias is None else y + layer.bias[:, None, None]
    y = (torch.where(y > 0, y, 0.2 * y) * math.sqrt(2) * gain).clamp(-0.7 * gain, 0.7 * gain)
    torch.testing.assert_close(layer(x), y)
    assert layer(x).shape == (2, 4, 8 // down, 8 // down)
    assert layer(x).abs().max() <= 0.7 * gain, "the clamp must act here"


def test_linear_convolution_has_no_gain_of_its_own():
    layer = EqualizedConv2d(2, 3, 1)
    x = torch.randn(1, 2, 4, 4)
    expected = torch.einsum("oi,nihw->nohw", layer.weight[:, :, 0, 0] / math.sqrt(2), x)
    torch.testing.assert_close(layer(x), expected)


def test_frozen_convolution_has_buffers_of_the_same_names():
    trained, frozen = EqualizedConv2d(2, 3, 3), EqualizedConv2d(2, 3, 3, frozen=True)
    assert dict(frozen.named_parameters()) == {}
    assert set(frozen.state_dict()) == set(trained.state_dict()) == {"weight", "bias"}
    frozen.load_state_dict(trained.state_dict())
    x = torch.randn(1, 2, 4, 4, requires_grad=True)
    torch.testing.assert_close(frozen(x), trained(x))
    assert torch.autograd.grad(frozen(x).sum(), x)[0].abs().sum() > 0, "gradients still pass"
    assert EqualizedConv2d(2, 3, 3, bias=False).bias is None
    assert set(EqualizedConv2d(2, 3, 3, bias=False, frozen=True).state_dict()) == {"weight"}


# Modulated convolution


def literal_modulated(x, weight, styles, demodulate, up, down, noise) -> Tensor:
    """Sample by sample: styles into the weights, demodulation, an ordinary convolution (filtered when resampling)."""
    outputs = []
    for sample, style in zip(x, styles, strict=True):
        kernel = weight * style[None, :, None, None]
        if demodulate:
            kernel = kernel / (kernel.square().sum(dim=(1, 2, 3), keepdim=True) + 1e-8).sqrt()
        size, pad = weight.shape[-1], weight.shape[-1] // 2
        if up == 2:
            spread = x.new_zeros(1, x.shape[1], 2 * x.shape[2], 2 * x.shape[3])
            spread[:, :, ::2, ::2] = sample
            filtered = upfirdn2d(spread, FILTER, padding=(2 + pad, 1 + pad, 2 + pad, 1 + pad), gain=4)
            kernel = kernel.flip([2, 3]) if size > 1 else kernel
            outputs.append(nn.functional.conv2d(filtered, kernel))
        elif down == 2:
            filtered = upfirdn2d(sample[None], FILTER, padding=(1 + pad, 1 + pad, 1 + pad, 1 + pad))
            outputs.append(nn.functional.conv2d(filtered, kernel, stride=2))
        else:
            outputs.append(nn.functional.conv2d(sample[None], kernel, padding=pad))
    y = torch.cat(outputs)
    return y if noise is None else y + noise


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize(("up", "down"), [(1, 1), (2, 1), (1, 2)])
@pytest.mark.parametrize("demodulate", [True, False])
@pytest.mark.parametrize("noise", ["none", "shared", "own"])
def test_modulated_convolution_is_its_definition(n, kernel, up, down, demodulate, noise):
    x, weight, styles = randn(n, 3, 4, 6), randn(4, 3, kernel, kernel, seed=1), randn(n, 3, seed=2) + 1
    size = (4 * up // down, 6 * up // down)
    shape = {"none": None, "shared": size, "own": (n, 1, *size)}[noise]
    added = None if shape is None else randn(*shape, seed=3)
    before = x.clone()
    actual = modulated_conv2d(
        x,
        weight,
        styles,
        demodulate=demodulate,
        up=up,
        down=down,
        padding=kernel // 2,
        resample_filter=FILTER,
        noise=added,
    )
    torch.testing.assert_close(actual, literal_modulated(x, weight, styles, demodulate, up, down, added))
    assert torch.equal(x, before)


@pytest.mark.parametrize("demodulate", [True, False])
def test_a_sample_is_the_same_alone_and_in_a_batch(demodulate):
    x, weight, styles = randn(3, 4, 6, 6), randn(5, 4, 3, 3, seed=1), randn(3, 4, seed=2)
    batch = modulated_conv2d(x, weight, styles, demodulate=demodulate, padding=1)
    for i in range(3):
        alone = modulated_conv2d(x[i : i + 1], weight, styles[i : i + 1], demodulate=demodulate, padding=1)
        torch.testing.assert_close(batch[i : i + 1], alone)


@pytest.mark.parametrize("n", [1, 2])
def test_demodulation_ignores_the_scale_of_styles_and_gives_unit_variance(n):
    torch.manual_seed(0)
    x, weight, styles = torch.randn(n, 16, 32, 32), torch.randn(8, 16, 3, 3), torch.rand(n, 16) + 0.5
    y = modulated_conv2d(x, weight, styles, padding=1)
    torch.testing.assert_close(modulated_conv2d(x, weight, styles * 100, padding=1), y, rtol=1e-4, atol=1e-4)
    assert y[..., 2:-2, 2:-2].var(dim=(2, 3)).mean().item() == pytest.approx(1, rel=0.1)


@pytest.mark.parametrize("n", [1, 2])
@pytest.mark.parametrize("demodulate", [True, False])
def test_modulated_convolution_derivatives(n, demodulate):
    inputs = [randn(n, 2, 3, 3), randn(2, 2, 3, 3, seed=1), randn(n, 2, seed=2) + 2, randn(6, 6, seed=3)]
    inputs = [tensor.requires_grad_() for tensor in inputs]

    def function(x: Tensor, weight: Tensor, styles: Tensor, noise: Tensor) -> Tensor:
        return modulated_conv2d(
            x, weight, styles, demodulate=demodulate, up=2, padding=1, resample_filter=FILTER, noise=noise
        )

    assert gradcheck(function, inputs, fast_mode=True)
    assert gradgradcheck(function, inputs, fast_mode=True)


def test_float16_guard_cancels_in_the_demodulation():
    weight, styles = randn(4, 3, 3, 3) * 1e3, randn(2, 3, seed=1) * 1e4
    guarded_weight, guarded_styles = _guard_half(weight, styles)
    torch.testing.assert_close(guarded_styles.abs().amax(dim=1), torch.ones(2).double())
    peaks = guarded_weight.abs().amax(dim=(1, 2, 3))
    torch.testing.assert_close(peaks, torch.full([4], 1 / math.sqrt(27)).double())

    def demodulated(weight: Tensor, styles: Tensor) -> Tensor:
        kernels = weight[None] * styles[:, None, :, None, None]
        return kernels / kernels.square().sum(dim=(2, 3, 4), keepdim=True).sqrt()

    torch.testing.assert_close(demodulated(guarded_weight, guarded_styles), demodulated(weight, styles))


@pytest.mark.parametrize("n", [1, 2])
def test_float16_keeps_within_its_range(n):
    """Weights and styles whose product overflows float16 give what float32 gives, to the precision of float16."""
    x, weight, styles = randn(n, 64, 8, 8).float(), randn(8, 64, 3, 3, seed=1).float(), randn(n, 64, seed=2).float()
    weight, styles = weight * 300, styles * 3000
    expected = modulated_conv2d(x, weight, styles, padding=1, noise=torch.ones(8, 8))
    half = modulated_conv2d(x.half(), weight, styles, padding=1, noise=torch.ones(8, 8))
    assert half.dtype == torch.float16
    assert half.isfinite().all()
    torch.testing.assert_close(half.float(), expected, rtol=1e-2, atol=1e-2)


# Minibatch statistics


@given(
    groups=st.integers(1, 3),
    group=st.integers(1, 4),
    channels=st.integers(1, 3),
    side=st.integers(1, 3),
    seed=st.integers(),
)
@settings(max_examples=30, deadline=None)
def test_minibatch_std_is_its_loops(groups, group, channels, side, seed):
    n = groups * group
    x = randn(n, channels, side, side, seed=seed % 2**31)
    y = minibatch_std(x, group)
    assert torch.equal(y[:, :channels], x)
    for i in range(n):
        members = [j for j in range(n) if j % groups == i % groups]
        assert len(members) == group
        total = 0.0
        for channel in range(channels):
            for row in range(side):
                for column in range(side):
                    values = [x[j, channel, row, column].item() for j in members]
                    mean = sum(values) / group
                    total += math.sqrt(sum((value - mean) ** 2 for value in values) / group + 1e-8)
        expected = total / (channels * side**2)
        assert y[i, channels].flatten().tolist() == pytest.approx([expected] * side**2)


def test_minibatch_std_of_parts_of_the_channels():
    x = randn(4, 6, 3, 3)
    y = minibatch_std(x, 2, num_features=3)
    assert y.shape == (4, 9, 3, 3)
    for part in range(3):
        alone = minibatch_std(x[:, 2 * part : 2 * part + 2], 2)[:, 2]
        torch.testing.assert_close(y[:, 6 + part], alone)


def test_minibatch_std_of_few_samples():
    x = randn(3, 2, 4, 4)
    torch.testing.assert_close(minibatch_std(x, 4), minibatch_std(x, 3), msg="a small batch is one group")
    torch.testing.assert_close(minibatch_std(x, None), minibatch_std(x, 3))
    torch.testing.assert_close(minibatch_std(x[:1], 4)[0, 2], torch.full([4, 4], 1e-4).double())


def test_minibatch_std_refuses_odd_batches():
    with pytest.raises(
        ValueError, match=r"batch of 6 does not divide into minibatch-std groups of 4 \(--mbstd-group\)"
    ):
        minibatch_std(torch.zeros(6, 1, 4, 4), 4)


def test_minibatch_std_derivatives():
    x = randn(4, 2, 2, 2).requires_grad_()
    assert gradcheck(lambda x: minibatch_std(x, 2), x)
    assert gradgradcheck(lambda x: minibatch_std(x, 2), x)
