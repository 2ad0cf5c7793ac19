"""Compiling the CUDA sources beside this file, once per content, compiler and GPU architecture.

The library has a plain C interface and includes nothing of torch, so that it compiles in seconds, needs no more than
`nvcc`, and serves every version of torch.
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dnnlib.files import cache_folder

SOURCES = Path(__file__).parent / "csrc"
INSTALLED = Path("/usr/local/cuda/bin/nvcc")
LIBRARY = "gan3d_kernels.so"
FLAGS = ("-std=c++17", "-O3", "-Xcompiler", "-fPIC")


class BuildError(RuntimeError):
    """Why the kernels cannot be compiled, in a few words."""


def find_nvcc() -> Path:
    """The CUDA compiler: of CUDA_HOME or CUDA_PATH, on the search path, or where toolkits are installed."""
    folders = [os.environ[name] for name in ("CUDA_HOME", "CUDA_PATH") if os.environ.get(name)]
    candidates = [Path(folder, "bin", "nvcc") for folder in folders]
    on_path = shutil.which("nvcc")
    candidates += [Path(on_path)] if on_path else []
    candidates.append(INSTALLED)
    for nvcc in candidates:
        if nvcc.exists():
            return nvcc
    raise BuildError("no CUDA compiler: nvcc is neither in $CUDA_HOME/bin nor on the search path")


def find_ninja() -> str:
    """The build tool, which `pip install ninja` brings."""
    ninja = shutil.which("ninja") or shutil.which("ninja", path=str(Path(sys.executable).parent))
    if ninja is None:
        raise BuildError("no build tool: pip install ninja")
    return ninja


def build(architecture: str) -> Path:
    """The compiled library for GPUs such as "sm_90", from the cache where it has been built before.

    Processes that ask at the same time wait for the one that builds, which says so in one line on standard error.
    Raises BuildError where it cannot be built.
    """
    nvcc = find_nvcc()
    folder = cache_folder() / "kernels" / _key(nvcc, architecture)
    library = folder / LIBRARY
    if not library.exists():
        ninja = find_ninja()
        folder.mkdir(parents=True, exist_ok=True)
        with _lock(folder / "lock"):
            if not library.exists():
                print(f"Compiling CUDA kernels for {architecture}, once (about 10 seconds).", file=sys.stderr)
                _compile(nvcc, ninja, architecture, library)
    return library


def _key(nvcc: Path, architecture: str) -> str:
    """Name of a build: digest of all that it depends on."""
    digest = hashlib.sha256()
    for part in (_run([str(nvcc), "--version"]), architecture, *FLAGS):
        digest.update(part.encode() + b"\0")
    for source in sorted(SOURCES.iterdir()):
        digest.update(source.read_bytes() + b"\0")
    return digest.hexdigest()[:24]


def _compile(nvcc: Path, ninja: str, architecture: str, library: Path) -> None:
    with tempfile.TemporaryDirectory(dir=library.parent) as folder:
        sources = sorted(SOURCES.glob("*.cu"))
        objects = [f"{source.stem}.o" for source in sources]
        command = shlex.join([str(nvcc), *FLAGS, f"-arch={architecture}"]).replace("$", "$$")
        lines = [
            f"rule object\n  command = {command} -c $in -o $out",
            f"rule library\n  command = {command} -shared $in -o $out",
            *(f"build {o}: object {_escape(str(s))}" for o, s in zip(objects, sources, strict=True)),
            f"build {LIBRARY}: library {' '.join(objects)}\n",
        ]
        Path(folder, "build.ninja").write_text("\n".join(lines))
        _run([ninja, "-C", folder])
        os.replace(Path(folder, LIBRARY), library)


def _escape(path: str) -> str:
    """A path as a build file wants it."""
    return re.sub(r"([$ :])", r"$\1", path)


def _run(command: list[str]) -> str:
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
        lines = (result.stdout + result.stderr).strip().splitlines() or ["no message"]
        cause = next((line for line in lines if re.search(r"\b(error|fatal)\b", line)), lines[-1])
        raise BuildError(f"{Path(command[0]).name} failed: {cause.strip()}")
    return result.stdout


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Held by one process at a time; the system lets go of it when that process ends."""
    try:
        import fcntl
    except ImportError:
        raise BuildError("kernels are built on Linux alone") from None
    with open(path, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
