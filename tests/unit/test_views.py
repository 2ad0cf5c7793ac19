from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.fields import ellipsoid
from tests.tiny import counted, generator
from training import media
from training.background import SolidConfig
from training.cameras.camera import make_rays
from training.cameras.paths import strip_cameras
from training.latents import seeds_to_z
from training.rendering.renderer import render
from training.types import RenderSettings
from training.views import (
    EDGE_SAMPLES,
    LAYERS,
    BuiltScene,
    ShapeSettings,
    camera_angles,
    depth_layer,
    scene_density,
    scene_mesh,
    silhouette_level,
)


@pytest.fixture(scope="module")
def scene() -> BuiltScene:
    network = generator()
    return BuiltScene.build(network, network.mapping(seeds_to_z(network, [1])))


@pytest.fixture
def cameras(scene: BuiltScene):
    return strip_cameras(scene.generator.config.view, 3)


def test_the_scene_is_built_once_for_any_number_of_views(scene, cameras, monkeypatch):
    calls: list[int] = []
    forward = scene.generator.scene.backbone.forward
    monkeypatch.setattr(scene.generator.scene.backbone, "forward", counted(calls, forward))
    fresh = BuiltScene.build(scene.generator, scene.latents)
    for _ in range(8):
        shot = fresh.shoot(cameras[:1])
        for layer in LAYERS.values():
            layer([shot])
    scene_density(fresh, ShapeSettings(12))
    assert len(calls) == 1


def test_layers_are_those_of_synthesis(scene, cameras):
    settings = RenderSettings(scene.generator.raw_resolution, jitter="center")
    shot = scene.shoot(cameras)
    for name, layer in (("image", "full"), ("fgnet", "foreground"), ("bg", "background"), ("hole", "hole")):
        expected = scene.generator.synthesis(
            scene.latents.expand(3), cameras, settings, layer=layer, field=scene.field.expand(3)
        )
        assert (LAYERS[name]([shot]) == media.to_uint8(expected.image)).all(), name


def test_shots_one_by_one_are_those_of_a_batch(scene, cameras):
    together = LAYERS["image"]([scene.shoot(cameras)])
    apart = LAYERS["image"]([scene.shoot(cameras[i : i + 1]) for i in range(3)])
    assert np.abs(together.astype(int) - apart).max() <= 1


def test_another_camera_behind_changes_the_surroundings_alone(scene, cameras):
    shot, other = (
        scene.shoot(cameras),
        scene.shoot(cameras, background_camera=strip_cameras(scene.generator.config.view, 3, 0.1)),
    )
    assert (LAYERS["fg"]([shot]) == LAYERS["fg"]([other])).all()
    assert (LAYERS["bg"]([shot]) != LAYERS["bg"]([other])).any()


def test_the_foreground_is_free_of_what_super_resolution_paints_where_nothing_is(scene, cameras, monkeypatch):
    """Against an upsampler that tints everything red: the foreground may gain no more red than it is opaque."""
    upsample = scene.generator.upsampler.forward
    red = torch.tensor([1.0, 0.0, 0.0]).view(1, 3, 1, 1)
    plain = LAYERS["fg"]([scene.shoot(cameras[:1])])[0].astype(int)
    monkeypatch.setattr(scene.generator.upsampler, "forward", lambda *args: upsample(*args) + red)
    shot = scene.shoot(cameras[:1])
    gained = LAYERS["fg"]([shot])[0].astype(int) - plain
    opacity = shot.opacity(32)[0, 0].numpy()
    assert (gained[..., 0] <= 128 * opacity + 2).all()
    assert np.abs(gained[..., 1:]).max() <= 1


