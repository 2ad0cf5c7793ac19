"""Running means of training statistics, over steps, micro-batches and processes, without waiting for a GPU."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from torch_utils import distributed


@dataclass(frozen=True)
class Moments:
    """Count, mean and standard deviation of what was reported under one name."""

    num: int
    mean: float
    std: float

    def to_dict(self) -> dict[str, float]:
        """The moments as a line of `stats.jsonl` holds them."""
        return {"num": self.num, "mean": self.mean, "std": self.std}


class Collector:
    """Sums up reported values per name until they are read.

    Values stay on their device, so that reporting never waits; `read` adds up the processes and must be called in
    all of them, each having reported the same names.
    """

    def __init__(self, device: torch.device | str = "cpu"):
        self._device = torch.device(device)
        self._sums: dict[str, Tensor] = {}

    @torch.no_grad()
    def report(self, name: str, values: Tensor | float) -> None:
        """Adds values, of any shape, to the statistic of a name."""
        values = torch.as_tensor(values, device=self._device).detach().reshape(-1).to(torch.float64)
        sums = torch.stack([values.new_full([], len(values)), values.sum(), values.square().sum()])
        if name in self._sums:
            self._sums[name] += sums
        else:
            self._sums[name] = sums

    def totals(self) -> dict[str, Tensor]:
        """The sums so far over all processes, on the CPU; nothing is reset. Called in all processes, as `read`."""
        names = sorted(self._sums)
        if not names:
            return {}
        table = distributed.sum_in_place(torch.stack([self._sums[name] for name in names])).cpu()
        return dict(zip(names, table.clone(), strict=True))

    def add_totals(self, totals: dict[str, Tensor]) -> None:
        """Goes on from sums that `totals` returned; called in one process alone."""
        self._sums = {name: sums.to(self._device) for name, sums in totals.items()}

    def read(self) -> dict[str, Moments]:
        """Moments over all processes since the last reading, by name in order of the alphabet; starts again."""
        totals = self.totals()
        self._sums = {}
        return {name: _moments(*row.tolist()) for name, row in totals.items()}


def _moments(num: float, total: float, squares: float) -> Moments:
    if num == 0:
        return Moments(0, float("nan"), float("nan"))
    mean = total / num
    return Moments(int(num), mean, max(squares / num - mean**2, 0) ** 0.5)
