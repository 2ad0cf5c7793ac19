"""The defects known of the published EG3D and BallGAN code, one test each: none of them is repeated here."""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch import Tensor

import gen_samples
import gen_videos
from tests.training_runs import ON_CPU, SMALL_BACKGROUND, SMALL_NETWORKS, make_dataset, run_train
from tests.unit import training_parts as parts
from training import media, pictures, shapes, snapshot
from training.background.sphere import PlainTextureConfig, SphereConfig, encode_angles, sphere_angles
from training.cameras.camera import make_rays
from training.cameras.paths import strip_cameras
from training.dataset import DataConfig, ImageDataset
from training.generator import Generator
from training.inputs import Draw
from training.latents import seeds_to_z
from training.losses import DensityConfig, LossConfig, MarchConfig
from training.losses.regularizers import PointPairs, density_spread, density_variation
from training.phases import generator_regularizers
from training.presets import GEOMETRIES, SYSTEMS, preset
from training.rendering.renderer import RendererConfig
from training.rendering.sampling import importance_depths
from training.scene.lookup import PLANE_AXES
from training.step import build_phases
from training.types import Camera, RayMarch, Rays, RenderSettings, StepSettings
from training.upsampling import SuperresolutionConfig

ROOT = Path(__file__).parents[2]
CENTER = RenderSettings(8, jitter="center")
SPHERE: Any = parts.GENERATOR.background
BASE = ("--cfg=ffhq", "--gpus=1", "--batch=4", "--gamma=1")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make_dataset(tmp_path_factory.mktemp("data") / "set.zip", 4, 32)


def refusal(data, outdir, *arguments) -> str:
    result = run_train(f"--outdir={outdir}", f"--data={data}", *BASE, *ON_CPU, *arguments)
    assert result.exit_code != 0
    assert not outdir.exists()
    return result.output


def generator(seed: int = 0, **changes) -> Any:
    """A small network in eval mode whose scene is not empty."""
    torch.manual_seed(seed)
    G: Any = Generator(replace(parts.GENERATOR, **changes)).eval().requires_grad_(False)
    G.scene.decoder.out.weight.mul_(2)
    G.scene.decoder.out.bias[0] = 8
    return G


def picture(G, labels: Tensor, settings: RenderSettings = CENTER, seed: int = 1, **options) -> Any:
    z = torch.randn(1, G.z_dim, generator=torch.Generator().manual_seed(seed)).expand(len(labels), -1)
    latents = G.mapping(z, parts.camera_labels(1).expand(len(labels), -1))
    return G.synthesis(latents, labels, settings, noise_mode="const", **options)


def march_of(density: Tensor, depths: Tensor) -> RayMarch:
    """A march of which only the fine samples matter."""
    n, rays, _ = density.shape
    one = torch.zeros(n, rays, 1)
    return RayMarch(one, one, density, one, depths, density, depths, density)


# EG3D


@pytest.mark.parametrize("command", [gen_samples.main, gen_videos.main], ids=["gen_samples", "gen_videos"])
def test_field_of_view_is_no_integer(command):
    option = next(parameter for parameter in command.params if parameter.name == "fov_deg")
    assert isinstance(option.type, (click.types.FloatParamType, click.FloatRange))
    for geometry in GEOMETRIES.values():
        assert geometry.view.fov_deg == 18.837


def test_new_runs_have_three_different_planes():
    assert {tuple(sorted(pair)) for pair in PLANE_AXES["corrected"]} == {(0, 1), (0, 2), (1, 2)}
    assert {tuple(sorted(pair)) for pair in PLANE_AXES["legacy"]} == {(0, 1), (0, 2)}
    for system in SYSTEMS:
        assert preset(system, "ffhq", 512).generator.scene.axes == "corrected"


def aside(labels: Tensor) -> Tensor:
    """The labels' cameras looking past the scene."""
    camera = Camera.from_label(labels)
    turn = torch.tensor([[0.0, 0.0, 1.0, 0.0], [0.0, 1.0, 0.0, 0.0], [-1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]])
    return Camera(camera.cam2world @ turn, camera.intrinsics).to_label()


