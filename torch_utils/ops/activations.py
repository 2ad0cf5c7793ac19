"""The activations, with their derivatives of first and second order."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

SQRT2 = math.sqrt(2)
SELU_SCALE = 1.0507009873554805
SELU_ALPHA = 1.6732632423543772

Function = Callable[[Tensor, float], Tensor]


class Activation(NamedTuple):
    """An activation of (u, alpha), its derivatives by u, and the alpha and the gain where none is given.

    A rectifier's slope depends on the sign of u alone, and its curvature (None) is zero.
    """

    function: Function
    slope: Function
    curvature: Function | None
    alpha: float = 0.0
    gain: float = 1.0


def _by_sigmoid(derivative: Callable[[Tensor, Tensor], Tensor]) -> Function:
    return lambda u, alpha: derivative(u, torch.sigmoid(u))


def _exponential(scale: float) -> Function:
    """Derivative of any order of `scale * (exp(u) - 1)` below zero; nothing above."""
    return lambda u, alpha: torch.where(u > 0, 0, scale * u.exp())


ACTIVATIONS = {
    "linear": Activation(lambda u, alpha: u, lambda u, alpha: torch.ones_like(u), None),
    "relu": Activation(lambda u, alpha: F.relu(u), lambda u, alpha: (u > 0).to(u.dtype), None, gain=SQRT2),
    "lrelu": Activation(
        F.leaky_relu, lambda u, alpha: torch.where(u > 0, torch.ones_like(u), alpha), None, alpha=0.2, gain=SQRT2
    ),
    "tanh": Activation(
        lambda u, alpha: torch.tanh(u),
        lambda u, alpha: 1 - torch.tanh(u) ** 2,
        lambda u, alpha: -2 * torch.tanh(u) * (1 - torch.tanh(u) ** 2),
    ),
    "sigmoid": Activation(
        lambda u, alpha: torch.sigmoid(u),
        _by_sigmoid(lambda u, s: s * (1 - s)),
        _by_sigmoid(lambda u, s: s * (1 - s) * (1 - 2 * s)),
    ),
    "elu": Activation(lambda u, alpha: F.elu(u), lambda u, alpha: u.clamp(max=0).exp(), _exponential(1)),
    "selu": Activation(
        lambda u, alpha: F.selu(u),
        lambda u, alpha: torch.where(u > 0, SELU_SCALE, SELU_SCALE * SELU_ALPHA * u.exp()),
        _exponential(SELU_SCALE * SELU_ALPHA),
    ),
    "softplus": Activation(
        lambda u, alpha: F.softplus(u),
        _by_sigmoid(lambda u, s: s),
        _by_sigmoid(lambda u, s: s * (1 - s)),
    ),
    "swish": Activation(
        lambda u, alpha: u * torch.sigmoid(u),
        _by_sigmoid(lambda u, s: s * (1 + u * (1 - s))),
        _by_sigmoid(lambda u, s: s * (1 - s) * (2 + u * (1 - 2 * s))),
        gain=SQRT2,
    ),
}
"""By name, in the order in which the kernels number them."""
