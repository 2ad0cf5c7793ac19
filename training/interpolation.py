"""Ways through latents: closed curves in W that pass through the styles of key frames."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor

from training.types import Latents

Curve = Callable[[Float[ndarray, "keys size"], float], Float[ndarray, " size"]]


def cubic(keys: Float[ndarray, "keys size"], time: float) -> Float[ndarray, " size"]:
    """The point of the smooth closed curve through the keys; at whole times it is at a key, and 0 follows the last."""
    from scipy.interpolate import CubicSpline

    if len(keys) == 1:
        return keys[0]
    spline = CubicSpline(np.arange(len(keys) + 1), np.concatenate([keys, keys[:1]]), bc_type="periodic")
    return spline(time % len(keys))


def linear(keys: Float[ndarray, "keys size"], time: float) -> Float[ndarray, " size"]:
    """The point of the closed polygon through the keys."""
    start, share = divmod(time % len(keys), 1.0)
    here, there = keys[int(start)], keys[(int(start) + 1) % len(keys)]
    return here + (there - here) * share


def spherical(keys: Float[ndarray, "keys size"], time: float) -> Float[ndarray, " size"]:
    """The point of the closed curve of great arcs through the keys; lengths change linearly."""
    start, share = divmod(time % len(keys), 1.0)
    here, there = keys[int(start)], keys[(int(start) + 1) % len(keys)]
    lengths = np.linalg.norm(here), np.linalg.norm(there)
    if min(lengths) < 1e-8:
        return linear(keys, time)
    a, b = here / lengths[0], there / lengths[1]
    angle = math.acos(float(np.clip(a @ b, -1, 1)))
    if math.sin(angle) < 1e-6:
        return linear(keys, time)
    direction = (math.sin((1 - share) * angle) * a + math.sin(share * angle) * b) / math.sin(angle)
    return direction * (lengths[0] * (1 - share) + lengths[1] * share)


CURVES: dict[str, Curve] = {"cubic": cubic, "linear": linear, "spherical": spherical}


def between(keys: Latents, time: float, curve: Curve, *, scene: bool = True, background: bool = True) -> Latents:
    """One latent of the way through all of them; a part that does not move stays at the first key.

    `time` counts keys; the way is closed, so times len(keys) and 0 are the same.
    """

    def point(rows: Tensor, moves: bool) -> Tensor:
        if not moves or rows[0].numel() == 0:
            return rows[:1]
        layers = rows.double().cpu().numpy()
        moved = np.stack([curve(layers[:, layer], time) for layer in range(layers.shape[1])])
        return torch.from_numpy(moved)[None].to(rows)

    return Latents(point(keys.scene, scene), point(keys.background, background), point(keys.upsampler, scene))
