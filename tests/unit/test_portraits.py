"""Portraits: known poses are found again, crops show what they should, the published face model is read."""

from __future__ import annotations

import io
import json
import struct
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dataset_preprocessing import cameras
from dataset_preprocessing.checking import full_check
from dataset_preprocessing.portraits import make
from dataset_preprocessing.portraits.alignment import MODEL_ORIGIN, PIVOT, UNITS_PER_CM, align
from dataset_preprocessing.portraits.face_model import (
    POINTS,
    FaceModel,
    fetch_face_model,
    parse_metadata,
    read_face_model,
)
from dataset_preprocessing.portraits.make import PortraitOptions, cut, make_portraits, overlay
from dataset_preprocessing.sources import open_source
from tests.unit.test_dataset import png, write_folder
from training.archive import ArchiveError


def face_model(seed: int = 0) -> FaceModel:
    """A face-like cap of points; 33 and 263 are the outer corners of the eyes."""
    random = np.random.default_rng(seed)
    flat = random.uniform(-1, 1, (POINTS, 2))
    points = np.stack([7 * flat[:, 0], 9 * flat[:, 1], 7 - 6 * (flat**2).sum(axis=1)], axis=1)
    points[33], points[263] = [-4.4, 2.6, 3.2], [4.4, 2.6, 3.2]
    weights = np.zeros(POINTS)
    weights[random.permutation(POINTS)[:40]] = random.uniform(0.2, 1, 40)
    return FaceModel(points, weights)


MODEL = face_model()


