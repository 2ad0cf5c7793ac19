"""Full-size published networks load and give a picture within the memory of an ordinary computer."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MEMORY_GIB = 6


@pytest.mark.slow
@pytest.mark.parametrize("system", ["eg3d", "ballgan"])
def test_picture_of_a_full_size_network(system, tmp_path):
    command = [sys.executable, "-m", "tests.system.full_size", system, str(tmp_path / "full.pkl")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=500, check=False)
    (tmp_path / "full.pkl").unlink(missing_ok=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(done.stdout)["peak_gib"] < MEMORY_GIB
