"""The losses of a training step, each a function of networks and explicit inputs.

A phase yields its losses one after the other, so that the graph of one can be differentiated and freed before the
next is built. Values are per sample and without the factor of lazy regularization.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float
from torch import Tensor, nn

from torch_utils import random
from torch_utils.ops.upfirdn2d import filter2d
from training.augment import AugmentPipe
from training.cameras.camera import make_rays
from training.discriminators import Discriminator
from training.generator import Generator
from training.inputs import Fakes, Reals
from training.losses import LossConfig
from training.losses.adversarial import fake_logistic, generator_logistic, gradient_penalty, real_logistic
from training.losses.regularizers import (
    MARCH_REGULARIZERS,
    DensityField,
    PointPairs,
    density_decrease,
    density_variation,
    farther_neighbours,
    neighbours,
)
from training.rendering.renderer import render
from training.types import Camera, Latents, NoiseMode, RenderOutput, StepSettings, Views

REGULARIZER_STATISTICS = {
    "density": "Loss/reg_density",
    "density_monotonic": "Loss/reg_density_monotonic",
    "fg_density": "Loss/reg_fgdensity",
    "fg_density_spatial": "Loss/reg_fg_onray_density",
    "bg_transmittance": "Loss/reg_bgtransmittance",
}
"""Published names of what the regularizers report."""


@dataclass(frozen=True)
class Loss:
    """A loss value for each sample, and what is worth reporting, by the published names."""

    values: Float[Tensor, " n"]
    statistics: dict[str, Tensor] = field(default_factory=dict)


def generator_main(
    G: Generator,
    D: Discriminator,
    fakes: Fakes,
    settings: StepSettings,
    augment: AugmentPipe | None = None,
    noise_mode: NoiseMode = "random",
) -> Iterator[Loss]:
    """The generator's loss on generated pictures."""
    with random.per_sample(fakes.keys):
        out = generate(G, fakes, settings, noise_mode)
        logits = judge(D, fake_views(out), fakes.camera, settings, augment)
    values = generator_logistic(logits)
    yield Loss(values, {**_scores("fake", logits), "Loss/G/loss": values})


def generator_regularizers(
    G: Generator,
    fakes: Fakes,
    settings: StepSettings,
    config: LossConfig,
    noise_mode: NoiseMode = "random",
    pairs: dict[str, PointPairs] | None = None,
) -> Iterator[Loss]:
    """All regularizers that act now, from one scene and one march through it.

    pairs: points that "density" and "density_monotonic" compare; drawn where not given.
    """
    scale = settings.regularizer_scale
    box_side = G.config.scene.box_warp
    with random.per_sample(fakes.keys):
        field = G.field(map_fakes(G, fakes), noise_mode)
        pairs = pairs or draw_pairs(config, len(fakes.z), box_side, fakes.z.device)
        values = field_regularizers(field, pairs, config)
        if any(name in MARCH_REGULARIZERS for name in scale):
            rays = make_rays(fakes.camera, settings.render)
            march = render(field, rays, G.config.renderer, settings.render, box_side)
            values |= {name: MARCH_REGULARIZERS[name](march) for name in scale if name in MARCH_REGULARIZERS}
    scaled = {name: value * scale[name] for name, value in values.items()}
    total = torch.stack(list(scaled.values())).sum(dim=0)
    yield Loss(total, {REGULARIZER_STATISTICS[name]: value for name, value in scaled.items()})


def discriminator_main(
    G: Generator,
    D: Discriminator,
    fakes: Fakes,
    reals: Reals,
    settings: StepSettings,
    augment: AugmentPipe | None = None,
    noise_mode: NoiseMode = "random",
) -> Iterator[Loss]:
    """The discriminator's losses on generated pictures and on real ones; updates the average style of G."""
    with random.per_sample(fakes.keys):
        with torch.no_grad():
            out = generate(G, fakes, settings, noise_mode, update_average=True)
        logits = judge(D, fake_views(out), fakes.camera, settings, augment)
    fake = fake_logistic(logits)
    yield Loss(fake, _scores("fake", logits))
    with random.per_sample(reals.keys):
        logits = judge(D, real_views(D, reals, settings), reals.camera, settings, augment)
    real = real_logistic(logits)
    yield Loss(real, {**_scores("real", logits), "Loss/D/loss": fake.detach() + real})


