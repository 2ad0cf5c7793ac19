"""Files that are never half-written, and downloads that are kept and checked."""

from __future__ import annotations

import hashlib
import os
import tempfile
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dnnlib.download import download

CACHE_VARIABLE = "GAN3D_CACHE"
BLOCK_BYTES = 2**20


@contextmanager
def atomic_path(path: str | os.PathLike) -> Iterator[Path]:
    """A temporary file name in the folder of `path`, renamed to `path` when the block ends well, removed otherwise."""
    target = Path(path)
    with _errors_of(target):
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".tmp", dir=target.parent)
        os.close(handle)
        temporary = Path(name)
        try:
            yield temporary
            temporary.chmod(0o666 & ~_umask())
            os.replace(temporary, target)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


@contextmanager
def _errors_of(target: Path) -> Iterator[None]:
    """Errors of the file system name the file that was to be written: not a temporary one, and not none at all."""
    try:
        yield
    except OSError as error:
        unnamed = error.filename is None and error.errno is not None
        if unnamed or Path(str(error.filename)).name.startswith(f".{target.name}."):
            error.filename = str(target)
        raise


def write_text(path: str | os.PathLike, text: str) -> None:
    """Writes a whole text file, or leaves what was there."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def is_url(source: str) -> bool:
    """Whether a source is an address rather than a file name."""
    return urllib.parse.urlparse(source).scheme in ("http", "https")


def cache_folder() -> Path:
    """Where downloads and computed features are kept: $GAN3D_CACHE, or gan3d in the user's cache folder."""
    default = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")) / "gan3d"
    return Path(os.environ.get(CACHE_VARIABLE, default)).expanduser()


def sha256_of(path: str | os.PathLike) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def fetch(source: str | os.PathLike, sha256: str | None = None) -> Path:
    """Path of a local copy of a file or address; a download is kept in the cache folder and reused.

    Raises FileNotFoundError for a file that is not there, ConnectionError for an address that does not answer and
    ValueError where the bytes do not have the given hash.
    """
    name = os.fspath(source)
    if not is_url(name):
        path = Path(name).expanduser()
        if not path.is_file():
            raise FileNotFoundError(f"{path}: no such file")
    else:
        folder = cache_folder() / "downloads"
        base = Path(urllib.parse.urlparse(name).path).name or "download"
        path = folder / f"{hashlib.sha256(name.encode()).hexdigest()[:16]}-{base}"
        if not path.is_file():
            folder.mkdir(parents=True, exist_ok=True)
            download(name, path)
    if sha256 is not None and (found := sha256_of(path)) != sha256.lower():
        raise ValueError(f"{path}: SHA-256 is {found}, expected {sha256.lower()}; delete the file and fetch it again")
    return path


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
