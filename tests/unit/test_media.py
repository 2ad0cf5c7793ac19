from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image

from training import media


def test_to_uint8_is_the_published_rule():
    values = torch.tensor([-2.0, -1.0, -0.5, 0.0, 0.9961, 1.0, 3.0])
    pictures = media.to_uint8(values.reshape(1, 1, 1, 7).expand(1, 3, 1, 7))
    expected = [int(min(max(value * 127.5 + 128, 0), 255)) for value in values.tolist()]
    assert pictures.shape == (1, 1, 7, 3)
    assert pictures[0, 0, :, 0].tolist() == expected


@pytest.mark.parametrize(
    ("size", "expected"), [(64, (32, 32)), (256, (30, 16)), (512, (15, 8)), (2048, (7, 4)), (8, (32, 32))]
)
def test_grid_size(size: int, expected: tuple[int, int]):
    assert media.grid_size(size, size) == expected


def test_grid_indices_without_labels_is_a_fixed_shuffle():
    indices = media.grid_indices(None, 40, 7, 4)
    assert len(set(indices)) == 28
    assert indices == media.grid_indices(None, 40, 7, 4)
    assert indices != list(range(28))


def test_grid_indices_repeat_where_items_run_out():
    assert sorted(set(media.grid_indices(None, 5, 7, 4))) == [0, 1, 2, 3, 4]


def test_grid_rows_hold_equal_labels():
    labels = np.repeat(np.eye(3, 4, dtype=np.float32), 8, axis=0)
    rows = np.array(media.grid_indices(labels, 24, 8, 3)).reshape(3, 8) // 8
    assert all(len(set(row)) == 1 for row in rows.tolist())
    assert set(rows[:, 0]) == {0, 1, 2}


def test_tile_places_pictures_row_by_row():
    pictures = np.arange(5, dtype=np.uint8).reshape(5, 1, 1, 1).repeat(2, 1).repeat(3, 2)
    grid = media.tile(pictures, 2)
    assert grid.shape == (6, 6, 1)
    assert grid[::2, ::3, 0].tolist() == [[0, 1], [2, 3], [4, 0]]


def test_depth_pictures_are_bright_where_near():
    depth = torch.linspace(2, 3, 5).reshape(1, 1, 1, 5)
    brightness = media.depth_pictures(depth)[0, 0].astype(int).sum(axis=1)
    assert (np.diff(brightness) < 0).all()
    clipped = media.depth_pictures(depth, (2.25, 2.75))[0, 0]
    assert (clipped[0] == clipped[1]).all()
    assert (clipped[3] == clipped[4]).all()


def test_depth_pictures_use_the_range_of_what_is_hit():
    depth = torch.tensor([2.0, 2.5, 9.0]).reshape(1, 1, 1, 3)
    opacity = torch.tensor([1.0, 1.0, 0.0]).reshape(1, 1, 1, 3)
    picture = media.depth_pictures(depth, opacity=opacity)[0, 0]
    assert (picture[2] == 0).all()
    assert (picture[1] == media.VIRIDIS[0]).all()


def test_a_flat_field_of_values_stays_finite():
    assert torch.isfinite(media.stretch(torch.ones(1, 1, 2, 2))).all()


def disc(size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """An orange disc with a soft edge: its colour and its opacity."""
    y, x = torch.meshgrid(torch.linspace(-1, 1, size), torch.linspace(-1, 1, size), indexing="ij")
    opacity = ((0.6 - (x**2 + y**2).sqrt()) * 8 + 0.5).clamp(0, 1)[None, None]
    color = torch.tensor([1.0, 0.5, 0.1]).reshape(1, 3, 1, 1)
    return color, opacity


def test_foreground_has_no_dark_rim_on_any_background():
    color, opacity = disc(48)
    rgba = media.rgba_pictures(color * opacity * 2 - 1, opacity)
    for background in ([255, 255, 255], [0, 0, 0], [0, 200, 0]):
        truth = (color * opacity)[0].permute(1, 2, 0) * 255 + (1 - opacity[0, 0, ..., None]) * torch.tensor(background)
        laid = media.over(rgba, np.array(background, dtype=np.uint8))[0].astype(float)
        assert np.abs(laid - truth.numpy()).max() < 3


def test_colors_continue_outside_the_object():
    color, opacity = disc(48)
    bled = media.bleed_colors(color * opacity, opacity)
    assert (bled - color).abs().max() < 0.02


def test_bleed_leaves_opaque_pixels_alone():
    picture = torch.rand(1, 3, 9, 7)
    assert torch.equal(media.bleed_colors(picture, torch.ones(1, 1, 9, 7)), picture)


def test_bleed_of_an_empty_picture_is_finite():
    assert torch.isfinite(media.bleed_colors(torch.zeros(1, 3, 8, 8), torch.zeros(1, 1, 8, 8))).all()


def test_png_is_the_picture_and_always_the_same_bytes(tmp_path):
    picture = np.random.RandomState(0).randint(0, 256, [8, 6, 4], dtype=np.uint8)
    path = media.save_png(tmp_path / "a.png", picture)
    assert (np.asarray(Image.open(path)) == picture).all()
    assert path.read_bytes() == media.png_bytes(picture.copy())
    assert [file.name for file in tmp_path.iterdir()] == ["a.png"]


def test_png_of_one_channel_is_grey():
    picture = np.zeros([3, 4, 1], dtype=np.uint8)
    assert Image.open(io.BytesIO(media.png_bytes(picture))).mode == "L"


def test_contact_sheet_holds_all_rows():
    red = np.full([2, 16, 16, 3], [255, 0, 0], dtype=np.uint8)
    blue = np.full([3, 32, 32, 3], [0, 0, 255], dtype=np.uint8)
    sheet = media.contact_sheet([("red", red), ("blue", blue)], size=32, title="colours")
    assert (sheet == [255, 0, 0]).all(axis=-1).sum() == 2 * 32 * 32
    assert (sheet == [0, 0, 255]).all(axis=-1).sum() == 3 * 32 * 32


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_resize(channels: int):
    picture = np.full([2, 4, 4, channels], 77, dtype=np.uint8)
    assert media.resize(picture, 4) is picture
    for size in (3, 6, 8):
        assert media.resize(picture, size).shape == (2, size, size, channels)
        assert np.abs(media.resize(picture, size).astype(int) - 77).max() <= 2


def test_checkerboard_has_two_greys():
    board = media.checkerboard(16, 16)
    assert sorted(np.unique(board)) == [153, 204]
    assert board[0, 0, 0] != board[0, 8, 0]
