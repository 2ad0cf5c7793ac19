"""FFHQ, AFHQ, ShapeNet cars, SHHQ and Megascans out of small stand-ins with the layout of the real downloads."""

from __future__ import annotations

import json
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from scipy.spatial.transform import Rotation

from dataset_preprocessing import afhq, cameras, ffhq, megascans, shapenet_cars, shhq
from dataset_preprocessing.checking import full_check
from tests.unit.test_checking import pose
from tests.unit.test_dataset import picture, png, write_folder, write_zip
from training.archive import ArchiveError

HELP = ("download by hand", "get by hand", "ask for by hand")


def run(module, *words: object, fails: bool = False) -> str:
    result = CliRunner().invoke(module.main, [*(str(word) for word in words), "--workers=1"])
    assert (result.exit_code != 0) == fails, result.output
    return result.output


def labels_of(path: Path) -> dict[str, np.ndarray]:
    with zipfile.ZipFile(path) as archive:
        return {name: np.array(label) for name, label in json.loads(archive.read("dataset.json"))["labels"]}


@pytest.mark.parametrize("module", [ffhq, afhq, shapenet_cars, shhq, megascans])
def test_help_says_what_to_get_and_where(module):
    text = " ".join(CliRunner().invoke(module.main, ["--help"]).output.split()).lower()
    assert any(words in text for words in HELP)


@pytest.fixture
def faces(tmp_path):
    """Eight pictures and EG3D's kind of camera file, poses at odd distances."""
    pictures = {f"{i:05d}/img{i:08d}.png": png(picture(i, 32)) for i in range(8)}
    poses = {}
    for index, name in enumerate(pictures):
        poses[name] = pose(index)
        poses[name][:3, 3] *= 1.3
    labels = [
        [name, [*matrix.ravel().tolist(), *cameras.intrinsics(4.5).ravel().tolist()]] for name, matrix in poses.items()
    ]
    (tmp_path / "cameras.json").write_text(json.dumps({"labels": labels}))
    write_zip(tmp_path / "faces.zip", pictures)
    return tmp_path, list(poses.values())


@pytest.mark.parametrize(("mode", "pivot"), [("orig", [0, 0, 0]), ("cor", [0, 0, 0.175])])
def test_ffhq(faces, mode, pivot):
    folder, poses = faces
    run(
        ffhq, "--source", folder / "faces.zip", "--cameras", folder / "cameras.json", "--dest", folder / "set.zip",
        "--resolution=16", f"--mode={mode}",
    )  # fmt: skip
    labels = labels_of(folder / "set.zip")
    assert len(labels) == 16
    label = labels["00000/img00000003.png"]
    position = label[[3, 7, 11]]
    assert np.linalg.norm(position - pivot) == pytest.approx(2.7)
    before = poses[3][:3, 3] - pivot
    assert np.allclose(np.cross(position - pivot, before), 0), "moved along its line to the pivot"
    assert np.allclose(label[16:], cameras.intrinsics(2985.29 / 700).ravel())
    mirrored = labels["00000/img00000003_mirror.png"]
    assert np.allclose(mirrored, cameras.mirror_label(label.tolist()))
    assert full_check(str(folder / "set.zip")).errors == []


def test_ffhq_crop_and_faults(faces):
    folder, _ = faces
    words = ["--source", folder / "faces.zip", "--cameras", folder / "cameras.json", "--resolution=16", "--no-mirror"]
    run(ffhq, *words, "--dest", folder / "set", "--crop=16")
    made = np.asarray(Image.open(folder / "set" / "00000" / "img00000002.png"))
    assert np.array_equal(made, picture(2, 32)[8:24, 8:24])
    for text, message in [
        ('{"labels": []}', "holds no cameras"),
        ("[]", "expected `labels`"),
        ('{"other.png": {"pose": [[1]]}}', "needs a pose of 4x4"),
        (json.dumps({"other.png": {"pose": np.eye(4).tolist()}}), "none of its 8 pictures is named"),
    ]:
        (folder / "cameras.json").write_text(text)
        assert message in run(ffhq, *words, "--dest", folder / "x.zip", fails=True)
    (folder / "cameras.json").unlink()
    assert "no such camera file" in run(ffhq, *words, "--dest", folder / "x.zip", fails=True)


