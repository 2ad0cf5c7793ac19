from __future__ import annotations

import click
import pytest
import torch

from tests.tiny import generator
from training.cameras.paths import strip_cameras
from training.commands import (
    FloatList,
    GridSize,
    NameList,
    Truncation,
    conditioning_camera,
    label_list,
    parse_ints,
    pick_device,
)
from training.latents import seeds_to_z
from training.types import Camera


@pytest.mark.parametrize(("text", "numbers"), [("0", [0]), ("0,1,4-6", [0, 1, 4, 5, 6]), (" 3 , 2 ", [3, 2])])
def test_lists_of_numbers(text, numbers):
    assert parse_ints(text) == numbers


@pytest.mark.parametrize("text", ["", "a", "1,", "-3", "5-3", "1.5"])
def test_wrong_lists(text):
    with pytest.raises(ValueError, match=r"no list|backwards"):
        parse_ints(text)


def test_seeds_end_where_those_of_numpy_end():
    assert parse_ints("4294967295") == [4294967295]
    with pytest.raises(ValueError, match="4294967296 is above 4294967295"):
        parse_ints("0,4294967290-4294967296")


def test_types_of_options():
    assert FloatList(2).convert("0.3,-1", None, None) == (0.3, -1.0)
    assert GridSize().convert("4x2", None, None) == GridSize().convert("4,2", None, None) == (4, 2)
    assert NameList([".ply", ".obj"]).convert("ply,.obj", None, None) == [".ply", ".obj"]
    for kind, text in ((FloatList(2), "1"), (FloatList(), "x"), (GridSize(), "4"), (NameList(["a"]), "b")):
        with pytest.raises(click.BadParameter):
            kind.convert(text, None, None)


def test_devices():
    assert pick_device("cpu") == torch.device("cpu")
    if not torch.cuda.is_available():
        assert pick_device("auto") == torch.device("cpu")
        with pytest.raises(click.ClickException, match="--device=cpu"):
            pick_device("cuda")


def test_truncation_to_nothing_is_the_average():
    G = generator()
    camera = conditioning_camera(G.config.view)
    ends = [Truncation(0.0).styles(G, seeds_to_z(G, [seed]), camera).scene for seed in (0, 1)]
    assert torch.allclose(ends[0], ends[1])
    first_rows = Truncation(0.0, cutoff=2).styles(G, seeds_to_z(G, [1]), camera).scene
    assert torch.equal(first_rows[:, :2], ends[0][:, :2])
    assert not torch.equal(first_rows[:, 2:], ends[0][:, 2:])


def test_labels_go_to_json_and_back():
    cameras = strip_cameras(generator().config.view, 3)
    again = Camera.from_label(torch.tensor(label_list(cameras)))
    assert torch.allclose(again.to_label(), cameras.to_label(), atol=1e-6)
