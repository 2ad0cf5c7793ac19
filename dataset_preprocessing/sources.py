"""Pictures from anywhere, read by name: folders, zips, tars, LMDB stores, lists of files.

Sources are picklable, so that worker processes read for themselves. What comes from outside is not trusted: names that
lead out of an archive, archives that unpack to a multiple of their size and links are refused.
"""

from __future__ import annotations

import csv
import functools
import gzip
import io
import lzma
import os
import tarfile
import tempfile
from pathlib import Path
from typing import Any

from dataset_preprocessing.extras import need
from training.archive import (
    LABEL_FILE,
    MAX_ENTRY_BYTES,
    MAX_UNPACKED_RATIO,
    ArchiveError,
    Source,
    check_name,
    is_image,
    open_archive,
    parse_json,
)


def open_source(path: str | os.PathLike[str]) -> Source:
    """The source at a path: folder, `.zip`, `.tar` (also compressed), `*_lmdb` folder, `.txt`, `.csv` or `.json` list.

    Raises ArchiveError where there is none, or one that cannot be trusted.
    """
    location = Path(path).expanduser()
    name = location.name.lower()
    if not location.exists():
        raise ArchiveError(f"{location}: no such file or folder")
    if location.is_dir():
        store = name.endswith("lmdb") or (location / "data.mdb").exists()
        return LmdbSource(location) if store else open_archive(location)
    if ".tar" in name or name.endswith((".tgz", ".txz")):
        return TarSource(location)
    if name.endswith((".txt", ".csv", ".json")):
        return ListSource(location)
    if name.endswith((".gz", ".pickle", ".pkl")):
        raise ArchiveError(
            f"{location}: not a source of pictures; give a folder, zip, tar, LMDB folder or a list of files"
        )
    return open_archive(location)


def image_names(source: Source) -> list[str]:
    """Names of the pictures of a source, sorted; ArchiveError where there are none."""
    names = source.names if isinstance(source, LmdbSource) else [name for name in source.names if is_image(name)]
    if not names:
        raise ArchiveError(f"{source.path}: no pictures (PNG, JPEG, ...) inside")
    return names


class TarSource:
    """Files of a tar. A compressed one is unpacked to a temporary file first, for reading in any order."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._plain = path
        self._temporary: Any = None
        try:
            if not _is_plain_tar(path):
                self._temporary = tempfile.TemporaryDirectory(prefix="unpacked-")
                self._plain = Path(self._temporary.name) / "plain.tar"
                _unpack(path, self._plain)
            with tarfile.open(self._plain, "r:") as tar:
                self._places = {
                    check_name(member.name, path).removeprefix("./"): (member.offset_data, member.size)
                    for member in tar
                    if member.isreg()
                }
        except (tarfile.TarError, OSError, EOFError, lzma.LZMAError) as error:
            raise ArchiveError(f"{path}: not a readable tar ({error}); is the copy complete?") from None

    @property
    def names(self) -> list[str]:
        """All file names, sorted."""
        return sorted(self._places)

    def read(self, name: str) -> bytes:
        """The whole content of one file."""
        return self.head(name, MAX_ENTRY_BYTES)

    def head(self, name: str, size: int) -> bytes:
        """The first `size` bytes of one file, or all of a shorter one."""
        if name not in self._places:
            raise ArchiveError(f"{self.path}: holds no file {name!r}")
        offset, whole = self._places[name]
        if whole > MAX_ENTRY_BYTES:
            raise ArchiveError(f"{self.path}: {name} has {whole:,} bytes, over the limit of {MAX_ENTRY_BYTES:,}")
        size = min(size, whole)
        with open(self._plain, "rb") as file:
            file.seek(offset)
            data = file.read(size)
        if len(data) != size:
            raise ArchiveError(f"{self.path}: {name} is cut off; is the copy complete?")
        return data

    def __getstate__(self) -> dict[str, Any]:
        """The temporary file stays with the process that made it."""
        return {**self.__dict__, "_temporary": None}


def _is_plain_tar(path: Path) -> bool:
    with open(path, "rb") as file:
        return file.read(265)[257:262] == b"ustar"


def _unpack(path: Path, target: Path) -> None:
    suffix = path.suffix.lower()
    if suffix not in (".gz", ".tgz", ".xz", ".txz"):
        raise ArchiveError(f"{path}: of tars, plain, .gz and .xz ones are read; unpack it first")
    limit = MAX_UNPACKED_RATIO * max(path.stat().st_size, 2**20)
    with gzip.open(path) if suffix in (".gz", ".tgz") else lzma.open(path) as packed, open(target, "wb") as plain:
        while block := packed.read(2**20):
            if plain.tell() + len(block) > limit:
                raise ArchiveError(f"{path}: unpacks to more than {MAX_UNPACKED_RATIO} times its size; refused")
            plain.write(block)


class LmdbSource:
    """Values of an LMDB store, as made for LSUN: keys are names, values picture files."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with _lmdb_environment(path).begin() as transaction:
            self._keys = {_lmdb_name(bytes(key)): bytes(key) for key in transaction.cursor().iternext(values=False)}

    @property
    def names(self) -> list[str]:
        """Names of all values, sorted by key."""
        return list(self._keys)

    def read(self, name: str) -> bytes:
        """One value."""
        with _lmdb_environment(self.path).begin() as transaction:
            value = transaction.get(self._keys[name])
        if value is None or len(value) > MAX_ENTRY_BYTES:
            raise ArchiveError(f"{self.path}: {name} is missing or larger than {MAX_ENTRY_BYTES:,} bytes")
        return bytes(value)

    def head(self, name: str, size: int) -> bytes:
        """The first `size` bytes of one value."""
        return self.read(name)[:size]


