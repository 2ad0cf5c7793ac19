"""`check` finds every planted fault, names the file and the mend; healthy sets pass."""

from __future__ import annotations

import dataclasses
import io
import json
import shlex
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image

from dataset_preprocessing import cameras
from dataset_preprocessing.checking import as_json, full_check, quick_check, summarize
from dataset_preprocessing.conventions import Fix, diagnose
from dataset_preprocessing.report_page import write_page
from tests.unit.test_dataset import picture, png, write_folder, write_zip
from training.cameras.prior import FRONT, ViewConfig, orbit_camera
from training.checks import check_cameras, view_advice
from training.config import ConfigError, TrainConfig
from training.dataset import DataConfig, ImageDataset

COUNT = 24
NAMES = [f"img{i:03d}.png" for i in range(COUNT)]


def pose(index: int, sideways: float = 0.8) -> np.ndarray:
    random = np.random.default_rng(index)
    return cameras.look_at(
        cameras.orbit_position(random.uniform(-sideways, sideways), random.uniform(-0.3, 0.5), 2.7), [0, 0.02, 0]
    )


def good_labels() -> dict[str, list[float]]:
    return {n: cameras.make_label(pose(i), cameras.intrinsics(4.26)).tolist() for i, n in enumerate(NAMES)}


def good_files(labels: dict | None = None) -> dict[str, bytes]:
    files = {name: png(picture(i, 16)) for i, name in enumerate(NAMES)}
    labels = good_labels() if labels is None else labels
    files["dataset.json"] = json.dumps({"labels": [[n, v] for n, v in labels.items()]}).encode()
    return files


def changed(index: int, change) -> dict[str, bytes]:
    labels = good_labels()
    matrix = np.array(labels[NAMES[index]])
    labels[NAMES[index]] = np.asarray(change(matrix)).tolist()
    return good_files(labels)


def all_changed(fix: Fix) -> dict[str, bytes]:
    """Labels in the foreign convention that `fix` mends (each step undoes itself)."""
    labels = {}
    for name, label in good_labels().items():
        foreign, matrix = cameras.split_label(label)
        for step in (Fix(flip_axes=fix.flip_axes), Fix(invert=fix.invert), Fix(transpose=fix.transpose)):
            foreign = step.apply(foreign)
        labels[name] = cameras.make_label(foreign, matrix).tolist()
    return good_files(labels)


def flip_y_axis(label: np.ndarray) -> np.ndarray:
    return label * np.where(np.isin(np.arange(25), [1, 5, 9]), -1, 1)


def transposed(label: np.ndarray) -> np.ndarray:
    return np.concatenate([label[:16].reshape(4, 4).T.ravel(), label[16:]])


def jpeg_cmyk() -> bytes:
    stream = io.BytesIO()
    Image.fromarray(picture(0, 16)).convert("CMYK").save(stream, "JPEG")
    return stream.getvalue()


def with_nan(label: np.ndarray) -> np.ndarray:
    return np.where(np.arange(25) == 3, np.nan, label)


def replaced(name: str, data: bytes) -> dict[str, bytes]:
    return {**good_files(), name: data}


def without(name: str) -> dict[str, bytes]:
    return {other: data for other, data in good_files().items() if other != name}


