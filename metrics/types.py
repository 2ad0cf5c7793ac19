"""The words of the metrics: what a generator must offer, how pictures are drawn, what is refused."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from training.types import Jitter, Latents, Layer, NoiseMode, RenderOutput, RenderSettings


class MetricError(ValueError):
    """A metric that cannot be computed as asked for; the message says why and what to do."""


MISHAPS = (ValueError, RuntimeError, OSError, MemoryError)
"""What can happen to a metric through no mistake of the code: numbers, networks and their memory, files."""


def in_words(error: BaseException) -> str:
    """An error as one line."""
    return " ".join(str(error).split()) or type(error).__name__


class GeneratorLike(Protocol):
    """What metrics use of a generator; `training.generator.Generator` has it."""

    @property
    def z_dim(self) -> int: ...

    @property
    def img_resolution(self) -> int: ...

    @property
    def raw_resolution(self) -> int: ...

    @property
    def training(self) -> bool: ...

    def mapping(
        self, z: Tensor, c: Tensor, truncation_psi: float = 1, truncation_cutoff: int | None = None
    ) -> Latents: ...

    def synthesis(
        self,
        latents: Latents,
        c: Tensor,
        settings: RenderSettings | None = None,
        *,
        layer: Layer = "full",
        noise_mode: NoiseMode = "random",
    ) -> RenderOutput: ...

    def train(self, mode: bool = True) -> Any: ...


@dataclass(frozen=True)
class Sampling:
    """How generated pictures are drawn: part of every result.

    Picture i depends on `seed` and i alone, batch by batch for the noise, not on the number of processes.
    """

    seed: int = 0
    batch: int = 16
    truncation_psi: float = 1.0
    truncation_cutoff: int | None = None
    noise_mode: NoiseMode = "random"
    jitter: Jitter = "center"


@dataclass(frozen=True)
class Draw:
    """One batch of what is generated: the numbers of its pictures, their latents `n z` and camera labels `n 25`."""

    numbers: range
    z: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.numbers)