def test_rays_that_miss_the_box_see_the_background():
    auto = RendererConfig(depth_resolution=6, depth_resolution_importance=6, ray_start="auto", ray_end="auto")
    G = generator(renderer=auto)
    labels = torch.cat([parts.camera_labels(1), aside(parts.camera_labels(1))])
    out = picture(G, labels)
    background = picture(G, labels, layer="background")
    assert out.opacity[0].max() > 0.5
    assert out.opacity[1].max() == 0
    assert torch.allclose(out.image_raw[1], background.image_raw[1], atol=1e-6)
    alone = picture(G, labels[:1])
    assert torch.allclose(alone.image_depth, out.image_depth[:1], atol=1e-5)
    assert (out.march.depths >= 0).all()


def test_depth_does_not_depend_on_the_rest_of_the_batch():
    G = generator(renderer=RendererConfig(4, 4, 2.25, 3.3))
    labels = parts.camera_labels(3)
    together, alone = picture(G, labels), picture(G, labels[1:2])
    assert torch.allclose(together.image_depth[1:2], alone.image_depth, atol=1e-5)


def test_importance_sampling_keeps_the_published_bins():
    depths = torch.linspace(1, 2, 8).view(1, 1, 8)
    weights = torch.zeros(1, 1, 7)
    weights[..., -1] = 1
    drawn = importance_depths(depths, weights, 1000, "center")
    edges = (depths[..., 1:] + depths[..., :-1]) / 2
    assert drawn.max() <= edges[..., -2] + 1e-6


def test_a_single_ray_keeps_its_axis():
    out = picture(generator(), parts.camera_labels(1), RenderSettings(1, jitter="center"))
    assert out.image_raw.shape == (1, 3, 1, 1)
    assert out.march.weights.shape == (1, 1, 7)


def test_label_noise_leaves_the_labels_as_they_are():
    config = replace(parts.DISCRIMINATOR, label_noise=0.5)
    D = config.build(parts.RESOLUTION)
    labels = parts.camera_labels(4)
    before = labels.clone()
    with torch.no_grad():
        logits = [D(D.real_views(parts.reals(4).images, CENTER), labels) for _ in range(2)]
    assert torch.equal(labels, before)
    assert not torch.equal(logits[0], logits[1])


def test_mirroring_flips_pose_and_pixels(data):
    dataset = ImageDataset(DataConfig(path=str(data), mirror=True))
    plain = ImageDataset(DataConfig(path=str(data)))
    assert len(dataset) == 2 * len(plain)
    image, label = dataset[len(plain)]
    original, pose = plain[0]
    assert np.array_equal(np.asarray(image), np.asarray(original)[:, :, ::-1])
    flip = torch.diag(torch.tensor([-1.0, 1.0, 1.0, 1.0]))
    expected = flip @ torch.as_tensor(pose)[:16].view(4, 4) @ flip
    assert torch.allclose(torch.as_tensor(label)[:16].view(4, 4), expected, atol=1e-6)


@pytest.mark.parametrize("kind", ["l1-alt", "total-variation"])
def test_regularizers_that_were_never_written_are_refused(kind, data, tmp_path):
    assert kind in refusal(data, tmp_path / "runs", f"--reg_type={kind}", "--density_reg=1")


def test_options_without_effect_are_named(data, tmp_path):
    result = run_train(f"--outdir={tmp_path}", f"--data={data}", *BASE, *ON_CPU, "--c-noise=1", "--dry-run")
    assert result.exit_code == 0
    assert "--c-noise has no effect" in result.output


def test_style_mixing_goes_with_density_regularization():
    G: Any = parts.networks()[0]
    fakes = Draw(parts.prior(), style_mixing_prob=1.0).fakes(G, 4, None, ("test",))
    assert fakes.mix is not None
    config = LossConfig(density=DensityConfig(strength=1))
    settings = StepSettings(CENTER, regularizer_scale={"density": 1.0})
    (loss,) = generator_regularizers(G, fakes, settings, config)
    loss.values.mean().backward()
    assert G.scene.backbone.b4.const.grad.abs().sum() > 0


def test_unknown_configurations_are_refused_at_once(data, tmp_path):
    output = refusal(data, tmp_path / "runs", "--cfg=faces")
    assert "'ffhq', 'afhq', 'shapenet'" in output


