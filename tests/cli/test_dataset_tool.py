"""The data set commands end to end: round trips, interruptions, refusals."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

import dataset_tool
from dataset_preprocessing.conventions import Fix
from tests.unit.test_checking import NAMES, all_changed, good_files, good_labels
from tests.unit.test_dataset import picture, png, write_folder, write_zip
from training.dataset import DataConfig, ImageDataset

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def one_process(monkeypatch):
    """Starting processes takes longer than the work of these tests."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})


def run(*words: object, fails: bool = False) -> Result:
    result = CliRunner().invoke(dataset_tool.main, [str(word) for word in words])
    assert (result.exit_code != 0) == fails, result.output
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result


def files_of(path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def pixels(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)))


def labels_of(path) -> dict[str, list[float]]:
    return dict(json.loads(files_of(path)["dataset.json"])["labels"])


@pytest.fixture
def posed(tmp_path):
    return Path(write_zip(tmp_path / "posed.zip", good_files()))


@pytest.fixture
def photos(tmp_path):
    stream = io.BytesIO()
    Image.fromarray(np.tile(picture(1, 32), (1, 2, 1))).save(stream, "JPEG")
    files = {
        "b/photo.jpg": stream.getvalue(),
        "a.png": png(picture(2, 48)),
        "notes.txt": b"",
        "c.png": png(picture(3, 40)),
    }
    return Path(write_folder(tmp_path / "photos", files))


def test_plain_call_converts(photos, tmp_path):
    run(
        "--source",
        photos,
        "--dest",
        tmp_path / "set.zip",
        "--transform=center-crop",
        "--resolution=16x16",
        "--max-images=2",
    )
    files = files_of(tmp_path / "set.zip")
    assert list(files) == ["00000/img00000000.png", "00000/img00000001.png", "dataset.json"]
    assert pixels(files["00000/img00000001.png"]).shape == (16, 16, 3)
    facts = json.loads(files["dataset.json"])
    assert (facts["labels"], facts["images"], facts["resolution"]) == (None, 2, 16)
    assert len(facts["sha256"]) == 64


def test_convert_to_folder_equals_convert_to_zip(photos, tmp_path):
    for dest in ("set.zip", "set"):
        run("convert", "--source", photos, "--dest", tmp_path / dest, "--transform=center-crop", "--resolution=16x16")
    folder = {
        p.relative_to(tmp_path / "set").as_posix(): p.read_bytes() for p in (tmp_path / "set").rglob("*") if p.is_file()
    }
    assert folder == files_of(tmp_path / "set.zip")
    data = ImageDataset(DataConfig(path=str(tmp_path / "set"), use_labels=False))
    assert len(data) == 3


def test_round_trip_keeps_pixels_and_labels(posed, tmp_path):
    run("convert", "--source", posed, "--dest", tmp_path / "a.zip")
    run("import", "--source", tmp_path / "a.zip", "--dest", tmp_path / "b.zip")
    run("convert", "--source", tmp_path / "b.zip", "--dest", tmp_path / "c.zip")
    assert files_of(tmp_path / "a.zip") == files_of(tmp_path / "b.zip") == files_of(tmp_path / "c.zip")
    assert list(labels_of(tmp_path / "a.zip").values()) == list(good_labels().values())
    originals, made = files_of(posed), files_of(tmp_path / "a.zip")
    for index, name in enumerate(NAMES):
        assert np.array_equal(pixels(made[f"00000/img{index:08d}.png"]), pixels(originals[name]))


@pytest.mark.parametrize("kind", ["colmap", "colmap-binary", "transforms"])
def test_export_and_import_keep_cameras(posed, tmp_path, kind):
    binary = ["--binary"] if kind == "colmap-binary" else []
    run("export", "--source", posed, "--dest", tmp_path / "out", "--format", kind.split("-")[0], *binary)
    run("import", "--source", tmp_path / "out", "--dest", tmp_path / "back.zip")
    back = np.array(list(labels_of(tmp_path / "back.zip").values()))
    assert np.abs(back - np.array(list(good_labels().values()))).max() < 1e-6
    run("export", "--source", posed, "--dest", tmp_path / "out", "--format=colmap", fails=True)


