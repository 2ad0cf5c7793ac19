"""Work spread over processes or threads, results in order, bounded memory, nothing left behind."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Generator, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from typing import Any, TypeVar

from tqdm import tqdm

Item = TypeVar("Item")
Result = TypeVar("Result")

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def default_workers() -> int:
    """Number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def ordered_map(
    function: Callable[[Item], Result], items: Collection[Item], workers: int, description: str
) -> Generator[Result]:
    """`function` of each item, in order, with a progress bar; computed by `workers` processes (below 2: by this one).

    At most a few results a worker wait to be taken. `function` and items must be picklable; exceptions are raised here.
    """
    alone = workers < 2 or len(items) < 2
    results = _map_here(function, items) if alone else _map_in_processes(function, items, workers)
    return _shown(results, len(items), description)


def threaded_map(
    function: Callable[[Item], Result], items: Collection[Item], workers: int, description: str
) -> Generator[Result]:
    """The same by threads of this process: for large results of work that holds Python up only briefly.

    So it is with pictures: Pillow, zlib and files let go of the interpreter, and megabytes sent between processes cost
    a quarter of the work.
    """
    alone = workers < 2 or len(items) < 2
    results = _map_here(function, items) if alone else _map_in_threads(function, items, workers)
    return _shown(results, len(items), description)


def _shown(results: Generator[Result], total: int, description: str) -> Generator[Result]:
    """The results, with a progress bar."""
    interval = 0.3 if sys.stderr.isatty() else 10
    with (
        tqdm(total=total, desc=description, unit="img", mininterval=interval, disable=not total) as progress,
        contextlib.closing(results),
    ):
        for result in results:
            yield result
            progress.update()


def _map_here(function: Callable[[Item], Result], items: Collection[Item]) -> Generator[Result]:
    yield from map(function, items)


def _map_in_threads(function: Callable[[Item], Result], items: Collection[Item], workers: int) -> Generator[Result]:
    with contextlib.closing(_ordered(ThreadPoolExecutor(workers), function, items, workers)) as results:
        yield from results


def _map_in_processes(function: Callable[[Item], Result], items: Collection[Item], workers: int) -> Generator[Result]:
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, context, initializer=_start_worker, initargs=(os.getpid(), function))
    with _single_threaded_children(), contextlib.closing(_ordered(pool, _work, items, workers)) as results:
        yield from results


def _ordered(
    pool: Executor, function: Callable[[Item], Result], items: Collection[Item], workers: int
) -> Generator[Result]:
    """Results in order, with a few more than the workers need under way."""
    pending: deque[Future[Result]] = deque()
    try:
        for item in items:
            pending.append(pool.submit(function, item))
            if len(pending) > 4 * workers:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


@contextlib.contextmanager
def _single_threaded_children() -> Iterator[None]:
    """Child processes started meanwhile use one thread each: the cores are shared out among them already."""
    before = {name: os.environ.get(name) for name in _THREAD_VARIABLES}
    os.environ.update(dict.fromkeys(_THREAD_VARIABLES, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


_function: Callable[[Any], Any] | None = None


def _work(item: Any) -> Any:
    """The result of the function that this worker was started for: it is sent once, not with every item."""
    assert _function is not None
    return _function(item)


def _start_worker(parent: int, function: Callable[[Any], Any]) -> None:
    """Leave Ctrl-C to the parent, and end when it ends, even if it was killed."""
    global _function
    _function = function
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
