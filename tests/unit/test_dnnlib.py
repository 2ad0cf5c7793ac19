"""Number formatting, the log file, atomic files, downloads."""

from __future__ import annotations

import errno
import hashlib
import http.server
import os
import sys
import threading

import click
import pytest

from dnnlib import files
from dnnlib.refusals import refusals_in_words
from dnnlib.util import Logger, format_bytes, format_seconds


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (59.4, "59s"), (59.6, "1m 00s"), (187, "3m 07s"), (18120, "5h 02m"), (212400, "2d 11h"), (-3, "0s")],
)
def test_format_seconds(seconds, text):
    assert format_seconds(seconds) == text


@pytest.mark.parametrize(("count", "text"), [(512, "512 B"), (1536, "1.5 KiB"), (1.43 * 2**30, "1.43 GiB")])
def test_format_bytes(count, text):
    assert format_bytes(count) == text


def test_logger_keeps_lines_but_not_progress(tmp_path, capsys):
    with Logger(tmp_path / "log.txt"):
        print("kept")
        print("progress", end="\r")
        print("an error", file=sys.stderr)
    print("after")
    assert (tmp_path / "log.txt").read_text() == "kept\nan error\n"
    captured = capsys.readouterr()
    assert captured.out == "kept\nprogress\rafter\n"
    assert captured.err == "an error\n"


def test_atomic_path_leaves_all_or_nothing(tmp_path):
    target = tmp_path / "out.bin"
    files.write_text(target, "old")
    with pytest.raises(UnicodeEncodeError), files.atomic_path(target) as temporary:
        temporary.write_text("half, and then \ud800", encoding="utf-8")
    assert [path.name for path in tmp_path.iterdir()] == ["out.bin"]
    assert target.read_text() == "old"
    with files.atomic_path(target) as temporary:
        temporary.write_text("new")
    assert target.read_text() == "new"
    assert target.stat().st_mode & 0o400


def test_errors_name_the_file_that_was_to_be_written(tmp_path):
    with pytest.raises(FileNotFoundError) as nowhere:
        files.write_text(tmp_path / "none" / "out.txt", "text")
    assert nowhere.value.filename == str(tmp_path / "none" / "out.txt")
    with pytest.raises(OSError, match="No space left") as full, files.atomic_path(tmp_path / "out.txt"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert full.value.filename == str(tmp_path / "out.txt")
    with pytest.raises(FileNotFoundError) as other, files.atomic_path(tmp_path / "out.txt"):
        (tmp_path / "source.txt").read_text()
    assert other.value.filename == str(tmp_path / "source.txt")
    assert list(tmp_path.iterdir()) == []


def test_refusals_of_the_system_are_one_sentence(tmp_path):
    @refusals_in_words()
    def command(error: Exception) -> None:
        raise error

    full = OSError(errno.ENOSPC, "No space left on device", "a.txt")
    for error, message in ((full, "a.txt: No space left on device"), (OSError(errno.EIO, "Bad disk"), "Bad disk")):
        with pytest.raises(click.ClickException) as refused:
            command(error)
        assert refused.value.message == message
    others = (BrokenPipeError(errno.EPIPE, "Broken pipe"), OSError("none of the system's"), ValueError("x"))
    for other in others:
        with pytest.raises(type(other)):
            command(other)


@pytest.fixture
def server(tmp_path):
    folder = tmp_path / "served"
    folder.mkdir()
    (folder / "net.pkl").write_bytes(b"weights")

    class Handler(http.server.SimpleHTTPRequestHandler):
        requests: list[str] = []

        def __init__(self, *args):
            super().__init__(*args, directory=str(folder))

        def log_message(self, *args):
            self.requests.append(self.path)

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as instance:
        threading.Thread(target=instance.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{instance.server_port}", Handler.requests
        instance.shutdown()


def test_fetch_downloads_once_and_checks_the_hash(server, tmp_path, monkeypatch):
    address, requests = server
    monkeypatch.setenv(files.CACHE_VARIABLE, str(tmp_path / "cache"))
    digest = hashlib.sha256(b"weights").hexdigest()
    path = files.fetch(f"{address}/net.pkl", digest)
    assert path.read_bytes() == b"weights"
    assert files.fetch(f"{address}/net.pkl", digest.upper()) == path
    assert len(requests) == 1
    with pytest.raises(ValueError, match="expected 0000"):
        files.fetch(path, "0" * 64)


def test_fetch_says_what_is_missing(server, tmp_path, monkeypatch):
    monkeypatch.setenv(files.CACHE_VARIABLE, str(tmp_path / "cache"))
    with pytest.raises(FileNotFoundError, match=r"nothing\.pkl: no such file"):
        files.fetch(tmp_path / "nothing.pkl")
    with pytest.raises(ConnectionError, match="404"):
        files.fetch(f"{server[0]}/nothing.pkl")
    assert not list((tmp_path / "cache" / "downloads").iterdir())
