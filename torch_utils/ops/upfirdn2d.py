"""Up-sampling, FIR filtering and down-sampling of images, with arbitrary padding.

A filter is a 2-D tensor [rows, columns], or a 1-D tensor that is applied along both axes, or None for the
identity. Pairs of factors are (x, y); padding is (left, right, top, bottom), where a negative number crops.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from torch_utils.ops import kernels
from torch_utils.ops.binding import MAX_ELEMENTS, dense_layout

SEPARABLE_TAPS = 8
"""From this length on, two passes of a 1-D filter cost less than one of its outer product."""


def setup_filter(taps: float | Sequence[float] | Sequence[Sequence[float]] | Tensor | None) -> Tensor:
    """The float32 filter of these taps, divided by its sum.

    Fewer than 8 taps give their outer product [taps, taps], more stay [taps]; a 2-D list keeps its shape
    and None gives the identity [1, 1]. Raises ValueError for anything else.
    """
    kernel = torch.as_tensor(1.0 if taps is None else taps, dtype=torch.float32)
    if kernel.ndim == 0:
        kernel = kernel.reshape(1)
    if kernel.ndim > 2 or kernel.numel() == 0:
        raise ValueError(f"a filter needs one or two dimensions and at least one tap, not shape {list(kernel.shape)}")
    if kernel.ndim == 1 and len(kernel) < SEPARABLE_TAPS:
        kernel = torch.outer(kernel, kernel)
    return kernel / kernel.sum()


def filter_size(f: Tensor | None) -> tuple[int, int]:
    """Width and height of a filter in pixels."""
    return (1, 1) if f is None else (f.shape[-1], f.shape[0])


def parse_pair(factor: int | Sequence[int]) -> tuple[int, int]:
    """(x, y) of a factor that is given once for both axes or as a pair. Raises ValueError unless both are >= 1."""
    x, y = (factor, factor) if isinstance(factor, int) else factor
    if x < 1 or y < 1:
        raise ValueError(f"a sampling factor must be at least 1, got {factor}")
    return x, y


def parse_padding(padding: int | Sequence[int]) -> tuple[int, int, int, int]:
    """(left, right, top, bottom) of a padding that is given as one number, as (x, y) or in full."""
    numbers = (padding, padding) if isinstance(padding, int) else tuple(padding)
    if len(numbers) == 2:
        numbers = (numbers[0], numbers[0], numbers[1], numbers[1])
    if len(numbers) != 4:
        raise ValueError(f"padding must be a number, (x, y) or (left, right, top, bottom), got {padding}")
    return numbers


def upfirdn2d(
    x: Tensor,
    f: Tensor | None,
    up: int | Sequence[int] = 1,
    down: int | Sequence[int] = 1,
    padding: int | Sequence[int] = 0,
    flip_filter: bool = False,
    gain: float = 1,
) -> Tensor:
    """Images [n, channels, height, width], up-sampled, padded, filtered and decimated, in this order.

    (1) up - 1 zeros follow every pixel; (2) zero padding, or cropping where it is negative; (3) convolution with
    `gain * f`, correlation where `flip_filter` is true; (4) every down-th pixel stays, beginning with the first.
    The result has (height * up_y + top + bottom - filter_height) // down_y + 1 rows, and so for the columns.

    Differentiable any number of times with respect to `x`. Raises ValueError where the filter does not fit the image.
    """
    if f is None:
        f = x.new_ones(1, 1)
    up, down, padding = parse_pair(up), parse_pair(down), parse_padding(padding)
    _out_size(x, filter_size(f), up, down, padding)
    return _op(x, f, up, down, padding, flip_filter, float(gain))


@torch.library.custom_op("gan3d::upfirdn2d", mutates_args=())
def _op(
    x: Tensor,
    f: Tensor,
    up: Sequence[int],
    down: Sequence[int],
    padding: Sequence[int],
    flip_filter: bool,
    gain: float,
) -> Tensor:
    run = _kernel_pass if kernels.serve(x) else _plain_pass
    return _passes(run, x, f, up, down, padding, flip_filter, gain).contiguous(memory_format=dense_layout(x))


@_op.register_fake
def _(x, f, up, down, padding, flip_filter, gain):
    size = _out_size(x, filter_size(f), up, down, padding)
    return torch.empty((*x.shape[:2], *size), dtype=x.dtype, device=x.device, memory_format=dense_layout(x))


def _remember(ctx, inputs, output) -> None:
    x, f, *ctx.settings = inputs
    ctx.size, ctx.out_size = x.shape[2:], output.shape[2:]
    ctx.save_for_backward(f)


def _adjoint(ctx, grad: Tensor) -> tuple:
    """The transposed operation is one of the same kind, so that derivatives of every order are at hand."""
    (f,) = ctx.saved_tensors
    up, down, (left, _, top, _), flip_filter, gain = ctx.settings
    width, height = filter_size(f)
    right = ctx.size[1] * up[0] - ctx.out_size[1] * down[0] + left - up[0] + 1
    bottom = ctx.size[0] * up[1] - ctx.out_size[0] * down[1] + top - up[1] + 1
    padding = (width - 1 - left, right, height - 1 - top, bottom)
    return _op(grad, f, down, up, padding, not flip_filter, gain), None, None, None, None, None, None


_op.register_autograd(_adjoint, setup_context=_remember)


def reference(
    x: Tensor,
    f: Tensor,
    up: Sequence[int],
    down: Sequence[int],
    padding: Sequence[int],
    flip_filter: bool,
    gain: float,
) -> Tensor:
    """`upfirdn2d` in plain torch, with (x, y) factors and full padding."""
    return _passes(_plain_pass, x, f, up, down, padding, flip_filter, gain)


Pair = tuple[int, int]
Pass = Callable[[Tensor, Tensor, Pair, Pair, tuple[int, int, int, int], bool, float], Tensor]


def _passes(
    run: Pass,
    x: Tensor,
    f: Tensor,
    up: Sequence[int],
    down: Sequence[int],
    padding: Sequence[int],
    flip_filter: bool,
    gain: float,
) -> Tensor:
    """One pass of a 2-D filter, or one of a 1-D filter along either axis."""
    (up_x, up_y), (down_x, down_y), (left, right, top, bottom) = up, down, padding
    if f.ndim == 2:
        return run(x, f, (up_x, up_y), (down_x, down_y), (left, right, top, bottom), flip_filter, gain)
    x = run(x, f[None, :], (up_x, 1), (down_x, 1), (left, right, 0, 0), flip_filter, gain)
    return run(x, f[:, None], (1, up_y), (1, down_y), (0, 0, top, bottom), flip_filter, 1.0)


def _out_size(x: Tensor, size: Pair, up: Sequence[int], down: Sequence[int], padding: Sequence[int]) -> Pair:
    """Rows and columns of the result of a filter of (width, height). Raises ValueError where there are none."""
    left, right, top, bottom = padding
    rows = (x.shape[2] * up[1] + top + bottom - size[1]) // down[1] + 1
    columns = (x.shape[3] * up[0] + left + right - size[0]) // down[0] + 1
    if rows < 1 or columns < 1:
        raise ValueError(
            f"a filter of {size[1]} x {size[0]} does not fit an image of {x.shape[2]} x {x.shape[3]} pixels: "
            f"up={up}, padding={padding}"
        )
    return rows, columns


def _kernel_pass(
    x: Tensor, f: Tensor, up: Pair, down: Pair, padding: tuple[int, int, int, int], flip_filter: bool, gain: float
) -> Tensor:
    size = _out_size(x, filter_size(f), up, down, padding)
    found = kernels.loaded(x.device)
    if found is None or x.shape[0] * x.shape[1] * size[0] * size[1] > MAX_ELEMENTS:
        return _plain_pass(x, f, up, down, padding, flip_filter, gain)
    return found.upfirdn2d(x, f, up, down, padding, flip_filter, gain, size)


def _plain_pass(
    x: Tensor, f: Tensor, up: Pair, down: Pair, padding: tuple[int, int, int, int], flip_filter: bool, gain: float
) -> Tensor:
    """A 2-D filter, as a depthwise convolution."""
    channels = x.shape[1]
    rows, columns = f.shape
    f = (f * gain).to(x.dtype)
    left, right, top, bottom = padding
    (up_x, up_y), (down_x, down_y) = up, down
    if up == (1, 1):
        kernel = (f if flip_filter else f.flip([0, 1])).expand(channels, 1, rows, columns)
        # What is common to both sides costs nothing inside the convolution; only the rest needs a copy.
        inner_x, inner_y = max(min(left, right), 0), max(min(top, bottom), 0)
        x = _pad(x, (left - inner_x, right - inner_x, top - inner_y, bottom - inner_y))
        return F.conv2d(x, kernel, stride=(down_y, down_x), padding=(inner_y, inner_x), groups=channels)
    if x.device.type == "cpu" and x.dtype.itemsize == 2:
        # Processors have no fast depthwise transposed convolution in these formats.
        return _plain_pass(x.float(), f.float(), up, down, padding, flip_filter, 1.0).to(x.dtype)
    # A transposed convolution never sees the inserted zeros. Unpadded, it gives every output that touches a
    # pixel, so that the padding of the input becomes one of the output.
    kernel = (f.flip([0, 1]) if flip_filter else f).expand(channels, 1, rows, columns)
    left, right = left - columns + 1, right - columns + up_x
    top, bottom = top - rows + 1, bottom - rows + up_y
    inner_x, inner_y = max(min(-left, -right), 0), max(min(-top, -bottom), 0)
    x = F.conv_transpose2d(x, kernel, stride=(up_y, up_x), padding=(inner_y, inner_x), groups=channels)
    x = _pad(x, (left + inner_x, right + inner_x, top + inner_y, bottom + inner_y))
    return x if down == (1, 1) else x[:, :, ::down_y, ::down_x]


def _pad(x: Tensor, padding: tuple[int, int, int, int]) -> Tensor:
    return F.pad(x, padding) if any(padding) else x


def filter2d(
    x: Tensor, f: Tensor | None, padding: int | Sequence[int] = 0, flip_filter: bool = False, gain: float = 1
) -> Tensor:
    """Images filtered by `f`, of the same size as `x`; `padding` comes on top of what keeps the size."""
    width, height = filter_size(f)
    keep = (width // 2, (width - 1) // 2, height // 2, (height - 1) // 2)
    return upfirdn2d(x, f, padding=_add(keep, padding), flip_filter=flip_filter, gain=gain)


def upsample2d(
    x: Tensor,
    f: Tensor | None,
    factor: int | Sequence[int] = 2,
    padding: int | Sequence[int] = 0,
    flip_filter: bool = False,
    gain: float = 1,
) -> Tensor:
    """Images enlarged by `factor`, with the mean brightness kept; `padding` is added to the enlarged image."""
    (x_factor, y_factor), (width, height) = parse_pair(factor), filter_size(f)
    keep = (
        (width + x_factor - 1) // 2,
        (width - x_factor) // 2,
        (height + y_factor - 1) // 2,
        (height - y_factor) // 2,
    )
    gain = gain * x_factor * y_factor
    return upfirdn2d(x, f, up=factor, padding=_add(keep, padding), flip_filter=flip_filter, gain=gain)


def downsample2d(
    x: Tensor,
    f: Tensor | None,
    factor: int | Sequence[int] = 2,
    padding: int | Sequence[int] = 0,
    flip_filter: bool = False,
    gain: float = 1,
) -> Tensor:
    """Images reduced by `factor` after filtering; `padding` is added to the image before its reduction."""
    (x_factor, y_factor), (width, height) = parse_pair(factor), filter_size(f)
    keep = (
        (width - x_factor + 1) // 2,
        (width - x_factor) // 2,
        (height - y_factor + 1) // 2,
        (height - y_factor) // 2,
    )
    return upfirdn2d(x, f, down=factor, padding=_add(keep, padding), flip_filter=flip_filter, gain=gain)


def _add(keep: tuple[int, int, int, int], padding: int | Sequence[int]) -> tuple[int, ...]:
    return tuple(a + b for a, b in zip(keep, parse_padding(padding), strict=True))
