"""Pictures from anywhere: what is read, and what is refused."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import tarfile
import zipfile

import numpy as np
import pytest

from dataset_preprocessing import sources
from dataset_preprocessing.sources import image_names, open_source
from tests.unit.test_dataset import content, picture, png, write_folder, write_zip
from training.archive import ArchiveError, read_label_file

FILES = content(4)


def write_tar(path, files, mode="w"):
    with tarfile.open(path, mode) as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def write_lmdb(path, files):
    lmdb = pytest.importorskip("lmdb")
    with lmdb.open(str(path), map_size=2**24) as store, store.begin(write=True) as transaction:
        for name, data in files.items():
            transaction.put(name.replace("/", "-").encode(), data)
    return path


@pytest.mark.parametrize("kind", ["folder", "set.zip", "set.tar", "set.tar.gz", "set.tgz", "set.tar.xz"])
def test_same_content_from_every_kind(tmp_path, kind):
    path = tmp_path / kind
    if kind == "folder":
        write_folder(path, FILES)
    elif kind == "set.zip":
        write_zip(path, FILES)
    else:
        write_tar(path, FILES, {"gz": "w:gz", "tgz": "w:gz", "xz": "w:xz"}.get(kind.rsplit(".", 1)[1], "w"))
    source = open_source(path)
    assert image_names(source) == sorted(name for name in FILES if name.endswith(".png"))
    copy = pickle.loads(pickle.dumps(source))
    assert {name: copy.read(name) for name in FILES} == FILES
    name = image_names(source)[0]
    assert source.head(name, 20) == FILES[name][:20]
    assert read_label_file(source) == json.loads(FILES["dataset.json"])
    with pytest.raises(ArchiveError, match="holds no file"):
        source.read("nothing.png")


def test_lmdb(tmp_path):
    pictures = {name: data for name, data in FILES.items() if name.endswith(".png")}
    source = open_source(write_lmdb(tmp_path / "bedroom_lmdb", pictures))
    assert [source.read(name) for name in image_names(source)] == list(pictures.values())
    assert [pickle.loads(pickle.dumps(source)).read(name) for name in source.names] == list(pictures.values())


@pytest.mark.parametrize("kind", ["list.txt", "list.csv", "list.json", "labels.json"])
def test_lists(tmp_path, kind):
    write_folder(tmp_path / "data", FILES)
    names = [f"data/{name}" for name in reversed(FILES) if name.endswith(".png")]
    text = {
        "list.txt": "# chosen\n" + "\n".join(names),
        "list.csv": "name,score\n" + "\n".join(f"{name},1" for name in names),
        "list.json": json.dumps(names),
        "labels.json": json.dumps({"labels": [[name, [0.0] * 25] for name in names]}),
    }[kind]
    (tmp_path / kind).write_text(text)
    source = open_source(tmp_path / kind)
    assert image_names(source) == names
    assert source.read(names[0]) == FILES[names[0].removeprefix("data/")]
    assert bool(read_label_file(source)) == (kind == "labels.json")


def test_refusals(tmp_path, monkeypatch):
    (tmp_path / "empty").mkdir()
    (tmp_path / "names.txt").write_text("missing.png")
    (tmp_path / "bad.json").write_text('{"a": 1}')
    (tmp_path / "cut.tar.gz").write_bytes(gzip.compress(b"x" * 5000)[:30])
    (tmp_path / "no.tar").write_bytes(b"x" * 5000)
    (tmp_path / "cifar.pkl").write_bytes(b"x")
    for name, message in [
        ("missing", "no such file"),
        ("names.txt", "which is not there"),
        ("bad.json", "expected a list of file names"),
        ("cut.tar.gz", "not a readable tar"),
        ("no.tar", "of tars, plain"),
        ("cifar.pkl", "not a source of pictures"),
    ]:
        with pytest.raises(ArchiveError, match=message):
            open_source(tmp_path / name)
    with pytest.raises(ArchiveError, match="no pictures"):
        image_names(open_source(tmp_path / "empty"))


def test_tar_that_leads_outside_or_explodes(tmp_path, monkeypatch):
    with pytest.raises(ArchiveError, match="leads outside"):
        open_source(write_tar(tmp_path / "evil.tar", {"../evil.png": b"x"}))
    monkeypatch.setattr(sources, "MAX_UNPACKED_RATIO", 2)
    bomb = write_tar(tmp_path / "bomb.tar.gz", {"zeros.png": bytes(5 * 2**20)}, "w:gz")
    with pytest.raises(ArchiveError, match="unpacks to more than 2 times"):
        open_source(bomb)


def test_zip_that_explodes(tmp_path):
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("zeros.png", bytes(51 * 2**20))
    with pytest.raises(ArchiveError, match=r"'zeros\.png' unpacks to more than 50 times its size"):
        open_source(tmp_path / "bomb.zip")


def test_links_in_tars_are_not_followed(tmp_path):
    with tarfile.open(tmp_path / "link.tar", "w") as tar:
        link = tarfile.TarInfo("a.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
        data = png(picture(0))
        real = tarfile.TarInfo("b.png")
        real.size = len(data)
        tar.addfile(real, io.BytesIO(data))
    assert open_source(tmp_path / "link.tar").names == ["b.png"]


def test_pictures_of_a_tar_survive_its_python_object(tmp_path):
    names = image_names(open_source(write_tar(tmp_path / "set.tar.gz", FILES, "w:gz")))
    assert np.array_equal(names, sorted(names))