def test_opacity_at_edges_is_that_of_the_pictures_own_rays(scene, cameras):
    size = 4 * scene.generator.raw_resolution
    settings = RenderSettings(size, jitter="center", samples_multiplier=EDGE_SAMPLES)
    rays = make_rays(cameras[:1], settings)
    config = scene.generator.config
    exact = render(scene.field, rays, config.renderer, settings, config.scene.box_warp).opacity
    refined = scene.shoot(cameras[:1]).opacity(size)
    difference = (refined.flatten() - exact.flatten()).abs()
    assert difference.mean() < 0.01
    assert (difference < 1e-5).float().mean() > 0.2


def test_opacity_at_the_rays_own_resolution_is_theirs(scene, cameras):
    shot = scene.shoot(cameras)
    assert torch.equal(shot.opacity(scene.generator.raw_resolution), shot.raw_opacity)


@pytest.mark.parametrize("name", list(LAYERS))
def test_every_layer_gives_pictures(scene, cameras, name):
    pictures = LAYERS[name]([scene.shoot(cameras)])
    assert pictures.dtype == np.uint8
    assert pictures.ndim == 4
    assert len(pictures) == 3
    assert pictures.shape[3] == {"alpha": 4, "opacity": 1}.get(name, 3)


def test_layers_of_a_scene_without_surroundings():
    network = generator(SolidConfig())
    scene = BuiltScene.build(network, network.mapping(seeds_to_z(network, [0])))
    shot = scene.shoot(strip_cameras(network.config.view, 1))
    assert (LAYERS["image"]([shot]) == LAYERS["fgnet"]([shot])).all()


def test_depth_between_given_limits_is_the_same_in_every_strip(scene, cameras):
    layer = depth_layer((2.25, 3.3))
    apart = [layer([scene.shoot(cameras[i : i + 1])]) for i in range(3)]
    assert (np.concatenate(apart) == layer([scene.shoot(cameras)])).mean() > 0.999


def test_normals_are_those_of_the_shape(scene, cameras):
    """Against the slope of an ellipsoid in closed form."""
    shot = BuiltScene(scene.generator, scene.latents, ellipsoid).shoot(cameras[:1], RenderSettings(32, jitter="center"))
    rays = make_rays(cameras[:1], shot.settings)
    points = rays.origins + rays.directions * shot.march.depth
    outwards = (points - torch.tensor([0.2, -0.1, 0.05])) / torch.tensor([0.15, 0.3, 0.45]) ** 2
    expected = torch.nn.functional.normalize(outwards, dim=-1)[0]
    found = shot.normals().flatten(2)[0].T
    solid = shot.march.opacity[0, :, 0] > 0.99
    assert solid.float().mean() > 0.2
    assert (found * expected).sum(dim=1)[solid].min() > 0.95


def test_mesh_has_the_silhouette_of_the_picture(scene, cameras):
    from training.rasterizer import rasterize

    settings = ShapeSettings(64, border=0.0, whole=True)
    mesh = scene_mesh(scene, scene_density(scene, settings), settings)
    solid = (scene.shoot(cameras[:1], RenderSettings(32, jitter="center")).raw_opacity > 0.5)[0, 0].numpy()
    drawn = rasterize(mesh, cameras[:1], 32).mask
    assert (solid & drawn).sum() / (solid | drawn).sum() > 0.8


def test_level_lies_within_the_densities(scene):
    density = scene_density(scene, ShapeSettings(24, border=0.0))
    assert density.min() < silhouette_level(scene) < density.max()


def test_a_scene_is_one_latent(scene):
    network = scene.generator
    with pytest.raises(ValueError, match="one latent, not of 2"):
        BuiltScene.build(network, network.mapping(seeds_to_z(network, [0, 1])))


def test_camera_angles(scene):
    cameras = strip_cameras(scene.generator.config.view, 3, yaw_range=0.4)
    azimuths = [azimuth for azimuth, _ in camera_angles(cameras)]
    assert azimuths == pytest.approx([np.degrees(0.4), 0, -np.degrees(0.4)], abs=0.1)
    assert all(elevation > 5 for _, elevation in camera_angles(cameras))
