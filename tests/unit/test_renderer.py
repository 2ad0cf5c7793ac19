"""Rendering of fields with known light: brute-force integrals, symmetries, layers."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from training.cameras.camera import make_rays
from training.cameras.prior import FRONT, ViewConfig, orbit_camera
from training.rendering.quadrature import midpoint_weights
from training.rendering.renderer import RendererConfig, coarse_depths, composite, gather, query, render
from training.types import BackgroundSamples, Camera, FieldSamples, Layer, RayMarch, Rays, RenderSettings

CONFIG = RendererConfig(depth_resolution=12, depth_resolution_importance=12, ray_start=2.0, ray_end=3.4)
CENTER = RenderSettings(4, jitter="center")


@dataclass
class KnownField:
    """A field given by a function of points; it remembers what it was asked."""

    function: Callable[[Tensor], tuple[Tensor, Tensor]]
    asked: list[tuple[Tensor, Tensor | None]] = field(default_factory=list)

    def __call__(self, points: Tensor, directions: Tensor | None = None) -> FieldSamples:
        self.asked.append((points, directions))
        return FieldSamples(*self.function(points))


def cloud(points: Tensor) -> tuple[Tensor, Tensor]:
    """A soft ball with a lopsided colour."""
    density = 9 - 90 * (points - points.new_tensor([0.05, 0, 0.1])).square().sum(dim=-1, keepdim=True)
    return density, torch.sigmoid(4 * points + points.roll(1, dims=-1))


def wall(points: Tensor) -> tuple[Tensor, Tensor]:
    """Opaque for z < 0.1."""
    return torch.where(points[..., 2:] < 0.1, 400.0, -400.0), torch.full_like(points, 0.7)


def vacuum(points: Tensor) -> tuple[Tensor, Tensor]:
    return torch.full_like(points[..., :1], -400), torch.full_like(points, 0.7)


def rays_from(azimuth: float = FRONT, polar: float = FRONT, n: int = 1, resolution: int = 4) -> Rays:
    camera = orbit_camera(torch.full([n], azimuth), torch.full([n], polar), ViewConfig(pivot=(0, 0, 0)))
    return make_rays(camera, RenderSettings(resolution))


# The march


def test_render_approaches_the_integral_of_the_field():
    """Coarse and fine samples together against 20,000 samples a ray in double precision."""
    rays = rays_from()
    config = replace(CONFIG, depth_resolution=48, depth_resolution_importance=48)
    march = render(KnownField(cloud), rays, config, CENTER, 1.0)
    t = torch.linspace(2.0, 3.4, 20_001, dtype=torch.float64)
    for i in range(0, 16, 3):
        points = rays.origins[0, i].double() + t[:, None] * rays.directions[0, i].double()
        raw, color = cloud(points)
        sigma = np.logaddexp(0, raw[:, 0].numpy() - 1)
        steps = np.diff(t.numpy())
        optical = np.concatenate([[0.0], np.cumsum((sigma[1:] + sigma[:-1]) / 2 * steps)])
        light = sigma * np.exp(-optical)
        opacity = np.trapezoid(light, t.numpy())
        depth = np.trapezoid(light * t.numpy(), t.numpy()) / opacity
        assert march.opacity[0, i].item() == pytest.approx(opacity, abs=3e-3)
        assert march.transmittance[0, i].item() == pytest.approx(1 - opacity, abs=3e-3)
        assert march.depth[0, i].item() == pytest.approx(depth, abs=3e-3)
        gathered = np.trapezoid(light[:, None] * color.numpy(), t.numpy(), axis=0)
        np.testing.assert_allclose(march.features[0, i].numpy(), gathered, atol=3e-3)


@pytest.mark.parametrize("raw", [-1.0, 2.0])
def test_even_fog_has_its_closed_form(raw):
    march = render(
        KnownField(lambda p: (torch.full_like(p[..., :1], raw), torch.full_like(p, 0.25))),
        rays_from(),
        CONFIG,
        CENTER,
        1.0,
    )
    length = march.depths[..., -1:] - march.depths[..., :1]
    opacity = 1 - torch.exp(-math.log1p(math.exp(raw - 1)) * length)
    torch.testing.assert_close(march.opacity, opacity)
    torch.testing.assert_close(march.features, 0.25 * opacity.expand(-1, -1, 3))


def test_a_wall_is_seen_where_it_stands():
    march = render(KnownField(wall), rays_from(resolution=3), replace(CONFIG, depth_resolution=64), CENTER, 1.0)
    centre = march.depth[0, 4].item()
    assert centre == pytest.approx(2.6, abs=0.02)
    torch.testing.assert_close(march.opacity, torch.ones(1, 9, 1))


def test_vacuum_has_no_weight_and_the_largest_depth():
    march = render(KnownField(vacuum), rays_from(), CONFIG, CENTER, 1.0)
    assert not march.weights.any()
    assert torch.equal(march.transmittance, torch.ones(1, 16, 1))
    assert torch.equal(march.depth[..., 0], march.depths[..., -1])


def test_points_lie_on_rays_and_know_their_directions():
    known, rays = KnownField(cloud), rays_from(n=2)
    march = render(known, rays, CONFIG, RenderSettings(4), 1.0)
    assert len(known.asked) == 2
    coarse, fine = known.asked
    for (points, directions), count in ((coarse, 12), (fine, 12)):
        assert directions is not None
        per_ray = points.view(2, 16, count, 3)
        offset = per_ray - rays.origins[:, :, None]
        assert torch.equal(directions.view(2, 16, count, 3), rays.directions[:, :, None].expand(-1, -1, count, -1))
        depth = offset.norm(dim=-1)
        torch.testing.assert_close(offset, depth[..., None] * rays.directions[:, :, None], atol=1e-5, rtol=0)
    torch.testing.assert_close((fine[0].view(2, 16, 12, 3) - rays.origins[:, :, None]).norm(dim=-1), march.fine_depths)


def test_what_the_march_reports():
    rays = rays_from(n=2)
    march = render(KnownField(cloud), rays, CONFIG, RenderSettings(4), 1.0)
    assert (march.depths.diff(dim=-1) >= 0).all()
    points = rays.origins[:, :, None] + march.depths[..., None] * rays.directions[:, :, None]
    torch.testing.assert_close(march.density, cloud(points)[0][..., 0], atol=1e-3, rtol=1e-3)
    fine = rays.origins[:, :, None] + march.fine_depths[..., None] * rays.directions[:, :, None]
    torch.testing.assert_close(march.fine_density, cloud(fine)[0][..., 0], atol=1e-3, rtol=1e-3)
    weights, transmittance = midpoint_weights(march.density, march.depths)
    torch.testing.assert_close(march.weights, weights)
    torch.testing.assert_close(march.transmittance, transmittance)
    assert march.depths.shape == (2, 16, 24)
    assert march.weights.shape == (2, 16, 23)


def test_gather_is_sorting_everything():
    """The weights go to the features; the literal way sorts the features instead."""
    torch.manual_seed(0)
    coarse, fine = torch.rand(2, 3, 4).sort(-1)[0], torch.rand(2, 3, 5)
    densities, features = (torch.randn(2, 3, 4), torch.randn(2, 3, 5)), (torch.rand(2, 12, 6), torch.rand(2, 15, 6))
    march = gather(coarse, densities[0], list(features), fine, densities[1], CONFIG)
    for n in range(2):
        for ray in range(3):
            depths = torch.cat([coarse[n, ray], fine[n, ray]])
            order = depths.argsort()
            values = torch.cat([features[0].view(2, 3, 4, 6)[n, ray], features[1].view(2, 3, 5, 6)[n, ray]])[order]
            density = torch.cat([densities[0][n, ray], densities[1][n, ray]])[order]
            weights, _ = midpoint_weights(density[None, None], depths[order][None, None])
            expected = (weights[0, 0, :, None] * (values[1:] + values[:-1]) / 2).sum(0)
            torch.testing.assert_close(march.features[n, ray], expected)
    assert torch.equal(march.fine_depths, fine)
    assert torch.equal(march.fine_density, densities[1])


def test_without_fine_samples():
    known = KnownField(cloud)
    march = render(known, rays_from(), replace(CONFIG, depth_resolution_importance=0), CENTER, 1.0)
    assert len(known.asked) == 1
    assert march.depths.shape == (1, 16, 12)
    assert march.fine_depths.shape == march.fine_density.shape == (1, 16, 0)
    features = cloud(known.asked[0][0])[1].view(16, 12, 3)
    expected = (march.weights[0, ..., None] * (features[:, 1:] + features[:, :-1]) / 2).sum(dim=1)
    torch.testing.assert_close(march.features[0], expected)


def test_center_jitter_repeats_and_uniform_jitter_does_not():
    def look(jitter) -> RayMarch:
        return render(KnownField(cloud), rays_from(), CONFIG, RenderSettings(4, jitter=jitter), 1.0)

    assert torch.equal(look("center").features, look("center").features)
    assert torch.equal(look("center").depths, look("center").depths)
    assert not torch.equal(look("uniform").depths, look("uniform").depths)


@pytest.mark.parametrize("multiplier", [0.01, 0.25])
def test_a_small_multiplier_leaves_enough_samples_for_a_picture(multiplier):
    march = render(KnownField(cloud), rays_from(), CONFIG, RenderSettings(4, samples_multiplier=multiplier), 1.0)
    assert march.depths.shape[-1] >= 4
    assert march.features.isfinite().all()


def test_samples_multiplier():
    march = render(KnownField(cloud), rays_from(), CONFIG, RenderSettings(4, samples_multiplier=1.5), 1.0)
    assert march.fine_depths.shape[-1] == 18
    assert march.depths.shape[-1] == 36


def test_density_noise_moves_raw_densities_of_both_passes():
    torch.manual_seed(0)
    settings = RenderSettings(4, jitter="center", density_noise=0.5)
    still = KnownField(lambda p: (torch.zeros_like(p[..., :1]), torch.zeros_like(p)))
    march = render(still, rays_from(n=4), CONFIG, settings, 1.0)
    assert march.density.std().item() == pytest.approx(0.5, rel=0.1)
    assert march.fine_density.std().item() == pytest.approx(0.5, rel=0.1)
    rays = rays_from()
    depths = coarse_depths(rays, CONFIG, CENTER, 1.0)
    assert not query(still, rays, depths, 0.0).density.any()


def test_gradients_reach_the_field_by_finite_differences():
    rays = rays_from(resolution=2)
    rays = Rays(rays.origins.double(), rays.directions.double())
    config = replace(CONFIG, depth_resolution=6, depth_resolution_importance=0)

    def look(centre: Tensor, tint: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        def function(points: Tensor) -> tuple[Tensor, Tensor]:
            return 6 - 30 * (points - centre).square().sum(-1, keepdim=True), points * tint

        march = render(KnownField(function), rays, config, RenderSettings(2, jitter="center"), 1.0)
        return march.features, march.depth, march.transmittance

    inputs = (torch.randn(3, dtype=torch.float64) * 0.1, torch.randn(3, dtype=torch.float64))
    assert gradcheck(look, [tensor.requires_grad_() for tensor in inputs])


# Symmetries


def turned(function: Callable, rotation: Tensor) -> Callable:
    """The field turned by a rotation: its value at R p is the old one at p."""
    return lambda points: function(points @ rotation)


def rotation_about_y(angle: float) -> Tensor:
    c, s = math.cos(angle), math.sin(angle)
    return torch.tensor([[c, 0, s], [0, 1, 0], [-s, 0, c]])


@pytest.mark.parametrize("limits", ["fixed", "auto"])
def test_camera_and_scene_turned_together_give_the_same_picture(limits):
    """With limits from the box a quarter turn, which maps the cube to itself."""
    config = replace(CONFIG, ray_start="auto", ray_end="auto") if limits == "auto" else CONFIG
    angle = math.pi / 2 if limits == "auto" else 0.7
    rotation = rotation_about_y(angle)
    still = render(KnownField(cloud), rays_from(), config, CENTER, 1.0)
    moved = render(KnownField(turned(cloud, rotation)), rays_from(FRONT + angle), config, CENTER, 1.0)
    for name in ("features", "depth", "transmittance", "depths"):
        torch.testing.assert_close(getattr(moved, name), getattr(still, name), atol=2e-4, rtol=0)
    different = render(KnownField(cloud), rays_from(FRONT + angle), config, CENTER, 1.0)
    assert (different.features - still.features).abs().max() > 0.01


def test_rays_do_not_see_each_other():
    rays = rays_from(n=2)
    together = render(KnownField(cloud), rays, CONFIG, CENTER, 1.0)
    alone = render(KnownField(cloud), Rays(rays.origins[1:, 5:6], rays.directions[1:, 5:6]), CONFIG, CENTER, 1.0)
    for name in ("features", "depth", "weights"):
        torch.testing.assert_close(getattr(alone, name)[0, 0], getattr(together, name)[1, 5])


# Ray limits


def test_coarse_depths_of_fixed_limits():
    depths = coarse_depths(rays_from(), replace(CONFIG, depth_resolution=5), CENTER, 1.0)
    expected = 2.0 + 1.4 * (torch.arange(5) + 0.5) / 4
    torch.testing.assert_close(depths, expected.expand(1, 16, 5))
    disparity = coarse_depths(rays_from(), replace(CONFIG, depth_resolution=5, disparity=True), CENTER, 1.0)
    t = (torch.arange(5) + 0.5) / 4
    torch.testing.assert_close(disparity[0, 0], 1 / ((1 - t) / 2.0 + t / 3.4))


def test_rays_that_miss_the_box_show_the_background():
    camera = Camera(
        torch.tensor([[[1.0, 0, 0, 0], [0, -1, 0, 0], [0, 0, -1, 2.7], [0, 0, 0, 1]]]),
        torch.tensor([[[0.8, 0, 0.5], [0, 0.8, 0.5], [0, 0, 1]]]),
    )
    rays = make_rays(camera, RenderSettings(8))
    fog = KnownField(lambda p: (torch.full_like(p[..., :1], 3.0), torch.full_like(p, 0.9)))
    config = replace(CONFIG, ray_start="auto", ray_end="auto")
    march = render(fog, rays, config, RenderSettings(8), 1.0)
    opacity = march.opacity.view(8, 8)
    assert not opacity[0].any()
    assert (opacity[3:5, 3:5] > 0.5).all()
    assert torch.equal(march.transmittance.view(8, 8)[0], torch.ones(8))
    missed = march.opacity[0, :, 0] == 0
    assert not march.features[0, missed].any()
    behind = BackgroundSamples(torch.rand(1, 64, 3), torch.full([1, 64, 1], 5.0))
    features, depth = composite(march, behind, 0.0, "full", config)
    assert torch.equal(features[0, missed], behind.features[0, missed])
    assert (depth[0, missed] == 5).all()


def test_depths_are_limited_by_their_ray_or_by_the_batch():
    """An empty ray reports the end of its own samples, in published files that of the whole batch."""
    near = rays_from(n=2)
    per_ray = render(KnownField(vacuum), near, CONFIG, RenderSettings(4), 1.0)
    assert torch.equal(per_ray.depth[..., 0], per_ray.depths[..., -1])
    batch = render(KnownField(vacuum), near, replace(CONFIG, depth_limits="batch"), RenderSettings(4), 1.0)
    torch.testing.assert_close(batch.depth, batch.depths.max().expand(2, 16, 1))


def test_published_limits_reach_missed_rays():
    rays = Rays(torch.tensor([[[0.0, 0, 2], [0, 3, 2]]]), torch.tensor([[[0.0, 0, -1], [0, 0, -1]]]))
    config = replace(CONFIG, ray_start="auto", ray_end="auto")
    ours = coarse_depths(rays, config, CENTER, 1.0)
    published = coarse_depths(rays, replace(config, depth_limits="batch"), CENTER, 1.0)
    torch.testing.assert_close(ours[:, 0], published[:, 0])
    torch.testing.assert_close(ours[:, 1], torch.full([1, 12], 2.0))
    torch.testing.assert_close(published[:, 1], torch.full([1, 12], 1.5), msg="from nearest entry to farthest entry")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"ray_start": "auto"}, "ray_start=auto, ray_end=3.4: auto is for both or neither, and not for disparity"),
        ({"ray_end": "auto"}, "ray_start=2.0, ray_end=auto: auto is for both or neither"),
        ({"ray_start": "auto", "ray_end": "auto", "disparity": True}, "not for disparity"),
        ({"ray_start": 4.0}, "ray_start=4.0 and ray_end=3.4 are no distances in ascending order"),
        ({"ray_start": -1.0}, "ray_start=-1.0 and ray_end=3.4 are no distances"),
        (
            {"ray_start": 0.1, "disparity": True},
            "disparity with 12 samples needs a ray_start above ray_end / 12, not 0.1",
        ),
        ({"depth_resolution": 3}, r"at least 4 coarse samples \(depth_resolution\)"),
        ({"depth_resolution_importance": -1}, "the fine ones may be 0"),
    ],
)
def test_limits_that_do_not_go_together(wrong, message):
    with pytest.raises(ValueError, match=message):
        replace(CONFIG, **wrong).check()


@pytest.mark.parametrize(
    "right",
    [
        {},
        {"ray_start": 0.0},
        {"ray_start": "auto", "ray_end": "auto"},
        {"disparity": True},
        {"ray_start": 0.1, "disparity": True, "depth_limits": "batch"},
    ],
)
def test_limits_that_go_together(right):
    replace(CONFIG, **right).check()


# Layers


LAYERS: list[Layer] = ["full", "foreground", "background", "hole"]


def some_march() -> tuple[RayMarch, BackgroundSamples]:
    march = render(KnownField(cloud), rays_from(), CONFIG, CENTER, 1.0)
    return march, BackgroundSamples(torch.rand(1, 16, 3), torch.full([1, 16, 1], 5.0))


@pytest.mark.parametrize("depth_limits", ["ray", "batch"])
def test_full_is_foreground_and_the_background_that_shows_through(depth_limits):
    config = replace(CONFIG, depth_limits=depth_limits)
    march, behind = some_march()
    layers = {layer: composite(march, behind, 0.0, layer, config) for layer in LAYERS}
    torch.testing.assert_close(layers["full"][0], layers["foreground"][0] + march.transmittance * behind.features)
    torch.testing.assert_close(layers["full"][0], layers["foreground"][0] + layers["hole"][0])
    assert layers["background"][0] is behind.features
    torch.testing.assert_close(layers["hole"][0], march.transmittance * behind.features)
    torch.testing.assert_close(layers["foreground"][0], march.features)
    assert 0.1 < march.opacity.mean() < 0.9, "the test must see both"


def test_depths_of_layers():
    march, behind = some_march()
    far = torch.full([1, 16, 1], 5.0)
    assert torch.equal(composite(march, behind, 0.0, "foreground", CONFIG)[1], march.depth)
    full = composite(march, behind, 0.0, "full", CONFIG)[1]
    torch.testing.assert_close(full, march.opacity * march.depth + march.transmittance * far)
    assert torch.equal(composite(march, behind, 0.0, "background", CONFIG)[1], far)
    assert torch.equal(composite(march, behind, 0.0, "hole", CONFIG)[1], far)


def test_published_depth_of_the_hole_is_almost_everywhere_the_nearest_background():
    march, _ = some_march()
    far = torch.linspace(4, 6, 16).view(1, 16, 1)
    behind = BackgroundSamples(torch.rand(1, 16, 3), far)
    depth = composite(march, behind, 0.0, "hole", replace(CONFIG, depth_limits="batch"))[1]
    torch.testing.assert_close(depth, (march.transmittance * far).clamp(4, 6))


def test_depths_without_a_background_at_a_distance():
    march, behind = some_march()
    nothing = BackgroundSamples(torch.zeros_like(behind.features))
    assert torch.equal(composite(march, nothing, 0.0, "full", CONFIG)[1], march.depth)
    for layer in ("background", "hole"):
        assert torch.equal(composite(march, nothing, 0.0, layer, CONFIG)[1], march.depths[..., -1:])


def test_foreground_over_a_colour_is_the_rule_of_transparent_pictures():
    """Colour and opacity of the foreground put over white by hand are the foreground rendered on white."""
    march, behind = some_march()
    on_black, on_white = (composite(march, behind, backdrop, "foreground", CONFIG)[0] for backdrop in (0.0, 1.0))
    torch.testing.assert_close(on_white, on_black + (1 - march.opacity))
    white = BackgroundSamples(torch.ones_like(behind.features))
    torch.testing.assert_close(composite(march, white, 1.0, "full", CONFIG)[0], on_white, atol=1e-6, rtol=0)
