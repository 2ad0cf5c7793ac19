"""Packages that only some users need."""

from __future__ import annotations

import importlib
from typing import Any

from training.archive import ArchiveError


def need(package: str, purpose: str, extra: str = "data") -> Any:
    """An optional package or one of its modules; ArchiveError that names the extra where it is missing."""
    try:
        return importlib.import_module(package)
    except ImportError:
        name = package.partition(".")[0]
        raise ArchiveError(f"{purpose} needs {name}: `pip install .[{extra}]` in the folder of this project") from None