PLANTED = {
    "wrong handedness": (changed(3, flip_y_axis), "handedness", NAMES[3], "--flip-axes=y"),
    "wrong handedness in all": (all_changed(Fix(flip_axes="y")), "handedness", NAMES[0], "--flip-axes=y"),
    "transposed": (changed(4, transposed), "last row", NAMES[4], "--transpose"),
    "all transposed": (all_changed(Fix(transpose=True)), "transposed", NAMES[0], "import --format=labels"),
    "pixel intrinsics": (
        changed(5, lambda v: np.concatenate([v[:16], [68, 0, 8, 0, 68, 8, 0, 0, 1]])),
        "pixel intrinsics", NAMES[5], "--pixel-intrinsics",
    ),
    "inverted": (all_changed(Fix(invert=True)), "world to camera", NAMES[0], "--world-to-camera"),
    "one inverted": (
        changed(6, lambda v: cameras.make_label(np.linalg.inv(v[:16].reshape(4, 4)) @ np.diag([1, -1, -1, 1]), v[16:])),
        "looks at", NAMES[6], "drop them with subset",
    ),
    "OpenGL": (all_changed(Fix(flip_axes="yz")), "OpenGL", NAMES[0], "--camera-convention=opengl"),
    "NaN": (changed(7, with_nan), "not finite", NAMES[7], "make these labels anew"),
    "missing file": (without(NAMES[8]), "missing file", NAMES[8], "add the pictures"),
    "unlabelled file": (replaced("new.png", png(picture(99, 16))), "no label", "new.png", "add their labels"),
    "truncated": (replaced(NAMES[9], png(picture(9, 16))[:-30]), "broken", NAMES[9], "replace them"),
    "no picture": (replaced(NAMES[9], b"hello"), "broken", NAMES[9], "--skip-broken"),
    "16-bit": (replaced(NAMES[10], png(picture(0, 16)[..., 0].astype(np.uint16))), "16-bit", NAMES[10], "convert"),
    "CMYK": (replaced(NAMES[11], jpeg_cmyk()), "CMYK", NAMES[11], "convert"),
    "palette": (replaced(NAMES[12], png(picture(0, 16), "P")), "palette", NAMES[12], "convert"),
    "alpha": (replaced(NAMES[13], png(picture(0, 16), "RGBA")), "alpha", NAMES[13], "--alpha"),
    "mixed sizes": (replaced(NAMES[14], png(picture(0, 32))), "sizes", NAMES[14], "--resolution=16x16"),
    "not square": (replaced(NAMES[14], png(picture(0, 16)[:8])), "not square", NAMES[14], "--transform=center-crop"),
    "label of 24": (changed(15, lambda v: v[:24]), "label length", NAMES[15], "write all 25"),
    "class label": (good_files({**good_labels(), NAMES[2]: 3}), "class labels", NAMES[2], "poses"),
    "stretched": (
        changed(16, lambda v: v * np.where(np.arange(25) == 0, 1.2, 1)), "rotation", NAMES[16], "--orthonormalize",
    ),
    "no json": (replaced("dataset.json", b"{"), "label file", "dataset.json", "write the file anew"),
    "no labels": (replaced("dataset.json", b"{}"), "no labels", "dataset.json", "dataset_tool.py import"),
    "copies": (replaced(NAMES[17], png(picture(16, 16))), "duplicates", NAMES[17], "subset"),
    "off centre": (changed(18, lambda v: v + 0.3 * (np.arange(25) == 18)), "center", NAMES[18], "make sure"),
}  # fmt: skip


@pytest.mark.parametrize("fault", PLANTED)
def test_planted_faults(tmp_path, fault):
    files, code, name, mend = PLANTED[fault]
    report = full_check(write_zip(tmp_path / "set.zip", files))
    found = {finding.code: finding for finding in report.findings}
    assert code in found, summarize(report)
    assert name in found[code].files
    assert mend in found[code].mend
    assert name in str(found[code]) or len(found[code].files) > 5


def test_mends_can_be_pasted_whatever_the_set_is_called(tmp_path):
    folder = tmp_path / "my sets"
    folder.mkdir()
    path = write_zip(folder / "it's.zip", PLANTED["inverted"][0])
    (finding,) = full_check(path).errors
    assert f"--source={path}" in shlex.split(finding.mend)


def test_duplicate_names(tmp_path):
    path = tmp_path / "set.zip"
    write_zip(path, good_files())
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr(NAMES[3], png(picture(3, 16)))
    assert f"entry '{NAMES[3]}' occurs twice" in summarize(quick_check(str(path)))
    pairs = json.loads(good_files()["dataset.json"])["labels"]
    doubled = replaced("dataset.json", json.dumps({"labels": [*pairs, pairs[4]]}).encode())
    report = quick_check(write_zip(tmp_path / "labels.zip", doubled))
    assert [(f.code, f.files) for f in report.errors] == [("duplicate names", (NAMES[4],))]


def test_names_that_are_not_utf8(tmp_path):
    folder = tmp_path / "set"
    write_folder(folder, good_files())
    (folder / NAMES[0]).rename(folder.as_posix().encode().decode() + "/caf\udce9.png")
    report = full_check(str(folder))
    assert "caf\udce9.png" in {f.code: f for f in report.errors}["name"].files
    assert "caf\\udce9.png" in summarize(report)
    assert "caf\\\\udce9.png" in as_json(report) or "caf\\udce9.png" in as_json(report)

    path = tmp_path / "set.zip"
    write_zip(path, {**good_files(), "cafX.png": png(picture(0, 16))})
    path.write_bytes(path.read_bytes().replace(b"cafX.png", b"caf\xe9.png"))
    report = quick_check(str(path))
    assert "name" in {finding.code for finding in report.errors}


def test_hostile_sets(tmp_path):
    cases = {
        "traversal": ({"../../evil.png": b""}, "leads outside"),
        "deep": ({**good_files(), "dataset.json": b'{"labels":' + b"[" * 50_000}, "nested too deeply"),
    }
    for name, (files, message) in cases.items():
        assert message in summarize(quick_check(write_zip(tmp_path / f"{name}.zip", files)))
    huge = bytearray(png(picture(0, 16)))
    huge[16:24] = (10_000).to_bytes(4, "big") * 2
    report = full_check(write_zip(tmp_path / "huge.zip", replaced(NAMES[0], bytes(huge))))
    assert NAMES[0] in {f.code: f for f in report.errors}["huge"].files


