"""Files of a data set by name, from a folder or a zip, safe to share between threads, forks and pickles.

Names are relative and have forward slashes. Nothing here trusts the file: names that lead outside, sizes that
lie, unknown compression and damaged bytes are refused with an ArchiveError that names the file and the entry.
"""

from __future__ import annotations

import io
import json
import os
import struct
import warnings
import zipfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from PIL import Image

LABEL_FILE = "dataset.json"
IMAGE_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
MAX_ENTRY_BYTES = 512 * 2**20
"""Larger entries are refused: no picture or label file of a training set comes near."""

MAX_UNPACKED_RATIO = 50
"""What unpacks to more than this multiple of its size, or of a mebibyte, is refused; pictures hardly shrink."""

MAX_PIXELS = 64 * 2**20
"""Pictures of more pixels are refused unread."""

_HEADER_BYTES = 64
_TAIL_BYTES = 32
_UTF8_NAME = 0x800
_LOCAL_HEADER = struct.Struct("<4s5H3L2H")


class ArchiveError(ValueError):
    """A folder or archive that cannot be read as it stands; the message names it and the mend."""


@runtime_checkable
class Source(Protocol):
    """Read access to files by name."""

    path: Path

    @property
    def names(self) -> list[str]:
        """All file names, in a fixed order."""

    def read(self, name: str) -> bytes:
        """The whole content of one file."""

    def head(self, name: str, size: int) -> bytes:
        """The first `size` bytes of one file, or all of a shorter one."""


Fingerprint = tuple[int, int, str]
"""Size in bytes, CRC-32 and last bytes (hexadecimal) of a content.

The CRC-32 of a PNG alone would not do: the CRCs inside the file leave it about 16 bits to differ in. The last bytes
hold the checksum of its pixels.
"""


def fingerprint(data: bytes) -> Fingerprint:
    """Size, CRC-32 and last bytes of a content."""
    return len(data), zlib.crc32(data), data[-_TAIL_BYTES:].hex()


def open_archive(path: str | os.PathLike[str]) -> Archive:
    """The archive at a path (with `~` expanded): a folder or a zip.

    Raises ArchiveError where there is neither.
    """
    location = Path(path).expanduser()
    if location.is_dir():
        return FolderArchive(location)
    if not location.exists():
        raise ArchiveError(f"{location}: no such file or folder")
    if not zipfile.is_zipfile(location):
        raise ArchiveError(f"{location}: neither a folder nor a readable zip file; is the copy complete?")
    return ZipArchive(location)


def is_image(name: str) -> bool:
    """Whether a name is that of a picture, by its suffix; hidden and macOS resource files are not."""
    parts = name.split("/")
    hidden = any(part.startswith(".") or part == "__MACOSX" for part in parts)
    return not hidden and os.path.splitext(parts[-1])[1].lower() in IMAGE_SUFFIXES


def check_name(name: str, archive: object) -> str:
    """The entry's name with forward slashes; ArchiveError for one that leads outside the archive."""
    clean = name.replace("\\", "/")
    outside = clean.startswith("/") or ".." in clean.split("/") or clean[1:2] == ":" or "\0" in clean
    if outside or not clean:
        raise ArchiveError(f"{archive}: entry {name!r} leads outside the archive; refused")
    return clean


def parse_json(data: bytes, where: str, allow_nan: bool = False) -> Any:
    """The value of JSON text; ArchiveError (with `where`) for what is not plain, reasonably nested JSON.

    NaN and infinities, which some programs write, are refused too unless `allow_nan`.
    """

    def refuse_constant(text: str) -> None:
        raise ValueError(f"{text} is not a number of JSON")

    try:
        return json.loads(data.decode("utf-8-sig"), parse_constant=None if allow_nan else refuse_constant)
    except RecursionError:
        raise ArchiveError(f"{where}: nested too deeply to be a label file; refused") from None
    except ValueError as error:
        raise ArchiveError(f"{where}: not valid JSON ({error})") from None


