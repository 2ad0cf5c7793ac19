"""Convolution of images with up- or down-sampling around it."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional as F

from torch_utils.ops.upfirdn2d import filter_size, parse_padding, upfirdn2d


def conv2d_resample(
    x: Tensor,
    w: Tensor,
    f: Tensor | None = None,
    up: int = 1,
    down: int = 1,
    padding: int | Sequence[int] = 0,
    groups: int = 1,
    flip_weight: bool = True,
) -> Tensor:
    """Images [n, in, height, width] up-sampled by `up`, convolved with `w`, down-sampled by `down`.

    w: [out, in / groups, rows, columns]; correlation (the usual layer) where `flip_weight` is true, convolution
    otherwise. f: low-pass filter of the re-sampling, from `setup_filter`; without re-sampling it is not used.
    padding: zeros (negative: crop) around the up-sampled image, on top of what the filter needs; 1 for a
    3x3 kernel makes the size height * up / down.

    Mathematically: insert zeros, pad, filter, convolve, filter, decimate. Each case takes the cheapest order.
    """
    left, right, top, bottom = parse_padding(padding)
    width, height = filter_size(f)
    if up > 1:
        left, right = left + (width + up - 1) // 2, right + (width - up) // 2
        top, bottom = top + (height + up - 1) // 2, bottom + (height - up) // 2
    if down > 1:
        left, right = left + (width - down + 1) // 2, right + (width - down) // 2
        top, bottom = top + (height - down + 1) // 2, bottom + (height - down) // 2
    rows, columns = w.shape[2:]
    is_pointwise = rows == columns == 1

    # A pointwise kernel commutes with the filter, so that it need only see the fewer pixels.
    if is_pointwise and down > up == 1:
        x = upfirdn2d(x, f, down=down, padding=(left, right, top, bottom))
        return _correlate(x, w, groups)
    if is_pointwise and up > down == 1:
        x = _correlate(x, w, groups)
        return upfirdn2d(x, f, up=up, padding=(left, right, top, bottom), gain=up**2)
    if up > 1:
        # Unpadded, the transposed convolution widens the image by the kernel; the filter's padding makes up for it.
        left, right = left - (columns - 1), right - (columns - up)
        top, bottom = top - (rows - 1), bottom - (rows - up)
        inner_x, inner_y = max(min(-left, -right), 0), max(min(-top, -bottom), 0)
        kernel = w.flip([2, 3]) if flip_weight else w
        kernel = kernel.unflatten(0, (groups, -1)).transpose(1, 2).flatten(0, 1)
        x = F.conv_transpose2d(x, kernel, stride=up, padding=(inner_y, inner_x), groups=groups)
        around = (left + inner_x, right + inner_x, top + inner_y, bottom + inner_y)
        x = upfirdn2d(x, f, padding=around, gain=up**2)
        return x if down == 1 else upfirdn2d(x, f, down=down)
    if down > 1:
        x = upfirdn2d(x, f, padding=(left, right, top, bottom))
        return _correlate(x, w, groups, stride=down, flip=not flip_weight)
    if left == right >= 0 and top == bottom >= 0:
        return _correlate(x, w, groups, padding=(top, left), flip=not flip_weight)
    x = F.pad(x, (left, right, top, bottom))
    return _correlate(x, w, groups, flip=not flip_weight)


def _correlate(
    x: Tensor, w: Tensor, groups: int, stride: int = 1, padding: tuple[int, int] = (0, 0), flip: bool = False
) -> Tensor:
    """Plain convolution layer, with the kernel turned by 180 degrees where `flip` is true."""
    return F.conv2d(x, w.flip([2, 3]) if flip else w, stride=stride, padding=padding, groups=groups)
