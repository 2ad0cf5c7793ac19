"""From seeds to latents, with the draws that users of the published code know."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from training.generator import Generator


def seeds_to_z(
    G: Generator, seeds: Sequence[int], background_seeds: Sequence[int] | None = None
) -> Float[Tensor, "n z_dim"]:
    """One latent a seed: standard normal numbers of NumPy's RandomState(seed), for each part anew.

    With the same seed for both, scene and background get the same numbers, as published; `background_seeds` chooses
    the background apart and repeats where it is shorter than `seeds`. Raises ValueError for an empty list.
    """
    behind = seeds if background_seeds is None else background_seeds
    if not seeds or not behind:
        raise ValueError(f"{'background_seeds' if seeds else 'seeds'}: expected at least one seed")
    pairs = [(seed, behind[index % len(behind)]) for index, seed in enumerate(seeds)]
    rows = [np.concatenate([_draw(a, G.scene_z_dim), _draw(b, G.background_z_dim)]) for a, b in pairs]
    return torch.from_numpy(np.stack(rows)).to(next(G.parameters()).device)


def _draw(seed: int, size: int) -> np.ndarray:
    return np.random.RandomState(seed).randn(1, size)[0].astype(np.float32)
