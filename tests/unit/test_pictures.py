"""One picture: safe decoding of every mode, crops that take the camera along, masks."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from dataset_preprocessing import cameras
from dataset_preprocessing.pictures import (
    PictureOptions,
    crop_and_resize,
    decode,
    encode_png,
    plan_crop,
    split_alpha,
)
from training.archive import ArchiveError


def encoded(image: Image.Image, kind: str = "PNG") -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind)
    return stream.getvalue()


GRADIENT = np.linspace(0, 255, 64).astype(np.uint8).reshape(8, 8)


@pytest.mark.parametrize(
    ("image", "kind", "mode"),
    [
        (Image.fromarray(GRADIENT), "PNG", "RGB"),
        (Image.fromarray(GRADIENT > 100), "PNG", "RGB"),
        (Image.fromarray(GRADIENT.astype(np.uint16) * 257), "PNG", "RGB"),
        (Image.fromarray(GRADIENT).convert("CMYK"), "JPEG", "RGB"),
        (Image.fromarray(GRADIENT).convert("RGB").quantize(64), "PNG", "RGB"),
        (Image.fromarray(GRADIENT).convert("LA"), "PNG", "RGBA"),
        (Image.fromarray(GRADIENT), "WEBP", "RGB"),
        (Image.fromarray(GRADIENT), "BMP", "RGB"),
        (Image.fromarray(GRADIENT), "TIFF", "RGB"),
    ],
)
def test_every_mode_becomes_eight_bit_colour(image, kind, mode):
    result = decode(encoded(image, kind), "file")
    assert result.mode == mode
    if image.mode == "L":
        error = np.abs(np.asarray(result)[..., 0].astype(int) - GRADIENT)
        assert error.max() <= (12 if kind == "WEBP" else 0)


def test_sixteen_bits_are_scaled_not_clipped():
    deep = Image.fromarray(GRADIENT.astype(np.uint16) * 257)
    assert np.array_equal(np.asarray(decode(encoded(deep), "file"))[..., 0], GRADIENT)


def test_transparent_palette():
    image = Image.fromarray(GRADIENT).convert("P")
    image.info["transparency"] = 0
    stream = io.BytesIO()
    image.save(stream, "PNG", transparency=0)
    assert decode(stream.getvalue(), "file").mode == "RGBA"


@pytest.mark.parametrize("data", [b"", b"GIF89a", b"%!PS-Adobe", encoded(Image.fromarray(GRADIENT))[:50]])
def test_what_is_no_picture_is_named(data):
    with pytest.raises(ArchiveError, match="some/file: not a readable picture"):
        decode(data, "some/file")


def test_huge_pictures_are_refused_before_decoding():
    stream = io.BytesIO()
    Image.new("1", (10_000, 10_000)).save(stream, "PNG")
    assert len(stream.getvalue()) < 20_000
    with pytest.raises(ArchiveError, match="10000x10000 pixels, over the limit"):
        decode(stream.getvalue(), "file")


sizes = st.integers(8, 60)


@settings(deadline=None)
@given(sizes, sizes, st.sampled_from(["center-crop", "center-crop-wide", "none"]))
def test_camera_follows_the_crop(width, height, transform):
    """A bright dot lies, in the finished picture, where the label projects its point."""
    options = PictureOptions((128, 72) if transform == "center-crop-wide" else (128, 128), transform)
    crop = plan_crop((width, height), options)
    matrix = np.array([[1.5, 0.02, 0.52], [0, 1.5 * width / height, 0.47], [0, 0, 1]])
    label = cameras.make_label(cameras.look_at([0, 0, 2.0]), matrix).tolist()
    point = np.array([[0.05, -0.03, 0.1]])
    place = cameras.project(label, point)[0][0] * [width, height]
    moved = cameras.project(crop.camera(label, (width, height)), point)[0][0] * crop.result
    left, top, right, bottom = crop.box
    expected = (place - [left, top]) / [right - left, bottom - top] * crop.size + [0, crop.bars]
    assert np.allclose(moved, expected)
    image = Image.new("RGB", (width, height))
    assert crop_and_resize(image, crop).size == crop.result
    if transform == "center-crop":
        assert right - left == bottom - top == min(width, height)


def test_label_is_kept_to_the_bit_without_a_crop():
    label = cameras.make_label(cameras.look_at([1, 2, 3.0]), cameras.intrinsics(1.1)).tolist()
    assert plan_crop((64, 64), PictureOptions((32, 32), "center-crop")).camera(label, (64, 64)) is label


def test_wide_crop_needs_a_resolution():
    with pytest.raises(ArchiveError, match="needs --resolution"):
        plan_crop((64, 32), PictureOptions(transform="center-crop-wide"))


def test_alpha():
    pixels = np.zeros((4, 4, 4), np.uint8)
    pixels[..., 0], pixels[:2, :, 3] = 200, 255
    image = Image.fromarray(pixels, "RGBA")
    assert np.asarray(split_alpha(image, "drop")[0])[3, 0].tolist() == [200, 0, 0]
    assert np.asarray(split_alpha(image, "white")[0])[3, 0].tolist() == [255, 255, 255]
    flat, mask = split_alpha(image, "mask")
    assert np.asarray(flat)[3, 0].tolist() == [0, 0, 0]
    assert np.asarray(mask)[:, 0].tolist() == [255, 255, 0, 0]
    assert np.asarray(split_alpha(Image.new("RGB", (2, 2)), "mask")[1]).min() == 255


def test_resizing_transparent_edges_leaves_no_fringe():
    """Colours of invisible pixels do not bleed into visible ones."""
    pixels = np.zeros((16, 16, 4), np.uint8)
    pixels[:, :8] = [200, 100, 50, 255]
    pixels[:, 8:] = [0, 255, 255, 0]
    crop = plan_crop((16, 16), PictureOptions((8, 8)))
    small = np.asarray(crop_and_resize(Image.fromarray(pixels, "RGBA"), crop)).astype(int)
    visible = small[..., 3] > 60
    assert np.abs(small[visible][:, :3] - [200, 100, 50]).max() <= 3


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
def test_png_is_lossless_and_repeatable(mode):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 24, 4), dtype=np.uint8)).convert(mode)
    data = encode_png(image)
    with Image.open(io.BytesIO(data)) as read:
        read.verify()
    with Image.open(io.BytesIO(data)) as read:
        assert read.mode == mode
        assert np.array_equal(np.asarray(read), np.asarray(image))
    assert encode_png(image) == data
