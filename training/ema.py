"""The averaged generator: the copy that is sampled and scored."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn


@dataclass(frozen=True)
class EmaConfig:
    """Exponential moving average of the generator's weights.

    half_life_kimg: None takes batch * 10 / 32. ramp_up: at first the half-life is this share of the images shown
    (None: never shortened), so that the average forgets the untrained network.
    """

    half_life_kimg: float | None = None
    ramp_up: float | None = 0.05


def decay(config: EmaConfig, batch: int, images: int) -> float:
    """How much of the average one step keeps; `images` had been shown before the step."""
    half_life = (batch * 10 / 32 if config.half_life_kimg is None else config.half_life_kimg) * 1000
    if config.ramp_up is not None:
        half_life = min(half_life, images * config.ramp_up)
    return 0.5 ** (batch / max(half_life, 1e-8))


@torch.no_grad()
def update(average: nn.Module, network: nn.Module, keep: float) -> None:
    """Moves the average's parameters towards the network's, leaving a share `keep` of them; copies buffers."""
    torch._foreach_lerp_(list(average.parameters()), list(network.parameters()), 1 - keep)
    torch._foreach_copy_(list(average.buffers()), list(network.buffers()))
