"""Small helpers around tensors and devices."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """The tensor on a device. The copy to a GPU waits for nothing."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def count_parameters(module: nn.Module) -> int:
    """Numbers that a module learns."""
    return sum(parameter.numel() for parameter in module.parameters())


class Clock:
    """Seconds that named parts of a step take on their device; nothing waits until `read`."""

    def __init__(self, device: torch.device):
        self._cuda = device.type == "cuda"
        self._marks: dict[str, tuple] = {}

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Times the block under a name; only the last run of each name counts."""
        start = self._now()
        yield
        self._marks[name] = (start, self._now())

    def _now(self) -> torch.cuda.Event | float:
        if not self._cuda:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def read(self) -> dict[str, float]:
        """Seconds by name; waits for the GPU, and starts again."""
        marks, self._marks = self._marks, {}
        if not self._cuda:
            return {name: end - start for name, (start, end) in marks.items()}
        torch.cuda.synchronize()
        return {name: start.elapsed_time(end) / 1000 for name, (start, end) in marks.items()}