def test_mirror_twice_is_the_identity(posed, tmp_path):
    run("convert", "--source", posed, "--dest", tmp_path / "a.zip", "--keep-names")
    run("mirror", "--source", tmp_path / "a.zip", "--dest", tmp_path / "b.zip", "--replace")
    run("mirror", "--source", tmp_path / "b.zip", "--dest", tmp_path / "c.zip", "--replace")
    assert files_of(tmp_path / "a.zip") == files_of(tmp_path / "c.zip")
    assert files_of(tmp_path / "a.zip") != files_of(tmp_path / "b.zip")


def test_mirror_adds_what_the_reader_would(posed, tmp_path):
    run("mirror", "--source", posed, "--dest", tmp_path / "both.zip")
    both = ImageDataset(DataConfig(path=str(tmp_path / "both.zip")))
    reader = ImageDataset(DataConfig(path=str(posed), mirror=True))
    assert len(both) == len(reader) == 2 * len(NAMES)
    row = both.image_names.index(NAMES[5].replace(".png", "_mirror.png"))
    assert np.array_equal(both[row][0], reader[len(NAMES) + 5][0])
    assert np.allclose(both[row][1], reader[len(NAMES) + 5][1])


def test_broken_conventions_are_named_and_mended(tmp_path):
    broken = Path(write_zip(tmp_path / "broken.zip", all_changed(Fix(invert=True, flip_axes="yz"))))
    verdict = run("check", broken, "--quick", fails=True).output
    assert "go from world to camera, have OpenGL axes" in verdict
    command = verdict.split("dataset_tool.py ")[1].splitlines()[0].split()
    command[command.index("--dest=NEW.zip")] = f"--dest={tmp_path / 'mended.zip'}"
    run(*command)
    assert "all is well" in run("check", tmp_path / "mended.zip").output
    mended = np.array(list(labels_of(tmp_path / "mended.zip").values()))
    assert np.allclose(mended, np.array(list(good_labels().values())))


def test_pixel_intrinsics_and_stretched_rotations_are_mended(tmp_path):
    labels = good_labels()
    labels = {
        n: [
            *np.array(v[:16]) * np.tile([1.01, 1.01, 1.01, 1], 4),
            *np.array(v[16:]) * [16, 16, 16, 16, 16, 16, 1, 1, 1],
        ]
        for n, v in labels.items()
    }
    labels = {n: [*map(float, v[:12]), 0.0, 0.0, 0.0, 1.0, *map(float, v[16:])] for n, v in labels.items()}
    broken = write_zip(tmp_path / "broken.zip", good_files(labels))
    run("import", "--source", broken, "--dest", tmp_path / "mended.zip", "--pixel-intrinsics", "--orthonormalize")
    mended = np.array(list(labels_of(tmp_path / "mended.zip").values()))
    assert np.allclose(mended, np.array(list(good_labels().values())), atol=1e-6)


def test_import_options(posed, tmp_path):
    run(
        "import", "--source", posed, "--dest", tmp_path / "set.zip",
        "--recenter=focus", "--scale-to-radius=1.3", "--same-radius", "--turn=30", "--camera-angles",
    )  # fmt: skip
    positions = np.array(list(labels_of(tmp_path / "set.zip").values()))[:, [3, 7, 11]]
    assert np.allclose(np.linalg.norm(positions, axis=1), 1.3)
    angles = json.loads(files_of(tmp_path / "set.zip")["dataset.json"])["camera_angles"]
    assert len(angles) == len(NAMES)
    assert (
        "use the letters"
        in run("import", "--source", posed, "--dest", tmp_path / "x.zip", "--flip-axes=q", fails=True).output
    )


def test_crop_moves_the_camera(tmp_path):
    """A wide picture and its label, cropped: the label's centre follows."""
    wide = {"a.png": png(np.tile(picture(0, 16), (1, 2, 1)))}
    label = good_labels()[NAMES[0]]
    files = {**wide, "dataset.json": json.dumps({"labels": [["a.png", label]]}).encode()}
    source = write_zip(tmp_path / "wide.zip", files)
    run("convert", "--source", source, "--dest", tmp_path / "set.zip", "--transform=center-crop")
    (cropped,) = labels_of(tmp_path / "set.zip").values()
    assert np.allclose(cropped[16:], [2 * label[16], 0, 0.5, 0, label[20], 0.5, 0, 0, 1])
    run("poses", "--source", source, "--dest", tmp_path / "drawn.zip", "--transform=center-crop")
    (drawn,) = labels_of(tmp_path / "drawn.zip").values()
    assert drawn[16] == pytest.approx(4.2647, abs=1e-3)


