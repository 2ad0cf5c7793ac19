"""The operations against literal twins, and their first and second derivatives against finite differences."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from torch_utils.ops.bias_act import ACTIVATIONS, bias_act
from torch_utils.ops.conv2d_resample import conv2d_resample
from torch_utils.ops.upfirdn2d import downsample2d, filter2d, setup_filter, upfirdn2d, upsample2d

RAMP = [[1.0, 2.0, 0.0], [0.0, 3.0, 1.0]]
EIGHT_TAPS = [1.0, 2.0, 3.0, 4.0, 4.0, 3.0, 2.0, 2.0]


def randn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.RandomState(seed).randn(*shape))


def literal_correlation(x: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Correlation of x [n, in, h, w] with kernel [out, in, rows, columns] at all places that fit."""
    rows, columns = kernel.shape[2:]
    height, width = x.shape[2] - rows + 1, x.shape[3] - columns + 1
    y = np.zeros([x.shape[0], kernel.shape[0], height, width])
    for i, j in itertools.product(range(height), range(width)):
        y[:, :, i, j] = np.einsum("nchw,ochw->no", x[:, :, i : i + rows, j : j + columns], kernel)
    return y


def literal_pad(x: np.ndarray, padding: tuple[int, int, int, int]) -> np.ndarray:
    left, right, top, bottom = padding
    x = np.pad(x, [(0, 0), (0, 0), (max(top, 0), max(bottom, 0)), (max(left, 0), max(right, 0))])
    height, width = x.shape[2:]
    return x[:, :, max(-top, 0) : height - max(-bottom, 0), max(-left, 0) : width - max(-right, 0)]


def literal_upfirdn2d(x, f, up, down, padding, flip_filter=False, gain=1.0) -> np.ndarray:
    """The definition: insert zeros, pad, filter, decimate; f is [rows, columns], factors are (x, y)."""
    n, channels, height, width = x.shape
    spread = np.zeros([n, channels, height * up[1], width * up[0]])
    spread[:, :, :: up[1], :: up[0]] = x
    spread = literal_pad(spread, padding)
    kernel = (f if flip_filter else f[::-1, ::-1])[None, None] * gain
    y = literal_correlation(spread.reshape(n * channels, 1, *spread.shape[2:]), kernel)
    return y.reshape(n, channels, *y.shape[2:])[:, :, :: down[1], :: down[0]]


@pytest.mark.parametrize("flip_filter", [False, True])
@pytest.mark.parametrize("taps", [None, [1, 3, 3, 1], RAMP, EIGHT_TAPS, [1.0, 2.0, 4.0]])
@pytest.mark.parametrize(
    ("up", "down", "padding"),
    [
        ((1, 1), (1, 1), (0, 0, 0, 0)),
        ((1, 1), (1, 1), (4, 4, 3, 5)),
        ((1, 1), (1, 1), (8, -1, -2, 9)),
        ((2, 2), (1, 1), (2, 1, 2, 1)),
        ((2, 2), (1, 1), (9, 9, 9, 9)),
        ((1, 1), (2, 2), (4, 3, 4, 3)),
        ((2, 1), (1, 2), (3, 5, -1, 7)),
        ((3, 2), (2, 3), (5, 7, 4, 6)),
    ],
)
def test_upfirdn2d_is_its_definition(taps, up, down, padding, flip_filter):
    x = randn(2, 3, 9, 8)
    f = setup_filter(taps).double()
    full = torch.outer(f, f) if f.ndim == 1 else f
    expected = literal_upfirdn2d(x.numpy(), full.numpy(), up, down, padding, flip_filter, gain=3.0)
    actual = upfirdn2d(x, f, up=up, down=down, padding=padding, flip_filter=flip_filter, gain=3.0)
    np.testing.assert_allclose(actual.numpy(), expected, atol=1e-12)


@pytest.mark.parametrize("taps", [[1, 3, 3, 1], RAMP, EIGHT_TAPS])
def test_helpers_keep_size_and_brightness(taps):
    x = torch.ones(1, 2, 24, 24)
    f = setup_filter(taps)
    for y, size in ((filter2d(x, f), 24), (upsample2d(x, f), 48), (downsample2d(x, f), 12)):
        assert y.shape == (1, 2, size, size)
    torch.testing.assert_close(filter2d(x, f)[:, :, 8:-8, 8:-8].mean(), torch.tensor(1.0))
    torch.testing.assert_close(downsample2d(x, f)[:, :, 4:-4, 4:-4].mean(), torch.tensor(1.0))
    torch.testing.assert_close(upsample2d(x, f)[:, :, 8:-8, 8:-8].mean(), torch.tensor(1.0))
    assert upsample2d(x, f, factor=(1, 2), padding=(1, 0, 0, -1)).shape == (1, 2, 47, 25)


