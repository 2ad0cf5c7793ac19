"""Work in processes and threads: order, errors, bounds."""

from __future__ import annotations

import math
import threading

import pytest

from dataset_preprocessing.parallel import ordered_map, threaded_map

MAPS = [ordered_map, threaded_map]


@pytest.mark.parametrize("spread", MAPS)
@pytest.mark.parametrize("workers", [1, 3])
def test_results_come_in_order(spread, workers):
    numbers = [float(number) for number in range(40)]
    assert list(spread(math.sqrt, numbers, workers, "roots")) == [math.sqrt(number) for number in numbers]
    assert list(spread(math.sqrt, [], workers, "nothing")) == []


@pytest.mark.parametrize("spread", MAPS)
def test_an_error_comes_at_its_place(spread):
    results = spread(math.sqrt, [4.0, 9.0, -1.0, 16.0], 2, "roots")
    assert [next(results), next(results)] == [2.0, 3.0]
    with pytest.raises(ValueError, match=r"math domain error|nonnegative"):
        next(results)


def test_threads_end_with_the_one_who_takes_the_results():
    """At most a few results wait to be taken, and none is worked on for someone who has gone."""
    started = []

    def pool_threads() -> set[threading.Thread]:
        return {thread for thread in threading.enumerate() if thread.name.startswith("ThreadPoolExecutor")}

    before = pool_threads()

    def work(number: int) -> int:
        started.append(number)
        return number

    results = threaded_map(work, range(1000), 2, "numbers")
    assert next(results) == 0
    assert len(started) <= 4 * 2 + 1
    results.close()
    assert pool_threads() <= before
    assert len(started) <= 4 * 2 + 1
