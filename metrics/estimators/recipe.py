"""How estimators are trained."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Recipe:
    """How an estimator is trained: steps of AdamW with a cosine schedule."""

    steps: int = 500
    batch: int = 32
    rate: float = 2e-3
    seed: int = 0
    pictures: int = 4000