def test_rebalance(posed, tmp_path):
    output = run("rebalance", "--source", posed, "--dest", tmp_path / "even.zip", "--bins=9").output
    names = list(labels_of(tmp_path / "even.zip"))
    assert set(NAMES) <= set(names)
    assert f"{len(names)} pictures" in output
    assert len(names) > len(NAMES)
    run("rebalance", "--source", posed, "--dest", tmp_path / "same.zip", "--strength=0")
    assert list(labels_of(tmp_path / "same.zip")) == NAMES


def test_subset(posed, tmp_path):
    (tmp_path / "drop.txt").write_text(f"{NAMES[3]}\n{NAMES[5]}\n")
    run(
        "subset",
        "--source",
        posed,
        "--dest",
        tmp_path / "a.zip",
        "--drop",
        tmp_path / "drop.txt",
        "--match",
        "img00*.png",
    )
    assert list(labels_of(tmp_path / "a.zip")) == [n for n in NAMES[:10] if n not in (NAMES[3], NAMES[5])]
    for name in ("b.zip", "c.zip"):
        run("subset", "--source", posed, "--dest", tmp_path / name, "--max-images=7", "--seed=4")
    assert files_of(tmp_path / "b.zip") == files_of(tmp_path / "c.zip")
    assert len(labels_of(tmp_path / "b.zip")) == 7
    extra = write_zip(tmp_path / "extra.zip", {**good_files(), "new.png": png(picture(0, 16))})
    run("subset", "--source", extra, "--dest", tmp_path / "d.zip", "--labelled")
    assert list(labels_of(tmp_path / "d.zip")) == NAMES
    run("subset", "--source", extra, "--dest", tmp_path / "e.zip", "--distinct", "--labelled")
    assert list(labels_of(tmp_path / "e.zip")) == NAMES
    assert (
        "no pictures are left"
        in run("subset", "--source", posed, "--dest", tmp_path / "f.zip", "--match=nothing", fails=True).output
    )


def test_stats_and_poses(photos, tmp_path):
    run(
        "poses", "--source", photos, "--dest", tmp_path / "set.zip", "--transform=center-crop", "--resolution=16x16",
        "--prior=sphere", "--radius=1.5",
    )  # fmt: skip
    output = run("stats", tmp_path / "set.zip", "--out", tmp_path / "stats.json").output
    assert '"mean": 1.5' in output
    assert sum(cell["images"] for cell in json.loads((tmp_path / "stats.json").read_text())["density"]) == 3
    assert "has no camera label" in run("stats", photos, fails=True).output


def test_masks_go_beside(tmp_path):
    pixels_with_alpha = np.dstack(
        [picture(0, 16), np.where(np.arange(256).reshape(16, 16) % 2, 255, 0).astype(np.uint8)]
    )
    source = write_zip(tmp_path / "rgba.zip", {"a.png": png(pixels_with_alpha)})
    run("convert", "--source", source, "--dest", tmp_path / "set.zip", "--alpha=mask")
    mask = pixels(files_of(tmp_path / "set-masks.zip")["00000/img00000000.png"])
    assert np.array_equal(mask, pixels_with_alpha[..., 3])
    assert pixels(files_of(tmp_path / "set.zip")["00000/img00000000.png"]).shape == (16, 16, 3)


def test_check_writes_a_page_and_json(posed, tmp_path):
    assert "all is well" in run("check", posed, "--html", tmp_path / "page.html").output
    assert "<canvas" in (tmp_path / "page.html").read_text()
    lines = run("check", write_zip(tmp_path / "bad.zip", {"a.png": b"x"}), "--json", fails=True).stdout
    assert json.loads(lines)["findings"][0]["code"] == "broken"


