"""Discriminators: blocks against their formulas, views, labels, Freeze-D, and the derivatives that R1 needs."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import gradcheck, gradgradcheck
from torch.nn.functional import conv2d, interpolate

from torch_utils.ops.upfirdn2d import downsample2d, setup_filter, upfirdn2d, upsample2d
from training.discriminators import DualDiscriminatorConfig, PlainDiscriminatorConfig
from training.discriminators.blocks import DiscriminatorBlock, DiscriminatorEpilogue, Trunk, TrunkConfig
from training.discriminators.dual import DualDiscriminator, filtered_resizing, noisy_labels
from training.layers import RESAMPLE_TAPS, minibatch_std
from training.types import Camera, RenderSettings, Views

FILTER = setup_filter(RESAMPLE_TAPS)
TRUNK = TrunkConfig(channel_base=64, channel_max=4)
DUAL = DualDiscriminatorConfig(trunk=TRUNK)
PLAIN = PlainDiscriminatorConfig(trunk=TRUNK)


def lrelu(x: Tensor) -> Tensor:
    return torch.where(x > 0, x, 0.2 * x) * math.sqrt(2)


def pictures(n: int = 4, resolution: int = 16, raw: int = 8, seed: int = 0) -> Views:
    draw = torch.Generator().manual_seed(seed)
    return Views(torch.randn(n, 3, resolution, resolution, generator=draw), torch.randn(n, 3, raw, raw, generator=draw))


def labels(n: int = 4, seed: int = 0) -> Tensor:
    return torch.randn(n, 25, generator=torch.Generator().manual_seed(seed))


def block(trunk: Trunk, name: str) -> DiscriminatorBlock:
    found = trunk.get_submodule(name)
    assert isinstance(found, DiscriminatorBlock)
    return found


# Blocks


@pytest.mark.parametrize(("name", "in_channels"), [("b32", 6), ("b16", 2)])
def test_block_is_its_formula(name, in_channels):
    """The first block reads the picture, the others what the one above gives."""
    torch.manual_seed(0)
    layers = block(Trunk(TrunkConfig(channel_base=40, channel_max=5, num_fp16_res=0), 6, 32, 0), name)
    for parameter_name, parameter in layers.named_parameters():
        if parameter_name.endswith("bias"):
            nn.init.normal_(parameter)
    x = torch.randn(2, in_channels, 8, 8)
    out = layers(x)
    if name == "b32":
        x = lrelu(conv2d(x, layers.fromrgb.weight / math.sqrt(6), layers.fromrgb.bias))
    width = x.shape[1]
    y = lrelu(conv2d(x, layers.conv0.weight / math.sqrt(9 * width), layers.conv0.bias, padding=1))
    y = conv2d(upfirdn2d(y, FILTER, padding=2), layers.conv1.weight / math.sqrt(9 * width), layers.conv1.bias, stride=2)
    skip = conv2d(upfirdn2d(x, FILTER, down=2, padding=1), layers.skip.weight / math.sqrt(width))
    torch.testing.assert_close(out, (skip + lrelu(y)) * math.sqrt(0.5))
    assert out.shape == (2, 2 if name == "b32" else 5, 4, 4)
    assert layers.skip.bias is None


def test_epilogue_is_its_formula():
    torch.manual_seed(0)
    epilogue = DiscriminatorEpilogue(4, 3, conv_clamp=None, mbstd_group_size=2)
    x = torch.randn(4, 4, 4, 4)
    y = lrelu(conv2d(minibatch_std(x, 2), epilogue.conv.weight / math.sqrt(5 * 9), padding=1))
    y = lrelu(y.flatten(1) @ epilogue.fc.weight.t() / 8)
    torch.testing.assert_close(epilogue(x), y @ epilogue.out.weight.t() / 2)


@pytest.mark.parametrize("c_dim", [0, 25])
def test_logit_is_the_product_with_the_label(c_dim):
    torch.manual_seed(0)
    trunk = Trunk(TRUNK, 3, 16, c_dim)
    x, c = torch.randn(4, 3, 16, 16), labels()
    features = trunk.b4(block(trunk, "b8")(block(trunk, "b16")(x)))
    if c_dim:
        expected = (features * trunk.mapping(None, c)).sum(dim=1, keepdim=True) / math.sqrt(4)
        assert (trunk(x, c) - trunk(x, c.flip(0))).abs().max() > 1e-4
    else:
        expected = features
        assert torch.equal(trunk(x, None), trunk(x, None))
    torch.testing.assert_close(trunk(x, c if c_dim else None), expected)
    assert expected.shape == (4, 1)


def test_published_channels_and_label_mapping():
    with torch.device("meta"):
        trunk = Trunk(TrunkConfig(), 6, 512, 25)
    assert trunk.block_names == ["b512", "b256", "b128", "b64", "b32", "b16", "b8"]
    first, second = block(trunk, "b512"), block(trunk, "b256")
    assert first.fromrgb.weight.shape == (64, 6, 1, 1)
    assert first.conv1.weight.shape == (128, 64, 3, 3)
    assert second.conv0.weight.shape == (128, 128, 3, 3)
    assert trunk.b4.conv.weight.shape == (512, 513, 3, 3)
    assert trunk.b4.out.weight.shape == (512, 512)
    assert trunk.mapping.layer_names == [f"fc{i}" for i in range(8)]
    assert "mapping.w_avg" not in trunk.state_dict()


def test_highest_resolutions_run_in_float16_and_clamp():
    with torch.device("meta"):
        half, full = (Trunk(TrunkConfig(num_fp16_res=number), 3, 128, 25) for number in (2, 0))
    assert [block(half, name).use_fp16 for name in half.block_names] == [True, True, False, False, False]
    assert not any(block(full, name).use_fp16 for name in full.block_names)
    lower = block(half, "b32")
    clamps = [layer.conv_clamp for layer in (lower.conv0, lower.conv1, lower.skip, half.b4.conv)]
    assert clamps == [256.0, 256.0 * math.sqrt(0.5), None, 256.0]
    assert block(half, "b128").fromrgb.conv_clamp == 256.0
    assert full.b4.conv.conv_clamp is None


@pytest.mark.parametrize("resolution", [4, 12, 48])
def test_resolutions_that_no_block_has_are_refused(resolution):
    with pytest.raises(ValueError, match=f"resolution {resolution} of a discriminator is no power of two from 8 up"):
        DUAL.build(resolution)


# Freeze-D


@pytest.mark.parametrize("freeze", range(9))
def test_layers_freeze_from_the_picture_on(freeze):
    order = ["b16.fromrgb", "b16.conv0", "b16.conv1", "b16.skip", "b8.conv0", "b8.conv1", "b8.skip"]
    discriminator = replace(DUAL, trunk=replace(TRUNK, freeze_layers=freeze)).build(16)
    trained = {name.removeprefix("trunk.").rpartition(".")[0] for name, _ in discriminator.named_parameters()}
    assert [layer for layer in order if layer not in trained] == order[:freeze]
    assert {"b4.conv", "b4.fc", "b4.out", "mapping.embed"} <= trained, "the epilogue always trains"
    free = DUAL.build(16)
    assert set(free.state_dict()) == set(discriminator.state_dict()), "snapshots fit either way"
    discriminator.load_state_dict(free.state_dict())
    views, c = pictures(), labels()
    torch.testing.assert_close(discriminator(views, c), free(views, c))
    discriminator(views, c).sum().backward()
    assert all(parameter.grad is not None for parameter in discriminator.parameters())


# Views


def test_dual_discriminator_judges_picture_and_enlarged_raw_picture():
    torch.manual_seed(0)
    discriminator = DUAL.build(16)
    views, c = pictures(), labels()
    assert views.raw is not None
    raw = interpolate(views.raw, [16, 16], mode="bilinear", align_corners=False, antialias=True)
    torch.testing.assert_close(discriminator(views, c), discriminator.trunk(torch.cat([views.image, raw], dim=1), c))
    other = discriminator(Views(views.image, views.raw.flip(0)), c)
    assert (other - discriminator(views, c)).abs().max() > 1e-4


def test_plain_discriminator_judges_the_picture_alone():
    discriminator = PLAIN.build(16)
    views, c = pictures(), labels()
    assert torch.equal(discriminator(views, c), discriminator(Views(views.image), c))
    assert discriminator.real_views(views.image, RenderSettings(8)).raw is None


def test_views_of_real_pictures():
    discriminator, image = DUAL.build(16), torch.randn(2, 3, 16, 16)
    views = discriminator.real_views(image, RenderSettings(8))
    assert views.image is image
    expected = interpolate(image, [8, 8], mode="bilinear", align_corners=False, antialias=True)
    torch.testing.assert_close(views.raw, expected)
    assert discriminator(views, labels(2)).shape == (2, 1)


def test_a_missing_raw_picture_is_named():
    with pytest.raises(ValueError, match=r"together with its raw picture; views.raw is None"):
        DUAL.build(16)(Views(torch.zeros(1, 3, 16, 16)), labels(1))


@pytest.mark.parametrize("config", [DUAL, PLAIN])
def test_cameras_and_labels_are_the_same(config):
    discriminator, views, c = config.build(16), pictures(), labels()
    assert torch.equal(discriminator(views, Camera.from_label(c)), discriminator(views, c))
    blind = config.build(16, c_dim=0)
    assert torch.equal(blind(views, c), blind(views, c.flip(0)))


# Resizing


@pytest.mark.parametrize("size", [5, 8, 16, 21])
def test_resizing_modes(size):
    images = torch.randn(2, 3, 16, 16)

    def bilinear(antialias: bool) -> Tensor:
        return interpolate(images, [size, size], mode="bilinear", align_corners=False, antialias=antialias)

    torch.testing.assert_close(filtered_resizing(images, size, FILTER, "antialiased"), bilinear(True))
    torch.testing.assert_close(filtered_resizing(images, size, FILTER, "none"), bilinear(False))
    blend = filtered_resizing(images, size, FILTER, 0.3)
    torch.testing.assert_close(blend, 0.3 * bilinear(True) + 0.7 * bilinear(False))
    wide = interpolate(upsample2d(images, FILTER), [2 * size + 2] * 2, mode="bilinear", align_corners=False)
    classic = downsample2d(wide, FILTER, padding=-1, flip_filter=True)
    torch.testing.assert_close(filtered_resizing(images, size, FILTER, "classic"), classic)
    assert classic.shape == (2, 3, size, size)


@pytest.mark.parametrize("mode", ["antialiased", "none", "classic", 0.3])
def test_resizing_keeps_even_pictures(mode):
    inner = filtered_resizing(torch.full([1, 1, 16, 16], 0.7), 12, FILTER, mode)[..., 3:-3, 3:-3]
    torch.testing.assert_close(inner, torch.full_like(inner, 0.7))


@pytest.mark.parametrize("blend", [-0.1, 1.5])
def test_blends_beyond_both_ends_are_refused(blend):
    with pytest.raises(ValueError, match=f"resize={blend}: a blend lies between 0"):
        DualDiscriminatorConfig(resize=blend)


# Label noise


def test_noise_on_labels_follows_their_spread_and_copies():
    torch.manual_seed(0)
    c = torch.randn(4000, 25) * torch.linspace(0, 2, 25)
    before = c.clone()
    noisy = noisy_labels(c, 0.5)
    assert torch.equal(c, before)
    torch.testing.assert_close((noisy - c).std(dim=0), 0.5 * c.std(dim=0), rtol=0.1, atol=1e-6)
    assert torch.equal(noisy_labels(c[:1], 0.5), c[:1]), "one label has no spread"


def test_noise_on_labels_reaches_the_logits():
    discriminator = replace(DUAL, label_noise=0.5).build(16)
    views, c = pictures(), labels()
    assert not torch.equal(discriminator(views, c), discriminator(views, c))
    discriminator = DUAL.build(16)
    assert torch.equal(discriminator(views, c), discriminator(views, c))


# Derivatives


def tiny_dual() -> DualDiscriminator:
    """Eight pixels, two channels, double precision."""
    torch.manual_seed(0)
    trunk = TrunkConfig(channel_base=16, channel_max=2, mbstd_group_size=2)
    return DualDiscriminatorConfig(trunk=trunk).build(8).double()


def test_first_and_second_derivatives_of_the_logits():
    discriminator = tiny_dual()
    image, raw = torch.randn(2, 3, 8, 8).double().requires_grad_(), torch.randn(2, 3, 4, 4).double().requires_grad_()
    c = labels(2).double()

    def logits(image: Tensor, raw: Tensor) -> Tensor:
        return discriminator(Views(image, raw), c)

    assert gradcheck(logits, (image, raw), fast_mode=True)
    assert gradgradcheck(logits, (image, raw), fast_mode=True)


def test_gradient_of_the_penalty_by_finite_differences():
    """What the R1 phase needs: the derivative of squared picture gradients with respect to every weight."""
    discriminator = tiny_dual()
    views, c = pictures(2, 8, 4), labels(2).double()
    assert views.raw is not None

    def penalty() -> Tensor:
        leaves = [picture.double().requires_grad_() for picture in views.tensors()]
        logits = discriminator(Views(leaves[0], leaves[1]), c)
        gradients = torch.autograd.grad(logits.sum(), leaves, create_graph=True)
        return torch.stack([gradient.square().sum() for gradient in gradients]).sum()

    parameters = {name: parameter for name, parameter in discriminator.named_parameters() if "mapping.fc" not in name}
    gradients = torch.autograd.grad(penalty(), list(parameters.values()), allow_unused=True)
    for (name, parameter), gradient in zip(parameters.items(), gradients, strict=True):
        step, direction = 1e-5, torch.randn_like(parameter)
        with torch.no_grad():
            parameter.add_(direction, alpha=step)
        above = penalty().item()
        with torch.no_grad():
            parameter.sub_(direction, alpha=2 * step)
        below = penalty().item()
        with torch.no_grad():
            parameter.add_(direction, alpha=step)
        slope = 0.0 if gradient is None else (gradient * direction).sum().item()
        assert (above - below) / (2 * step) == pytest.approx(slope, rel=1e-3, abs=1e-8), name
