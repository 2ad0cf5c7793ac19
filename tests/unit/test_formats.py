"""Cameras of other programs: in and out to 1e-6, hand-made files, refusals."""

from __future__ import annotations

import json
import math
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataset_preprocessing import cameras
from dataset_preprocessing.converting import find_labels
from dataset_preprocessing.formats.colmap import quaternion, read_colmap, rotation_matrix, write_colmap
from dataset_preprocessing.formats.epigraf import angles_from_pose, pose_from_angles, read_epigraf
from dataset_preprocessing.formats.shots import Shot, find_image, recenter, scale_to_radius, turn_around, upright
from dataset_preprocessing.formats.srn import read_srn
from dataset_preprocessing.formats.transforms import read_transforms, write_transforms
from dataset_preprocessing.importing import ImportOptions, detect_format, plan_import
from dataset_preprocessing.sources import open_source
from tests.unit.test_checking import NAMES, good_files, pose
from tests.unit.test_dataset import picture, png, write_folder
from training.archive import ArchiveError


def shots(count: int = 12) -> list[Shot]:
    random = np.random.default_rng(1)
    result = []
    for index in range(count):
        matrix = np.array([[random.uniform(1, 4), 0, 0.49], [0, random.uniform(1, 4), 0.52], [0, 0, 1]])
        result.append(Shot(f"images/{index:03d}.png", pose(index, 3.0), matrix))
    return result


def folder_of(tmp_path, items, files=()):
    write_folder(tmp_path, {shot.image: png(picture(0)) for shot in items} | dict(files))
    return tmp_path


def assert_same(found, expected, tolerance=1e-6):
    assert [shot.image for shot in found] == [shot.image for shot in expected]
    for a, b in zip(found, expected, strict=True):
        assert np.abs(a.pose - b.pose).max() < tolerance
        assert np.abs(a.intrinsics - b.intrinsics).max() < tolerance


@pytest.mark.parametrize("binary", [False, True])
def test_colmap_in_and_out(tmp_path, binary):
    write_colmap(folder_of(tmp_path, shots()) / "sparse" / "0", shots(), (640, 480), binary)
    source = open_source(tmp_path)
    assert detect_format(source) == "colmap"
    assert_same(read_colmap(source), shots(), 1e-12)


def test_transforms_in_and_out(tmp_path):
    write_transforms(folder_of(tmp_path, shots()), shots(), (640, 480))
    source = open_source(tmp_path)
    assert detect_format(source) == "transforms"
    assert_same(read_transforms(source), shots(), 1e-12)


def test_colmap_and_transforms_agree(tmp_path):
    write_colmap(folder_of(tmp_path / "a", shots()) / "sparse", shots(), (64, 64), binary=True)
    write_transforms(folder_of(tmp_path / "b", shots()), shots(), (64, 64))
    assert_same(read_colmap(open_source(tmp_path / "a")), read_transforms(open_source(tmp_path / "b")))


@given(st.lists(st.floats(-1, 1), min_size=4, max_size=4).filter(lambda q: np.linalg.norm(q) > 0.1))
def test_quaternions(parts):
    rotation = rotation_matrix(parts)
    assert np.allclose(rotation @ rotation.T, np.eye(3))
    assert np.linalg.det(rotation) == pytest.approx(1)
    assert np.allclose(rotation_matrix(quaternion(rotation)), rotation)


def test_colmap_text_as_colmap_writes_it(tmp_path):
    files = {
        "cameras.txt": "# Camera list\n# Number of cameras: 1\n1 SIMPLE_RADIAL 200 100 150 100 50 0\n",
        "images.txt": "# Image list\n1 1 0 0 0 0 0 5 1 a b.png\n1.5 2.5 -1 3 4 7\n2 1 0 0 0 1 0 5 1 c.png\n\n",
    }
    items = [Shot("images/a b.png", np.eye(4), np.eye(3)), Shot("images/c.png", np.eye(4), np.eye(3))]
    folder_of(tmp_path, items, {name: text.encode() for name, text in files.items()})
    found = read_colmap(open_source(tmp_path))
    assert [shot.image for shot in found] == ["images/a b.png", "images/c.png"]
    assert np.allclose(found[1].pose[:3, 3], [-1, 0, -5])
    assert np.allclose(found[0].intrinsics, np.array([[0.75, 0, 0.5], [0, 1.5, 0.5], [0, 0, 1.0]]))


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("cameras.txt", b"1 OPENCV 8 8 8 8 4 4 0.1 0 0 0\n", "distorted; run `colmap image_undistorter`"),
        ("cameras.txt", b"1 FISHEYE 8 8 8 4 4\n", "undistort it"),
        ("cameras.txt", b"1 PINHOLE 8 8 8\n", "incomplete"),
        ("cameras.txt", b"2 PINHOLE 8 8 8 8 4 4\n", "has camera 1, which is not in the model"),
        ("cameras.txt", b"words\n", "not a COLMAP model"),
        ("images.txt", b"1 1 0 0 0 0 0 5 1 missing.png\n\n", "names picture 'missing.png'"),
        ("images.txt", b"1 1 0 0 0 0 0 5 1 ../../etc/passwd\n\n", "leads outside"),
        ("images.txt", b"", "no registered pictures"),
    ],
)
def test_broken_colmap(tmp_path, name, data, message):
    files = {"cameras.txt": b"1 PINHOLE 8 8 8 8 4 4\n", "images.txt": b"1 1 0 0 0 0 0 5 1 a.png\n\n", "a.png": b""}
    write_folder(tmp_path, {**files, name: data})
    with pytest.raises(ArchiveError, match=message):
        read_colmap(open_source(tmp_path))


