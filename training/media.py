"""Pictures: from tensors in [-1, 1] to 8-bit arrays, grids, colour maps, labelled sheets and files.

An 8-bit picture is a NumPy array [height, width, channels] here, a batch of them [n, height, width, channels].
"""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from numpy import ndarray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from dnnlib.files import atomic_path

# Twelve samples of the viridis colour map (CC0), dark to bright; values between them are interpolated.
VIRIDIS = np.array(
    [
        [68, 1, 84],
        [72, 33, 115],
        [67, 62, 133],
        [56, 88, 140],
        [45, 112, 142],
        [37, 133, 142],
        [30, 155, 138],
        [42, 176, 127],
        [82, 197, 105],
        [134, 213, 73],
        [194, 223, 35],
        [253, 231, 37],
    ],
    dtype=np.float64,
)


def to_uint8(images: Float[Tensor, "n channels height width"]) -> UInt8[ndarray, "n height width channels"]:
    """8-bit pictures of images in [-1, 1]: clip(x * 127.5 + 128), as data sets and metrics quantize."""
    scaled = (images.detach().float() * 127.5 + 128).clamp(0, 255).to(torch.uint8)
    return scaled.permute(0, 2, 3, 1).cpu().numpy()


def grid_size(width: int, height: int) -> tuple[int, int]:
    """Columns and rows of a snapshot grid of pictures of this size: about 7680 by 4320 pixels, at least 7 by 4."""
    return min(max(7680 // width, 7), 32), min(max(4320 // height, 4), 32)


def grid_indices(labels: Float[ndarray, "count size"] | None, count: int, columns: int, rows: int) -> list[int]:
    """Which of `count` data set items a grid shows, row by row; always the same for the same data.

    A row holds items of one label as long as there are any, and goes on with the next label then. Data sets with
    fewer items than cells repeat them.
    """
    order = np.random.RandomState(0).permutation(count)
    if labels is not None:
        groups = np.unique(labels[order], axis=0, return_inverse=True)[1].reshape(-1)
        first_seen = np.full(groups.max() + 1, count)
        np.minimum.at(first_seen, groups, np.arange(count))
        order = order[np.argsort(first_seen[groups], kind="stable")]
    return [int(order[cell % count]) for cell in range(columns * rows)]


def tile(pictures: UInt8[ndarray, "n height width channels"], columns: int) -> UInt8[ndarray, "rows cols channels"]:
    """One picture of all, row by row; cells left over in the last row are black (transparent where there is alpha)."""
    count, height, width, channels = pictures.shape
    rows = -(-count // columns)
    cells = np.zeros([rows * columns, height, width, channels], dtype=np.uint8)
    cells[:count] = pictures
    grid = cells.reshape(rows, columns, height, width, channels).transpose(0, 2, 1, 3, 4)
    return grid.reshape(rows * height, columns * width, channels)


def stretch(values: Float[Tensor, "n 1 height width"], limits: tuple[float, float] | None = None) -> Tensor:
    """The values mapped linearly so that `limits` (default: their minimum and maximum) become -1 and 1."""
    low, high = limits or (float(values.min()), float(values.max()))
    return ((values - low) / max(high - low, 1e-8) * 2 - 1).clamp(-1, 1)


def colorize(values: Float[Tensor, "n 1 height width"]) -> UInt8[ndarray, "n height width 3"]:
    """8-bit pictures of values in [-1, 1] in colours whose brightness grows with the value."""
    position = (values[:, 0].detach().float().nan_to_num().cpu().numpy().clip(-1, 1) + 1) / 2
    anchors = np.linspace(0, 1, len(VIRIDIS))
    channels = [np.interp(position, anchors, VIRIDIS[:, channel]) for channel in range(3)]
    return np.round(np.stack(channels, axis=-1)).astype(np.uint8)


def depth_pictures(
    depth: Float[Tensor, "n 1 height width"],
    limits: tuple[float, float] | None = None,
    opacity: Float[Tensor, "n 1 height width"] | None = None,
) -> UInt8[ndarray, "n height width 3"]:
    """Depth in colours, near bright and far dark; rays of low opacity fade to black where opacity is given.

    `limits` are the depths, in scene units, of the brightest and the darkest colour; without them the range is
    that of the rays that hit something.
    """
    if limits is None:
        hit = depth if opacity is None or not (opacity > 0.5).any() else depth[opacity > 0.5]
        limits = (float(hit.min()), float(hit.max()))
    near, far = limits
    colors = colorize(-stretch(depth, (near, far)))
    if opacity is None:
        return colors
    return np.round(colors * opacity[:, 0, ..., None].detach().clamp(0, 1).cpu().numpy()).astype(np.uint8)


def resize(pictures: UInt8[ndarray, "n height width channels"], size: int) -> UInt8[ndarray, "n size size channels"]:
    """Square pictures of another size (Lanczos)."""
    if pictures.shape[1] == size:
        return pictures
    resized = [np.asarray(to_pil(picture).resize((size, size), Image.Resampling.LANCZOS)) for picture in pictures]
    return np.stack(resized).reshape(len(pictures), size, size, -1)


def bleed_colors(
    over_black: Float[Tensor, "n 3 height width"], opacity: Float[Tensor, "n 1 height width"]
) -> Float[Tensor, "n 3 height width"]:
    """Colours in [0, 1] of a foreground without the black it was rendered over.

    over_black: colour times opacity, in [0, 1]. Where a pixel is nearly opaque its colour is the quotient of both.
    Towards the edges, where that quotient says less and less, the colours of the opaque neighbourhood take over,
    and they continue outside the object: so no dark rim shows when the picture is laid over something else or
    is resampled.
    """
    weighted, weights = over_black * opacity, opacity**2
    colors, known = weighted, weights
    for level in range(1, max(over_black.shape[-2:]).bit_length()):
        size = [max(side >> level, 1) for side in over_black.shape[-2:]]
        color_sum = _smooth(weighted, size)
        weight_sum = _smooth(weights, size)
        missing = (1 - known).clamp(0, 1)
        colors = colors + missing * color_sum
        known = known + missing * weight_sum
    return (colors / known.clamp(min=1e-6)).clamp(0, 1)


def _smooth(values: Tensor, size: list[int]) -> Tensor:
    """The values averaged to a smaller size and interpolated back."""
    small = torch.nn.functional.interpolate(values, size=size, mode="area")
    return torch.nn.functional.interpolate(small, size=values.shape[-2:], mode="bilinear", align_corners=False)


def rgba_pictures(
    over_black: Float[Tensor, "n 3 height width"], opacity: Float[Tensor, "n 1 height width"]
) -> UInt8[ndarray, "n height width 4"]:
    """Foregrounds with straight alpha, ready to be laid over any background; images in [-1, 1] over black (-1)."""
    colors = bleed_colors((over_black.detach().float() + 1).clamp(0, 2) / 2, opacity.detach().float().clamp(0, 1))
    alpha = (opacity.detach().float().clamp(0, 1)[:, 0] * 255).round().to(torch.uint8).cpu().numpy()
    return np.concatenate([to_uint8(colors * 2 - 1), alpha[..., None]], axis=-1)


def over(
    rgba: UInt8[ndarray, "n height width 4"], background: UInt8[ndarray, "... 3"]
) -> UInt8[ndarray, "n height width 3"]:
    """Pictures with alpha laid over a colour [3] or over other pictures of the same size."""
    alpha = rgba[..., 3:].astype(np.float64) / 255
    return np.round(rgba[..., :3] * alpha + background * (1 - alpha)).astype(np.uint8)


def checkerboard(height: int, width: int, cell: int = 8) -> UInt8[ndarray, "height width 3"]:
    """The two greys that stand for transparency."""
    odd: Bool[ndarray, "height width"] = (np.arange(height)[:, None] // cell + np.arange(width) // cell) % 2 == 1
    return np.where(odd[..., None], np.uint8(153), np.uint8(204)).repeat(3, axis=-1)


def to_pil(picture: UInt8[ndarray, "height width channels"]) -> Image.Image:
    """The picture (1, 3 or 4 channels) as a Pillow image."""
    return Image.fromarray(picture[..., 0] if picture.shape[-1] == 1 else picture)


def png_bytes(picture: UInt8[ndarray, "height width channels"]) -> bytes:
    """The PNG file of a picture; equal pictures give equal bytes."""
    buffer = io.BytesIO()
    to_pil(np.ascontiguousarray(picture)).save(buffer, format="PNG", compress_level=6)
    return buffer.getvalue()


def data_url(picture: UInt8[ndarray, "height width channels"], quality: int = 92) -> str:
    """The picture as an address that holds it: a JPEG, or a PNG where there is transparency."""
    if picture.shape[-1] == 4:
        kind, data = "png", png_bytes(picture)
    else:
        buffer = io.BytesIO()
        to_pil(np.ascontiguousarray(picture)).save(buffer, format="JPEG", quality=quality)
        kind, data = "jpeg", buffer.getvalue()
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def save_png(path: str | os.PathLike, picture: UInt8[ndarray, "height width channels"]) -> Path:
    """The path, after a PNG file was written there whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(png_bytes(picture))
    return Path(path)


def contact_sheet(
    rows: Sequence[tuple[str, UInt8[ndarray, "_ _ _ 3"]]], size: int = 128, title: str = ""
) -> UInt8[ndarray, "height width 3"]:
    """One picture of labelled rows of pictures, each cell `size` pixels wide.

    rows: a caption and the pictures to its right; rows may differ in length and in the size of their pictures.
    """
    gap, label_width, head = 4, 150, 40 if title else 0
    cells = [resize(pictures, size) for _, pictures in rows]
    longest = max(len(pictures) for pictures in cells)
    sheet = Image.new(
        "RGB", (label_width + longest * (size + gap) + gap, head + len(rows) * (size + gap) + gap), "white"
    )
    draw = ImageDraw.Draw(sheet)
    if title:
        draw.text((12, 10), title, fill="black", font=ImageFont.load_default(18))
    for row, ((caption, _), pictures) in enumerate(zip(rows, cells, strict=True)):
        top = head + gap + row * (size + gap)
        draw.multiline_text((12, top + 8), caption, fill="black", font=ImageFont.load_default(14))
        for column, picture in enumerate(pictures):
            sheet.paste(to_pil(picture), (label_width + gap + column * (size + gap), top))
    return np.asarray(sheet)
