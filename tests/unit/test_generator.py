"""The generator: latents, layers, cameras, reuse of scenes, and which style row each layer reads."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from training.background import SolidConfig, SphereConfig
from training.background.sphere import PlainTextureConfig, StyledDense, StyledTextureConfig
from training.cameras.camera import make_rays
from training.cameras.prior import FRONT, ViewConfig, frontal_camera, orbit_camera
from training.generator import Generator, GeneratorConfig, as_camera, as_label
from training.layers import EqualizedLinear
from training.mapping import MappingConfig
from training.rendering.renderer import RendererConfig
from training.scene.decoders import SplitDecoder, SplitDecoderConfig
from training.scene.triplane import TriplaneConfig
from training.synthesis import BackboneConfig
from training.types import Camera, Latents, Layer, Patch, RenderSettings
from training.upsampling import IdentityConfig, SuperresolutionConfig

SPHERE = SphereConfig(z_dim=10, hidden=8, texture=StyledTextureConfig(w_dim=8, mapping_layers=2))
SUPERRESOLUTION = SuperresolutionConfig(module="2X", channels=(8, 8))
GENERATOR = GeneratorConfig(
    img_resolution=32,
    z_dim=12,
    w_dim=16,
    raw_resolution=8,
    mapping=MappingConfig(pose_conditioning=True),
    scene=TriplaneConfig(backbone=BackboneConfig(resolution=16, channel_base=128, channel_max=8)),
    background=SPHERE,
    renderer=RendererConfig(depth_resolution=4, depth_resolution_importance=4),
    upsampler=SUPERRESOLUTION,
)
CENTER = RenderSettings(8, jitter="center")
LAYERS: list[Layer] = ["full", "foreground", "background", "hole"]


def build(config: GeneratorConfig = GENERATOR, **changes: Any) -> Generator:
    torch.manual_seed(0)
    return Generator(replace(config, **changes)).eval()


def camera_labels(n: int, seed: int = 0) -> Tensor:
    """Labels of cameras around the frontal view."""
    yaw, pitch = torch.randn(2, n, generator=torch.Generator().manual_seed(seed)) * 0.3
    return orbit_camera(FRONT + yaw, FRONT + pitch, ViewConfig()).to_label()


def latents_of(G: Generator, n: int = 2, seed: int = 0) -> Latents:
    return G.mapping(torch.randn(n, G.z_dim, generator=torch.Generator().manual_seed(seed)), camera_labels(n))


# Latents


def test_cameras_and_labels():
    labels = camera_labels(2)
    camera = Camera.from_label(labels)
    assert as_camera(camera) is camera
    assert torch.equal(as_camera(labels).to_label(), labels)
    assert as_label(labels) is labels
    assert torch.equal(as_label(camera), labels)


def test_sizes_of_latents():
    G = build()
    assert (G.scene_z_dim, G.background_z_dim, G.z_dim) == (12, 10, 22)
    assert (G.c_dim, G.w_dim, G.img_resolution, G.img_channels, G.raw_resolution) == (25, 16, 32, 3, 8)
    latents = latents_of(G, 3)
    assert latents.scene.shape == (3, 6, 16)
    assert latents.background.shape == (3, 5, 8)
    assert latents.upsampler.shape == (3, 1, 16)
    solid = build(background=SolidConfig())
    assert (solid.background_z_dim, solid.z_dim) == (0, 12)
    assert latents_of(solid).background.shape == (2, 0, 0)


def test_scene_latent_comes_first():
    G, z = build(), torch.randn(2, 22)
    latents = G.mapping(z)
    torch.testing.assert_close(latents.scene[:, 0], G.mapping.scene(z[:, :12], torch.zeros(2, 25)))
    assert G.mapping.background is not None
    torch.testing.assert_close(latents.background[:, 0], G.mapping.background(z[:, 12:], None))
    assert torch.equal(latents.scene, latents.scene[:, :1].expand_as(latents.scene)), "one style for all rows"
    assert torch.equal(latents.upsampler, latents.scene[:, -1:])


def test_a_background_without_mapping_gets_its_latent_as_one_row():
    G, z = build(background=SphereConfig(z_dim=10, hidden=8, texture=PlainTextureConfig())), torch.randn(2, 22)
    assert torch.equal(G.mapping(z).background, z[:, None, 12:])
    assert G.mapping.background is None
    assert G(z, camera_labels(2)).image.shape == (2, 3, 32, 32)


def test_latents_of_the_wrong_size_are_named():
    with pytest.raises(ValueError, match=r"z has 12 numbers a row; this generator takes 22 \(G.z_dim\)"):
        build().mapping(torch.zeros(1, 12))


def test_labels_condition_the_scene_only_where_asked():
    z, c = torch.randn(2, 22), camera_labels(2)
    conditioned, blind = build(), build(mapping=MappingConfig(pose_conditioning=False))
    zeros = torch.zeros(2, 25)
    assert not torch.allclose(conditioned.mapping(z, c).scene, conditioned.mapping(z, zeros).scene)
    assert torch.equal(conditioned.mapping(z, c).background, conditioned.mapping(z, zeros).background)
    assert torch.equal(conditioned.mapping(z).scene, conditioned.mapping(z, zeros).scene)
    assert torch.equal(conditioned.mapping(z, Camera.from_label(c)).scene, conditioned.mapping(z, c).scene)
    assert torch.equal(blind.mapping(z, c).scene, blind.mapping(z).scene)


def test_labels_are_scaled():
    z, c = torch.randn(2, 22), camera_labels(2)
    plain, scaled = build(), build(mapping=MappingConfig(pose_conditioning=True, label_scale=0.5))
    scaled.load_state_dict(plain.state_dict())
    assert torch.equal(scaled.mapping(z, c).scene, plain.mapping(z, c * 0.5).scene)


def test_a_generator_without_labels():
    G = build(c_dim=0)
    assert "mapping.scene.embed.weight" not in G.state_dict()
    assert G(torch.randn(2, 22), camera_labels(2)).image.shape == (2, 3, 32, 32)


def test_truncation_of_scene_and_background():
    G, z = build(), torch.randn(2, 22)
    assert G.mapping.background is not None
    G.mapping.scene.w_avg.normal_()
    G.mapping.background.w_avg.normal_()
    full = G.mapping(z)
    averages = {"scene": G.mapping.scene.w_avg, "background": G.mapping.background.w_avg}

    def pulled(name: str, psi: float, cutoff: int | None = None) -> Tensor:
        rows = getattr(full, name)
        result = averages[name] + psi * (rows - averages[name])
        return result if cutoff is None else torch.cat([result[:, :cutoff], rows[:, cutoff:]], dim=1)

    half = G.mapping(z, truncation_psi=0.5)
    torch.testing.assert_close(half.scene, pulled("scene", 0.5))
    torch.testing.assert_close(half.background, pulled("background", 0.5))
    torch.testing.assert_close(half.upsampler, half.scene[:, -1:])
    apart = G.mapping(z, truncation_psi=0.5, background_psi=0.8)
    torch.testing.assert_close(apart.scene, half.scene)
    torch.testing.assert_close(apart.background, pulled("background", 0.8))
    first = G.mapping(z, truncation_psi=0.5, truncation_cutoff=2)
    torch.testing.assert_close(first.scene, pulled("scene", 0.5, 2))
    torch.testing.assert_close(first.background, pulled("background", 0.5, 2))
    assert torch.equal(first.upsampler, full.scene[:, -1:]), "super-resolution reads the last row"
    assert torch.equal(G.mapping(z, background_psi=0.0).scene, full.scene)


def test_running_averages_of_both_networks_follow_on_demand():
    G, z = build(), torch.randn(6, 22)
    assert G.mapping.background is not None
    latents = G.mapping(z)
    assert not G.mapping.scene.w_avg.any()
    assert not G.mapping.background.w_avg.any()
    G.mapping(z, update_emas=True)
    torch.testing.assert_close(G.mapping.scene.w_avg, 0.002 * latents.scene[:, 0].mean(dim=0))
    torch.testing.assert_close(G.mapping.background.w_avg, 0.002 * latents.background[:, 0].mean(dim=0))


# Pictures


@pytest.mark.parametrize("background", [SolidConfig(), SolidConfig(white_back=True), SPHERE])
@pytest.mark.parametrize("resolution", [32, 64])
def test_what_comes_out(background, resolution):
    G = build(background=background, img_resolution=resolution)
    out = G(torch.randn(2, G.z_dim), camera_labels(2))
    shapes = {"image": resolution, "image_raw": 8, "image_depth": 8, "opacity": 8}
    for name, side in shapes.items():
        assert out[name].shape == (2, 3 if name.startswith("image") and name != "image_depth" else 1, side, side)
        assert out[name].isfinite().all()
    assert out.image_raw.min() >= -1.01
    assert out.image_raw.max() <= 1.01
    assert out.opacity.min() >= 0
    assert out.opacity.max() <= 1
    assert out.patch is None


def test_call_is_mapping_and_synthesis():
    G, z, c = build(), torch.randn(2, 22), camera_labels(2)
    called = G(z, c, truncation_psi=0.7, truncation_cutoff=3, settings=CENTER, noise_mode="const", layer="foreground")
    latents = G.mapping(z, c, 0.7, 3)
    composed = G.synthesis(latents, c, CENTER, noise_mode="const", layer="foreground")
    assert torch.equal(called["image"], composed["image"])


def test_central_renders_repeat_and_random_ones_do_not():
    G, z, c = build(), torch.randn(2, 22), camera_labels(2)
    first, second = (G(z, c, settings=CENTER, noise_mode="const") for _ in range(2))
    assert torch.equal(first.image, second.image)
    assert torch.equal(first.march.depths, second.march.depths)
    random = replace(CENTER, jitter="uniform")
    assert not torch.equal(G(z, c, settings=random, noise_mode="const").image, first.image)
    assert not torch.equal(G(z, c).march.depths, G(z, c).march.depths), "the default"


def test_training_mode_changes_nothing():
    G, z, c = build(), torch.randn(2, 22), camera_labels(2)
    evaluated = G(z, c, settings=CENTER, noise_mode="const").image
    assert torch.equal(G.train()(z, c, settings=CENTER, noise_mode="const").image, evaluated)


def test_samples_do_not_touch_each_other():
    G, c = build(), camera_labels(3)
    latents = latents_of(G, 3)
    together = G.synthesis(latents, c, CENTER, noise_mode="const")
    for i in range(3):
        alone = G.synthesis(latents[i : i + 1], c[i : i + 1], CENTER, noise_mode="const")
        for name in ("image", "image_depth", "opacity"):
            torch.testing.assert_close(alone[name][0], together[name][i], atol=1e-4, rtol=1e-4)


def test_resolution_is_chosen_by_the_call():
    G, c = build(), camera_labels(2)
    latents = latents_of(G)
    assert G.synthesis(latents, c).image_raw.shape[-1] == 8
    out = G.synthesis(latents, c, RenderSettings(5, jitter="center"))
    assert out.image_raw.shape == (2, 3, 5, 5)
    assert out.image.shape == (2, 3, 32, 32)
    G.raw_resolution = 6
    assert G.synthesis(latents, c).image_raw.shape[-1] == 6


def test_a_patch_is_a_part_of_the_picture():
    G, c = build(upsampler=IdentityConfig()), camera_labels(2)
    latents = latents_of(G)
    whole = G.synthesis(latents, c, CENTER, noise_mode="const")
    patch = Patch(torch.full([2, 2], 0.5), torch.tensor([[0.0, 0.5], [0.25, 0.25]]))
    part = G.synthesis(latents, c, RenderSettings(4, patch, jitter="center"), noise_mode="const")
    for name in ("image", "image_depth", "opacity"):
        torch.testing.assert_close(part[name][0], whole[name][0, :, :4, :4], atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(part[name][1], whole[name][1, :, 2:6, 2:6], atol=1e-4, rtol=1e-4)
    assert part.patch is patch


def test_identity_upsampler_shows_the_raw_picture():
    G = build(upsampler=IdentityConfig())
    out = G(torch.randn(2, 22), camera_labels(2))
    assert torch.equal(out.image, out.image_raw)


# Layers


def layers_of(G: Generator) -> dict[Layer, Any]:
    latents, c = latents_of(G), camera_labels(2)
    return {layer: G.synthesis(latents, c, CENTER, noise_mode="const", layer=layer) for layer in LAYERS}


def light(out: Any) -> Tensor:
    """Raw picture as light in [0, 1]."""
    return (out.image_raw + 1) / 2


def test_full_is_foreground_plus_what_shows_through():
    outputs = layers_of(build())
    transmittance = outputs["full"].march.transmittance.transpose(1, 2).unflatten(2, (8, 8))
    expected = light(outputs["foreground"]) + transmittance * light(outputs["background"])
    torch.testing.assert_close(light(outputs["full"]), expected)
    torch.testing.assert_close(light(outputs["hole"]), transmittance * light(outputs["background"]))
    assert 0.05 < outputs["full"].opacity.mean() < 0.95, "the test must see both"
    for out in outputs.values():
        assert torch.equal(out.opacity, outputs["full"].opacity)


def test_foreground_over_white_is_the_rule_of_transparent_pictures():
    black = layers_of(build())["foreground"]
    white = layers_of(build(background=replace(SPHERE, white_back=True)))["foreground"]
    torch.testing.assert_close(light(white), light(black) + 1 - black.opacity)


def test_solid_white_shows_through_in_full():
    black, white = (layers_of(build(background=SolidConfig(white_back=flag))) for flag in (False, True))
    torch.testing.assert_close(light(white["full"]), light(black["full"]) + 1 - black["full"].opacity)
    torch.testing.assert_close(white["foreground"].image_raw, white["full"].image_raw)
    assert (white["background"].image_raw == 1).all()
    assert (black["background"].image_raw == -1).all()


def test_depths_of_layers():
    outputs = layers_of(build())
    behind = outputs["background"].image_depth
    assert (behind > 3).all(), "the far side of the sphere"
    assert (behind < 6).all()
    full, front = outputs["full"].image_depth, outputs["foreground"].image_depth
    assert ((front < full) & (full < behind)).all()


def test_another_camera_behind():
    G, c = build(), camera_labels(2)
    latents, other = latents_of(G), camera_labels(2, seed=7)

    def look(layer: Layer, camera: Tensor, behind: Tensor | Camera | None = None) -> Any:
        return G.synthesis(latents, camera, CENTER, noise_mode="const", layer=layer, background_camera=behind)

    torch.testing.assert_close(look("background", c, other).image_raw, look("background", other).image_raw)
    torch.testing.assert_close(look("foreground", c, other).image_raw, look("foreground", c).image_raw)
    mixed = look("full", c, Camera.from_label(other))
    transmittance = mixed.march.transmittance.transpose(1, 2).unflatten(2, (8, 8))
    expected = light(look("foreground", c)) + transmittance * light(look("background", other))
    torch.testing.assert_close(light(mixed), expected)


def test_one_march_serves_all_layers():
    G, c = build(), camera_labels(2)
    latents = latents_of(G)
    march = G.synthesis(latents, c, CENTER, noise_mode="const").march
    for layer in LAYERS:
        composed = G.compose(march, latents, c, CENTER, layer)
        rendered = G.synthesis(latents, c, CENTER, noise_mode="const", layer=layer)
        assert torch.equal(composed.image, rendered.image)
        assert torch.equal(composed.image_depth, rendered.image_depth)


# Scenes that are built once


def test_a_field_built_before_gives_the_same_picture():
    G, c = build(), camera_labels(2)
    latents = latents_of(G)
    field = G.field(latents)
    rebuilt = G.synthesis(latents, c, CENTER, noise_mode="const")
    assert torch.equal(G.synthesis(latents, c, CENTER, field=field).image, rebuilt.image)
    calls: list[int] = []
    G.scene.backbone.register_forward_hook(lambda *_: calls.append(1))
    G.synthesis(latents, c, CENTER, field=field)
    assert calls == []


def test_one_scene_seen_by_many_cameras():
    G, c = build(), camera_labels(3)
    latents = latents_of(G, 1)
    field = G.field(latents)
    strip = G.synthesis(latents.expand(3), c, CENTER, field=field.expand(3))
    for i in range(3):
        alone = G.synthesis(latents, c[i : i + 1], CENTER, field=field)
        torch.testing.assert_close(strip.image[i : i + 1], alone.image, atol=1e-4, rtol=1e-4)


def test_cameras_that_do_not_match_the_latents_are_named():
    G = build()
    with pytest.raises(ValueError, match=r"3 cameras for 1 latents; `Latents.expand` and `Field.expand` repeat one"):
        G.synthesis(latents_of(G, 1), camera_labels(3))


def test_the_field_is_what_the_rays_meet():
    G, c = build(), camera_labels(1)
    latents = latents_of(G, 1)
    out = G.synthesis(latents, c, CENTER, noise_mode="const")
    rays = make_rays(as_camera(c), CENTER)
    points = rays.origins[:, :, None] + out.march.depths[..., None] * rays.directions[:, :, None]
    density = G.field(latents)(points.flatten(1, 2)).density.view_as(out.march.density)
    torch.testing.assert_close(density, out.march.density, atol=1e-3, rtol=1e-3)


def test_scene_and_camera_turned_together_give_the_same_picture():
    """Half a turn about y: x and z change sign, which flips the planes that span them."""
    G, c = build(background=SolidConfig()), camera_labels(2)
    latents = latents_of(G)
    planes = G.scene.planes(latents.scene, "const")
    xy, xz, zy = planes.unbind(dim=1)
    turned = torch.stack([xy.flip(3), xz.flip(2, 3), zy.flip(3)], dim=1)
    camera = as_camera(c)
    half_turn = torch.diag(torch.tensor([-1.0, 1, -1, 1]))
    moved = Camera(half_turn @ camera.cam2world, camera.intrinsics)
    still = G.synthesis(latents, c, CENTER, field=G.scene.field(planes))
    both = G.synthesis(latents, moved, CENTER, field=G.scene.field(turned))
    for name in ("image", "image_depth", "opacity"):
        torch.testing.assert_close(both[name], still[name], atol=1e-3, rtol=1e-3)
    alone = G.synthesis(latents, moved, CENTER, field=G.scene.field(planes))
    assert (alone.image_raw - still.image_raw).abs().max() > 0.01


# Style rows


def test_each_layer_reads_its_row():
    """Rows of the scene in turn, the last of them for all of super-resolution, one a layer in the background."""
    G = build()
    scene = torch.arange(6.0)[None, :, None].expand(1, -1, 16)
    behind = torch.arange(10.0, 15.0)[None, :, None].expand(1, -1, 8)
    read: dict[str, int] = {}

    def remember(name: str, position: int):
        return lambda module, inputs: read.update({name: int(inputs[position][0, 0])})

    for name, module in G.named_modules():
        if name.endswith(".affine") and isinstance(module, EqualizedLinear) and not name.startswith("background"):
            module.register_forward_pre_hook(remember(name.removesuffix(".affine"), 0))
        if isinstance(module, StyledDense):
            module.register_forward_pre_hook(remember(name, 1))
    G.synthesis(Latents(scene, behind, scene[:, -1:]), camera_labels(1))
    layers = ["conv0", "conv1", "torgb"]
    assert read == {
        "scene.backbone.b4.conv1": 0,
        "scene.backbone.b4.torgb": 1,
        "scene.backbone.b8.conv0": 1,
        "scene.backbone.b8.conv1": 2,
        "scene.backbone.b8.torgb": 3,
        "scene.backbone.b16.conv0": 3,
        "scene.backbone.b16.conv1": 4,
        "scene.backbone.b16.torgb": 5,
        **{f"upsampler.block{block}.{layer}": 5 for block in (0, 1) for layer in layers},
        "background.texture.fc_in": 10,
        "background.texture.blocks.0": 11,
        "background.texture.blocks.1": 12,
        "background.texture.blocks.2": 13,
        "background.texture.feat_out": 14,
    }


# Gradients


def test_gradients_reach_every_weight_that_acts():
    G = build(scene=replace(GENERATOR.scene, decoder=SplitDecoderConfig(hidden=8)))
    assert isinstance(G.scene.decoder, SplitDecoder)
    torch.nn.init.normal_(G.scene.decoder.density.weight)
    out = G(torch.randn(2, 22), camera_labels(2))
    (out.image.square().sum() + out.image_raw.square().sum()).backward()
    without = {name for name, parameter in G.named_parameters() if parameter.grad is None}
    assert without == {f"upsampler.block{b}.conv{c}.noise_strength" for b in (0, 1) for c in (0, 1)}
    assert all(parameter.grad.isfinite().all() for parameter in G.parameters() if parameter.grad is not None)


def test_gradients_by_finite_differences():
    """The slope of the picture along a random direction in all weights at once, in double precision."""
    config = replace(GENERATOR, renderer=replace(GENERATOR.renderer, depth_resolution=6, depth_resolution_importance=0))
    G = build(config, upsampler=replace(SUPERRESOLUTION, num_fp16_res=0)).double()
    z, c, target = torch.randn(1, 22).double(), camera_labels(1).double(), torch.randn(1, 3, 32, 32).double()

    def loss() -> Tensor:
        return (G(z, c, settings=RenderSettings(4, jitter="center"), noise_mode="const").image * target).mean()

    parameters: list[Tensor] = [
        parameter for name, parameter in G.named_parameters() if not name.endswith("noise_strength")
    ]
    directions = [torch.randn_like(parameter) for parameter in parameters]
    gradients = torch.autograd.grad(loss(), parameters)
    slope = sum((g * d).sum().item() for g, d in zip(gradients, directions, strict=True))

    def moved(step: float) -> float:
        with torch.no_grad():
            torch._foreach_add_(parameters, directions, alpha=step)
            value = loss().item()
            torch._foreach_sub_(parameters, directions, alpha=step)
        return value

    step = 1e-6
    assert (moved(step) - moved(-step)) / (2 * step) == pytest.approx(slope, rel=1e-3)


def test_background_latents_change_the_background_alone():
    G, c = build(), camera_labels(2)
    first = latents_of(G)
    second = Latents(first.scene, first.background.flip(0), first.upsampler)
    for layer, same in (("foreground", True), ("background", False)):
        outputs = [G.synthesis(latents, c, CENTER, noise_mode="const", layer=layer) for latents in (first, second)]  # type: ignore[arg-type]
        assert torch.allclose(outputs[0].image_raw, outputs[1].image_raw) == same


def test_state_of_a_generator():
    G = build()
    assert torch.equal(G.state_dict()["dataset_label_std"], torch.zeros(25))
    roots = {name.split(".")[0] for name in G.state_dict()}
    assert roots == {"scene", "background", "upsampler", "mapping", "dataset_label_std"}
    again = Generator(GENERATOR)
    again.load_state_dict(G.state_dict())
    z, c = torch.randn(1, 22), frontal_camera(ViewConfig())
    expected = G(z, c, settings=CENTER, noise_mode="const").image
    assert torch.equal(again(z, c, settings=CENTER, noise_mode="const").image, expected)


def test_ray_limits_are_checked_when_a_generator_is_built():
    with pytest.raises(ValueError, match="auto is for both or neither"):
        build(renderer=replace(GENERATOR.renderer, ray_start="auto"))
