"""One picture on its way into a data set: decoded safely, cropped, resized, encoded; its camera goes with it."""

from __future__ import annotations

import io
import struct
import threading
import warnings
import zlib
from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image, ImageOps

from dataset_preprocessing.cameras import split_label
from training.archive import MAX_PIXELS, ArchiveError

Transform = Literal["none", "center-crop", "center-crop-wide"]
Alpha = Literal["drop", "white", "black", "mask"]

_PNG_START = b"\x89PNG\r\n\x1a\n"
_PNG_COLORS = {"L": 0, "RGB": 2, "RGBA": 6}
_FORMATS = ("BMP", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
_WARNINGS = threading.Lock()
"""Held while warnings are off, which is a state of the whole process."""


@dataclass(frozen=True)
class PictureOptions:
    """What happens to every picture.

    resolution: width and height of the result (None: as it comes). transform: "center-crop" to a square,
    "center-crop-wide" to the aspect of `resolution`, framed by black bars to a square.
    alpha: "drop" it, put the picture on "white" or "black", or keep it apart as a "mask" (the picture goes on black).
    keep: side of the square, in source pixels, that "center-crop" keeps (None: the largest).
    """

    resolution: tuple[int, int] | None = None
    transform: Transform = "none"
    alpha: Alpha = "drop"
    keep: int | None = None


@dataclass(frozen=True)
class Crop:
    """Which part of a picture is kept, and where it goes.

    box: left, top, right, bottom in source pixels. size: width and height that the box is resized to.
    bars: height of the black bars above and below that make the result square.
    """

    box: tuple[int, int, int, int]
    size: tuple[int, int]
    bars: int = 0

    @property
    def result(self) -> tuple[int, int]:
        """Width and height of the finished picture."""
        return self.size[0], self.size[1] + 2 * self.bars

    def camera(self, label: list[float], source_size: tuple[int, int]) -> list[float]:
        """The camera label of the cropped picture; unchanged where nothing was cropped."""
        (width, height), (left, top, right, bottom) = source_size, self.box
        if (left, top, right, bottom) == (0, 0, width, height) and not self.bars:
            return label
        share = self.size[1] / self.result[1]
        scale = np.array([width / (right - left), height / (bottom - top) * share])
        offset = np.array([-left / (right - left), -top / (bottom - top) * share + self.bars / self.result[1]])
        matrix = split_label(np.array(label, dtype=np.float64))[1].copy()
        matrix[:2] *= scale[:, None]
        matrix[:2, 2] += offset
        return [*label[:16], *matrix.ravel().tolist()]


def plan_crop(size: tuple[int, int], options: PictureOptions) -> Crop:
    """What `options` do to a picture of a size (width, height)."""
    width, height = size
    if options.transform == "none":
        return Crop((0, 0, width, height), options.resolution or size)
    if options.transform == "center-crop":
        side = min(width, height, options.keep or width)
        left, top = (width - side) // 2, (height - side) // 2
        return Crop((left, top, left + side, top + side), options.resolution or (side, side))
    if options.resolution is None:
        raise ArchiveError("--transform=center-crop-wide needs --resolution=WIDTHxHEIGHT")
    wanted_width, wanted_height = options.resolution
    kept = min(height, round(width * wanted_height / wanted_width))
    across = min(width, round(kept * wanted_width / wanted_height))
    left, top = (width - across) // 2, (height - kept) // 2
    return Crop((left, top, left + across, top + kept), options.resolution, (wanted_width - wanted_height) // 2)


def decode(data: bytes, where: str) -> Image.Image:
    """An 8-bit picture of mode RGB or RGBA.

    Raises ArchiveError for what is no picture, is cut off or damaged, or has more pixels than anyone trains on.
    """
    try:
        with _WARNINGS, warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(data), formats=_FORMATS)
        if image.width * image.height > MAX_PIXELS:
            raise ArchiveError(
                f"{where}: {image.width}x{image.height} pixels, over the limit of {MAX_PIXELS:,}; refused"
            )
        image.load()
    except ArchiveError:
        raise
    except Exception as error:  # Pillow raises many kinds for damaged files
        raise ArchiveError(f"{where}: not a readable picture ({error}); replace it or use --skip-broken") from None
    return _eight_bit(image)


def _eight_bit(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        levels = np.asarray(image.convert("I"), dtype=np.float64) / 257
        image = Image.fromarray(np.clip(np.round(levels), 0, 255).astype(np.uint8))
    transparent = image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info
    mode = "RGBA" if transparent else "RGB"
    return image if image.mode == mode else image.convert(mode)


def upright(image: Image.Image) -> Image.Image:
    """The picture turned as its EXIF orientation says."""
    return ImageOps.exif_transpose(image)


def crop_and_resize(image: Image.Image, crop: Crop) -> Image.Image:
    """The finished picture. Resizing is by Lanczos' filter, on premultiplied colours where there is alpha."""
    if crop.box != (0, 0, *image.size) or crop.size != image.size:
        if image.mode == "RGBA":
            image = image.convert("RGBa").resize(crop.size, Image.Resampling.LANCZOS, crop.box).convert("RGBA")
        else:
            image = image.resize(crop.size, Image.Resampling.LANCZOS, crop.box)
    if crop.bars:
        framed = Image.new(image.mode, crop.result)
        framed.paste(image, (0, crop.bars))
        image = framed
    return image


def split_alpha(image: Image.Image, alpha: Alpha) -> tuple[Image.Image, Image.Image | None]:
    """The RGB picture and, for "mask", the alpha channel (opaque where the picture has none)."""
    if image.mode == "RGB":
        return image, Image.new("L", image.size, 255) if alpha == "mask" else None
    if alpha == "drop":
        return image.convert("RGB"), None
    ground = Image.new("RGBA", image.size, "white" if alpha == "white" else "black")
    flat = Image.alpha_composite(ground, image).convert("RGB")
    return flat, image.getchannel("A") if alpha == "mask" else None


def encode_png(image: Image.Image) -> bytes:
    """An uncompressed PNG of a grey, RGB or RGBA picture: larger than need be, but quick to write and to read.

    Written here rather than by Pillow, which tries five filters on every row even when it does not compress.
    """
    width, height = image.size
    pixels = np.frombuffer(image.tobytes(), dtype=np.uint8).reshape(height, -1)
    rows = np.zeros((height, 1 + pixels.shape[1]), dtype=np.uint8)  # the first byte of a row says: no filter
    rows[:, 1:] = pixels
    header = struct.pack(">2L5B", width, height, 8, _PNG_COLORS[image.mode], 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(rows.data, 0)), (b"IEND", b"")]
    parts = [_PNG_START]
    for name, content in chunks:
        parts += [
            struct.pack(">L", len(content)),
            name,
            content,
            struct.pack(">L", zlib.crc32(content, zlib.crc32(name))),
        ]
    return b"".join(parts)
