"""The reader: what it yields, that copies of it work, and one clear message for everything that can be wrong."""

from __future__ import annotations

import io
import json
import multiprocessing
import pickle
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from training.archive import ArchiveError, open_archive, png_header
from training.dataset import DataConfig, DatasetError, ImageDataset, mirror_labels

RESOLUTION = 8


def png(pixels: np.ndarray, mode: str | None = None, **options) -> bytes:
    stream = io.BytesIO()
    image = Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(stream, "PNG", **options)
    return stream.getvalue()


def picture(number: int, size: int = RESOLUTION) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, (size, size, 3), dtype=np.uint8)


def label(number: int) -> list[float]:
    pose = np.eye(4)
    pose[:3] = np.random.default_rng(number).normal(size=(3, 4))
    intrinsics = [4.2647, 0.01, 0.47, 0, 4.2647, 0.5, 0, 0, 1]
    return [float(np.float32(value)) for value in [*pose.ravel(), *intrinsics]]


def names(count: int) -> list[str]:
    return [f"0000{i // 2}/img{i:08d}.png" for i in range(count)]


def content(count: int = 5, labels: bool = True) -> dict[str, bytes]:
    files = {name: png(picture(i)) for i, name in enumerate(names(count))}
    if labels:
        files["dataset.json"] = json.dumps({"labels": [[n, label(i)] for i, n in enumerate(names(count))]}).encode()
    return files