def test_voxels_stand_on_a_regular_grid():
    points = torch.cat([points for _, points in shapes.grid_points(5, 2.0, 7)])
    axis = torch.linspace(-1, 1, 5)
    expected = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), dim=-1).view(-1, 3)
    assert torch.allclose(points, expected, atol=1e-6)


def test_superresolution_takes_more_than_its_own_size():
    upsampler = SuperresolutionConfig(module="4X", channels=(4, 4)).build(32, 8, 256)
    features = torch.randn(1, 32, 160, 160)
    with torch.no_grad():
        assert upsampler(features, torch.randn(1, 1, 8)).shape == (1, 3, 256, 256)


# BallGAN, by the numbers of the list


@pytest.mark.parametrize("name", ["fg_density", "fg_density_spatial", "bg_transmittance"])
def test_1_each_regularizer_acts_on_its_own(name):
    regularizers: dict[str, Any] = {name: MarchConfig(strength=0.5)}
    config = LossConfig(**regularizers)
    assert [phase.name for phase in build_phases(config, 4, 16)] == ["Gmain", "Greg", "Dmain", "Dreg"]
    G: Any = parts.networks()[0]
    fakes = Draw(parts.prior()).fakes(G, 2, None, ("test",))
    (loss,) = generator_regularizers(G, fakes, StepSettings(CENTER, regularizer_scale={name: 0.5}), config)
    loss.values.mean().backward()
    gradient = G.scene.decoder.hidden.weight.grad
    assert gradient is not None
    assert gradient.isfinite().all()


def test_2_one_forward_serves_all_regularizers():
    G: Any = parts.networks()[0]
    built = []
    G.scene.register_forward_hook(lambda *_: built.append(1))
    scale = {"density": 1.0, "fg_density": 1.0, "fg_density_spatial": 1.0, "bg_transmittance": 1.0}
    regularizers: dict[str, Any] = {name: MarchConfig(strength=1) for name in scale if name != "density"}
    config = LossConfig(density=DensityConfig(strength=1), **regularizers)
    fakes = Draw(parts.prior()).fakes(G, 2, None, ("test",))
    (loss,) = generator_regularizers(G, fakes, StepSettings(CENTER, regularizer_scale=scale), config)
    assert len(built) == 1
    assert set(loss.statistics) >= {"Loss/reg_fgdensity", "Loss/reg_fg_onray_density", "Loss/reg_bgtransmittance"}


def test_3_cameras_outside_the_sphere_are_refused_at_the_start(tmp_path):
    far = make_dataset(tmp_path / "far.zip", 4, 32, radius=3.5)
    output = refusal(far, tmp_path / "runs")
    assert "--radius=3: the sphere must contain all cameras" in output
    past_the_centre = aside(parts.camera_labels(1))
    assert picture(generator(), past_the_centre, layer="background").image_raw.isfinite().all()


def test_4_the_azimuth_has_no_seam():
    sides = torch.tensor([[1.0, 1e-6], [1.0, 2 * math.pi - 1e-6]])
    seamless = encode_angles(sides, "seamless", 2 * math.pi)
    published = encode_angles(sides, "normal", 2 * math.pi)
    assert torch.allclose(seamless[0], seamless[1], atol=1e-4)
    assert (published[0] - published[1]).abs().max() > 1.9
    assert SphereConfig().encoding == "seamless"


def test_5_the_background_shows_without_importance_samples():
    G = generator(renderer=RendererConfig(4, 0))
    labels = parts.camera_labels(1)
    full, foreground = picture(G, labels), picture(G, labels, layer="foreground")
    assert (full.image_raw - foreground.image_raw).abs().max() > 1e-3


def test_6_density_spread_sorts_and_matches_the_matrix_form():
    torch.manual_seed(0)
    density, depths = torch.randn(2, 3, 7), torch.rand(2, 3, 7) + 1
    value = density_spread(march_of(density.half(), depths.half()))
    assert value.dtype == torch.float32
    depths, order = depths.half().float().sort(dim=2)
    dense = density.half().float().gather(2, order).sigmoid()
    disparity = 1 / depths
    low, high = disparity.amin(2, keepdim=True), disparity.amax(2, keepdim=True)
    s = (disparity - high) / (low - high)
    pairs = dense[..., :, None] * dense[..., None, :] * (s[..., :, None] - s[..., None, :]).abs()
    delta = torch.cat([depths.diff(dim=2), depths.diff(dim=2)[..., -1:]], dim=2)
    expected = (pairs.sum(dim=(2, 3)) / 2 + (dense * delta).sum(dim=2) / 3).mean(dim=1)
    assert torch.allclose(value, expected, rtol=1e-4)


