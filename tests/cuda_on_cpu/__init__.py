"""Our kernels on this processor: their sources, compiled as C++ against a small stand-in for CUDA."""

from __future__ import annotations

import subprocess
from pathlib import Path

from torch_utils.ops.binding import Kernels
from torch_utils.ops.building import SOURCES

# A pack that is not where packs may be ends the process, as it would on a GPU.
FLAGS = ["-std=c++17", "-O1", "-fPIC", "-shared", "-fsanitize=alignment,bounds", "-fsanitize-undefined-trap-on-error"]
WARNINGS = ["-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas", "-Wno-missing-field-initializers"]


def compile_for_processor(compiler: str, folder: Path) -> Kernels:
    """The kernels as functions of tensors in main memory."""
    sources = [str(source) for source in sorted(SOURCES.glob("*.cu"))]
    library = folder / "kernels.so"
    command = [compiler, *FLAGS, *WARNINGS, "-I", str(Path(__file__).parent), "-x", "c++", *sources, "-o", str(library)]
    subprocess.run(command, check=True)
    return Kernels(library)
