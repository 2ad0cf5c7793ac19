"""Bias, activation, gain and clamp in one operation."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from torch_utils.ops import kernels
from torch_utils.ops.activations import ACTIVATIONS
from torch_utils.ops.fused_bias_act import along, fused_bias_act, is_rectifier

__all__ = ["ACTIVATIONS", "bias_act", "plain_bias_act"]


def bias_act(
    x: Tensor,
    b: Tensor | None = None,
    dim: int = 1,
    act: str = "linear",
    alpha: float | None = None,
    gain: float | None = None,
    clamp: float | None = None,
    inplace: bool = False,
) -> Tensor:
    """`clamp(gain * act(x + b))`, of the shape and type of `x`.

    b: [x.shape[dim]], added along `dim`. alpha: slope of "lrelu" below zero. gain: factor after the
    activation; None takes the activation's own. clamp: largest absolute value of the result; None for no limit.
    inplace: whether x, which nothing else needs then, may be overwritten.

    Differentiable any number of times; on GPUs whose kernels run, twice. Raises ValueError for an unknown activation
    or a bias of the wrong size.
    """
    if act not in ACTIVATIONS:
        raise ValueError(f"act={act!r} is unknown; choose one of {', '.join(ACTIVATIONS)}")
    activation = ACTIVATIONS[act]
    alpha = activation.alpha if alpha is None else alpha
    gain = activation.gain if gain is None else gain
    if b is not None:
        if b.shape != (x.shape[dim],):
            raise ValueError(f"b has shape {list(b.shape)}, but x has {x.shape[dim]} entries along dim {dim}")
        b = b.to(x.dtype)
    # Sums alone are one kernel of torch's already.
    is_more = act != "linear" or clamp is not None
    if is_more and (not is_rectifier(act) or (gain > 0 and alpha >= 0)) and kernels.serve(x, b):
        return fused_bias_act(x, b, dim, act, alpha, gain, clamp)
    return plain_bias_act(x, b, dim, act, alpha, gain, clamp, inplace)


def plain_bias_act(
    x: Tensor,
    b: Tensor | None,
    dim: int,
    act: str,
    alpha: float,
    gain: float,
    clamp: float | None,
    inplace: bool = False,
) -> Tensor:
    """`bias_act` in plain torch, with b in the format of x."""
    b = None if b is None else along(b, dim % x.ndim, x.ndim)
    slope = {"linear": 1.0, "relu": 0.0, "lrelu": alpha}.get(act)
    if slope is not None and gain > 0:
        y = _scaled_rectifier(x, b, slope, gain, inplace)
    else:
        y = ACTIVATIONS[act].function(x if b is None else x + b, alpha)
        y = y if gain == 1 else y * gain
    return y if clamp is None else _limit(y, clamp, inplace or y is not x)


def _scaled_rectifier(x: Tensor, b: Tensor | None, slope: float, gain: float, inplace: bool) -> Tensor:
    """`gain * (x + b)`, times `slope` where that is negative: two passes over the data and at most one new tensor.

    A positive gain commutes with the rectifier, so that it can go into the addition. The rectifier then
    overwrites the sum, which nothing else needs: its derivatives follow from the sign of the result.
    """
    is_new = inplace or b is not None or gain != 1
    if inplace:
        x = x if gain == 1 else x.mul_(gain)
        x = x if b is None else x.add_(b * gain)
    elif b is not None:
        x = torch.add(b * gain, x, alpha=gain)
    elif gain != 1:
        x = x * gain
    return x if slope == 1 else F.leaky_relu(x, slope, inplace=is_new and slope >= 0)


def _limit(x: Tensor, clamp: float, inplace: bool) -> Tensor:
    """x within +-clamp.

    The clamp is for half precision and hardly ever acts. Where derivatives are wanted it would keep a second copy of
    x, so that on a CPU, where looking costs little and nothing waits, it is first asked whether it does.
    """
    if not (torch.is_grad_enabled() and x.requires_grad):
        return x.clamp_(-clamp, clamp) if inplace else x.clamp(-clamp, clamp)
    if x.device.type == "cpu" and not torch.compiler.is_compiling():
        values = x.detach()
        if -clamp <= values.amin() and values.amax() <= clamp:
            return x
    return x.clamp(-clamp, clamp)
