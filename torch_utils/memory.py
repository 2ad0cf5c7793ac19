"""Main memory that is used again instead of being given back and asked for anew."""

from __future__ import annotations

import ctypes
import os
import sys

MMAP_THRESHOLD, TRIM_THRESHOLD, ARENA_MAX = -3, -1, -8
"""Numbers of glibc's settings in `mallopt`."""

HUGE_PAGES = "THP_MEM_ALLOC_ENABLE"
"""Environment variable by which torch asks for huge pages."""


def keep_freed_memory() -> None:
    """Lets this process keep the memory of freed tensors for its next ones. To be called before torch allocates much.

    By default glibc asks the system for every block above 32 MiB and gives it back when it is freed, so that each
    new feature map is handed over page by page, which takes several times as long as filling it. Huge pages help
    further. Does nothing where the C library is another one.
    """
    if not sys.platform.startswith("linux"):
        return
    library = ctypes.CDLL(None)
    if hasattr(library, "gnu_get_libc_version"):
        library.mallopt(MMAP_THRESHOLD, 2**31 - 1)
        library.mallopt(TRIM_THRESHOLD, 2**31 - 1)
        library.mallopt(ARENA_MAX, 1)
        os.environ.setdefault(HUGE_PAGES, "1")
