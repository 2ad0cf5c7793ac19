"""Stored zips and folders: whole or not at all, continued after a kill, readable by everyone."""

from __future__ import annotations

import zipfile

import pytest

from dataset_preprocessing import storage
from dataset_preprocessing.storage import StorageError, open_writer, remaining

CONTENT = {f"{i // 3}/file{i}.bin": bytes([i]) * (100 * i + 1) for i in range(8)}


def write(dest, stop_after: int | None = None) -> None:
    with open_writer(dest, "plan") as writer:
        for count, name in enumerate(remaining(writer, CONTENT)):
            if count == stop_after:
                raise KeyboardInterrupt
            writer.add(name, CONTENT[name])


def test_zip_reads_back_everywhere(tmp_path):
    write(tmp_path / "set.zip")
    with zipfile.ZipFile(tmp_path / "set.zip") as file:
        assert file.testzip() is None
        assert {name: file.read(name) for name in file.namelist()} == CONTENT
        assert all(info.compress_type == zipfile.ZIP_STORED for info in file.infolist())
    assert [path.name for path in tmp_path.iterdir()] == ["set.zip"]


def test_large_zips_get_64_bit_records(tmp_path, monkeypatch):
    monkeypatch.setattr(storage, "_FAR", 300)
    monkeypatch.setattr(storage, "_MANY", 3)
    write(tmp_path / "set.zip")
    with zipfile.ZipFile(tmp_path / "set.zip") as file:
        assert {name: file.read(name) for name in file.namelist()} == CONTENT


@pytest.mark.parametrize("name", ["set.zip", "set"])
@pytest.mark.parametrize("stop_after", [0, 1, 5])
def test_interrupted_work_goes_on_to_the_same_bytes(tmp_path, name, stop_after):
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / name, stop_after)
    assert not (tmp_path / name).exists()
    write(tmp_path / name)
    write(tmp_path / f"other-{name}")
    if name == "set.zip":
        assert (tmp_path / name).read_bytes() == (tmp_path / f"other-{name}").read_bytes()
    else:
        assert {
            p.relative_to(tmp_path / name).as_posix(): p.read_bytes() for p in (tmp_path / name).rglob("*.bin")
        } == CONTENT
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("cut", [1, 40, 130, 500, 1900])
def test_torn_zip_is_mended(tmp_path, cut):
    """As after a kill or a full disk: the unfinished file ends in the middle of an entry, or in garbage."""
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "set.zip", 6)
    (partial,) = tmp_path.glob(".set.zip.*.partial")
    data = partial.read_bytes()
    partial.write_bytes(data[:-cut] + bytes(cut // 2))
    write(tmp_path / "set.zip")
    write(tmp_path / "other.zip")
    assert (tmp_path / "set.zip").read_bytes() == (tmp_path / "other.zip").read_bytes()


def test_torn_file_of_a_folder_leaves_no_trace(tmp_path):
    """As after a kill between writing a file and giving it its name: it counts for nothing, not even for the hash."""
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "set", 3)
    (partial,) = tmp_path.glob(".set.*.partial")
    (partial / ".late.bin.4711.tmp").write_bytes(b"half of")
    with open_writer(tmp_path / "set", "plan") as writer:
        assert set(writer.done) == set(writer.fingerprints()) < set(CONTENT)
        for name in remaining(writer, CONTENT):
            writer.add(name, CONTENT[name])
    assert {p.relative_to(tmp_path / "set").as_posix() for p in (tmp_path / "set").rglob("*.*")} == set(CONTENT)


def test_another_plan_starts_afresh(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "set.zip", 4)
    with open_writer(tmp_path / "set.zip", "another plan") as writer:
        assert writer.done == []
        writer.add("only.bin", b"1")
    assert zipfile.ZipFile(tmp_path / "set.zip").namelist() == ["only.bin"]
    assert not list(tmp_path.glob(".*"))


def test_entries_that_do_not_fit_the_plan_are_dropped(tmp_path):
    with pytest.raises(KeyboardInterrupt), open_writer(tmp_path / "set.zip", "plan") as writer:  # noqa: PT012
        writer.add("foreign.bin", b"1")
        raise KeyboardInterrupt
    write(tmp_path / "set.zip")
    assert zipfile.ZipFile(tmp_path / "set.zip").namelist() == list(CONTENT)


def test_left_out_names_stay_left_out(tmp_path):
    """A run that skipped a broken picture and was then killed does not write what it skipped behind the rest."""
    names = list(CONTENT)
    with pytest.raises(KeyboardInterrupt), open_writer(tmp_path / "set.zip", "plan") as writer:  # noqa: PT012
        writer.add(names[0], b"1")
        writer.add(names[2], b"2")
        raise KeyboardInterrupt
    with open_writer(tmp_path / "set.zip", "plan") as writer:
        assert remaining(writer, names) == names[3:]


def test_existing_destinations_are_kept(tmp_path):
    (tmp_path / "set.zip").write_bytes(b"mine")
    with pytest.raises(StorageError, match="exists already"):
        write(tmp_path / "set.zip")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    with pytest.raises(StorageError, match="exists already"):
        write(tmp_path / "full")
    (tmp_path / "empty").mkdir()
    write(tmp_path / "empty")
    assert (tmp_path / "set.zip").read_bytes() == b"mine"


def test_two_writers_of_one_destination(tmp_path):
    with open_writer(tmp_path / "set.zip", "plan") as writer:
        with pytest.raises(StorageError, match="written by another process"):
            open_writer(tmp_path / "set.zip", "plan")
        writer.add("a", b"1")
    assert (tmp_path / "set.zip").exists()
