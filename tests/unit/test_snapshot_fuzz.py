"""Mutated snapshots do no harm; see `snapshot_fuzz`, which needs a process without the hook of the other tests."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(("count", "seed"), [(200, 0), pytest.param(2000, 1, marks=pytest.mark.slow)])
def test_mutated_files(count, seed):
    command = [sys.executable, "-m", "tests.unit.snapshot_fuzz", str(count), str(seed)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "refused" in done.stdout