def discriminator_r1(
    D: Discriminator, reals: Reals, settings: StepSettings, augment: AugmentPipe | None = None
) -> Iterator[Loss]:
    """R1: half gamma times the squared gradient of the logits with respect to the real pictures.

    Every picture that the discriminator takes is a variable of its own, so that none of the raw picture's gradient
    flows into the full one; that is taken before blur and augmentation.
    """
    views = _leaves(real_views(D, reals, settings))
    with random.per_sample(reals.keys):
        logits = judge(D, views, reals.camera, settings, augment)
    penalty = gradient_penalty(logits, views.tensors())
    values = penalty * (settings.r1_gamma / 2)
    yield Loss(values, {**_scores("real", logits), "Loss/r1_penalty": penalty, "Loss/D/reg": values})


# Generated pictures


def generate(
    G: Generator, fakes: Fakes, settings: StepSettings, noise_mode: NoiseMode, update_average: bool = False
) -> RenderOutput:
    """The pictures of these inputs."""
    latents = map_fakes(G, fakes, update_average)
    return G.synthesis(latents, fakes.camera, settings.render, noise_mode=noise_mode)


def map_fakes(G: Generator, fakes: Fakes, update_average: bool = False) -> Latents:
    """Style rows of these inputs, mixed where they say so; the second latent is told the rendering camera."""
    latents = G.mapping(fakes.z, fakes.mapping_camera, update_emas=update_average)
    if fakes.mix is None:
        return latents
    second = G.mapping(fakes.mix.z, fakes.camera)
    cut = fakes.mix.cut
    return replace(
        latents, scene=torch.cat([latents.scene[:, :cut], second.scene[:, cut:]], dim=1), upsampler=second.upsampler
    )


# What the discriminator sees


def fake_views(out: RenderOutput) -> Views:
    """Views of generated pictures."""
    return Views(out.image, out.image_raw, out.patch)


def real_views(D: Discriminator, reals: Reals, settings: StepSettings) -> Views:
    """Views of real pictures. The raw copy is blurred here, as the generator's is not; the picture is by `judge`."""
    views = D.real_views(reals.images, settings.render)
    return views if views.raw is None else replace(views, raw=blur(views.raw, settings.blur_sigma))


def judge(
    D: Discriminator, views: Views, camera: Camera, settings: StepSettings, augment: AugmentPipe | None
) -> Float[Tensor, "n 1"]:
    """Logits of pictures, blurred and augmented as the discriminator sees them."""
    views = views.with_image(blur(views.image, settings.blur_sigma))
    return D(views if augment is None else augmented(views, augment), camera)


def blur(images: Float[Tensor, "n channels height width"], sigma: float) -> Float[Tensor, "n channels height width"]:
    """Images filtered by 2^-(x / sigma)^2 along both axes, cut off at three sigma; zero beyond the border."""
    radius = math.floor(3 * sigma)
    if radius <= 0:
        return images
    taps = torch.arange(-radius, radius + 1, device=images.device).div(sigma).square().neg().exp2()
    return filter2d(images, taps / taps.sum())


def augmented(views: Views, augment: AugmentPipe) -> Views:
    """Picture and raw picture after the same random transforms, for which the raw one is brought to full size."""
    if views.raw is None:
        return views.with_image(augment(views.image))
    raw = _resize(views.raw, views.image.shape[-1])
    image, raw = augment(torch.cat([views.image, raw], dim=1)).chunk(2, dim=1)
    return replace(views, image=image, raw=_resize(raw, views.raw.shape[-1]))


def _leaves(views: Views) -> Views:
    """The views with pictures that are variables of their own."""
    image, *raw = (picture.detach().requires_grad_() for picture in views.tensors())
    return replace(views, image=image, raw=raw[0] if raw else None)


def _resize(images: Tensor, size: int) -> Tensor:
    return nn.functional.interpolate(images, [size, size], mode="bilinear", align_corners=False, antialias=True)


def _scores(kind: str, logits: Tensor) -> dict[str, Tensor]:
    return {f"Loss/scores/{kind}": logits, f"Loss/signs/{kind}": logits.detach().sign()}


# Regularizers of the field at points


def draw_pairs(config: LossConfig, n: int, box_side: float, device: torch.device) -> dict[str, PointPairs]:
    """Points at which the density is compared, by the name of the regularizer that does."""
    if config.density.strength <= 0:
        return {}
    step = config.density.step(box_side)
    pairs = {"density": neighbours(n, step, device)}
    if config.density.is_monotonic:
        pairs["density_monotonic"] = farther_neighbours(n, step, device)
    return pairs


def field_regularizers(field: DensityField, pairs: dict[str, PointPairs], config: LossConfig) -> dict[str, Tensor]:
    """Values of the regularizers that compare densities at points, by name."""
    values = {}
    if "density_monotonic" in pairs:
        detach = config.density.kind == "monotonic-detach"
        values["density_monotonic"] = density_decrease(field, pairs["density_monotonic"], detach)
    if "density" in pairs:
        values["density"] = density_variation(field, pairs["density"])
    return values