def write_zip(path, files, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return str(path)


def write_folder(path, files):
    for name, data in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(data)
    return str(path)


def open_set(path: str, **options) -> ImageDataset:
    return ImageDataset(DataConfig(path=path, **options))


@pytest.fixture(params=["stored", "deflated", "folder"])
def posed_set(request, tmp_path):
    if request.param == "folder":
        return write_folder(tmp_path / "set", content())
    compression = zipfile.ZIP_STORED if request.param == "stored" else zipfile.ZIP_DEFLATED
    return write_zip(tmp_path / "set.zip", content(), compression)


def test_pictures_and_labels(posed_set):
    data = open_set(posed_set)
    assert len(data) == 5
    assert data.resolution == RESOLUTION
    assert data.has_labels
    for i in range(5):
        image, values = data[i]
        assert image.dtype == torch.uint8
        assert np.array_equal(image.permute(1, 2, 0).numpy(), picture(i))
        assert values.tolist() == label(i)
    images, values = data.gather([3, 1])
    assert torch.equal(images[1], data[1][0])
    assert torch.equal(values, data.labels[[3, 1]])


def test_content_hash_depends_on_content_only(tmp_path):
    same = [
        write_zip(tmp_path / "a.zip", content()),
        write_zip(tmp_path / "b.zip", content(), zipfile.ZIP_DEFLATED),
        write_folder(tmp_path / "c", content()),
    ]
    hashes = {open_set(path).content_hash for path in same}
    assert len(hashes) == 1
    other = content()
    other[names(5)[2]] = png(picture(77))
    others = [
        open_set(write_zip(tmp_path / "d.zip", other)).content_hash,
        open_set(same[0], mirror=True).content_hash,
        open_set(same[0], use_labels=False).content_hash,
        open_set(same[0], max_size=3).content_hash,
    ]
    assert len({*hashes, *others}) == 5


def test_mirror_flips_pixels_and_pose(posed_set):
    plain, data = open_set(posed_set), open_set(posed_set, mirror=True)
    assert len(data) == 10
    assert torch.equal(data[7][0], plain[2][0].flip(2))
    assert torch.equal(data[2][0], plain[2][0])
    signs = torch.ones(16)
    signs[[1, 2, 3, 4, 8]] = -1
    assert torch.equal(data[7][1][:16], plain[2][1][:16] * signs)
    assert torch.allclose(data[7][1][16:], torch.tensor([4.2647, -0.01, 0.53, 0, 4.2647, 0.5, 0, 0, 1]))


def test_mirrored_label_sees_the_mirrored_world():
    values = torch.tensor([label(3)], dtype=torch.float64)
    point = torch.tensor([0.3, -0.2, 0.7, 1.0], dtype=torch.float64)

    def project(row, point):
        pose, intrinsics = row[:16].reshape(4, 4), row[16:].reshape(3, 3)
        inverse = torch.linalg.inv(pose)
        seen = intrinsics @ (inverse @ point)[:3]
        return (seen[:2] / seen[2]).tolist()

    flipped_world = torch.tensor([-1.0, 1, 1, 1], dtype=torch.float64)
    u, v = project(values[0], point)
    mirrored = mirror_labels(values.float()).double()
    u_flipped, v_flipped = project(mirrored[0], point * flipped_world)
    assert u_flipped == pytest.approx(1 - u, abs=1e-5)
    assert v_flipped == pytest.approx(v, abs=1e-5)
    assert torch.allclose(mirror_labels(mirror_labels(values.float())), values.float())


def test_grey_jpeg_and_backslashes(tmp_path):
    stream = io.BytesIO()
    Image.fromarray(np.full((8, 8, 3), 100, np.uint8)).save(stream, "JPEG", quality=95)
    files = {
        "a/grey.png": png(picture(0)[:, :, 0]),
        "a/photo.JPG": stream.getvalue(),
        "a/.hidden.png": b"not a picture",
        "readme.txt": b"hello",
        "dataset.json": json.dumps({"labels": {"a\\grey.png": label(0), "a/photo.JPG": label(1)}}).encode(),
    }
    data = open_set(write_zip(tmp_path / "set.zip", files))
    assert data.image_names == ["a/grey.png", "a/photo.JPG"]
    assert torch.equal(data[0][0][0], data[0][0][2])
    assert int(data[1][0].float().mean()) in range(98, 103)
    assert data[1][1].tolist() == label(1)


def test_subset_is_seeded_and_sorted(posed_set):
    everything = open_set(posed_set).image_names
    chosen = open_set(posed_set, max_size=3, seed=1).image_names
    assert chosen == open_set(posed_set, max_size=3, seed=1).image_names
    assert chosen == sorted(chosen)
    assert set(chosen) < set(everything)
    assert any(open_set(posed_set, max_size=3, seed=s).image_names != chosen for s in range(2, 6))
    data = open_set(posed_set, max_size=3, seed=1)
    assert [row.tolist() for row in data.labels] == [label(names(5).index(name)) for name in chosen]


@pytest.mark.parametrize("labels", [None, [], {}])
def test_without_labels(tmp_path, labels):
    files = content(labels=False)
    files["dataset.json"] = json.dumps({"labels": labels}).encode()
    data = open_set(write_zip(tmp_path / "set.zip", files), use_labels=False)
    assert not data.has_labels
    assert data[0][1].shape == (25,)
    assert not data.labels.any()


def _checksum(data: ImageDataset) -> int:
    return sum(int(data[i][0].sum()) for i in range(len(data)))


def test_fork_and_pickle(posed_set):
    data = open_set(posed_set)
    expected = _checksum(data)
    copy = pickle.loads(pickle.dumps(data))
    assert _checksum(copy) == expected
    with multiprocessing.get_context("fork").Pool(2) as pool:
        assert pool.map(_checksum, [data, data]) == [expected] * 2
    loader = torch.utils.data.DataLoader(data, batch_size=2, num_workers=2)
    assert sum(int(images.sum()) for images, _ in loader) == expected


def test_cache_gives_the_same_pictures(posed_set):
    cached, uncached = open_set(posed_set), open_set(posed_set, cache_gib=0.0)
    for _ in range(2):
        assert torch.equal(cached.gather(range(5))[0], uncached.gather(range(5))[0])


def test_the_whole_set_is_opened_once(posed_set):
    part = open_set(posed_set, mirror=True, max_size=2)
    assert (len(part), len(part.whole)) == (4, 5)
    assert part.whole is part.whole
    assert part.whole.content_hash == open_set(posed_set).content_hash
    everything = open_set(posed_set)
    assert everything.whole is everything
    assert len(pickle.loads(pickle.dumps(part)).whole) == 5


BROKEN = {
    "not square": ({"b.png": png(picture(0)[:4])}, "b.png is 8x4, not square"),
    "mixed sizes": ({"b.png": png(picture(0, 16))}, "b.png is 16x16 but 5 others are 8x8"),
    "palette": ({"b.png": png(picture(0), "P")}, "b.png is of kind P"),
    "alpha": ({"b.png": png(picture(0), "RGBA")}, "b.png is of kind RGBA"),
    "deep": ({"b.png": png(picture(0)[:, :, 0].astype(np.uint16))}, "b.png is of kind L;16"),
    "no picture": ({"b.png": b"nonsense"}, "b.png is no readable picture"),
    "short label": (
        {"dataset.json": b'{"labels": [["00000/img00000000.png", [1, 2]]]}'},
        "img00000000.png has a label of 2",
    ),
    "class label": ({"dataset.json": b'{"labels": [["00000/img00000000.png", 3]]}'}, "labelled with a class"),
    "null label": ({"dataset.json": b'{"labels": [["00000/img00000000.png", null]]}'}, "img00000000.png has no label"),
    "missing label": ({"dataset.json": b'{"labels": [["x.png", [0]]]}'}, "img00000000.png has no label"),
    "words": (
        {"dataset.json": json.dumps({"labels": {"00000/img00000000.png": ["a"] * 25}}).encode()},
        "something else than numbers",
    ),
    "infinite": (
        {"dataset.json": json.dumps({"labels": dict.fromkeys(names(5), [1e300] * 25)}).encode()},
        "img00000000.png has a label that is not finite",
    ),
    "nan": ({"dataset.json": b'{"labels": [["00000/img00000000.png", [NaN]]]}'}, "NaN is not a number of JSON"),
    "no pairs": ({"dataset.json": b'{"labels": [3]}'}, "entry 0 of `labels` is not a pair"),
    "no list": ({"dataset.json": b'{"labels": 3}'}, "`labels` must be a list"),
    "no object": ({"dataset.json": b"[]"}, "expected an object"),
    "no json": ({"dataset.json": b"{"}, "not valid JSON"),
    "deep json": ({"dataset.json": b"[" * 100_000}, "nested too deeply"),
    "null labels": ({"dataset.json": b'{"labels": null}'}, "has no camera labels"),
    "angles only": ({"dataset.json": b'{"camera_angles": {}}'}, "EpiGRAF"),
}


@pytest.mark.parametrize("case", BROKEN)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_one_message_for_each_fault(tmp_path, case):
    files, message = BROKEN[case]
    with pytest.raises(DatasetError) as error:
        open_set(write_zip(tmp_path / "set.zip", {**content(), **files}))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_messages_about_the_whole_set(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.zip").write_text("hello")
    good = write_zip(tmp_path / "set.zip", content())
    unlabelled = write_zip(tmp_path / "unlabelled.zip", content(labels=False))
    for options, message in [
        ({"path": ""}, "no data given"),
        ({"path": str(tmp_path / "missing")}, "no such file"),
        ({"path": str(tmp_path / "empty")}, "no pictures"),
        ({"path": str(tmp_path / "text.zip")}, "neither a folder nor a readable zip"),
        ({"path": good, "resolution": 16}, "8x8, but the resolution asked for is 16"),
        ({"path": good, "max_size": 0}, "max_size=0"),
        ({"path": unlabelled}, "has no camera labels"),
    ]:
        with pytest.raises(DatasetError, match=message):
            ImageDataset(replace(DataConfig(), **options))


def test_damaged_zip(tmp_path):
    path = tmp_path / "set.zip"
    write_zip(path, content())
    data = bytearray(path.read_bytes())
    at = data.index(b"IDAT") + 6
    data[at] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(DatasetError, match="checksum differs"):
        _checksum(open_set(str(path)))
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(DatasetError, match="is the copy complete"):
        open_set(str(path))


@pytest.mark.parametrize("name", ["../evil.png", "/etc/evil.png", "a/../../evil.png", "..\\evil.png", "C:\\evil.png"])
def test_entries_that_lead_outside_are_refused(tmp_path, name):
    with pytest.raises(ArchiveError, match="leads outside"):
        open_archive(write_zip(tmp_path / "set.zip", {name: b""}))


def test_zip_that_lies_about_its_sizes(tmp_path):
    path = tmp_path / "bomb.zip"
    write_zip(path, {"a.png": b"\0" * 10_000_000}, zipfile.ZIP_DEFLATED)
    data = path.read_bytes()
    path.write_bytes(data.replace((10_000_000).to_bytes(4, "little"), (100).to_bytes(4, "little")))
    with pytest.raises(ArchiveError, match="damaged"):
        open_archive(path).read("a.png")
    path.write_bytes(data.replace((10_000_000).to_bytes(4, "little"), (2**31).to_bytes(4, "little")))
    with pytest.raises(ArchiveError, match="claims"):
        open_archive(path)


def test_zip_oddities(tmp_path):
    path = tmp_path / "twice.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.png", b"1")
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("a.png", b"2")
    with pytest.raises(ArchiveError, match="occurs twice"):
        open_archive(path)
    with zipfile.ZipFile(tmp_path / "lzma.zip", "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("a.png", b"1")
    with pytest.raises(ArchiveError, match="neither stored nor deflated"):
        open_archive(tmp_path / "lzma.zip")


def test_huge_pictures_are_refused_unread(tmp_path):
    header = png(picture(0))
    huge = header[:16] + (10_000).to_bytes(4, "big") * 2 + header[24:]
    found = png_header(huge)
    assert found is not None
    assert found.width == 10_000
    with pytest.raises(DatasetError, match="10000x10000 pixels; refused"):
        open_set(write_zip(tmp_path / "set.zip", {"a.png": huge}), use_labels=False)


def test_content_hash_sees_single_pixels(tmp_path):
    """The CRC-32 of a PNG has few bits to differ in, because the file holds CRCs of its own."""
    hashes = set()
    for value in range(200):
        pixels = picture(0)
        pixels[3, 3, 0] = value
        pixels[5, 1, 2] = value // 2
        path = write_zip(tmp_path / f"{value}.zip", {"a.png": png(pixels)})
        hashes.add(open_set(path, use_labels=False).content_hash)
    assert len(hashes) == 200
