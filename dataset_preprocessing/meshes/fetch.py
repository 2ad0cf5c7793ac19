"""Free models and panoramas out of package archives, for those who have none of their own."""

from __future__ import annotations

import base64
import re
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

from dataset_preprocessing.storage import write_atomically
from training.archive import MAX_ENTRY_BYTES, ArchiveError


def fetch_torcs(dest: Path, package: Path | None = None) -> int:
    """Unpack cars, wheels and liveries of Debian's `torcs-data` (333 MB) to a folder; the number of cars comes back.

    Without `package` (a .deb file) `apt-get download` gets it. Raises ArchiveError where that fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        if package is None:
            run_tool(["apt-get", "download", "torcs-data"], Path(folder))
            package = the_only_file(Path(folder), "torcs-data*.deb")
        unpacked = Path(folder) / "unpacked"
        run_tool(["dpkg-deb", "-x", str(package.resolve()), str(unpacked)], Path(folder))
        data = unpacked / "usr" / "share" / "games" / "torcs"
        if not (data / "cars").is_dir():
            raise ArchiveError(f"{package}: not the package torcs-data")
        for part in ("cars", "wheels", "drivers"):
            shutil.copytree(data / part, dest / part, dirs_exist_ok=True)
    return sum(1 for _ in (dest / "cars").iterdir())


def fetch_panoramas(dest: Path, package: Path | None = None) -> int:
    """Write the panoramas (EXR, CC0) of the npm package `@pmndrs/assets` to a folder; their number comes back.

    Without `package` (a .tgz file) `npm pack` gets it. Raises ArchiveError where that fails.
    """
    dest.mkdir(parents=True, exist_ok=True)
    count = 0
    with tempfile.TemporaryDirectory() as folder:
        if package is None:
            run_tool(["npm", "pack", "@pmndrs/assets"], Path(folder))
            package = the_only_file(Path(folder), "*.tgz")
        try:
            with tarfile.open(package) as tar:
                for member in tar:
                    name = Path(member.name).name
                    if member.isreg() and name.endswith(".exr.js") and member.size <= MAX_ENTRY_BYTES:
                        write_atomically(dest / name.removesuffix(".js"), _embedded(tar, member))
                        count += 1
        except (tarfile.TarError, OSError, EOFError) as error:
            raise ArchiveError(f"{package}: not a readable package ({error})") from None
    if not count:
        raise ArchiveError(f"{package}: holds no panoramas")
    return count


def _embedded(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = tar.extractfile(member)
    found = re.search(rb"base64,([A-Za-z0-9+/=]+)", file.read() if file else b"")
    if found is None:
        raise ArchiveError(f"{member.name}: holds no base64 data")
    return base64.b64decode(found.group(1))


def run_tool(command: list[str], folder: Path) -> None:
    """Run a program in a folder; ArchiveError where it is not installed or fails."""
    if shutil.which(command[0]) is None:
        raise ArchiveError(f"{command[0]} is not installed; get the package another way and give it as --package")
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if result.returncode:
        last = (result.stderr.strip() or result.stdout.strip()).splitlines()[-1:]
        raise ArchiveError(f"{' '.join(command)} failed: {''.join(last)}")


def the_only_file(folder: Path, pattern: str) -> Path:
    """The one file that fits a pattern; ArchiveError for none or several."""
    files = list(folder.glob(pattern))
    if len(files) != 1:
        raise ArchiveError(f"expected one file {pattern}, found {len(files)}")
    return files[0]
