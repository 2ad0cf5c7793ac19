from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.tiny import generator
from training import media, snapshot
from training.cameras.paths import strip_cameras
from training.cameras.prior import frontal_camera
from training.unpickle import SnapshotError
from training.viewing import (
    Memory,
    SceneChoice,
    ViewChoice,
    Viewer,
    activation_layers,
    fit_window,
    recent_snapshots,
    viewer_camera,
)
from training.views import LAYERS


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("network") / "network-snapshot-000001.pkl"
    G = generator()
    snapshot.save(path, G=G, D=None, G_ema=G)
    return str(path)


@pytest.fixture
def viewer() -> Viewer:
    return Viewer(torch.device("cpu"))


def test_memory_keeps_the_last_used():
    memory = Memory(2)
    for key in ("a", "b", "a", "c", "a", "b"):
        assert memory.get(key, key.upper) == key.upper()
    assert memory.made == 4


def test_a_camera_that_moves_builds_no_scene(viewer, network):
    choice = SceneChoice(network)
    view = viewer.generator(network).config.view
    for index in range(4):
        viewer.picture(viewer.scene(choice), strip_cameras(view, 4)[index : index + 1], ViewChoice())
    assert viewer.scenes_built == 1
    viewer.scene(replace(choice, seed=1.0))
    viewer.scene(choice)
    assert viewer.scenes_built == 2


@pytest.mark.parametrize("layer", list(LAYERS))
def test_every_layer_is_a_picture(viewer, network, layer):
    camera = frontal_camera(viewer.generator(network).config.view)
    picture = viewer.picture(viewer.scene(SceneChoice(network)), camera, ViewChoice(layer, coarseness=2))
    assert picture.dtype == np.uint8
    assert picture.shape[2] == 3


def test_the_picture_is_that_of_the_sample_command(viewer, network):
    G = viewer.generator(network)
    camera = frontal_camera(G.config.view)
    scene = viewer.scene(SceneChoice(network, seed=3.0, background_seed=3.0))
    assert (viewer.picture(scene, camera, ViewChoice()) == media.to_uint8(scene.shoot(camera).output().image)[0]).all()


def test_seeds_between_seeds(viewer, network):
    def z_of(seed: float) -> torch.Tensor:
        return viewer.latents(SceneChoice(network, seed=seed)).scene

    assert torch.allclose(z_of(1.0), z_of(1.0 + 1e-7), atol=1e-3)
    assert not torch.allclose(z_of(1.0), z_of(1.5), atol=1e-3)
    assert torch.allclose(z_of(2.0), z_of(2.0 - 1e-6), atol=1e-3)


def test_choices_change_their_part_alone(viewer, network):
    base = SceneChoice(network)
    plain = viewer.latents(base)
    behind = viewer.latents(replace(base, background_seed=4.0))
    assert torch.equal(plain.scene, behind.scene)
    assert not torch.equal(plain.background, behind.background)
    cut = viewer.latents(replace(base, background_truncation=0.2))
    assert torch.equal(plain.scene, cut.scene)
    blend = viewer.latents(replace(base, mix_seed=9, mix_row=3))
    assert torch.equal(plain.scene[:, :3], blend.scene[:, :3])
    assert not torch.equal(plain.scene[:, 3:], blend.scene[:, 3:])


def test_activations(viewer, network):
    choice = SceneChoice(network)
    names = activation_layers(viewer.generator(network))
    assert names[0] == "backbone.b4.conv1"
    picture = viewer.activations(choice, names[-1])
    assert picture.shape[2] == 3
    assert picture.std() > 0


def test_the_windows_camera_is_the_data_sets(viewer, network):
    """A camera of the browser (vertical field of view) gives the rays of the same camera as a label."""
    camera = frontal_camera(viewer.generator(network).config.view)
    pose = camera.cam2world[0].numpy()
    vertical = 2 * np.arctan(0.5 / float(camera.intrinsics[0, 0, 0]))
    made = viewer_camera(pose[:3, 3], pose[:3, :3], vertical, aspect=1.6)
    assert torch.allclose(made.to_label(), camera.to_label(), atol=1e-5)
    tall = viewer_camera(pose[:3, 3], pose[:3, :3], vertical, aspect=0.5)
    assert float(tall.intrinsics[0, 0, 0]) == pytest.approx(2 * float(camera.intrinsics[0, 0, 0]))


def test_pictures_stand_in_the_middle_of_windows():
    picture = np.full([20, 20, 3], 200, dtype=np.uint8)
    for aspect, shape in ((2.0, (20, 40, 3)), (0.5, (40, 20, 3)), (1.0, (20, 20, 3))):
        framed = fit_window(picture, aspect)
        assert framed.shape == shape
        assert (framed == 200).all(axis=2).sum() == 400


def test_newest_snapshots_come_first(tmp_path: Path):
    for age, name in enumerate(("a", "b")):
        folder = tmp_path / name
        folder.mkdir()
        path = folder / "network-snapshot-000010.pkl"
        path.write_bytes(b"")
        os.utime(path, (1000 - age, 1000 - age))
    assert [Path(path).parent.name for path in recent_snapshots(tmp_path)] == ["a", "b"]
    assert recent_snapshots(tmp_path / "missing") == []


def test_forbidden_files_are_not_loaded(viewer, tmp_path):
    path = tmp_path / "bad.pkl"
    path.write_bytes(b"\x80\x04cos\nsystem\n(S'true'\ntR.")
    with pytest.raises(SnapshotError):
        viewer.generator(str(path))