@functools.cache
def _lmdb_environment(path: Path) -> Any:
    """The open store; LMDB admits one to a process."""
    lmdb = need("lmdb", f"{path} is an LMDB store, and reading it")
    try:
        return lmdb.open(str(path), readonly=True, lock=False, readahead=False)
    except lmdb.Error as error:
        raise ArchiveError(f"{path}: not a readable LMDB store ({error})") from None


def _lmdb_name(key: bytes) -> str:
    text = key.decode("utf-8", "backslashreplace").replace("/", "_")
    return text if text.isprintable() else key.hex()


class ListSource:
    """Pictures named by a file: one path a line (.txt), the first column (.csv), or a list or `labels` pairs (.json).

    Relative paths start from the list's folder. A `.json` list with labels carries them along.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        data = path.read_bytes()
        if len(data) > MAX_ENTRY_BYTES:
            raise ArchiveError(f"{path}: larger than {MAX_ENTRY_BYTES:,} bytes; refused")
        self._labels = b""
        self._paths = {name.replace("\\", "/"): Path(path.parent, name).expanduser() for name in self._read(data)}
        for name, file in self._paths.items():
            if not file.is_file():
                raise ArchiveError(f"{path}: names {name!r}, which is not there")

    def _read(self, data: bytes) -> list[str]:
        suffix = self.path.suffix.lower()
        if suffix == ".json":
            content = parse_json(data, str(self.path))
            if isinstance(content, dict) and isinstance(content.get("labels"), list):
                self._labels = data
                content = [pair[0] for pair in content["labels"] if isinstance(pair, list) and pair]
            if not isinstance(content, list) or not all(isinstance(name, str) for name in content):
                raise ArchiveError(f"{self.path}: expected a list of file names, or a label file")
            return content
        text = data.decode("utf-8-sig", "surrogateescape")
        if suffix == ".csv":
            return [row[0] for row in csv.reader(io.StringIO(text)) if row and is_image(os.path.basename(row[0]))]
        return [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]

    @property
    def names(self) -> list[str]:
        """The paths as the list gives them, in its order, and the label file if it has one."""
        return [*self._paths, *([LABEL_FILE] if self._labels else [])]

    def read(self, name: str) -> bytes:
        """The content of one picture, or the labels."""
        if name == LABEL_FILE and self._labels:
            return self._labels
        file = self._paths[name]
        if file.stat().st_size > MAX_ENTRY_BYTES:
            raise ArchiveError(f"{file}: larger than {MAX_ENTRY_BYTES:,} bytes; refused")
        return file.read_bytes()

    def head(self, name: str, size: int) -> bytes:
        """The first `size` bytes of one picture, or of the labels."""
        return self.read(name)[:size]
