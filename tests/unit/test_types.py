"""The values that travel between the parts."""

from __future__ import annotations

from dataclasses import FrozenInstanceError

import pytest
import torch

from training.types import Camera, Latents, RayMarch, RenderOutput, Views


def labels(n: int = 3) -> torch.Tensor:
    return torch.randn(n, 25, generator=torch.Generator().manual_seed(0))


def latents(n: int = 2) -> Latents:
    draw = torch.Generator().manual_seed(n)
    return Latents(
        torch.randn(n, 5, 4, generator=draw), torch.randn(n, 3, 2, generator=draw), torch.randn(n, 1, 4, generator=draw)
    )


def march(n: int = 1, rays: int = 4) -> RayMarch:
    weights = torch.rand(n, rays, 5) / 5
    opacity = weights.sum(dim=2, keepdim=True)
    depths = torch.rand(n, rays, 6)
    return RayMarch(
        torch.rand(n, rays, 3),
        torch.rand(n, rays, 1),
        weights,
        1 - opacity,
        depths,
        depths,
        depths[..., :2],
        depths[..., :2],
    )


def output() -> RenderOutput:
    image = torch.rand(1, 3, 4, 4)
    raw = torch.rand(1, 3, 2, 2)
    return RenderOutput(image, raw, raw[:, :1], raw[:, :1], march())


def test_labels_there_and_back():
    label = labels()
    camera = Camera.from_label(label)
    assert torch.equal(camera.to_label(), label)
    assert len(camera) == 3
    assert torch.equal(camera.cam2world[1], label[1, :16].view(4, 4)), "row by row"
    assert torch.equal(camera.intrinsics[1], label[1, 16:].view(3, 3))
    assert torch.equal(camera.position, label[:, [3, 7, 11]])


def test_rows_of_cameras_and_latents():
    label = labels()
    camera = Camera.from_label(label)
    for rows in (slice(1, 3), torch.tensor([2, 0])):
        assert torch.equal(camera[rows].to_label(), label[rows])
        assert torch.equal(latents(3)[rows].background, latents(3).background[rows])
    assert len(latents(3)[:2]) == 2


def test_values_move_between_devices():
    camera = Camera.from_label(labels()).to("meta")
    assert camera.cam2world.device.type == camera.intrinsics.device.type == "meta"
    moved = latents().to("meta")
    assert {moved.scene.device.type, moved.background.device.type, moved.upsampler.device.type} == {"meta"}


def test_latents_interpolate_and_repeat():
    start, end = latents(1), latents(2)[1:]
    for name in ("scene", "background", "upsampler"):
        a, b = getattr(start, name), getattr(end, name)
        assert torch.equal(getattr(start.lerp(end, 0), name), a)
        assert torch.equal(getattr(start.lerp(end, 1), name), b)
        torch.testing.assert_close(getattr(start.lerp(end, 0.3), name), 0.7 * a + 0.3 * b)
        repeated = getattr(start.expand(4), name)
        assert torch.equal(repeated, a.repeat(4, 1, 1))
        assert repeated.data_ptr() == a.data_ptr(), "no copy"


def test_values_are_frozen():
    with pytest.raises(FrozenInstanceError):
        latents().scene = torch.zeros(2, 5, 4)  # type: ignore[misc]
    with pytest.raises(FrozenInstanceError):
        output().image = torch.zeros(1, 3, 4, 4)  # type: ignore[misc]


def test_shapes_are_checked_when_tests_run():
    with pytest.raises(Exception, match="cam2world"):
        Camera(torch.zeros(2, 4, 4, 1), torch.zeros(2, 3, 3))
    with pytest.raises(Exception, match="background"):
        Latents(torch.zeros(2, 5, 4), torch.zeros(3, 5, 4), torch.zeros(2, 5, 4))


def test_opacity_is_the_sum_of_weights():
    weights = torch.tensor([[[0.25, 0.5], [0.0, 0.0]]])
    zeros = torch.zeros(1, 2, 1)
    depths = torch.zeros(1, 2, 3)
    result = RayMarch(zeros, zeros, weights, zeros, depths, depths, depths, depths)
    assert result.opacity.tolist() == [[[0.75], [0.0]]]


def test_render_output_reads_like_a_dictionary():
    out = output()
    assert out["image"] is out.image
    assert list(out) == ["image", "image_raw", "image_depth", "opacity", "march", "patch"]
    assert len(out) == 6
    assert "image_raw" in out
    assert "to_label" not in out
    assert dict(out)["opacity"] is out.opacity
    assert out.get("depth") is None
    assert {**out}.keys() == set(out)
    with pytest.raises(KeyError, match="'depth'; a RenderOutput has image, image_raw, image_depth"):
        out["depth"]


def test_views_list_their_pictures():
    image, raw = torch.rand(1, 3, 4, 4), torch.rand(1, 3, 2, 2)
    assert [id(picture) for picture in Views(image).tensors()] == [id(image)]
    assert [id(picture) for picture in Views(image, raw).tensors()] == [id(image), id(raw)]
    changed = Views(image, raw).with_image(raw)
    assert changed.image is raw
    assert changed.raw is raw
