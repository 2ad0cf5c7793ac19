"""Computed arrays kept by the content of what they were computed from."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np


class Store:
    """Arrays on disk under the hash of a key: one folder an entry, with the key in readable form beside the arrays.

    Entries appear whole, by the renaming of a finished folder, so processes may race: each computes the same, the
    first to finish is kept and the others' work is dropped.
    """

    def __init__(self, folder: Path):
        self.folder = folder

    def load(self, key: Mapping[str, Any]) -> dict[str, np.ndarray] | None:
        """The arrays kept under a key, mapped from disk rather than read, or None.

        An entry that cannot be read is removed and counts as missing.
        """
        entry = self._entry(key)
        if not entry.is_dir():
            return None
        try:
            return {path.stem: np.load(path, mmap_mode="r") for path in sorted(entry.glob("*.npy"))}
        except (OSError, ValueError, EOFError):
            shutil.rmtree(entry, ignore_errors=True)
            return None

    def save(self, key: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
        """Keeps arrays under a key, unless another process already has."""
        self.folder.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=".new-", dir=self.folder))
        try:
            for name, array in arrays.items():
                np.save(temporary / f"{name}.npy", array)
            (temporary / "key.json").write_text(_canonical(key) + "\n", encoding="utf-8")
            os.rename(temporary, self._entry(key))
        except OSError:
            if not self._entry(key).is_dir():
                raise
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def _entry(self, key: Mapping[str, Any]) -> Path:
        return self.folder / hashlib.sha256(_canonical(key).encode()).hexdigest()[:32]


def _canonical(key: Mapping[str, Any]) -> str:
    return json.dumps(key, sort_keys=True, indent=1)