@pytest.mark.parametrize("sideways", [0.2, 0.8, 3.14])
def test_healthy_set_passes(tmp_path, sideways):
    labels = {n: cameras.make_label(pose(i, sideways), cameras.intrinsics(4.26)).tolist() for i, n in enumerate(NAMES)}
    path = write_zip(tmp_path / "set.zip", good_files(labels))
    report = full_check(path)
    assert report.findings == []
    assert "all is well" in summarize(report)
    unlabelled = {name: data for name, data in good_files().items() if name != "dataset.json"}
    assert quick_check(write_zip(tmp_path / "plain.zip", unlabelled), use_labels=False).findings == []


def test_missing_and_empty_sets(tmp_path):
    (tmp_path / "empty").mkdir()
    assert "no such file" in summarize(quick_check(str(tmp_path / "nothing")))
    assert "no pictures" in summarize(quick_check(str(tmp_path / "empty")))


@pytest.mark.parametrize(
    "fix",
    [
        Fix(),
        Fix(flip_axes="yz"),
        Fix(invert=True),
        Fix(transpose=True),
        Fix(invert=True, flip_axes="yz"),
        Fix(flip_axes="x"),
    ],
)
@pytest.mark.parametrize("sideways", [0.2, 0.8, 3.14])
def test_conventions_are_recognized_and_mended(fix, sideways):
    ours = np.stack([pose(i, sideways) for i in range(60)])
    foreign = ours
    for step in (Fix(flip_axes=fix.flip_axes), Fix(invert=fix.invert), Fix(transpose=fix.transpose)):
        foreign = step.apply(foreign)
    found = diagnose(foreign)
    assert found is not None
    assert found == fix
    assert np.allclose(found.apply(foreign), ours)


def test_world_with_z_up_is_recognized():
    ours = np.stack([pose(i, 3.14) for i in range(60)])
    turn = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
    foreign = ours.copy()
    foreign[:, :3] = turn @ ours[:, :3]
    found = diagnose(foreign)
    assert found == Fix(up="z")
    assert np.allclose(found.apply(foreign), ours)
    assert found.options() == "--up=z"


def test_page_shows_cameras_findings_and_pictures(tmp_path):
    files = {**changed(3, flip_y_axis), "<b>.png": png(picture(1, 16))}
    page = write_page(full_check(write_zip(tmp_path / "set.zip", files)))
    assert page.count("data:image/jpeg") == 24
    assert "--flip-axes=y" in page
    assert "<canvas" in page
    assert "<b>.png" not in page
    assert "&lt;b&gt;.png" in page
    empty = write_page(quick_check(str(tmp_path / "nothing")))
    assert "no such file" in empty


@pytest.mark.parametrize(
    ("view", "yaw", "advice"),
    [
        (ViewConfig(), 0.5, None),
        (ViewConfig(pivot=(0, 0, 0)), 0.5, "--set generator.view.pivot=0,0,0"),
        (ViewConfig(pivot=(0, 0, 0)), 0.01, None),
        (ViewConfig(radius=2.0, fov_deg=40), 0.5, "--set generator.view.radius=2 --set generator.view.fov_deg=40"),
    ],
    ids=["as the preset", "another centre", "all from the front", "another camera"],
)
def test_training_tells_what_shows_a_set_as_its_cameras_do(tmp_path, view, yaw, advice):
    spread = torch.linspace(-1, 1, COUNT)
    labels = orbit_camera(FRONT + yaw * spread, FRONT + 0.3 * spread.square(), view).to_label().tolist()
    data = DataConfig(path=write_zip(tmp_path / "set.zip", good_files(dict(zip(NAMES, labels, strict=True)))))
    told = view_advice(TrainConfig(data=data), ImageDataset(data))
    if advice is None:
        assert told is None
    else:
        assert told is not None
        assert f": {advice} mends that." in told


@pytest.mark.parametrize(
    ("fix", "message"),
    [(Fix(flip_axes="yz"), "OpenGL axes"), (Fix(invert=True), "from world to camera"), (Fix(), None)],
)
def test_training_refuses_broken_cameras(tmp_path, fix, message):
    data = DataConfig(path=write_zip(tmp_path / "set.zip", all_changed(fix)), mirror=True)
    config = dataclasses.replace(TrainConfig(), data=data)
    if message is None:
        check_cameras(config, ImageDataset(data))
    else:
        with pytest.raises(ConfigError, match=message):
            check_cameras(config, ImageDataset(data))