def test_hostile_binary_colmap(tmp_path):
    write_folder(tmp_path, {"cameras.bin": struct.pack("<Q", 2**60), "images.bin": struct.pack("<Q", 2**60)})
    with pytest.raises(ArchiveError, match="entries in 8 bytes"):
        read_colmap(open_source(tmp_path))


def test_nerf_synthetic(tmp_path):
    opengl = np.diag([1.0, 1, 1, 1])
    opengl[2, 3] = 4
    frames = [{"file_path": "./train/r_0", "rotation": 0.1, "transform_matrix": opengl.tolist()}]
    content = {"camera_angle_x": 0.6911112, "frames": frames}
    write_folder(tmp_path, {"train/r_0.png": png(picture(0)), "transforms_train.json": json.dumps(content).encode()})
    (shot,) = read_transforms(open_source(tmp_path))
    assert shot.image == "train/r_0.png"
    assert shot.intrinsics[0, 0] == pytest.approx(0.5 / math.tan(0.6911112 / 2))
    assert np.allclose(shot.pose, [[1, 0, 0, 0], [0, -1, 0, 0], [0, 0, -1, 4], [0, 0, 0, 1]])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "no list of `frames`"),
        ({"frames": [1]}, "frame 0: has no file_path"),
        ({"frames": [{"file_path": "a.png"}]}, "frame 0: not a camera"),
        ({"frames": [{"file_path": "a.png", "transform_matrix": [[1]]}]}, "not a camera"),
        ({"frames": [{"file_path": "a.png", "transform_matrix": np.eye(4).tolist()}]}, "neither fl_x nor"),
        ({"k1": 0.1, "frames": [{"file_path": "a.png", "transform_matrix": np.eye(4).tolist()}]}, "distorted"),
        ({"frames": [{"file_path": "../a.png"}]}, "leads outside"),
        ({"frames": []}, "no transforms.json with frames"),
    ],
)
def test_broken_transforms(tmp_path, content, message):
    write_folder(tmp_path, {"a.png": png(picture(0)), "transforms.json": json.dumps(content).encode()})
    with pytest.raises(ArchiveError, match=message):
        read_transforms(open_source(tmp_path))


def test_srn(tmp_path):
    files = {"car/intrinsics.txt": b"131.25 64. 64. 0.\n0. 0. 0.\n1.\n128 128\n"}
    for index in range(3):
        files[f"car/rgb/{index:06d}.png"] = png(picture(index))
        files[f"car/pose/{index:06d}.txt"] = " ".join(map(str, pose(index).ravel())).encode()
    write_folder(tmp_path, files)
    source = open_source(tmp_path)
    assert detect_format(source) == "srn"
    found = read_srn(source)
    assert [shot.image for shot in found] == [f"car/rgb/{i:06d}.png" for i in range(3)]
    assert np.allclose(found[2].pose, pose(2))
    assert found[0].intrinsics[0, 0] == pytest.approx(131.25 / 128)
    (tmp_path / "car" / "pose" / "000001.txt").write_text("1 2 3")
    with pytest.raises(ArchiveError, match="has 3 numbers, not 16"):
        read_srn(open_source(tmp_path))


def test_epigraf_front_and_sides():
    front = pose_from_angles([0, math.pi / 2, 0], 1.0)
    assert np.allclose(front[:3, 3], [0, 0, 1])
    assert np.allclose(front[:3, 2], [0, 0, -1])
    left = pose_from_angles([0.3, math.pi / 2, 0], 1.0)
    assert left[0, 3] < 0, "positive yaw moves the camera to its own left"
    above = pose_from_angles([0, 0.5, 0], 1.0)
    assert above[1, 3] == pytest.approx(math.cos(0.5))