def test_afhq_takes_one_species(tmp_path):
    pictures = {f"train/{kind}/{kind}{i}.png": png(picture(i, 16)) for kind in ("cat", "dog") for i in range(5)}
    write_zip(tmp_path / "afhq.zip", pictures)
    poses = {f"cat{i}.png": {"pose": pose(i).tolist(), "intrinsics": np.eye(3).tolist()} for i in range(5)}
    (tmp_path / "cameras.json").write_text(json.dumps(poses))
    run(
        afhq, "--source", tmp_path / "afhq.zip", "--cameras", tmp_path / "cameras.json", "--dest", tmp_path / "set.zip",
        "--resolution=16",
    )  # fmt: skip
    labels = labels_of(tmp_path / "set.zip")
    assert len(labels) == 10
    label = labels["00000/img00000001.png"]
    assert np.allclose(label[[3, 7, 11]], -2.7 * pose(1)[:3, 2])


def test_shapenet_cars(tmp_path):
    turn = np.array([[1.0, 0, 0, 0], [0, 0, -1, 0], [0, 1, 0, 0], [0, 0, 0, 1]])
    files = {}
    for car in ("a", "b"):
        files[f"cars/{car}/intrinsics.txt"] = b"65.625 32. 32. 0.\n0. 0. 0.\n1.\n64 64\n"
        for index in range(6):
            files[f"cars/{car}/rgb/{index:06d}.png"] = png(
                np.dstack([picture(index, 64), np.zeros((64, 64), np.uint8)])
            )
            files[f"cars/{car}/pose/{index:06d}.txt"] = " ".join(map(str, (turn @ pose(index, 3.0)).ravel())).encode()
    write_folder(tmp_path / "srn", files)
    output = run(
        shapenet_cars, "--source", tmp_path / "srn", "--dest", tmp_path / "set.zip", "--resolution=32", "--radius=1.3"
    )
    assert "2 cars with 6 views each" in output
    assert "warning" not in output
    label = labels_of(tmp_path / "set.zip")["00000/img00000004.png"]
    assert np.linalg.norm(label[[3, 7, 11]]) == pytest.approx(1.3, rel=0.05)
    assert label[16] == pytest.approx(65.625 / 64)
    with zipfile.ZipFile(tmp_path / "set.zip") as archive:
        assert np.asarray(Image.open(archive.open("00000/img00000000.png"))).min() == 255, "transparent on white"


@pytest.mark.parametrize("kind", ["json", "npz", "pkl"])
def test_shhq(tmp_path, kind):
    write_folder(tmp_path / "images", {f"{i}.png": png(picture(i, 32)) for i in range(3)})
    (tmp_path / "smpl").mkdir()
    vectors = np.random.default_rng(0).normal(size=(3, 72))
    for index, vector in enumerate(vectors):
        file = tmp_path / "smpl" / f"{index}.{kind}"
        if kind == "json":
            file.write_text(json.dumps({"pose": vector.tolist()}))
        elif kind == "npz":
            np.savez(file, pose=vector)
        else:
            pytest.importorskip("joblib").dump(
                {"person": {"pose": vector, "betas": np.zeros((1, 10), np.float32)}}, file
            )
    run(
        shhq, "--image_folder", tmp_path / "images", "--smpl_folder", tmp_path / "smpl", "--dest", tmp_path / "set.zip",
        "--resolution=16",
    )  # fmt: skip
    label = labels_of(tmp_path / "set.zip")["00000/img00000001.png"]
    rotation = Rotation.from_rotvec(vectors[1, :3]).as_matrix()
    assert np.allclose(label[:16].reshape(4, 4)[:3, :3], rotation.T)
    assert np.linalg.norm(label[[3, 7, 11]]) == pytest.approx(2.7)
    assert np.allclose(cameras.project(label, [[0, 0, 0]])[0], 0.5), "the person stands in the middle"
    (tmp_path / "smpl" / f"2.{kind}").unlink()
    output = run(
        shhq, "--image-folder", tmp_path / "images", "--smpl-folder", tmp_path / "smpl", "--dest", tmp_path / "x.zip",
        fails=True,
    )  # fmt: skip
    assert "no result for 2.png" in output


