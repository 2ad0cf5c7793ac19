"""Up-sampling, FIR filtering and down-sampling of images, with arbitrary padding.

A filter is a 2-D tensor [rows, columns], or a 1-D tensor that is applied along both axes, or None for the
identity. Pairs of factors are (x, y); padding is (left, right, top, bottom), where a negative number crops.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

SEPARABLE_TAPS = 8
"""From this length on, two passes of a 1-D filter cost less than one of its outer product."""


def setup_filter(taps: Sequence[float] | Sequence[Sequence[float]] | Tensor | None) -> Tensor:
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

    Differentiable any number of times with respect to `x`.
    """
    (up_x, up_y), (down_x, down_y) = parse_pair(up), parse_pair(down)
    left, right, top, bottom = parse_padding(padding)
    if f is None:
        f = x.new_ones(1, 1)
    if f.ndim == 2:
        return _filter_pass(x, f * gain, (up_x, up_y), (down_x, down_y), (left, right, top, bottom), flip_filter)
    f = f * gain**0.5
    x = _filter_pass(x, f[None, :], (up_x, 1), (down_x, 1), (left, right, 0, 0), flip_filter)
    return _filter_pass(x, f[:, None], (1, up_y), (1, down_y), (0, 0, top, bottom), flip_filter)


def _filter_pass(
    x: Tensor,
    f: Tensor,
    up: tuple[int, int],
    down: tuple[int, int],
    padding: tuple[int, int, int, int],
    flip_filter: bool,
) -> Tensor:
    """One pass of `upfirdn2d` with a 2-D filter, as a depthwise convolution."""
    channels = x.shape[1]
    rows, columns = f.shape
    f = f.to(x.dtype)
    left, right, top, bottom = padding
    (up_x, up_y), (down_x, down_y) = up, down
    if up == (1, 1):
        kernel = (f if flip_filter else f.flip([0, 1])).expand(channels, 1, rows, columns)
        # What is common to both sides costs nothing inside the convolution; only the rest needs a copy.
        inner_x, inner_y = max(min(left, right), 0), max(min(top, bottom), 0)
        x = _pad(x, (left - inner_x, right - inner_x, top - inner_y, bottom - inner_y))
        return F.conv2d(x, kernel, stride=(down_y, down_x), padding=(inner_y, inner_x), groups=channels)
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