@given(st.floats(-3, 3), st.floats(0.1, 3.0))
def test_epigraf_angles_in_and_out(yaw, pitch):
    assert np.allclose(angles_from_pose(pose_from_angles([yaw, pitch, 0], 2.0)), [yaw, pitch, 0])


def test_epigraf_names_without_suffix_or_first_folder(tmp_path):
    angles = {"set/a/1": [0.1, 1.5, 0], "a/2.jpg": [0.2, 1.5, 0], "a\\3.png": [0.3, 1.5, 0]}
    pictures = {f"{'set/' if i == 1 else ''}a/{i}.png": png(picture(i)) for i in (1, 2, 3)}
    write_folder(tmp_path, {**pictures, "dataset.json": json.dumps({"camera_angles": angles}).encode()})
    source = open_source(tmp_path)
    assert detect_format(source) == "epigraf"
    found = read_epigraf(source, 12, 1.0)
    assert sorted(round(angles_from_pose(shot.pose)[0], 6) for shot in found) == [0.1, 0.2, 0.3]
    with pytest.raises(ArchiveError, match="need --fov-deg"):
        plan_import(source, ImportOptions())
    items, warning = plan_import(source, ImportOptions(fov_degrees=12, scale_to_radius=2.7, camera_angles=True))
    assert warning is None
    assert [item.angles for item in items] != [None] * 3
    assert np.linalg.norm(np.array(items[0].label)[[3, 7, 11]]) == pytest.approx(2.7)


def test_both_kinds_of_label_in_one_file(tmp_path):
    content = json.loads(good_files()["dataset.json"])
    content["camera_angles"] = [[name, [0.1, 1.5, 0.0]] for name in NAMES]
    write_folder(tmp_path, {**good_files(), "dataset.json": json.dumps(content).encode()})
    labels, angles = find_labels(open_source(tmp_path))
    assert len(labels) == len(angles) == len(NAMES)


def test_volumegan_annotation(tmp_path):
    annotation = json.dumps([["x/a.png", 1], ["x/b.png", 0]]).encode()
    write_folder(tmp_path, {"x/a.png": png(picture(0)), "x/b.png": png(picture(1)), "annotation.json": annotation})
    assert find_labels(open_source(tmp_path))[0] == {"x/a.png": 1, "x/b.png": 0}


def test_world_changes():
    originals = shots()
    center = np.array([0.3, -0.2, 0.1])
    points = np.random.default_rng(0).uniform(-0.3, 0.3, (5, 3))

    def seen(items, world_points):
        return np.stack([cameras.project(shot.label(), world_points)[0] for shot in items])

    before = seen(originals, points)
    assert np.allclose(seen(recenter(originals, center), points - center), before)
    factor = 1.7 / np.mean([np.linalg.norm(shot.pose[:3, 3]) for shot in originals])
    assert np.allclose(seen(scale_to_radius(originals, 1.7), points * factor), before)
    pushed = scale_to_radius(originals, 1.7, each=True)
    assert np.allclose([np.linalg.norm(shot.pose[:3, 3]) for shot in pushed], 1.7)
    quarter = turn_around(originals, 90)
    assert np.allclose(seen(quarter, points @ np.array([[0, 0, 1], [0, 1, 0], [-1, 0, 0]])), before)


@pytest.mark.parametrize("tilt", [0.0, 0.7, math.pi])
def test_upright(tilt):
    turn = np.array([[1, 0, 0], [0, math.cos(tilt), -math.sin(tilt)], [0, math.sin(tilt), math.cos(tilt)]])
    tilted = []
    for shot in shots(60):
        moved = shot.pose.copy()
        moved[:3] = turn @ moved[:3]
        tilted.append(Shot(shot.image, moved, shot.intrinsics))
    up = -np.mean([shot.pose[:3, 1] for shot in upright(tilted)], axis=0)
    assert np.allclose(up / np.linalg.norm(up), [0, 1, 0], atol=1e-9)


def test_find_image(tmp_path):
    write_folder(tmp_path, {"images/a.png": b"", "x/b.png": b"", "y/b.png": b""})
    source = open_source(tmp_path)
    assert find_image(source, "./images/a", "here") == "images/a.png"
    assert find_image(source, "a.png", "here") == "images/a.png"
    with pytest.raises(ArchiveError, match=r"here: names picture 'b\.png'"):
        find_image(source, "b.png", "here")


def test_unknown_cameras(tmp_path):
    write_folder(tmp_path, {"a.png": png(picture(0))})
    with pytest.raises(ArchiveError, match="no cameras found; known are"):
        detect_format(open_source(tmp_path))