class Hostile:
    """Runs a program when it is unpickled by someone careless."""

    def __reduce__(self):
        return (print, ("owned",))


def test_hostile_results_are_refused(tmp_path, capsys):
    joblib = pytest.importorskip("joblib")
    joblib.dump({"pose": Hostile()}, tmp_path / "call.pkl")
    joblib.dump({"pose": np.array([Hostile()], dtype=object)}, tmp_path / "objects.pkl")
    (tmp_path / "plain.pkl").write_bytes(pickle.dumps(Hostile()))
    for name in ("call.pkl", "objects.pkl", "plain.pkl"):
        with pytest.raises(ArchiveError, match="refused"):
            shhq.read_root_rotation(tmp_path / name)
    (tmp_path / "empty.json").write_text("{}")
    with pytest.raises(ArchiveError, match="holds no `pose`"):
        shhq.read_root_rotation(tmp_path / "empty.json")
    assert "owned" not in capsys.readouterr().out


def blender_camera(azimuth: float, elevation: float, radius: float = 3.5) -> np.ndarray:
    """Blender's pose of a camera that looks at the origin: z up, OpenGL axes."""
    flat = np.cos(elevation)
    position = radius * np.array([flat * np.cos(azimuth), flat * np.sin(azimuth), np.sin(elevation)])
    back = position / radius
    right = np.cross([0, 0, 1.0], back)
    right /= np.linalg.norm(right)
    matrix = np.eye(4)
    matrix[:3] = np.stack([right, np.cross(back, right), back, position], axis=1)
    return matrix


def test_megascans(tmp_path):
    random = np.random.default_rng(0)
    files = {}
    for collection in ("fern", "apple"):
        frames = [
            {
                "file_path": f"{index:06d}.png",
                "transform_matrix": blender_camera(*random.uniform(-1.3, 1.3, 2)).tolist(),
            }
            for index in range(8)
        ]
        files[f"{collection}/metadata.json"] = json.dumps({"model0": frames}).encode()
        for index in range(8):
            files[f"{collection}/model0/{index:06d}.png"] = png(picture(index, 32))
    write_folder(tmp_path / "renders", files)
    run(megascans, "--source", tmp_path / "renders", "--dest", tmp_path / "set.zip", "--resolution=16")
    assert full_check(str(tmp_path / "set.zip")).errors == []
    with zipfile.ZipFile(tmp_path / "set.zip") as archive:
        facts = json.loads(archive.read("dataset.json"))
    assert facts["class_names"] == ["apple", "fern"]
    assert [number for _, number in facts["classes"]] == [0] * 8 + [1] * 8
    assert len(facts["camera_angles"]) == 16
    label = np.array(facts["labels"][0][1])
    assert np.linalg.norm(label[[3, 7, 11]]) == pytest.approx(2.7)
    assert label[16] == pytest.approx(0.5 / np.tan(np.radians(22.5)))

    rolled = blender_camera(0.1, 0.2)
    rolled[:3, :3] = rolled[:3, :3] @ Rotation.from_euler("z", 0.2).as_matrix()
    for metadata, message in [
        ([], "expected an object"),
        ({"model0": [{"file_path": "000000.png"}]}, "a frame is not"),
        ({"model0": [{"file_path": "000000.png", "transform_matrix": rolled.tolist()}]}, "rolled camera"),
        ({"model0": [{"file_path": "9.png", "transform_matrix": blender_camera(0, 0).tolist()}]}, "names picture"),
    ]:
        (tmp_path / "renders" / "fern" / "metadata.json").write_text(json.dumps(metadata))
        assert message in run(megascans, "--source", tmp_path / "renders", "--dest", tmp_path / "x.zip", fails=True)
    assert "no collection" in run(
        megascans, "--source", tmp_path / "renders" / "fern" / "model0", "--dest", "x.zip", fails=True
    )