def test_setup_filter_shapes_and_sum():
    assert setup_filter(None).tolist() == [[1.0]]
    assert setup_filter([1, 3, 3, 1]).shape == (4, 4)
    assert setup_filter(EIGHT_TAPS).shape == (8,)
    assert setup_filter(RAMP).shape == (2, 3)
    for taps in ([1, 3, 3, 1], EIGHT_TAPS, RAMP, 5.0):
        assert setup_filter(taps).sum().item() == pytest.approx(1)


def test_half_precision_images_keep_their_type():
    x, f = randn(1, 2, 8, 8), setup_filter([1, 3, 3, 1])
    coarse = upsample2d(x.bfloat16(), f)
    assert coarse.dtype == torch.bfloat16
    torch.testing.assert_close(coarse.double(), upsample2d(x, f), atol=0.05, rtol=0.05)


@pytest.mark.parametrize("taps", [[1, 3, 3, 1], RAMP, EIGHT_TAPS, None])
@pytest.mark.parametrize("flip_weight", [False, True])
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("kernel", [(1, 1), (3, 3), (2, 5)])
@pytest.mark.parametrize(("up", "down"), [(1, 1), (2, 1), (1, 2), (2, 2), (3, 2)])
def test_conv2d_resample_is_its_definition(taps, flip_weight, groups, kernel, up, down):
    for padding in (1, (2, 0), (3, 4, -1, 5)):
        x, w = randn(2, 4, 8, 9), randn(6, 4 // groups, *kernel, seed=1)
        f = setup_filter(taps).double()
        actual = conv2d_resample(x, w, f, up, down, padding, groups, flip_weight)
        np.testing.assert_allclose(
            actual.numpy(), literal_conv2d_resample(x, w, f, up, down, padding, groups, flip_weight), atol=1e-11
        )


def literal_conv2d_resample(x, w, f, up, down, padding, groups, flip_weight) -> np.ndarray:
    """The definition: insert zeros, pad, filter, convolve, filter, decimate."""
    padding = np.atleast_1d(padding).repeat({1: 4, 2: 2, 4: 1}[np.size(padding)])
    kernel = (torch.outer(f, f) if f.ndim == 1 else f).numpy()
    for axis, size in ((0, kernel.shape[1]), (2, kernel.shape[0])):
        if up > 1:
            padding[axis : axis + 2] += [(size + up - 1) // 2, (size - up) // 2]
        if down > 1:
            padding[axis : axis + 2] += [(size - down + 1) // 2, (size - down) // 2]
    y = literal_upfirdn2d(x.numpy(), kernel if up > 1 else np.ones([1, 1]), (up, up), (1, 1), padding, gain=up**2)
    w = w.numpy() if flip_weight else w.numpy()[:, :, ::-1, ::-1]
    pairs = zip(np.split(y, groups, axis=1), np.split(w, groups), strict=True)
    y = np.concatenate([literal_correlation(part, weight) for part, weight in pairs], axis=1)
    return literal_upfirdn2d(y, kernel if down > 1 else np.ones([1, 1]), (1, 1), (down, down), (0, 0, 0, 0))


@pytest.mark.parametrize("act", list(ACTIVATIONS))
@pytest.mark.parametrize(("gain", "alpha", "clamp"), [(None, None, None), (0.7, 0.1, 0.4), (1, 0.3, None), (-2, 0, 1)])
@pytest.mark.parametrize("dim", [1, -1, None])
def test_bias_act_is_its_definition(act, gain, alpha, clamp, dim):
    x = randn(3, 4, 5)
    b = None if dim is None else randn(x.shape[dim], seed=1)
    before = x.clone()
    shifted = x if b is None else x + (b[:, None] if dim == 1 else b)
    activation = ACTIVATIONS[act]
    expected = activation.function(shifted, activation.alpha if alpha is None else alpha)
    expected = expected * (activation.gain if gain is None else gain)
    expected = expected if clamp is None else expected.clamp(-clamp, clamp)
    torch.testing.assert_close(bias_act(x, b, dim or 1, act, alpha, gain, clamp), expected)
    assert torch.equal(x, before), "the input must stay as it is"


def test_activations_by_their_formulas():
    x = randn(200).numpy() * 3
    formulas = {
        "linear": x,
        "relu": np.maximum(x, 0),
        "lrelu": np.where(x > 0, x, 0.2 * x),
        "tanh": np.tanh(x),
        "sigmoid": 1 / (1 + np.exp(-x)),
        "elu": np.where(x > 0, x, np.expm1(x)),
        "selu": 1.0507009873554805 * np.where(x > 0, x, 1.6732632423543772 * np.expm1(x)),
        "softplus": np.log1p(np.exp(x)),
        "swish": x / (1 + np.exp(-x)),
    }
    assert set(formulas) == set(ACTIVATIONS)
    for name, expected in formulas.items():
        actual = bias_act(torch.from_numpy(x), dim=0, act=name, gain=1)
        np.testing.assert_allclose(actual.numpy(), expected, atol=1e-12, err_msg=name)


@pytest.mark.parametrize("act", list(ACTIVATIONS))
@pytest.mark.parametrize("clamp", [None, 0.8])
def test_bias_act_derivatives(act, clamp):
    x, b = randn(2, 3, 3).requires_grad_(), randn(3, seed=1).requires_grad_()
    function = lambda x, b: bias_act(x, b, act=act, clamp=clamp)  # noqa: E731
    assert gradcheck(function, (x, b))
    assert gradgradcheck(function, (x, b))


@pytest.mark.parametrize("taps", [RAMP, EIGHT_TAPS])
@pytest.mark.parametrize(("up", "down"), [(1, 1), (2, 1), (1, 2), (2, 3)])
def test_upfirdn2d_derivatives(taps, up, down):
    f = setup_filter(taps).double()
    function = lambda x: upfirdn2d(x, f, up, down, padding=(4, 3, 5, 4)) ** 2  # noqa: E731
    x = randn(1, 2, 4, 4).requires_grad_()
    assert gradcheck(function, (x,))
    assert gradgradcheck(function, (x,))


@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize(("up", "down", "flip_weight"), [(1, 1, True), (2, 1, False), (1, 2, True), (2, 2, True)])
def test_conv2d_resample_derivatives(kernel, up, down, flip_weight):
    f = setup_filter([1, 3, 3, 1]).double()
    function = lambda x, w: conv2d_resample(x, w, f, up, down, kernel // 2, 1, flip_weight)  # noqa: E731
    inputs = (randn(1, 2, 4, 4).requires_grad_(), randn(2, 2, kernel, kernel, seed=1).requires_grad_())
    assert gradcheck(function, inputs)
    assert gradgradcheck(function, inputs)


def test_errors_name_the_argument_and_the_mend():
    x = torch.zeros(1, 2, 4, 4)
    with pytest.raises(ValueError, match="act='gelu' is unknown; choose one of linear, relu"):
        bias_act(x, act="gelu")
    with pytest.raises(ValueError, match=r"b has shape \[3\], but x has 2 entries along dim 1"):
        bias_act(x, torch.zeros(3))
    with pytest.raises(ValueError, match="factor must be at least 1, got 0"):
        upfirdn2d(x, None, up=0)
    with pytest.raises(ValueError, match=r"padding must be a number, .* got"):
        upfirdn2d(x, None, padding=(1, 2, 3))
    with pytest.raises(ValueError, match=r"at least one tap, not shape \[1, 1, 1\]"):
        setup_filter(torch.ones(1, 1, 1))


@pytest.mark.parametrize("taps", [RAMP, EIGHT_TAPS])
@pytest.mark.parametrize(("up", "down"), [(1, 1), (2, 1), (1, 2), (3, 2)])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_upfirdn2d_is_a_proper_operator(taps, up, down, layout):
    """What torch.compile relies on: shapes, layouts and derivatives are what the rules say."""
    x = randn(2, 3, 6, 5).contiguous(memory_format=layout).requires_grad_()
    arguments = (x, setup_filter(taps).double(), (up, up), (down, down), (5, 4, 3, 6), False, 2.0)
    torch.library.opcheck(torch.ops.gan3d.upfirdn2d.default, arguments)
    assert upfirdn2d(x, arguments[1], padding=2).is_contiguous(memory_format=layout)


def test_half_precision_images_are_enlarged_on_processors_too():
    x, f = randn(1, 4, 6, 6).to(memory_format=torch.channels_last), setup_filter(EIGHT_TAPS)
    torch.testing.assert_close(upsample2d(x.bfloat16(), f).double(), upsample2d(x, f.double()), atol=0.05, rtol=0.05)


@pytest.mark.parametrize("act", list(ACTIVATIONS))
@pytest.mark.parametrize("gain", [1, 0.5, -2])
@pytest.mark.parametrize("clamp", [None, 0.5, 100])
def test_bias_act_in_place_gives_the_same_and_the_same_gradients(act, gain, clamp):
    leaf, b = randn(2, 3, 4).requires_grad_(), randn(3, seed=1).requires_grad_()
    expected = bias_act(leaf, b, act=act, gain=gain, clamp=clamp)
    actual = bias_act(leaf * 1, b, act=act, gain=gain, clamp=clamp, inplace=True)
    torch.testing.assert_close(actual, expected)
    upstream = randn(2, 3, 4, seed=2)
    for ours, theirs in zip(
        torch.autograd.grad(actual, (leaf, b), upstream),
        torch.autograd.grad(expected, (leaf, b), upstream),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs)


def test_bias_act_in_place_needs_no_new_memory():
    x = randn(2, 3, 4)
    assert bias_act(x, randn(3), act="lrelu", clamp=1, inplace=True).data_ptr() == x.data_ptr()


def test_a_clamp_that_does_not_act_keeps_nothing():
    x = randn(2, 3).requires_grad_()
    y = bias_act(x, act="linear", clamp=100)
    assert y is x
    assert bias_act(x * float("nan"), clamp=100).isnan().all()
