from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from metrics.store import Store


def test_round_trip_and_key(tmp_path: Path) -> None:
    store = Store(tmp_path / "kept")
    key = {"data": "abc", "detector": {"name": "x"}}
    assert store.load(key) is None
    store.save(key, {"mean": np.arange(3.0), "count": np.array(4)})
    kept = store.load({"detector": {"name": "x"}, "data": "abc"})
    assert kept is not None
    np.testing.assert_array_equal(kept["mean"], [0, 1, 2])
    assert int(kept["count"]) == 4
    assert store.load({**key, "data": "abd"}) is None


def test_a_race_leaves_one_whole_entry_and_no_rest(tmp_path: Path) -> None:
    store = Store(tmp_path)
    key = {"data": 1}

    def save(value: int) -> None:
        store.save(key, {"a": np.full(100_000, value), "b": np.full(3, value)})

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(save, range(32)))
    kept = store.load(key)
    assert kept is not None
    assert len(set(kept["a"]) | set(kept["b"])) == 1
    assert len(list(tmp_path.iterdir())) == 1


def test_a_damaged_entry_counts_as_missing_and_is_replaced(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.save({"data": 1}, {"a": np.arange(1000)})
    (file,) = tmp_path.glob("*/a.npy")
    file.write_bytes(file.read_bytes()[:200])
    assert store.load({"data": 1}) is None
    store.save({"data": 1}, {"a": np.arange(10)})
    kept = store.load({"data": 1})
    assert kept is not None
    assert len(kept["a"]) == 10
