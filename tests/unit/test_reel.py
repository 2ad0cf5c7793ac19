from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.tiny import counted, generator
from training.cameras.paths import PATHS, path_cameras
from training.cameras.prior import ViewConfig
from training.interpolation import CURVES
from training.latents import seeds_to_z
from training.reel import Motion, Reel, key_cells
from training.types import Latents, RenderSettings
from training.views import ShapeSettings

VIEW = ViewConfig()


@pytest.fixture(scope="module")
def network():
    return generator()


def make_reel(network, pairs, cells=1, keys=1, frames=4, layers=("image",), motion=Motion(CURVES["cubic"])) -> Reel:  # noqa: B008
    def styles(chosen) -> Latents:
        return network.mapping(seeds_to_z(network, [a for a, _ in chosen], [b for _, b in chosen]))

    return Reel(
        key_cells(styles, network, pairs, cells, keys, motion),
        cells,
        path_cameras(PATHS["wobble"], frames, network.config.view),
        layers,
        RenderSettings(8, jitter="center"),
        ShapeSettings(24, border=0.0, whole=True),
    )


@pytest.mark.parametrize("name", [name for name, path in PATHS.items() if path.closed])
def test_closed_paths_close(name: str):
    """The step from the last frame to the first is like the steps beside it."""
    cameras = path_cameras(PATHS[name], 200, VIEW)
    steps = (cameras.cam2world - cameras.cam2world.roll(1, dims=0)).flatten(1).norm(dim=1)
    assert steps[0] <= 1.5 * max(steps[1], steps[-1])
    fov = cameras.intrinsics[:, 0, 0]
    assert (fov[0] - fov[-1]).abs() <= 1.5 * (fov[1] - fov[0]).abs() + 1e-5


def test_wobble_is_the_published_path():
    cameras = path_cameras(PATHS["wobble"], 8, VIEW)
    front = cameras.position[0]
    assert float(front[0]) == pytest.approx(0, abs=1e-5)
    assert float(front[1]) < float(cameras.position[4, 1])


def test_wiggle_runs_from_side_to_side():
    cameras = path_cameras(PATHS["wiggle"], 5, VIEW, pitch=0.0)
    assert float(cameras.position[0, 0]) == pytest.approx(-float(cameras.position[-1, 0]), abs=1e-4)


def test_a_still_scene_is_built_once(network, monkeypatch):
    calls: list[int] = []
    forward = network.scene.backbone.forward
    monkeypatch.setattr(network.scene.backbone, "forward", counted(calls, forward))
    paint = make_reel(network, [(0, 0)]).painter()
    for frame in range(4):
        paint(frame)
    assert len(calls) == 1


def test_a_background_that_moves_leaves_the_scene_built_once(network, monkeypatch):
    calls: list[int] = []
    forward = network.scene.backbone.forward
    monkeypatch.setattr(network.scene.backbone, "forward", counted(calls, forward))
    motion = Motion(CURVES["linear"], scene=False)
    reel = make_reel(network, [(0, 0), (0, 5)], keys=2, layers=("fg", "bg"), motion=motion)
    still = replace(reel, cameras=reel.cameras[torch.zeros(4, dtype=torch.long)])
    paint = still.painter()
    first, later = paint(0), paint(2)
    assert len(calls) == 1
    assert (first[:, :32] == later[:, :32]).all()
    assert (first[:, 32:] != later[:, 32:]).any()


def test_frames_are_the_same_every_time_and_in_any_order(network):
    reel = make_reel(network, [(0, 0), (1, 1)], keys=2, layers=("image", "depth"))
    forwards = [reel.painter()(frame) for frame in range(4)]
    paint = make_reel(network, [(0, 0), (1, 1)], keys=2, layers=("image", "depth")).painter()
    assert all((paint(frame) == forwards[frame]).all() for frame in (3, 1, 0, 2))


def test_grid_and_layers_stand_beside_each_other(network):
    reel = make_reel(network, [(0, 0), (1, 1)], cells=2, layers=("image", "depth", "normals", "opacity", "raw"))
    assert reel.painter()(1).shape == (32, 2 * 5 * 32, 3)


def test_alpha_alone_keeps_its_channel(network):
    assert make_reel(network, [(0, 0)], layers=("alpha",)).painter()(0).shape == (32, 32, 4)
    assert make_reel(network, [(0, 0)], layers=("alpha", "fg")).painter()(0).shape == (32, 64, 3)


def test_turntable_of_a_mesh(network):
    reel = make_reel(network, [(1, 1)], layers=("mesh",))
    frames = [reel.painter()(frame) for frame in (0, 2)]
    assert (frames[0] != frames[1]).any()
    assert (frames[0] != 255).any()
    assert np.array_equal(frames[0], reel.painter()(0))


def test_a_mesh_of_a_moving_scene_is_refused(network):
    with pytest.raises(ValueError, match="stands still"):
        make_reel(network, [(0, 0), (1, 1)], keys=2, layers=("mesh",))