def photograph_landmarks(azimuth: float, elevation: float, roll: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Where a photograph of 1000x800 pixels shows the model, and the camera that took it relative to the pivot."""
    pose = cameras.look_at(PIVOT + cameras.orbit_position(azimuth, elevation, 5.0), PIVOT)
    cos, sin = np.cos(roll), np.sin(roll)
    pose[:3, :3] = pose[:3, :3] @ np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]])
    label = cameras.make_label(pose, cameras.intrinsics(2.0))
    places, _ = cameras.project(label, MODEL.points * UNITS_PER_CM + MODEL_ORIGIN)
    return places * 1000 + [40, -120], pose


@pytest.mark.parametrize("azimuth", [-0.5, 0.0, 0.4])
@pytest.mark.parametrize("elevation", [-0.2, 0.25])
def test_known_pose_is_found(azimuth, elevation):
    """Taken from another distance than assumed, so directions agree to a few degrees, not exactly."""
    landmarks, _ = photograph_landmarks(azimuth, elevation)
    crop = align(landmarks, MODEL, keep_roll=True)
    position = np.array(crop.label)[[3, 7, 11]] - PIVOT
    assert np.linalg.norm(position) == pytest.approx(cameras.EG3D_RADIUS)
    expected = cameras.orbit_position(azimuth, elevation, cameras.EG3D_RADIUS)
    assert position @ expected / cameras.EG3D_RADIUS**2 > np.cos(np.radians(4))
    assert crop.error < 0.02


def test_face_in_the_assumed_camera_is_found_exactly():
    pose = cameras.look_at(PIVOT + cameras.orbit_position(0.3, -0.1, cameras.EG3D_RADIUS), PIVOT)
    label = cameras.make_label(pose, cameras.intrinsics(cameras.EG3D_FOCAL))
    places, _ = cameras.project(label, MODEL.points * UNITS_PER_CM + MODEL_ORIGIN)
    crop = align(places * 300 + [50, 80], MODEL, keep_roll=True)
    assert np.allclose(crop.label, label, atol=1e-5)
    assert crop.size == pytest.approx(300, rel=1e-4)
    assert crop.center == pytest.approx((200, 230), abs=1e-2)


@pytest.mark.parametrize("roll", [-0.6, 0.2])
def test_heads_are_turned_upright_or_kept(roll):
    landmarks, _ = photograph_landmarks(0.0, 0.1, roll)
    upright, kept = align(landmarks, MODEL), align(landmarks, MODEL, keep_roll=True)
    assert np.array(upright.label)[4] == pytest.approx(0, abs=0.03), "the picture's x axis is level"
    assert abs(np.array(kept.label)[4]) == pytest.approx(np.sin(abs(roll)), abs=0.05)
    eyes = upright.to_crop(landmarks[[33, 263]])
    assert eyes[0, 1] == pytest.approx(eyes[1, 1], abs=1e-6)
    assert eyes[0, 0] < eyes[1, 0]


def test_size_and_place_of_the_photograph_do_not_matter():
    landmarks, _ = photograph_landmarks(0.2, 0.0)
    one, other = align(landmarks, MODEL), align(landmarks * 0.3 + 500, MODEL)
    assert np.allclose(one.label, other.label, atol=1e-4)
    assert other.size == pytest.approx(0.3 * one.size, rel=1e-4)


def test_nonsense_landmarks_are_refused():
    random = np.random.default_rng(99)
    for landmarks in (random.uniform(0, 500, (POINTS, 2)), np.zeros((POINTS, 2))):
        with pytest.raises(ArchiveError, match="do not fit a face"):
            align(landmarks, MODEL)


@pytest.mark.parametrize("roll", [0.0, 0.5])
def test_cut_shows_what_the_crop_says(roll):
    """A dot at a landmark lands where the crop maps it, also where the crop reaches beyond the photograph."""
    landmarks, _ = photograph_landmarks(0.1, 0.1, roll)
    landmarks = landmarks * 0.3
    crop = align(landmarks, MODEL)
    pixels = np.zeros((260, 300), np.uint8)
    x, y = (int(v) for v in landmarks[33])
    pixels[y - 2 : y + 3, x - 2 : x + 3] = 255
    square = np.asarray(cut(Image.fromarray(pixels), crop, 128), dtype=float)
    rows, columns = np.mgrid[:128, :128]
    center = np.array([(square * (columns + 0.5)).sum(), (square * (rows + 0.5)).sum()]) / square.sum()
    assert np.abs(center - crop.to_crop(np.array([[x + 0.5, y + 0.5]]))[0] * 128).max() < 0.6


def metadata(model: FaceModel) -> bytes:
    """The protocol buffer of a model, as MediaPipe writes it."""

    def varint(value: int) -> bytes:
        return bytes([value & 127 | 128]) + varint(value >> 7) if value > 127 else bytes([value])

    def field(number: int, content: bytes) -> bytes:
        return varint(number << 3 | 2) + varint(len(content)) + content

    floats = np.concatenate([model.points, np.zeros((POINTS, 2))], axis=1).ravel()
    mesh = b"\x08\x01" + b"".join(b"\x1d" + struct.pack("<f", value) for value in floats) + b"\x20\x81\x02"
    used = np.flatnonzero(model.weights)
    references = [field(2, b"\x08" + varint(int(i)) + b"\x15" + struct.pack("<f", model.weights[i])) for i in used]
    return field(1, mesh) + b"".join(references) + b"\x18\x01"


def test_published_face_model(tmp_path):
    data = metadata(MODEL)
    parsed = parse_metadata(data)
    assert np.allclose(parsed.points, MODEL.points, atol=1e-5)
    assert np.allclose(parsed.weights, MODEL.weights)
    loader = f'[{{"filename": "/a/geometry_pipeline_metadata_landmarks.binarypb", "start": 7, "end": {7 + len(data)}}}]'
    files = {
        "package/face_mesh_solution_packed_assets_loader.js": loader.encode(),
        "package/face_mesh_solution_packed_assets.data": bytes(7) + data,
    }
    with tarfile.open(tmp_path / "mesh.tgz", "w:gz") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    fetch_face_model(tmp_path / "face.npz", tmp_path / "mesh.tgz")
    assert np.allclose(read_face_model(tmp_path / "face.npz").points, MODEL.points, atol=1e-5)
    with tarfile.open(tmp_path / "empty.tgz", "w:gz"):
        pass
    with pytest.raises(ArchiveError, match="holds no canonical face model"):
        fetch_face_model(tmp_path / "x.npz", tmp_path / "empty.tgz")
    with pytest.raises(ArchiveError, match="fetch-face-model"):
        read_face_model(tmp_path / "missing.npz")


@pytest.mark.parametrize("data", [b"", b"\xff" * 20, b"\x0a\x05ab", b"\x0b"])
def test_broken_face_model(data):
    with pytest.raises((ValueError, IndexError, struct.error)):
        parse_metadata(data)


def test_whole_set(tmp_path, monkeypatch):
    """With landmarks that are given instead of found: one photograph has no face."""
    source = write_folder(
        tmp_path / "photos", {f"{i}.png": png(np.full((240, 300, 3), 40 * i, np.uint8)) for i in range(4)}
    )

    def find(image: Image.Image, confidence: float) -> np.ndarray | None:
        number = round(np.asarray(image).mean() / 40)
        return None if number == 2 else photograph_landmarks(0.15 * number, 0.1)[0] * 0.3

    monkeypatch.setattr(make, "find_face", find)
    monkeypatch.setattr(make, "person_mask", lambda image: np.asarray(image)[..., 0])
    options = PortraitOptions(resolution=64, matting=True)
    count, left_out = make_portraits(
        tmp_path / "set.zip", open_source(source), MODEL, options, tmp_path / "overlays", workers=1
    )
    assert count == 3
    assert left_out == [f"{source}: 2.png: no face found"]
    assert [f.code for f in full_check(str(tmp_path / "set.zip")).findings] == []
    with zipfile.ZipFile(tmp_path / "set.zip") as file:
        facts = json.loads(file.read("dataset.json"))
    assert [photo for _, photo, _ in facts["sources"]] == ["0.png", "1.png", "3.png"]
    assert len(zipfile.ZipFile(tmp_path / "set-masks.zip").namelist()) == 3
    assert len(list((tmp_path / "overlays").glob("*.png"))) == 3
    monkeypatch.setattr(make, "find_face", lambda image, confidence: None)
    with pytest.raises(ArchiveError, match="no photograph has a face"):
        make_portraits(tmp_path / "none.zip", open_source(source), MODEL, options, None, workers=1)


def test_overlay_draws_the_face_where_it_is():
    landmarks, _ = photograph_landmarks(0.2, 0.1)
    crop = align(landmarks, MODEL)
    drawn = np.asarray(overlay(Image.new("RGB", (256, 256)), crop, MODEL))
    x, y = (crop.to_crop(landmarks[[33]])[0] * 256).astype(int)
    assert drawn[y - 6 : y + 7, x - 6 : x + 7, 1].max() > 200


def test_real_photograph():
    """MediaPipe's landmarks of scikit-image's `astronaut` (NASA, public domain); its canonical face (Apache-2.0)."""
    with np.load(Path(__file__).parents[1] / "data" / "portrait.npz") as arrays:
        landmarks, points, weights = (arrays[name].astype(np.float64) for name in ("landmarks", "points", "weights"))
    crop = align(landmarks, FaceModel(points, weights))
    x, y, z = np.array(crop.label)[[3, 7, 11]] - PIVOT
    assert abs(np.degrees(np.arctan2(x, z))) < 3, "she looks straight ahead"
    assert 5 < np.degrees(np.arcsin(y / cameras.EG3D_RADIUS)) < 15
    assert 130 < crop.size < 180
    assert np.degrees(crop.roll) == pytest.approx(2.9, abs=0.5)
    eyes = crop.to_crop(landmarks[[33, 263]])
    assert np.allclose(eyes, [[0.3, 0.4], [0.71, 0.4]], atol=0.03)
    assert crop.error < 0.05
