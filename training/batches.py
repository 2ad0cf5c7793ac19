"""Endless batches of real pictures in a reproducible order, decoded ahead of the training step."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from training.dataset import ImageDataset

Batch = tuple[UInt8[Tensor, "n 3 height width"], Float[Tensor, "n 25"]]


class WindowShuffle:
    """An endless order of 0..size-1 in which all items come equally often, though not in passes.

    Starts from a shuffle of all; after an item is taken it changes places with one of the `window_size * size`
    items before it. Depends on size, seed and window only; the order of StyleGAN2's published sampler.
    """

    def __init__(self, size: int, seed: int = 0, window_size: float = 0.5) -> None:
        self._random = np.random.RandomState(seed)
        self._order = np.arange(size)
        self._random.shuffle(self._order)
        self._window = int(np.rint(size * window_size))
        self.position = 0

    def take(self, count: int) -> Int[np.ndarray, " count"]:
        """The next `count` items."""
        order, size = self._order, len(self._order)
        taken = np.empty(count, dtype=np.int64)
        for row in range(count):
            here = self.position % size
            taken[row] = order[here]
            if self._window >= 2:
                there = (here - self._random.randint(self._window)) % size
                order[here], order[there] = order[there], order[here]
            self.position += 1
        return taken

    def state_dict(self) -> dict[str, Any]:
        """Everything that the further order depends on, in tensors and numbers."""
        random = self._random.get_state(legacy=False)["state"]
        return {
            "position": self.position,
            "order": torch.from_numpy(self._order.copy()),
            "random_key": torch.from_numpy(random["key"].astype(np.int64)),
            "random_position": int(random["pos"]),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on exactly where `state_dict` was called; ValueError for the state of a set of another size."""
        if len(state["order"]) != len(self._order):
            raise ValueError(
                f"the saved position is that of a set of {len(state['order'])} pictures, not {len(self._order)}"
            )
        self.position = state["position"]
        self._order = state["order"].numpy().copy()
        key = state["random_key"].numpy().astype(np.uint32)
        self._random.set_state(("MT19937", key, state["random_position"], 0, 0.0))


class Batches(Iterator[Batch]):
    """Endless batches (uint8 pictures, labels) of one process's share of a data set.

    All processes of a run draw the same order; of each global batch of `batch_size * world_size` pictures, process
    `rank` gets every `world_size`-th. Pictures are read and decoded ahead by threads (decoding frees the
    interpreter); the order does not depend on their number. `state_dict` is the position of the batches handed
    out so far, the same on every rank, and serves a run with other numbers of processes and threads too.
    """

    def __init__(
        self,
        dataset: ImageDataset,
        batch_size: int,
        *,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        workers: int | None = None,
        pin_memory: bool = False,
    ) -> None:
        self._dataset = dataset
        self._share = slice(rank, batch_size * world_size, world_size)
        self._global_batch = batch_size * world_size
        self._pin_memory = pin_memory
        self._delivered = WindowShuffle(len(dataset), seed)
        self._requested = WindowShuffle(len(dataset), seed)
        workers = dataset.config.workers if workers is None else workers
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="decode") if workers > 0 else None
        self._pending: deque[Future[Batch]] = deque()
        self._ahead = 2 * workers

    def __next__(self) -> Batch:
        if self._pool is None:
            batch = self._load(self._next_share())
        else:
            while len(self._pending) <= self._ahead:
                self._pending.append(self._pool.submit(self._load, self._next_share()))
            batch = self._pending.popleft().result()
        self._delivered.take(self._global_batch)
        return batch

    def _next_share(self) -> np.ndarray:
        return self._requested.take(self._global_batch)[self._share]

    def _load(self, indices: np.ndarray) -> Batch:
        images, labels = self._dataset.gather(indices)
        return (images.pin_memory(), labels.pin_memory()) if self._pin_memory else (images, labels)

    def state_dict(self) -> dict[str, Any]:
        """Position after the last batch handed out; batches decoded ahead do not count."""
        return self._delivered.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on exactly after the batch at which `state_dict` was called."""
        self._discard_pending()
        self._delivered.load_state_dict(state)
        self._requested.load_state_dict(state)

    def close(self) -> None:
        """Stop the threads; batches that they have under way are dropped."""
        self._discard_pending()
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)

    def _discard_pending(self) -> None:
        for future in self._pending:
            future.cancel()
        self._pending.clear()

    def __enter__(self) -> Batches:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
