from __future__ import annotations

import numpy as np
import pytest

from metrics import results


def record(value: float, draws: list[float] | None = None, name: str = "kid2k", **protocol) -> dict:
    return {
        "metric": name,
        "results": {name: value},
        "larger_is_better": False,
        "protocol": {"data": {"name": "x", "content_hash": "1"}, "truncation_psi": 1.0, **protocol},
        "snapshot": {"file": f"network-snapshot-{int(value * 100):06d}.pkl"},
        "total_time_str": "1s",
        "seconds": {"generate": 1.0},
        "snapshot_pkl": None,
        **({"resampled": {name: draws}} if draws else {}),
    }


def test_interval_covers_the_mean_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(300):
        rows = rng.normal(size=60)
        draws = [float(rows[rng.integers(60, size=60)].mean()) for _ in range(200)]
        low, high = results.interval(float(rows.mean()), draws)
        hits += low <= 0 <= high
    assert 0.89 < hits / 300 < 0.99


def test_interval_takes_the_bias_of_resampling_away() -> None:
    low, high = results.interval(10.0, np.linspace(12, 14, 101).tolist())
    assert (low, high) == pytest.approx((6.05, 7.95))


def test_comparison_decides_only_beyond_the_noise() -> None:
    rng = np.random.default_rng(0)
    first, near, far = (record(v, (v + 0.1 * rng.normal(size=200)).tolist()) for v in (1.0, 1.05, 3.0))
    assert results.compare(first, near)[0].better == "undecided"
    (found,) = results.compare(first, far)
    assert found.better == "first"
    assert found.low < 2.0 < found.high
    assert results.compare(far, first)[0].better == "second"


@pytest.mark.parametrize(
    ("change", "message"),
    [({"data": {"content_hash": "2"}}, "data differ"), ({"truncation_psi": 0.7}, "truncation_psi differ")],
)
def test_different_protocols_are_not_compared(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        results.compare(record(1.0, [1.0]), record(2.0, [2.0], **change))
    with pytest.raises(ValueError, match="metric differ"):
        results.compare(record(1.0, [1.0]), record(2.0, [2.0], name="fid2k"))
    with pytest.raises(ValueError, match="--bootstrap"):
        results.compare(record(1.0), record(2.0, [2.0]))


def test_table_and_summary() -> None:
    text = results.table([record(1.0), record(2.0), record(1.0, name="fid2k")])
    assert [line.split() for line in text.splitlines()] == [
        ["snapshot", "kid2k", "fid2k"],
        ["network-snapshot-000100.pkl", "1", "1"],
        ["network-snapshot-000200.pkl", "2"],
    ]
    assert "kid2k = 1 [0.5, 1.5]" in results.summary(record(1.0, [0.5, 1.5] * 50))
    assert results.kimg_of(record(4.0)) == 400


def test_best_snapshot_is_one_that_is_still_there(tmp_path) -> None:
    for value in (3.0, 1.0, 2.0):
        line = record(value)
        results.append(line, tmp_path, tmp_path / line["snapshot"]["file"])
    (tmp_path / "network-snapshot-000200.pkl").touch()
    (tmp_path / "network-snapshot-000300.pkl").touch()
    assert results.main_value(results.best(tmp_path, "kid2k")) == 2.0


def test_plot_is_well_formed(tmp_path) -> None:
    import xml.etree.ElementTree as ET

    tree = ET.fromstring(results.plot({"a<b": [(0, 3.0), (400, 1.0)], "c": [(0, 2.0)]}, "A & B"))
    assert len([e for e in tree.iter() if e.tag.endswith("circle")]) == 3


def test_keeping_the_best_and_the_newest(tmp_path) -> None:
    for kimg in (1, 2, 3, 4):
        (tmp_path / f"network-snapshot-{kimg:06d}.pkl").touch()
        (tmp_path / f"training-state-{kimg:06d}.pt").touch()
    assert results.keep_best(tmp_path, "kid2k") == []
    for value in (0.03, 0.02, 0.04):
        line = record(value)
        results.append(line, tmp_path, tmp_path / line["snapshot"]["file"])
    removed = results.keep_best(tmp_path, "kid2k")
    assert [path.name for path in removed] == ["network-snapshot-000001.pkl", "network-snapshot-000003.pkl"]
    assert {path.name for path in tmp_path.glob("training-state-*")} == {
        "training-state-000002.pt",
        "training-state-000004.pt",
    }
