from __future__ import annotations

import hashlib
import json
from pathlib import Path

import av
import numpy as np
import pytest
import trimesh
from click.testing import CliRunner, Result

import gen_videos
from tests.tiny import generator
from training import snapshot


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("network") / "network-snapshot-000001.pkl"
    G = generator()
    snapshot.save(path, G=G, D=None, G_ema=G)
    return path


def run(network: Path, outdir: Path, *options: str, seeds: str = "0-1") -> Result:
    small = ("--w-frames=3", "--nrr=8", "--sample_mult=0.5", "--device=cpu")
    arguments = [f"--network={network}", f"--outdir={outdir}", f"--seeds={seeds}", *small, *options]
    return CliRunner().invoke(gen_videos.main, arguments)


def decode(path: Path) -> tuple[av.VideoStream, list[np.ndarray]]:
    with av.open(str(path)) as file:
        return file.streams.video[0], [frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)]


def test_film_through_seeds(network, tmp_path):
    result = run(network, tmp_path)
    assert result.exit_code == 0, result.output
    stream, frames = decode(tmp_path / "interpolation.mp4")
    assert len(frames) == 6
    assert stream.average_rate == 60
    assert frames[0].shape == (32, 32, 3)
    record = json.loads((tmp_path / "interpolation.json").read_text())
    assert record["seeds"] == [[0, 0], [1, 1]]
    assert np.shape(record["cameras"]) == (6, 25)
    assert not (tmp_path / "interpolation.frames").exists()


def test_the_same_command_gives_the_same_film(network, tmp_path):
    for name in "ab":
        assert run(network, tmp_path / name).exit_code == 0
    films = [(tmp_path / name / "interpolation.mp4").read_bytes() for name in "ab"]
    assert hashlib.sha256(films[0]).digest() == hashlib.sha256(films[1]).digest()


def test_films_of_single_seeds(network, tmp_path):
    assert run(network, tmp_path, "--interpolate=False", "--fps=25", seeds="3,7").exit_code == 0
    for name in ("3.mp4", "7.mp4"):
        stream, frames = decode(tmp_path / name)
        assert (len(frames), stream.average_rate) == (3, 25)


def test_grid_of_published_layers(network, tmp_path):
    result = run(network, tmp_path, "--grid=2x1", "--image_mode=image_depth,image_raw", "--cfg=Shapenet", seeds="0-3")
    assert result.exit_code == 0, result.output
    assert decode(tmp_path / "interpolation.mp4")[1][0].shape == (32, 4 * 32, 3)


def test_frames_with_transparency(network, tmp_path):
    assert run(network, tmp_path, "--layers=alpha", "--format=webm", "--move=background").exit_code == 0
    assert (tmp_path / "interpolation.webm").stat().st_size > 0
    assert run(network, tmp_path, "--layers=alpha", "--format=png").exit_code == 0
    assert len(list((tmp_path / "interpolation.frames").glob("*.png"))) == 6


def test_surfaces_at_every_frame(network, tmp_path):
    result = run(network, tmp_path, "--shapes=True", "--shape-res=16", "--shape-level=2")
    assert result.exit_code == 0, result.output
    meshes = sorted((tmp_path / "interpolation_0_1").glob("*_shape.ply"))
    assert [path.name for path in meshes] == [f"{frame:04d}_shape.ply" for frame in range(6)]
    assert len(trimesh.load_mesh(meshes[0]).faces) > 0
    assert np.load(tmp_path / "interpolation.mp4_trajectory.npy").shape == (6, 4, 4)


def test_seeds_are_shuffled_and_repeated(network, tmp_path):
    assert run(network, tmp_path, "--shuffle-seed=1", "--num-keyframes=4", "--w-frames=1", seeds="0-2").exit_code == 0
    assert len(decode(tmp_path / "interpolation.mp4")[1]) == 4


def test_one_seed_in_front_of_several_surroundings(network, tmp_path):
    options = ("--bg-seeds=1-3", "--format=png")
    assert run(network, tmp_path, *options, "--move=background", "--path=line", "--yaw=0", seeds="0").exit_code == 0
    assert json.loads((tmp_path / "interpolation.json").read_text())["seeds"] == [[0, 1], [0, 2], [0, 3]]
    frames = [path.read_bytes() for path in sorted((tmp_path / "interpolation.frames").glob("*.png"))]
    assert len(set(frames)) == len(frames) == 9
    assert run(network, tmp_path, *options, "--interpolate=False", seeds="0").exit_code == 0
    assert {path.name for path in tmp_path.glob("0-on*.frames")} == {f"0-on{behind}.frames" for behind in (1, 2, 3)}


@pytest.mark.parametrize("options", [("--shapes=True",), ("--layers=mesh", "--num-keyframes=1")])
def test_frames_without_surface_are_named(network, tmp_path, options):
    result = run(network, tmp_path, *options, "--shape-res=16", "--shape-level=100000")
    assert result.exit_code == 1
    assert "interpolation.mp4: level 100000 gives no surface: the densities lie between" in result.output


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--grid=3x1",), "2 seeds do not fill 3 cells"),
        (("--grid=0x1",), "no grid such as 4x2"),
        (("--layers=mesh",), "a mesh is made of a scene that stands still"),
        (("--layers=alpha",), "--format=mp4 has no transparency"),
        (("--layers=pictures",), "none of image"),
        (("--path=nowhere",), "not one of wobble, front_circle"),
    ],
)
def test_wrong_options_are_refused(network, tmp_path, options, message):
    result = run(network, tmp_path, *options)
    assert result.exit_code != 0
    assert message in " ".join(result.output.split())
