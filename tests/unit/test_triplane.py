"""The tri-plane scene: from styles to a field, and what a field answers."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from training.scene import Field, chunks
from training.scene.decoders import SplitDecoderConfig
from training.scene.triplane import TriplaneConfig, TriplaneScene
from training.synthesis import BackboneConfig

CONFIG = TriplaneConfig(
    backbone=BackboneConfig(resolution=8, channel_base=32, channel_max=4), channels=5, features=6, box_warp=1.6
)
W_DIM = 4


def scene_and_styles(config: TriplaneConfig = CONFIG, n: int = 2) -> tuple[TriplaneScene, Tensor]:
    torch.manual_seed(0)
    scene = config.build(W_DIM)
    return scene, torch.randn(n, scene.num_ws, W_DIM)


def test_planes_are_the_channels_of_the_backbone_plane_by_plane():
    scene, ws = scene_and_styles()
    picture = scene.backbone(ws, "const")
    assert picture.shape == (2, 15, 8, 8)
    planes = scene.planes(ws, "const")
    for plane in range(3):
        assert torch.equal(planes[:, plane], picture[:, 5 * plane : 5 * plane + 5])
    assert scene.num_ws == 4
    assert scene.features == 6


@pytest.mark.parametrize("axes", ["legacy", "corrected"])
def test_field_is_the_decoded_mean_of_plane_samples(axes):
    scene, ws = scene_and_styles(replace(CONFIG, axes=axes))
    points = torch.rand(2, 30, 3) * 2 - 1
    pairs = {"legacy": ((0, 1), (0, 2), (2, 0)), "corrected": ((0, 1), (0, 2), (2, 1))}[axes]
    planes = scene.planes(ws, "const")
    sampled = [
        grid_sample(planes[:, i], (points * 2 / 1.6)[:, :, list(pair)][:, None], align_corners=False)[:, :, 0]
        for i, pair in enumerate(pairs)
    ]
    density, features = scene.decoder(torch.stack(sampled).mean(0).transpose(1, 2).flatten(0, 1))
    samples = scene(ws, "const")(points)
    torch.testing.assert_close(samples.density, density.view(2, 30, 1))
    torch.testing.assert_close(samples.features, features.view(2, 30, 6))


def test_field_of_given_planes():
    scene, ws = scene_and_styles()
    points = torch.rand(2, 5, 3) - 0.5
    field = scene.field(scene.planes(ws, "const"))
    assert torch.equal(field(points).features, scene(ws, "const")(points).features)
    assert isinstance(field, Field)


def test_outside_of_the_box_all_points_are_alike():
    scene, ws = scene_and_styles()
    far = torch.tensor([[[0.9, 0.9, 0.9], [5.0, -3.0, 2.0]]]).expand(2, -1, -1)
    samples = scene(ws, "const")(far)
    torch.testing.assert_close(samples.density[:, 0], samples.density[:, 1])
    torch.testing.assert_close(samples.features[0], samples.features[1])


def test_directions_play_no_part():
    scene, ws = scene_and_styles()
    field, points = scene(ws, "const"), torch.rand(2, 5, 3)
    assert torch.equal(field(points, torch.randn(2, 5, 3)).features, field(points).features)


@pytest.mark.parametrize("decoder", [CONFIG.decoder, SplitDecoderConfig(hidden=8)])
def test_density_alone(decoder):
    scene, ws = scene_and_styles(replace(CONFIG, decoder=decoder))
    field, points = scene(ws, "const"), torch.rand(2, 5, 3)
    torch.testing.assert_close(field.density(points), field(points).density)


def test_one_scene_for_many_cameras():
    scene, ws = scene_and_styles(n=1)
    field, points = scene(ws, "const"), torch.rand(3, 5, 3) - 0.5
    many = field.expand(3)
    assert many.table.data_ptr() == field.table.data_ptr(), "no copy"
    for i in range(3):
        torch.testing.assert_close(many(points).features[i : i + 1], field(points[i : i + 1]).features)


def test_samples_of_a_batch_do_not_touch_each_other():
    scene, ws = scene_and_styles(n=3)
    points = torch.rand(3, 7, 3) - 0.5
    together = scene(ws, "const")(points)
    for i in range(3):
        alone = scene(ws[i : i + 1], "const")(points[i : i + 1])
        torch.testing.assert_close(alone.density, together.density[i : i + 1], atol=1e-5, rtol=1e-4)


def gradients(scene: TriplaneScene, ws: Tensor, points: Tensor) -> list[Tensor]:
    scene.zero_grad()
    points = points.clone().requires_grad_()
    samples = scene(ws, "const")(points)
    (samples.density.square().sum() + samples.features.square().sum()).backward()
    assert points.grad is not None
    parameters = [p.grad for name, p in scene.named_parameters() if p.grad is not None]
    return [samples.features.detach(), points.grad, *(g.clone() for g in parameters)]


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch):
    """Neither the size of the pieces nor their recomputation in the backward pass shows in values or gradients."""
    scene, ws = scene_and_styles()
    points = torch.rand(2, 50, 3) - 0.5
    whole = gradients(scene, ws, points)
    for chunk, recompute_above in ((7, 10**9), (7, 0), (1000, 0)):
        monkeypatch.setattr(chunks, "CHUNK_POINTS", {"cpu": chunk})
        monkeypatch.setattr(chunks, "RECOMPUTE_ABOVE_POINTS", recompute_above)
        for expected, actual in zip(whole, gradients(scene, ws, points), strict=True):
            torch.testing.assert_close(actual, expected, atol=1e-4, rtol=1e-4)


def test_noise_mode_reaches_the_backbone():
    scene, ws = scene_and_styles()
    for name, parameter in scene.named_parameters():
        if name.endswith("noise_strength"):
            torch.nn.init.constant_(parameter, 0.5)
    points = torch.rand(2, 5, 3) - 0.5
    assert torch.equal(scene(ws, "const")(points).density, scene(ws, "const")(points).density)
    assert not torch.equal(scene(ws, "random")(points).density, scene(ws, "random")(points).density)
    assert not torch.equal(scene(ws, "none")(points).density, scene(ws, "const")(points).density)