@pytest.mark.parametrize("texture", [SphereConfig().texture, PlainTextureConfig()])
def test_7_any_number_of_rays(texture):
    background = replace(SphereConfig(), texture=texture).build(8)
    rays = make_rays(Camera.from_label(parts.camera_labels(1)), RenderSettings(4))
    twelve = Rays(rays.origins[:, :12], rays.directions[:, :12])
    latent = torch.randn(1, background.num_ws, background.w_dim)
    assert background(latent, twelve).features.shape == (1, 12, 8)


def test_8_and_26_opacity_pictures_round_and_clip():
    opacity = torch.tensor([[[[-0.001, 0.0, 0.4999, 0.999, 1.001]]]])
    assert media.to_uint8(opacity * 2 - 1).flatten().tolist() == [0, 0, 127, 255, 255]


def test_10_background_options_that_mean_nothing_are_refused(data, tmp_path):
    assert "ver0" in refusal(data, tmp_path / "runs", "--bg_ver=ver2")
    for option in ("--w_bg_dim=64", "--bg_mapping=2"):
        assert option.partition("=")[0] in refusal(data, tmp_path / "runs", "--bg_ver=ver0", option)


@pytest.mark.parametrize("option", ["bg_ver", "n_blocks", "radius", "bg_pe", "hidden_size"])
def test_11_the_snapshot_knows_its_own_background(option):
    arguments = ["--network=net.pkl", "--seeds=0", "--outdir=out", f"--{option}=1"]
    result = CliRunner().invoke(gen_samples.main, arguments)
    assert result.exit_code != 0
    assert "the snapshot knows its own background" in result.output


def test_12_the_background_is_whole():
    G = generator()
    labels = parts.camera_labels(1)
    whole, hole, full = (picture(G, labels, layer=layer) for layer in ("background", "hole", "full"))
    assert full.opacity.max() > 0.5
    behind = (hole.image_raw + 1) / (whole.image_raw + 1)
    assert torch.allclose(behind, (1 - full.opacity).expand_as(behind), atol=1e-3)


def test_13_white_back_is_defined_for_every_layer():
    G = generator(background=replace(SPHERE, white_back=True))
    labels = parts.camera_labels(1)
    shown = {layer: picture(G, labels, layer=layer) for layer in ("full", "foreground", "background", "hole")}
    assert all(out.image.isfinite().all() for out in shown.values())
    black = picture(generator(), labels, layer="foreground")
    expected = black.image_raw + 2 * (1 - black.opacity)
    assert torch.allclose(shown["foreground"].image_raw, expected, atol=1e-5)


def test_14_and_17_training_imports_only_what_it_uses():
    code = "import sys, train, training.loop; print(sorted({'matplotlib', 'cv2', 'ipdb'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    sources = [path.read_text() for path in (ROOT / "training").rglob("*.py")]
    assert not any("empty_cache" in source for source in sources)


def test_15_all_layers_are_one_composition():
    G = generator()
    labels = parts.camera_labels(1)
    full, foreground, hole = (picture(G, labels, layer=layer).image_raw for layer in ("full", "foreground", "hole"))
    assert torch.allclose(full + 1, foreground + hole + 2, atol=1e-5)


def test_16_see_the_depth_of_eg3d():
    assert RendererConfig().depth_limits == "ray"


@pytest.mark.parametrize("fp16", [0, 4])
def test_18_gradients_where_no_resizing_is_needed(fp16):
    upsampler = SuperresolutionConfig(module="2X", channels=(4, 4), num_fp16_res=fp16).build(8, 8, 128)
    features = torch.randn(1, 8, 64, 64, requires_grad=True)
    upsampler(features, torch.randn(1, 1, 8)).sum().backward()
    assert features.grad is not None


