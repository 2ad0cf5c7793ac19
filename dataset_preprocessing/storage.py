"""Writing data sets: stored zips or folders that appear under their final name only when they are complete.

Work goes to a hidden neighbour of the destination. A run that is killed leaves it there, and the same command
finishes it: whole entries are kept, a torn one is written again, and the bytes come out the same.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import struct
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol, Self

from training.archive import Fingerprint, fingerprint

_LOCAL = struct.Struct("<4s5H3L2H")
_CENTRAL = struct.Struct("<4s6H3L5H2L")
_ZIP64_END = struct.Struct("<4sQ2H2L4Q")
_ZIP64_LOCATOR = struct.Struct("<4sLQL")
_END = struct.Struct("<4s4H2LH")
_UTF8 = 0x800
_FAR, _MANY = 0xFFFFFFFF, 0xFFFF
"""From these offsets and counts on, records of 64 bits are written."""
_EPOCH = 0x21
"""1 January 1980, the zip format's zero: entries carry no time, so that equal content gives equal bytes."""


class StorageError(RuntimeError):
    """A destination that cannot be written; the message names it and the mend."""


def plan_hash(plan: Any) -> str:
    """Twelve hexadecimal digits of a JSON-able description of a piece of work."""
    return hashlib.sha256(json.dumps(plan, sort_keys=True, default=str).encode()).hexdigest()[:12]


def write_atomically(path: Path, data: bytes) -> None:
    """Put data under a name, whole or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_bytes(data)
    os.replace(temporary, path)


class Writer(Protocol):
    """Takes named contents; they are in place when its `with` block ends without an exception."""

    done: list[str]

    def add(self, name: str, data: bytes) -> None:
        """Write one entry."""

    def fingerprints(self) -> dict[str, Fingerprint]:
        """Names of all entries so far, and what tells their contents apart."""

    def finish(self) -> None:
        """Put the work under its final name."""

    def abandon(self) -> None:
        """Leave what is written for the next run."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.finish()
        else:
            self.abandon()


def open_writer(dest: str | os.PathLike[str], plan: Any) -> Writer:
    """A writer for a destination: a zip where the name ends in `.zip`, otherwise a folder.

    `plan` describes the work (options, sources); unfinished work is taken up again only for the same plan.
    Raises StorageError where the destination exists already or another process is writing it.
    """
    path = Path(dest).expanduser()
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise StorageError(f"{path} exists already; remove it or choose another --dest")
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{plan_hash(plan)}.partial")
    lock = _lock(path)
    for stale in path.parent.glob(f".{path.name}.*.partial"):
        if stale != partial:
            shutil.rmtree(stale) if stale.is_dir() else stale.unlink()
    return ZipWriter(path, partial, lock) if path.suffix.lower() == ".zip" else FolderWriter(path, partial, lock)


def _lock(path: Path) -> IO[bytes]:
    name = path.with_name(f".{path.name}.lock")
    file = name.open("wb")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        raise StorageError(
            f"{path} is being written by another process; wait for it or choose another --dest"
        ) from None
    return file


def _unlock(lock: IO[bytes]) -> None:
    Path(lock.name).unlink(missing_ok=True)
    lock.close()


@dataclass(frozen=True)
class _Entry:
    name: bytes
    print: Fingerprint
    offset: int

    @property
    def size(self) -> int:
        return self.print[0]

    @property
    def crc(self) -> int:
        return self.print[1]


class ZipWriter(Writer):
    """Writes the entries of a stored zip one after the other. `done` names those that an earlier run completed."""

    def __init__(self, path: Path, partial: Path, lock: IO[bytes]) -> None:
        self.path, self._partial, self._lock = path, partial, lock
        self._file = partial.open("r+b" if partial.exists() else "w+b")
        self._entries = _whole_entries(self._file)
        self.done = [entry.name.decode() for entry in self._entries]
        self._end = self._entries[-1].offset + _record_size(self._entries[-1]) if self._entries else 0
        self._file.seek(self._end)
        self._file.truncate()

    def restart(self) -> None:
        """Forget what an earlier run completed."""
        self._entries, self.done, self._end = [], [], 0
        self._file.seek(0)
        self._file.truncate()

    def add(self, name: str, data: bytes) -> None:
        """Append one entry."""
        entry = _Entry(name.encode(), fingerprint(data), self._end)
        header = (b"PK\3\4", 20, _UTF8, 0, 0, _EPOCH, entry.crc, entry.size, entry.size, len(entry.name), 0)
        self._file.write(_LOCAL.pack(*header) + entry.name)
        self._file.write(data)
        self._entries.append(entry)
        self._end += _record_size(entry)

    def fingerprints(self) -> dict[str, Fingerprint]:
        """Names of all entries so far, and what tells their contents apart."""
        return {entry.name.decode(): entry.print for entry in self._entries}

    def finish(self) -> None:
        """Write the index and put the file under its final name."""
        index = b"".join(map(_central_record, self._entries))
        self._file.write(index + _end_records(len(self._entries), len(index), self._end))
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        os.replace(self._partial, self.path)
        _unlock(self._lock)

    def abandon(self) -> None:
        """Leave what is written for the next run."""
        self._file.close()
        _unlock(self._lock)


