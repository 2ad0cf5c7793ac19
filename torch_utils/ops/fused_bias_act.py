"""Bias, activation, gain and clamp as operators of their own, with derivatives of first and second order.

GPUs run each in one kernel; elsewhere they are defined by plain torch, for tests and comparison.
"""

from __future__ import annotations

import torch
from torch import Tensor

from torch_utils.ops import kernels
from torch_utils.ops.activations import ACTIVATIONS
from torch_utils.ops.binding import dense_layout


def fused_bias_act(
    x: Tensor, b: Tensor | None, dim: int, act: str, alpha: float, gain: float, clamp: float | None
) -> Tensor:
    """`clamp(gain * act(x + b))`, twice differentiable; b [x.shape[dim]] in the format of x.

    Rectifiers need a positive gain and a slope of at least zero: their derivatives are told from the sign of the
    result, which later layers keep anyway, so that the input is not kept.
    """
    return _value(x, b, dim % x.ndim, act, alpha, gain, clamp)


def is_rectifier(act: str) -> bool:
    """Whether the slope depends on a sign alone."""
    return ACTIVATIONS[act].curvature is None


def reference(
    order: int,
    at: Tensor,
    b: Tensor | None,
    first: Tensor | None,
    second: Tensor | None,
    dim: int,
    act: str,
    alpha: float,
    gain: float,
    clamp: float | None,
) -> Tensor:
    """y = clamp(gain * act(u)) at u = at + b (order 0), `first * dy/du` (1) or `first * second * d2y/du2` (2).

    first: gradient of y. second: gradient of the gradient of x. Derivatives of rectifiers take y for `at`, and no b.
    """
    activation = ACTIVATIONS[act]
    u = at if b is None else at + along(b, dim, at.ndim)
    y = u if order and is_rectifier(act) else activation.function(u, alpha) * gain
    if order == 0:
        return y if clamp is None else y.clamp(-clamp, clamp)
    derivative = activation.slope if order == 1 else activation.curvature
    if derivative is None or first is None:
        raise ValueError(f"{act} has no derivative of order {order} without its gradients and a curvature")
    result = first * derivative(u, alpha) * gain
    result = result if second is None else result * second
    return result if clamp is None else result.where(y.abs() < clamp, 0)


def along(b: Tensor, dim: int, ndim: int) -> Tensor:
    """A bias as a tensor of `ndim` dimensions that lies along one of them."""
    return b.reshape([-1 if i == dim else 1 for i in range(ndim)])


@torch.library.custom_op("gan3d::bias_act", mutates_args=())
def _value(x: Tensor, b: Tensor | None, dim: int, act: str, alpha: float, gain: float, clamp: float | None) -> Tensor:
    return _run(0, x, b, None, None, dim, act, alpha, gain, clamp)


@torch.library.custom_op("gan3d::bias_act_derivative", mutates_args=())
def _derivative(
    at: Tensor,
    b: Tensor | None,
    first: Tensor,
    second: Tensor | None,
    dim: int,
    act: str,
    alpha: float,
    gain: float,
    clamp: float | None,
) -> Tensor:
    """Of first order; of second order where `second` is given."""
    return _run(1 if second is None else 2, at, b, first, second, dim, act, alpha, gain, clamp)


def _run(order: int, at: Tensor, b: Tensor | None, first: Tensor | None, second: Tensor | None, *settings) -> Tensor:
    if kernels.serve(at, b, first, second) and (found := kernels.loaded(at.device)):
        return found.bias_act(order, at, b, first, second, *settings)
    return reference(order, at, b, first, second, *settings).contiguous(memory_format=dense_layout(at))


@_value.register_fake
def _(x, b, *settings):
    return torch.empty_like(x, memory_format=dense_layout(x))


@_derivative.register_fake
def _(at, b, first, second, *settings):
    return torch.empty_like(at, memory_format=dense_layout(at))


def _remember_value(ctx, inputs, output) -> None:
    x, b, *ctx.settings = inputs
    ctx.save_for_backward(*((output, None) if is_rectifier(inputs[3]) else (x, b)))


def _value_backward(ctx, grad: Tensor) -> tuple:
    at, b = ctx.saved_tensors
    grad_x = _derivative(at, b, grad, None, *ctx.settings)
    return grad_x, _sum(grad_x, ctx.settings[0]) if ctx.needs_input_grad[1] else None, *[None] * 5


def _remember_derivative(ctx, inputs, output) -> None:
    at, b, first, second, *ctx.settings = inputs
    ctx.is_second = second is not None
    ctx.save_for_backward(at, b, first)


def _derivative_backward(ctx, grad: Tensor) -> tuple:
    if ctx.is_second:
        raise RuntimeError(
            "the fused bias_act has no third derivatives; plain torch has: torch_utils.ops.kernels.use(False)"
        )
    at, b, first = ctx.saved_tensors
    grad_at = grad_b = None
    if not is_rectifier(ctx.settings[1]) and any(ctx.needs_input_grad[:2]):
        grad_at = _derivative(at, b, first, grad, *ctx.settings)
        grad_b = _sum(grad_at, ctx.settings[0]) if ctx.needs_input_grad[1] else None
    return grad_at, grad_b, _derivative(at, b, grad, None, *ctx.settings), *[None] * 6


def _sum(x: Tensor, dim: int) -> Tensor:
    """Over all dimensions but one."""
    return x.sum([i for i in range(x.ndim) if i != dim]) if x.ndim > 1 else x


_value.register_autograd(_value_backward, setup_context=_remember_value)
_derivative.register_autograd(_derivative_backward, setup_context=_remember_derivative)