def test_9_and_19_background_seeds():
    G = generator()
    same, apart = seeds_to_z(G, [3, 4]), seeds_to_z(G, [3, 4], [7])
    split = G.scene_z_dim
    published = np.random.RandomState(3).randn(1, G.background_z_dim)[0]
    assert np.allclose(same[0, split:].numpy(), published)
    assert torch.equal(apart[:, :split], same[:, :split])
    assert torch.equal(apart[0, split:], apart[1, split:])
    assert not torch.equal(apart[:, split:], same[:, split:])


def test_20_truncation_of_the_background_alone():
    G = generator()
    z, label = torch.randn(1, G.z_dim), parts.camera_labels(1)
    G.mapping.background.w_avg.fill_(3.0)
    tied, apart = G.mapping(z, label, 0.5), G.mapping(z, label, 0.5, background_psi=0.0)
    assert torch.equal(tied.scene, apart.scene)
    assert torch.allclose(apart.background, torch.full_like(apart.background, 3.0))
    assert not torch.allclose(tied.background, apart.background)


def test_21_density_regularization_has_gradients():
    G: Any = parts.networks()[0]
    field = G.field(G.mapping(torch.randn(2, G.z_dim), parts.camera_labels(2)))
    points = torch.rand(2, 5, 3) - 0.5
    samples = field(points)
    assert samples.density.shape == (2, 5, 1)
    assert samples.features.shape == (2, 5, 32)
    density_variation(field, PointPairs(points, points + 0.1)).sum().backward()
    assert G.scene.decoder.out.weight.grad.abs().sum() > 0


def test_22_any_file_name_can_be_resumed(data, tmp_path):
    G, D = parts.networks()
    for name, facts, images in (("best", {"kimg": 7.5}, 7500), ("mine-12-final", {}, 0)):
        path = tmp_path / f"{name}.pkl"
        snapshot.save(path, G=G, D=D, G_ema=G, facts=facts)
        arguments = (*BASE, *ON_CPU, *SMALL_NETWORKS, *SMALL_BACKGROUND, f"--resume={path}", "--dry-run")
        result = run_train(f"--outdir={tmp_path / 'runs'}", f"--data={data}", *arguments)
        assert result.exit_code == 0, result.output
        assert f'"images_before": {images}' in result.output


def test_23_latents_are_drawn_one_by_one():
    G: Any = parts.networks()[0]
    fakes = Draw(parts.prior()).fakes(G, 7, None, ("test",))
    assert fakes.z.shape == (7, G.z_dim)
    assert len({tuple(row) for row in fakes.z[:, : G.scene_z_dim].tolist()}) == 7
    pairs = Draw(parts.prior(), background_pairs=True).fakes(G, 6, None, ("test",)).z
    assert torch.equal(pairs[:3, : G.scene_z_dim], pairs[3:, : G.scene_z_dim])
    assert not torch.equal(pairs[:3, G.scene_z_dim :], pairs[3:, G.scene_z_dim :])


def test_24_the_poles_of_the_sphere():
    points = torch.tensor([[0.0, 3.0000005, 0.0], [0.0, -3.0000005, 0.0]])
    assert sphere_angles(points, 3.0)[:, 0].tolist() == pytest.approx([0, math.pi], abs=1e-3)


@torch.no_grad()
def test_25_picture_grids_of_any_size(tmp_path):
    G = generator()
    grid = pictures.Grid(torch.randn(5, G.z_dim), parts.camera_labels(5), list(range(5)), 5)
    pictures.save_fakes(tmp_path, 0, G, grid, batch=2)
    assert (tmp_path / "fakes000000.png").is_file()


def test_26_version_0_gives_all_layers():
    background = SphereConfig(z_dim=10, hidden=8, texture=PlainTextureConfig())
    G = generator(background=background)
    labels = parts.camera_labels(1)
    for layer in ("full", "foreground", "background", "hole"):
        assert picture(G, labels, layer=layer).image.isfinite().all()


def test_27_many_views_of_one_latent():
    G = generator()
    cameras = strip_cameras(G.config.view, 3)
    z = torch.randn(1, G.z_dim)
    latents = G.mapping(z, None)
    field = G.field(latents)
    out = G.synthesis(latents.expand(3), cameras, CENTER, field=field.expand(3))
    one = G.synthesis(latents, cameras[1:2], CENTER, field=field)
    assert torch.allclose(out.image[1:2], one.image, atol=1e-5)