def test_refusals(photos, posed, tmp_path):
    big = io.BytesIO()
    Image.new("1", (10_000, 10_000)).save(big, "PNG")
    (tmp_path / "taken.zip").touch()
    bomb = tmp_path / "bomb.zip"
    write_zip(bomb, {"a.png": bytes(10**6)}, zipfile.ZIP_DEFLATED)
    bomb.write_bytes(bomb.read_bytes().replace((10**6).to_bytes(4, "little"), (2**31).to_bytes(4, "little")))
    cases = [
        (["--source", tmp_path / "nothing"], "no such file"),
        (["--source", photos], "not a power of two"),
        (["--source", photos, "--resolution=16x8"], "not square"),
        (["--source", photos, "--resolution=big"], "give a size as WIDTHxHEIGHT"),
        (["--source", photos, "--transform=center-crop-wide"], "needs --resolution"),
        (["--source", write_zip(tmp_path / "out.zip", {"../a.png": b""})], "leads outside"),
        (
            ["--source", write_zip(tmp_path / "big.zip", {"a.png": big.getvalue()}), "--resolution=64x64"],
            "over the limit",
        ),
        (["--source", tmp_path / "big.zip"], "10000x10000 pixels, over the limit"),
        (
            [
                "--source",
                write_zip(tmp_path / "odd.zip", {**good_files(), "dataset.json": b'{"labels": [["a", 1e999]]}'}),
            ],
            "the label of a must be a list of numbers",
        ),
        (["--source", bomb], "claims 2,147,483,648 bytes"),
        (
            ["--source", write_zip(tmp_path / "j.zip", {**good_files(), "dataset.json": b"[" * 10**5})],
            "nested too deeply",
        ),
        (["--source", write_zip(tmp_path / "cut.zip", {"a.png": png(picture(0, 16))[:60]})], "not a readable picture"),
    ]
    for words, message in cases:
        assert message in run("convert", *words, "--dest", tmp_path / "made.zip", fails=True).output
        assert not (tmp_path / "made.zip").exists()
    assert "exists already" in run("convert", "--source", posed, "--dest", tmp_path / "taken.zip", fails=True).output
    assert "give a command" in run(fails=True).output


def test_mixed_sizes_name_the_file(tmp_path):
    source = write_folder(tmp_path / "mixed", {"a.png": png(picture(0, 16)), "b.png": png(picture(0, 32))})
    output = run("convert", "--source", source, "--dest", tmp_path / "set.zip", fails=True).output
    assert "b.png would become 32x32 but the first picture 16x16" in output


def test_broken_pictures_can_be_left_out(tmp_path):
    files = {name: data for name, data in good_files().items() if name != NAMES[4]} | {NAMES[4]: b"broken"}
    source = write_zip(tmp_path / "some.zip", files)
    assert NAMES[4] in run("convert", "--source", source, "--dest", tmp_path / "set.zip", fails=True).output
    output = run("convert", "--source", source, "--dest", tmp_path / "set.zip", "--skip-broken").output
    assert f"left out: {source}: {NAMES[4]}: not a readable picture" in output
    assert len(labels_of(tmp_path / "set.zip")) == len(NAMES) - 1


@pytest.mark.parametrize("dest", ["set.zip", "set"])
def test_killed_at_any_moment_the_second_run_finishes(tmp_path, dest):
    """The process is killed outright, its workers with it; what comes out is what an undisturbed run makes."""
    source = write_folder(tmp_path / "many", {f"{i:03d}.png": png(picture(i, 256)) for i in range(60)})
    command = [sys.executable, str(ROOT / "dataset_tool.py"), "convert", "--source", source, "--resolution=128x128"]
    for delay in (0.0, 0.15):
        process = subprocess.Popen(
            [*command, "--dest", str(tmp_path / dest), "--workers=2"], stderr=subprocess.DEVNULL, cwd=ROOT
        )
        deadline = time.time() + 30
        while not any(_size(path) > 100_000 for path in tmp_path.glob(".*.partial")) and time.time() < deadline:
            time.sleep(0.01)
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        if process.wait() == 0:  # it was faster than the signal
            break
        assert not (tmp_path / dest).exists()
    else:
        run("convert", "--source", source, "--resolution=128x128", "--dest", tmp_path / dest, "--workers=1")
    run("convert", "--source", source, "--resolution=128x128", "--dest", tmp_path / f"whole-{dest}", "--workers=1")
    if dest == "set.zip":
        assert (tmp_path / dest).read_bytes() == (tmp_path / f"whole-{dest}").read_bytes()
    else:
        made, whole = (
            {p.relative_to(r): p.read_bytes() for p in r.rglob("*") if p.is_file()}
            for r in (tmp_path / dest, tmp_path / f"whole-{dest}")
        )
        assert made == whole


def _size(path: Path) -> int:
    return sum(p.stat().st_size for p in path.rglob("*.png")) if path.is_dir() else os.path.getsize(path)


def test_help_of_every_command():
    for name in dataset_tool.main.commands:
        assert "--help" in run(name, "--help").output
