"""Downloads that go on where they were cut off."""

from __future__ import annotations

import fcntl
import http.client
import os
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from tqdm import tqdm

BLOCK_BYTES = 2**20
ATTEMPTS = 5
TIMEOUT_SECONDS = 60
RANGE_NOT_SATISFIABLE = 416


def download(url: str, path: Path) -> None:
    """Writes what an address holds to `path`, which appears only when it is whole.

    What has arrived of a cut-off download stays beside it (`.part`) and is continued, now or by a later call, if the
    server still has the same version of the file. Several processes may ask for one file; one of them downloads.
    Raises ConnectionError where the address does not answer, or keeps breaking off.
    """
    partial, version = (path.with_name(path.name + ending) for ending in (".part", ".part.version"))
    reason = ""
    with _locked(partial) as file:
        for _attempt in range(ATTEMPTS):
            if path.is_file():
                partial.unlink()
                return
            try:
                received, expected = _transfer(url, file, version)
                if expected in (None, received):
                    os.replace(partial, path)
                    version.unlink(missing_ok=True)
                    return
                reason = f"it broke off after {received} of {expected} bytes"
            except urllib.error.HTTPError as error:
                if error.code != RANGE_NOT_SATISFIABLE:
                    _discard(partial, version)
                    raise ConnectionError(f"{url}: {error}") from error
                file.truncate(0)
            except (OSError, http.client.HTTPException) as error:
                reason = str(error)
        if partial.stat().st_size:
            reason += "; what has arrived is kept, run the command again to go on from there"
        else:
            _discard(partial, version)
    raise ConnectionError(f"{url}: {reason}")


@contextmanager
def _locked(path: Path) -> Iterator[IO[bytes]]:
    """A file open for appending that this process alone has; waits for others that have it."""
    while True:
        with open(path, "ab+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if _still_at(path, file):  # else whoever had it finished and moved it
                yield file
                return


def _still_at(path: Path, file: IO[bytes]) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _discard(partial: Path, version: Path) -> None:
    partial.unlink(missing_ok=True)
    version.unlink(missing_ok=True)


def _transfer(url: str, file: IO[bytes], version: Path) -> tuple[int, int | None]:
    """Appends what the file still lacks; bytes it has then, and bytes it should have (None: the server did not say)."""
    have = file.seek(0, os.SEEK_END)
    tag = version.read_text() if version.is_file() else ""
    headers = {"Range": f"bytes={have}-", "If-Range": tag} if have and tag else {}
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT_SECONDS) as response:
        if response.status != http.client.PARTIAL_CONTENT:
            have = 0
            file.truncate(0)
        version.write_text(response.headers.get("ETag") or response.headers.get("Last-Modified") or "")
        length = response.headers.get("Content-Length")
        total = None if length is None else have + int(length)
        name = url.rpartition("/")[2]
        with tqdm(total=total, initial=have, unit="B", unit_scale=True, desc=name, leave=False, disable=None) as bar:
            while block := response.read(BLOCK_BYTES):
                file.write(block)
                file.flush()
                bar.update(len(block))
        return file.tell(), total