class FolderArchive:
    """All files below a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path
        found = []
        for folder, folders, files in os.walk(path):
            folders.sort()
            prefix = os.path.relpath(folder, path).replace(os.sep, "/")
            found += files if prefix == "." else [f"{prefix}/{file}" for file in files]
        self._names = sorted(found)
        self.foreign_names = [name for name in self._names if any("\ud800" <= char <= "\udfff" for char in name)]
        self._known = frozenset(found)

    @property
    def names(self) -> list[str]:
        """All file names, sorted."""
        return self._names

    def read(self, name: str) -> bytes:
        """The whole content of one file."""
        return self.head(name, MAX_ENTRY_BYTES + 1)

    def head(self, name: str, size: int) -> bytes:
        """The first `size` bytes of one file, or all of a shorter one."""
        if name not in self._known:
            raise ArchiveError(f"{self.path}: holds no file {name!r}")
        try:
            with open(self.path / name, "rb") as file:
                data = file.read(size)
        except OSError as error:
            raise ArchiveError(f"{self.path / name}: {error.strerror}") from None
        if len(data) > MAX_ENTRY_BYTES:
            raise ArchiveError(f"{self.path / name}: larger than {MAX_ENTRY_BYTES >> 20} MiB; refused")
        return data

    def fingerprint(self, name: str) -> Fingerprint:
        """What tells the content of one file from that of others."""
        return fingerprint(self.read(name))


@dataclass(frozen=True)
class _Entry:
    """Where one file lies inside a zip."""

    header_offset: int
    compressed_size: int
    size: int
    crc: int
    deflated: bool


@dataclass
class _Handle:
    """A file descriptor that belongs to one process; reading by position leaves nothing to share or lock."""

    fd: int = -1
    pid: int = -1

    def __del__(self) -> None:
        if self.fd >= 0 and self.pid == os.getpid():
            os.close(self.fd)


@dataclass(eq=False)
class ZipArchive:
    """Files of a zip, stored or deflated."""

    path: Path
    foreign_names: list[str] = field(default_factory=list, repr=False)
    """Names in an unknown encoding, read as that of MS-DOS."""
    _entries: dict[str, _Entry] = field(default_factory=dict, repr=False)
    _handle: _Handle = field(default_factory=_Handle, repr=False)

    def __post_init__(self) -> None:
        try:
            with zipfile.ZipFile(self.path) as file:
                infos = file.infolist()
        except (zipfile.BadZipFile, OSError, NotImplementedError, struct.error) as error:
            raise ArchiveError(f"{self.path}: not a readable zip ({error}); is the copy complete?") from None
        for info in infos:
            if not info.is_dir():
                name = check_name(info.filename, self.path)
                if not info.flag_bits & _UTF8_NAME and not name.isascii():
                    self.foreign_names.append(name)
                if name in self._entries:
                    raise ArchiveError(f"{self.path}: entry {name!r} occurs twice; make the archive anew")
                self._entries[name] = self._entry(info)

    def _entry(self, info: zipfile.ZipInfo) -> _Entry:
        where = f"{self.path}: entry {info.filename!r}"
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ArchiveError(f"{where} is neither stored nor deflated; make the zip anew with `zip -0`")
        if info.flag_bits & 1:
            raise ArchiveError(f"{where} is encrypted; make the zip anew without a password")
        if info.file_size > MAX_ENTRY_BYTES or info.compress_size > MAX_ENTRY_BYTES:
            raise ArchiveError(f"{where} claims {info.file_size:,} bytes, over the limit of {MAX_ENTRY_BYTES:,}")
        deflated = info.compress_type == zipfile.ZIP_DEFLATED
        if deflated and info.file_size > MAX_UNPACKED_RATIO * max(info.compress_size, 2**20):
            raise ArchiveError(f"{where} unpacks to more than {MAX_UNPACKED_RATIO} times its size; refused")
        return _Entry(info.header_offset, info.compress_size, info.file_size, info.CRC, deflated)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_handle": _Handle()}

    @property
    def names(self) -> list[str]:
        """All file names, sorted."""
        return sorted(self._entries)

    def read(self, name: str) -> bytes:
        """The whole content of one file, its CRC-32 verified."""
        entry = self._find(name)
        data = self._content(name, entry, entry.compressed_size, entry.size)
        if len(data) != entry.size or zlib.crc32(data) != entry.crc:
            raise ArchiveError(f"{self.path}: entry {name!r} is damaged (its checksum differs); make the zip anew")
        return data

    def head(self, name: str, size: int) -> bytes:
        """The first `size` bytes of one file, or all of a shorter one."""
        entry = self._find(name)
        # Deflate adds at most a few bytes a block to data that does not shrink.
        return self._content(name, entry, min(entry.compressed_size, size + 1024), min(size, entry.size))

    def fingerprint(self, name: str) -> Fingerprint:
        """What tells the content of one file from that of others; of a stored one only the end is read."""
        entry = self._find(name)
        if entry.deflated:
            return fingerprint(self.read(name))
        skipped = max(0, entry.size - _TAIL_BYTES)
        tail = self._stored(name, entry, skipped, entry.size - skipped)
        return entry.size, entry.crc, tail.hex()

    def _find(self, name: str) -> _Entry:
        if name not in self._entries:
            raise ArchiveError(f"{self.path}: holds no file {name!r}")
        return self._entries[name]

    def _stored(self, name: str, entry: _Entry, start: int, size: int) -> bytes:
        """A part of a stored entry."""
        header = self._pread(_LOCAL_HEADER.size, entry.header_offset)
        if len(header) < _LOCAL_HEADER.size or header[:4] != b"PK\3\4":
            raise ArchiveError(f"{self.path}: entry {name!r} is damaged (no header where the index says)")
        *_, name_length, extra_length = _LOCAL_HEADER.unpack(header)
        return self._pread(size, entry.header_offset + _LOCAL_HEADER.size + name_length + extra_length + start)

    def _content(self, name: str, entry: _Entry, compressed: int, size: int) -> bytes:
        # One read brings header and data; the lengths of the local name and extra field may differ from the index.
        slack = _LOCAL_HEADER.size + len(name.encode("utf-8", "surrogateescape")) + 128
        block = self._pread(slack + compressed, entry.header_offset)
        if len(block) < _LOCAL_HEADER.size or block[:4] != b"PK\3\4":
            raise ArchiveError(f"{self.path}: entry {name!r} is damaged (no header where the index says)")
        *_, name_length, extra_length = _LOCAL_HEADER.unpack_from(block)
        start = _LOCAL_HEADER.size + name_length + extra_length
        if start + compressed > len(block):
            block = self._pread(start + compressed, entry.header_offset)
        data = block[start : start + compressed]
        if not entry.deflated:
            return data[:size]
        try:
            return zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, max(size, 1))
        except zlib.error as error:
            raise ArchiveError(f"{self.path}: entry {name!r} is damaged ({error}); make the zip anew") from None

    def _pread(self, size: int, offset: int) -> bytes:
        handle = self._handle
        if handle.pid != os.getpid():
            handle = self._handle = _Handle(os.open(self.path, os.O_RDONLY), os.getpid())
        return os.pread(handle.fd, size, offset)


Archive = FolderArchive | ZipArchive


@dataclass(frozen=True)
class ImageHeader:
    """Size and kind of a picture file, read from its first bytes."""

    width: int
    height: int
    mode: str


_PNG_MODES: dict[int, str] = {0: "L", 2: "RGB", 3: "P", 4: "LA", 6: "RGBA"}


def png_header(head: bytes) -> ImageHeader | None:
    """Header of a PNG from its first 26 bytes; None for another format. 16-bit modes end in `;16`."""
    if len(head) < 26 or head[:8] != b"\x89PNG\r\n\x1a\n" or head[12:16] != b"IHDR":
        return None
    width, height, depth, color = struct.unpack(">LLBB", head[16:26])
    mode = _PNG_MODES.get(color, f"color type {color}")
    return ImageHeader(width, height, f"{mode};16" if depth == 16 else mode)


def image_header(archive: Source, name: str) -> ImageHeader:
    """Size and mode of a picture, read from as few bytes as its format allows; ArchiveError if unreadable."""
    header = png_header(archive.head(name, _HEADER_BYTES))
    if header is not None:
        return header
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(archive.read(name))) as image:
                return ImageHeader(image.width, image.height, image.mode)
    except (OSError, Image.DecompressionBombError, ValueError, SyntaxError) as error:
        raise ArchiveError(f"{archive.path}: {name} is no readable picture ({error}); replace or remove it") from None


def read_label_file(archive: Source, allow_nan: bool = False) -> dict[str, Any]:
    """Content of the archive's `dataset.json`; an empty dictionary where there is none.

    Raises ArchiveError where it is not a JSON object.
    """
    if LABEL_FILE not in archive.names:
        return {}
    where = f"{archive.path}: {LABEL_FILE}"
    content = parse_json(archive.read(LABEL_FILE), where, allow_nan)
    if not isinstance(content, dict):
        raise ArchiveError(f'{where}: expected an object like {{"labels": [[name, [25 numbers]], ...]}}')
    return content


def label_entries(content: dict[str, Any], where: str) -> dict[str, Any]:
    """Label of each file name, from the `labels` of a label file (pairs or an object); empty for null.

    Names come with forward slashes. Raises ArchiveError where entries are not pairs of a name and a label.
    """
    labels = content.get("labels")
    if labels is None:
        return {}
    pairs = list(labels.items()) if isinstance(labels, dict) else labels
    if not isinstance(pairs, list):
        raise ArchiveError(f"{where}: `labels` must be a list of [name, label] pairs or null")
    for number, pair in enumerate(pairs):
        if not (isinstance(pair, (list, tuple)) and len(pair) == 2 and isinstance(pair[0], str)):
            raise ArchiveError(f"{where}: entry {number} of `labels` is not a pair of a file name and a label")
    return {name.replace("\\", "/"): label for name, label in pairs}
