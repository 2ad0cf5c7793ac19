"""The losses of each phase: values by hand, gradients where they belong, what is reported."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from unittest.mock import Mock

import pytest
import torch

from tests.unit.training_parts import networks, prior, reals
from training import phases
from training.augment import AugmentConfig, AugmentPipe
from training.config import override
from training.inputs import Draw
from training.losses import DensityConfig, LossConfig, MarchConfig
from training.losses.regularizers import MARCH_REGULARIZERS
from training.types import RenderSettings, StepSettings, Views

SETTINGS = StepSettings(RenderSettings(8, jitter="center"), r1_gamma=3.0)


@pytest.fixture
def G_D():
    return networks()


@pytest.fixture
def fakes(G_D):
    return Draw(prior()).fakes(G_D[0], 4, 0.5, ("test",))


def only(losses):
    found = list(losses)
    assert len(found) == 1
    return found[0]


def touched(module):
    return {name for name, parameter in module.named_parameters() if parameter.grad is not None}


def test_generator_main_is_softplus_of_the_negated_logits(G_D, fakes):
    G, D = G_D
    loss = only(phases.generator_main(G, D, fakes, SETTINGS, noise_mode="none"))
    out = G.synthesis(G.mapping(fakes.z, fakes.mapping_camera), fakes.camera, SETTINGS.render, noise_mode="none")
    logits = D(Views(out.image, out.image_raw), fakes.camera)
    torch.testing.assert_close(loss.values, torch.nn.functional.softplus(-logits).squeeze(1))
    assert set(loss.statistics) == {"Loss/scores/fake", "Loss/signs/fake", "Loss/G/loss"}


def test_discriminator_main_keeps_the_generator_out_and_updates_its_average(G_D, fakes):
    G, D = G_D
    before = G.mapping.scene.w_avg.clone()
    losses = []
    for loss in phases.discriminator_main(G, D, fakes, reals(4), SETTINGS):
        losses.append(loss)
        loss.values.mean().backward()
    fake, real = losses
    assert not touched(G)
    assert touched(D)
    assert not torch.equal(before, G.mapping.scene.w_avg)
    torch.testing.assert_close(real.statistics["Loss/D/loss"], fake.values + real.values)
    assert set(fake.statistics) == {"Loss/scores/fake", "Loss/signs/fake"}
    assert set(real.statistics) == {"Loss/scores/real", "Loss/signs/real", "Loss/D/loss"}


def test_the_average_style_moves_in_no_other_phase(G_D, fakes):
    G, D = G_D
    before = G.mapping.scene.w_avg.clone()
    list(phases.generator_main(G, D, fakes, SETTINGS))
    assert torch.equal(before, G.mapping.scene.w_avg)


def test_r1_takes_gradients_of_both_pictures_apart(G_D):
    _, D = G_D
    real = reals(4)
    loss = only(phases.discriminator_r1(D, real, SETTINGS))
    views = D.real_views(real.images, SETTINGS.render)
    image, raw = views.image.clone().requires_grad_(), views.raw.detach().requires_grad_()
    gradients = torch.autograd.grad(D(Views(image, raw), real.camera).sum(), [image, raw])
    penalty = sum(gradient.square().flatten(1).sum(dim=1) for gradient in gradients)
    torch.testing.assert_close(loss.statistics["Loss/r1_penalty"], penalty)
    torch.testing.assert_close(loss.values, penalty * 1.5)
    loss.values.mean().backward()
    assert touched(D)


def test_blur_of_an_impulse():
    images = torch.zeros(1, 1, 9, 9)
    images[0, 0, 4, 4] = 1
    assert phases.blur(images, 0.3) is images
    blurred = phases.blur(images, 0.9999999999999998)[0, 0]
    taps = torch.tensor([2.0 ** -(i**2) for i in (-2, -1, 0, 1, 2)])
    taps = torch.nn.functional.pad(taps / taps.sum(), (2, 2))
    torch.testing.assert_close(blurred, torch.outer(taps, taps))


def test_blur_reaches_the_fake_picture_but_not_its_raw_copy(G_D):
    _, D = G_D
    seen = []
    D.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    real, settings = reals(4), replace(SETTINGS, blur_sigma=1.0)
    views = Views(torch.rand(4, 3, 32, 32), torch.rand(4, 3, 8, 8))
    phases.judge(D, views, real.camera, settings, None)
    torch.testing.assert_close(seen[0].image, phases.blur(views.image, 1.0))
    assert seen[0].raw is views.raw
    raw = D.real_views(real.images, settings.render).raw
    torch.testing.assert_close(phases.real_views(D, real, settings).raw, phases.blur(raw, 1.0))


def test_augmentation_changes_both_pictures_alike():
    geometry: dict[str, Any] = dict.fromkeys(("xflip", "rotate90", "xint", "scale", "rotate", "aniso", "xfrac"), 0.0)
    colors: dict[str, Any] = dict.fromkeys(("contrast", "lumaflip", "hue", "saturation"), 0.0)
    pipe = AugmentPipe(AugmentConfig(mode="fixed", p=1, **geometry, **colors))
    image = torch.rand(4, 3, 32, 32)
    raw = torch.nn.functional.interpolate(image, [8, 8], mode="bilinear", antialias=True)
    views = phases.augmented(Views(image, raw), pipe)
    brightness = (views.image - image).mean(dim=(1, 2, 3), keepdim=True)
    assert brightness.abs().min() > 1e-3
    torch.testing.assert_close(views.image, image + brightness)
    wide = torch.nn.functional.interpolate(raw, [32, 32], mode="bilinear")
    back = torch.nn.functional.interpolate(wide, [8, 8], mode="bilinear", antialias=True)
    torch.testing.assert_close(views.raw, back + brightness)


REGULARIZED = LossConfig(
    density=DensityConfig(strength=0.25, kind="monotonic-fixed"),
    fg_density=MarchConfig(strength=0.5),
    fg_density_spatial=MarchConfig(strength=0.7),
    bg_transmittance=MarchConfig(strength=0.3),
)


def test_regularizers_share_one_scene_and_one_march(G_D, fakes, monkeypatch):
    G, _ = G_D
    scene, render = Mock(side_effect=G.scene.forward), Mock(side_effect=phases.render)
    monkeypatch.setattr(G.scene, "forward", scene)
    monkeypatch.setattr(phases, "render", render)
    scale = {"density": 0.25, "density_monotonic": 10.0, "fg_density": 0.5, "fg_density_spatial": 0.7}
    settings = replace(SETTINGS, regularizer_scale={**scale, "bg_transmittance": 0.3})
    loss = only(phases.generator_regularizers(G, fakes, settings, REGULARIZED))
    assert (scene.call_count, render.call_count) == (1, 1)
    torch.testing.assert_close(loss.values, sum(loss.statistics.values()))
    assert set(loss.statistics) == set(phases.REGULARIZER_STATISTICS.values())
    loss.values.mean().backward()
    assert any(name.startswith("scene.decoder") for name in touched(G))
    assert not any(name.startswith(("upsampler", "background")) for name in touched(G))


@pytest.mark.parametrize("name", MARCH_REGULARIZERS)
def test_each_regularizer_acts_alone(G_D, fakes, name):
    G, _ = G_D
    config = override(LossConfig(), f"{name}.strength", 2.0)
    settings = replace(SETTINGS, regularizer_scale={name: 2.0})
    loss = only(phases.generator_regularizers(G, fakes, settings, config, noise_mode="none"))
    out = G.synthesis(G.mapping(fakes.z, fakes.mapping_camera), fakes.camera, SETTINGS.render, noise_mode="none")
    torch.testing.assert_close(loss.values, 2 * MARCH_REGULARIZERS[name](out.march))
    assert list(loss.statistics) == [phases.REGULARIZER_STATISTICS[name]]


def test_density_alone_marches_no_rays(G_D, fakes, monkeypatch):
    G, _ = G_D
    monkeypatch.setattr(phases, "render", None)
    settings = replace(SETTINGS, regularizer_scale={"density": 0.25})
    loss = only(phases.generator_regularizers(G, fakes, settings, LossConfig(density=DensityConfig(strength=0.25))))
    assert loss.values.isfinite().all()


def test_style_mixing_takes_late_rows_from_the_second_latent(G_D):
    G, _ = G_D
    fakes = Draw(prior(), style_mixing_prob=1.0).fakes(G, 4, 1.0, ("mix",))
    assert fakes.mix is not None
    latents = phases.map_fakes(G, fakes)
    first, second = G.mapping(fakes.z, fakes.mapping_camera), G.mapping(fakes.mix.z, fakes.camera)
    cut = fakes.mix.cut
    torch.testing.assert_close(latents.scene[:, :cut], first.scene[:, :cut])
    torch.testing.assert_close(latents.scene[:, cut:], second.scene[:, cut:])
    torch.testing.assert_close(latents.upsampler, second.upsampler)
    torch.testing.assert_close(latents.background, first.background)
