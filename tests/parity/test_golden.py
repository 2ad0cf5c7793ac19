"""All golden numbers of the released systems hold, those of snapshots in a pickle too."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.official_files import tiny_snapshot
from tests.parity import snapshot
from tests.parity.check import Row, check
from tests.parity.golden import Golden

GOLDENS = Path(__file__).parent / "goldens"
FILES = sorted(GOLDENS.glob("*/*.json"))


def failures(rows: list[Row]) -> list[str]:
    assert len(rows) > 4
    return [str(row) for row in rows if row.required and not row.holds]


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_all_arrays_hold(path):
    assert failures(list(check(Golden.read(path)))) == []


@pytest.mark.parametrize("system", ["eg3d", "ballgan"])
def test_an_official_snapshot_holds(system, tmp_path):
    golden = Golden.read(GOLDENS / system / "official_format_tiny.json")
    rows = list(check(golden, tiny_snapshot(tmp_path / "tiny.pkl", system)))
    assert [row.name for row in rows[:3]] == ["G weights", "D weights", "G_ema weights"]
    assert failures(rows) == []


def test_a_table_may_lack_the_spread_of_the_labels(tmp_path):
    golden = Golden.read(GOLDENS / "eg3d" / "official_format_tiny.json")
    golden.spec["G"] = [row for row in golden.spec["G"] if row[0] != "dataset_label_std"]
    case = snapshot.Case(golden, tiny_snapshot(tmp_path / "tiny.pkl", "eg3d"))
    assert case.weight_errors() == {"G": 0, "D": 0, "G_ema": 0}
