"""Augmentation: each transform by itself against a literal twin, probabilities, derivatives."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from training.augment import (
    SYM6,
    AugmentConfig,
    AugmentPipe,
    Draws,
    adapted_probability,
    band_gains,
    color_map,
    geometry_matrix,
    octave_bands,
    recolor,
    sample_bilinear,
    scaling,
    setup_filter,
    translation,
    warp,
)

GEOMETRY = ("xflip", "rotate90", "xint", "scale", "rotate", "aniso", "xfrac")
COLOR = ("brightness", "contrast", "lumaflip", "hue", "saturation")


def only(**strengths: float) -> AugmentConfig:
    changes: dict[str, Any] = dict.fromkeys(GEOMETRY + COLOR, 0) | strengths
    return AugmentConfig(mode="fixed", p=1, **changes)


def randn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.RandomState(seed).randn(*shape).astype(np.float32))


def smooth_images(n: int, channels: int, size: int) -> torch.Tensor:
    """Waves of at least 8 pixels, so that resampling loses nothing."""
    y, x = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    phases = randn(n, channels, 1, 1)
    return torch.sin(x * 0.3 + phases) * torch.cos(y * 0.2 - phases) + 0.3 * torch.sin(y * 0.45)


def test_everything_at_probability_zero_is_the_identity():
    config = replace(AugmentConfig(mode="fixed", p=0), imgfilter=1, cutout=1)
    images = randn(3, 3, 32, 40)
    torch.testing.assert_close(AugmentPipe(config)(images), images, atol=2e-5, rtol=0)


def test_the_pipe_starts_with_the_probability_of_its_mode():
    assert AugmentPipe(AugmentConfig(mode="fixed", p=0.25)).p == 0.25
    assert AugmentPipe(AugmentConfig(mode="ada", p=0.25)).p == 0
    assert set(AugmentPipe(AugmentConfig()).state_dict()) == {"p", "Hz_geom", "Hz_fbank"}


@pytest.mark.parametrize(
    ("name", "percentile", "expected"),
    [
        ("xflip", 0.2, lambda x: x),
        ("xflip", 0.7, lambda x: x.flip(3)),
        ("rotate90", 0.3, lambda x: x.rot90(1, (2, 3))),
        ("rotate90", 0.6, lambda x: x.rot90(2, (2, 3))),
        ("rotate90", 0.8, lambda x: x.rot90(3, (2, 3))),
        ("lumaflip", 0.2, lambda x: x),
        ("lumaflip", 0.7, lambda x: x - 2 * x.mean(dim=1, keepdim=True)),
        ("contrast", 0.9, lambda x: x * 2 ** (0.5 * math.sqrt(0.5) * 1.2815515655)),
    ],
)
def test_transforms_that_need_no_interpolation(name, percentile, expected):
    images = smooth_images(2, 3, 32)
    actual = AugmentPipe(only(**{name: 1}))(images, debug_percentile=percentile)
    inner = (..., slice(4, -4), slice(4, -4))  # the low-pass is not quite symmetric, which moves images a little
    torch.testing.assert_close(actual[inner], expected(images)[inner], atol=0.05, rtol=0)


def test_integer_shift_moves_whole_pixels_and_mirrors_the_edge():
    images = randn(2, 1, 32, 32)
    shifted = AugmentPipe(only(xint=1))(images, debug_percentile=1.0)  # the largest: an eighth, to the right and down
    torch.testing.assert_close(shifted[:, :, 4:, 4:], images[:, :, :-4, :-4], atol=5e-5, rtol=0)
    torch.testing.assert_close(shifted[:, :, 8:, :4], images[:, :, 4:-4, 1:5].flip(3), atol=5e-5, rtol=0)


def test_a_scale_above_one_enlarges():
    images = torch.zeros(1, 1, 32, 32)
    images[:, :, 12:20, 12:20] = 1
    larger = AugmentPipe(only(scale=1))(images, debug_percentile=0.99)
    assert larger.sum() > images.sum() * 1.2


def test_warp_agrees_with_the_function_that_it_samples():
    size, n = 48, 5
    center = (size - 1) / 2

    def wave(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return torch.sin(x * 0.3 + 1) * torch.cos(y * 0.2) + 0.3 * torch.sin(y * 0.45 - x * 0.1)

    y, x = torch.meshgrid(torch.arange(size) - center, torch.arange(size) - center, indexing="ij")
    images = wave(x, y).expand(n, 1, size, size)
    torch.manual_seed(0)
    config = only(rotate=1, scale=1, aniso=1, xfrac=1, xfrac_std=0.02, scale_std=0.05, aniso_std=0.05)
    matrix = geometry_matrix(config, Draws(n, torch.tensor(1.0), torch.device("cpu")), size, size)
    places = matrix @ torch.stack([x, y, torch.ones_like(x)]).flatten(1)
    expected = wave(places[:, 0], places[:, 1]).view(n, 1, size, size)
    inside = (places[:, :2].abs().amax(dim=1) < center - 4).view(n, 1, size, size)
    assert inside.float().mean() > 0.5
    error = (warp(images, matrix, setup_filter(SYM6)) - expected)[inside].abs()
    assert error.max() < 0.05
    assert error.mean() < 0.02


def test_geometry_is_a_product_in_the_stated_order():
    q, width, height = 0.8, 40, 24
    config = replace(AugmentConfig(), xint_max=0.2)
    actual = geometry_matrix(config, Draws(1, torch.tensor(1.0), torch.device("cpu"), q), width, height)[0].numpy()
    z = 0.8416212335729143 / math.sqrt(2)
    scale, aniso, angle = 2 ** (0.2 * z), 2 ** (0.2 * z), 0.6 * math.pi

    def turn(a):
        return np.array([[math.cos(a), -math.sin(a), 0], [math.sin(a), math.cos(a), 0], [0, 0, 1]])

    def move(x, y):
        return np.array([[1, 0, -x], [0, 1, -y], [0, 0, 1]])

    expected = np.diag([-1, 1, 1]) @ turn(1.5 * math.pi) @ move(round(0.12 * width), round(0.12 * height))
    expected = expected @ np.diag([1 / scale, 1 / scale, 1]) @ turn(angle) @ np.diag([1 / aniso, aniso, 1])
    expected = expected @ move(0.125 * z * width, 0.125 * z * height)
    np.testing.assert_allclose(actual, expected, atol=1e-5)


def test_color_map_is_a_product_of_homogeneous_matrices():
    q = 0.8
    z = 0.8416212335729143 / math.sqrt(2)
    grey = np.array([1, 1, 1, 0]) / math.sqrt(3)
    along = np.outer(grey, grey)
    bright = np.eye(4)
    bright[:3, 3] = 0.2 * z
    contrast = np.diag([2 ** (0.5 * z)] * 3 + [1])
    cross = np.zeros([4, 4])
    cross[:3, :3] = np.cross(np.eye(3), grey[:3]) * -1
    cross = cross.T
    angle = 0.6 * math.pi
    hue = math.cos(angle) * np.eye(4) + math.sin(angle) * cross + (1 - math.cos(angle)) * along
    hue[3, 3] = 1
    saturate = along + (np.eye(4) - along) * 2**z
    expected = saturate @ hue @ (np.eye(4) - 2 * along) @ contrast @ bright

    linear, offset = color_map(AugmentConfig(), Draws(2, torch.tensor(1.0), torch.device("cpu"), q))
    np.testing.assert_allclose(linear[1].numpy(), expected[:3, :3], atol=1e-5)
    np.testing.assert_allclose(offset[1].numpy(), expected[:3, 3:], atol=1e-5)


def test_recolor_treats_triples_alike_and_one_channel_as_grey():
    linear, offset = color_map(AugmentConfig(), Draws(2, torch.tensor(1.0), torch.device("cpu"), 0.7))
    images = randn(2, 6, 5, 4)
    both = recolor(images, linear, offset)
    torch.testing.assert_close(both[:, :3], recolor(images[:, :3], linear, offset))
    torch.testing.assert_close(both[:, 3:], recolor(images[:, 3:], linear, offset))
    grey = recolor(images[:, :1].expand(-1, 3, -1, -1).contiguous(), linear, offset).mean(dim=1, keepdim=True)
    torch.testing.assert_close(recolor(images[:, :1], linear, offset), grey)
    with pytest.raises(ValueError, match="not of 4"):
        recolor(images[:, :4], linear, offset)


def test_hue_and_saturation_keep_greys_and_their_order():
    for name in ("hue", "saturation"):
        linear, offset = color_map(only(**{name: 1}), Draws(1, torch.tensor(1.0), torch.device("cpu"), 0.7))
        torch.testing.assert_close(linear[0] @ torch.ones(3), torch.ones(3))
        assert offset.abs().max() == 0
    third_of_a_turn, _ = color_map(only(hue=1), Draws(1, torch.tensor(1.0), torch.device("cpu"), 0.5 + 1 / 3))
    torch.testing.assert_close(third_of_a_turn[0] @ torch.tensor([1.0, 0, 0]), torch.tensor([0, 1.0, 0]))


def test_probability_and_independence_of_samples():
    torch.manual_seed(0)
    n = 4000
    draws = Draws(n, torch.tensor(0.5), torch.device("cpu"))
    happened = color_map(only(brightness=0.6), draws)[1][:, 0, 0] != 0
    assert happened.float().mean().item() == pytest.approx(0.3, abs=0.03)
    turned = geometry_matrix(only(rotate=1), draws, 8, 8)[:, 0, 1] != 0
    assert turned.float().mean().item() == pytest.approx(0.5, abs=0.03)
    always = Draws(n, torch.tensor(3.0), torch.device("cpu"))  # the probability has no upper limit
    assert (geometry_matrix(only(rotate=1), always, 8, 8)[:, 0, 1] != 0).all()


def test_draws_have_the_stated_distributions():
    torch.manual_seed(0)
    draws = Draws(20000, torch.tensor(1.0), torch.device("cpu"))
    matrix = geometry_matrix(only(xint=1), draws, 80, 40)
    assert matrix[:, 0, 2].abs().max() == 10
    assert matrix[:, 1, 2].abs().max() == 5
    log_scale = geometry_matrix(only(scale=1), draws, 8, 8)[:, 0, 0].log2()
    assert log_scale.std().item() == pytest.approx(0.2, abs=0.01)
    aniso = geometry_matrix(only(aniso=1), draws, 8, 8)
    torch.testing.assert_close(aniso[:, 0, 0] * aniso[:, 1, 1], torch.ones(20000))
    fractions = geometry_matrix(only(xfrac=1), draws, 80, 40)
    assert fractions[:, 0, 2].std().item() == pytest.approx(10, rel=0.05)
    assert fractions[:, 1, 2].std().item() == pytest.approx(5, rel=0.05)


def test_octave_bands_add_up_and_separate_frequencies():
    bank = octave_bands(4)
    assert bank.shape == (4, 43)
    impulse = torch.zeros(43)
    impulse[21] = 1
    torch.testing.assert_close(bank.sum(dim=0), impulse)
    torch.testing.assert_close(bank, bank.flip(1))
    response = torch.fft.rfft(bank, n=256).abs()
    peaks = response.argmax(dim=1).tolist()
    assert peaks == sorted(peaks)
    assert peaks[0] == 0
    assert peaks[3] == 128


def test_band_gains_keep_the_expected_power():
    torch.manual_seed(0)
    gains = band_gains(only(imgfilter=1), Draws(50, torch.tensor(0.7), torch.device("cpu")), 4)
    power = gains.square() @ (torch.tensor([10.0, 1, 1, 1]) / 13)
    assert gains.std() > 0.1
    assert power.min() > 0.3
    one = band_gains(only(imgfilter=1), Draws(50, torch.tensor(0.0), torch.device("cpu")), 4)
    torch.testing.assert_close(one, torch.ones(50, 4))


def test_cutout_blackens_a_square_of_its_size():
    images = torch.ones(2, 3, 32, 32)
    cut = AugmentPipe(only(cutout=1))(images, debug_percentile=0.5)
    expected = images.clone()
    expected[:, :, 8:24, 8:24] = 0
    torch.testing.assert_close(cut, expected)


def test_geometry_is_the_same_for_all_channels_and_keeps_shape_and_type():
    torch.manual_seed(0)
    images = smooth_images(2, 1, 32).expand(-1, 6, -1, -1)[:, :, :24]
    out = AugmentPipe(replace(AugmentConfig(mode="fixed", p=1), brightness=0, contrast=0))(images)
    assert out.shape == images.shape
    assert out.dtype == images.dtype
    torch.testing.assert_close(out[:, 0], out[:, 3])


def test_sampling_is_that_of_grid_sample_with_all_derivatives():
    images, grid = randn(2, 2, 5, 6).double().requires_grad_(), randn(2, 4, 3, 2, seed=1).double() * 0.7
    expected = torch.nn.functional.grid_sample(images, grid, align_corners=False)
    torch.testing.assert_close(sample_bilinear(images, grid), expected)
    assert gradcheck(lambda x: sample_bilinear(x, grid), (images,))
    assert gradgradcheck(lambda x: sample_bilinear(x, grid) ** 2, (images,))


def test_the_whole_pipe_has_first_and_second_derivatives():
    torch.manual_seed(0)
    images = randn(2, 3, 16, 16).requires_grad_()
    config = replace(AugmentConfig(mode="fixed", p=1), cutout=1)
    out = AugmentPipe(config)(images)
    (first,) = torch.autograd.grad(out.square().sum(), images, create_graph=True)
    (second,) = torch.autograd.grad(first.square().sum(), images)
    assert first.abs().sum() > 0
    assert second.abs().sum() > 0


def test_augmented_images_do_not_depend_on_their_batch_mates():
    identity = torch.eye(3).expand(2, 3, 3)
    images = randn(2, 1, 16, 16)
    far = torch.cat([translation(torch.tensor([5.0]), torch.tensor([3.0])), scaling(*torch.ones(2, 1))])
    together = warp(images, far, setup_filter(SYM6))
    alone = warp(images[1:], identity[1:], setup_filter(SYM6))
    torch.testing.assert_close(together[1:], alone, atol=2e-5, rtol=0)


def test_images_too_small_for_the_filter_bank_are_refused():
    with pytest.raises(ValueError, match="more than 21 pixels a side, not 16x16"):
        AugmentPipe(only(imgfilter=1))(torch.zeros(1, 3, 16, 16))


def test_adapted_probability_walks_in_constant_steps():
    p, seen = 0.0, []
    for sign_mean in (1, 0.5, 0.75, 0.25, 1, 1, -1, 0.6, 1, 1, 0.5, 0.75):
        p = adapted_probability(p, sign_mean, target=0.6, batch=32, interval=4, kimg=500)
        seen.append(round(p / 0.000256))
    assert seen == [1, 0, 1, 0, 1, 2, 1, 1, 2, 3, 2, 3]
    assert adapted_probability(1.0, 0.9, 0.6, 32, 4, 0.1) == pytest.approx(2.28)