class FolderWriter(Writer):
    """Writes files below a folder. `done` names those that an earlier run completed."""

    def __init__(self, path: Path, partial: Path, lock: IO[bytes]) -> None:
        self.path, self._partial, self._lock = path, partial, lock
        partial.mkdir(exist_ok=True)
        for torn in partial.rglob(".*.tmp"):
            torn.unlink()
        self.done = self._names()

    def add(self, name: str, data: bytes) -> None:
        """Write one file."""
        target = self._partial / name
        target.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(target, data)

    def fingerprints(self) -> dict[str, Fingerprint]:
        """Names of all files so far, sorted, and what tells their contents apart."""
        return {name: fingerprint((self._partial / name).read_bytes()) for name in self._names()}

    def _names(self) -> list[str]:
        return sorted(file.relative_to(self._partial).as_posix() for file in self._partial.rglob("*") if file.is_file())

    def finish(self) -> None:
        """Put the folder under its final name."""
        os.replace(self._partial, self.path)
        _unlock(self._lock)

    def abandon(self) -> None:
        """Leave what is written for the next run."""
        _unlock(self._lock)


def remaining(writer: Writer, names: Iterable[str]) -> list[str]:
    """The names still to be written, in order. Of a zip these are the names after the last that an earlier run wrote.

    A zip whose entries do not fit the order of the names is begun again.
    """
    names = list(names)
    done = set(writer.done)
    if isinstance(writer, FolderWriter):
        return [name for name in names if name not in done]
    if isinstance(writer, ZipWriter) and [name for name in names if name in done] != writer.done:
        writer.restart()
    return names[names.index(writer.done[-1]) + 1 :] if writer.done else names


def _record_size(entry: _Entry) -> int:
    return _LOCAL.size + len(entry.name) + entry.size


def _whole_entries(file: IO[bytes]) -> list[_Entry]:
    """The undamaged entries at the start of a zip that has no index yet."""
    entries: list[_Entry] = []
    file.seek(0)
    while len(header := file.read(_LOCAL.size)) == _LOCAL.size and header[:4] == b"PK\3\4":
        *_, crc, size, _, name_length, _ = _LOCAL.unpack(header)
        offset = file.tell() - _LOCAL.size
        name = file.read(name_length)
        data = file.read(size)
        if len(data) != size or zlib.crc32(data) != crc:
            break
        entries.append(_Entry(name, fingerprint(data), offset))
    return entries


def _central_record(entry: _Entry) -> bytes:
    far = entry.offset >= _FAR
    extra = struct.pack("<2HQ", 1, 8, entry.offset) if far else b""
    offset = 0xFFFFFFFF if far else entry.offset
    version = 45 if far else 20
    fields = (version, version, _UTF8, 0, 0, _EPOCH, entry.crc, entry.size, entry.size, len(entry.name), len(extra))
    return _CENTRAL.pack(b"PK\1\2", *fields, 0, 0, 0, 0, offset) + entry.name + extra


def _end_records(count: int, index_size: int, index_offset: int) -> bytes:
    records = b""
    if count >= _MANY or index_offset + index_size >= _FAR:
        records += _ZIP64_END.pack(b"PK\6\6", 44, 45, 45, 0, 0, count, count, index_size, index_offset)
        records += _ZIP64_LOCATOR.pack(b"PK\6\7", 0, index_offset + index_size, 1)
        count, index_size, index_offset = 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF
    return records + _END.pack(b"PK\5\6", 0, 0, count, count, index_size, index_offset, 0)
