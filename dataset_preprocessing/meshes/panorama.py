"""Panoramas (equirectangular pictures of all directions): background at infinity and light.

Light follows Ramamoorthi and Hanrahan 2001: nine spherical harmonics hold the irradiance of everything but the
brightest spot, which is a lamp of its own and throws shadows.
"""

from __future__ import annotations

import base64
import functools
import io
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from dataset_preprocessing.cameras import Floats
from dataset_preprocessing.extras import need
from dataset_preprocessing.meshes.mesh import linear_light
from training.archive import MAX_ENTRY_BYTES, MAX_PIXELS, ArchiveError

SUFFIXES = (".exr", ".jpg", ".jpeg", ".png", ".exr.js")

_MIDDLE_GREY = 0.30
_SUN_SHARE = 0.997
"""Brightness quantile above which directions count as the lamp."""
_BRIGHTEST_PIXEL = 1e4
_BRIGHTEST_MEAN = 1.5
"""Mean brightness of all but the lamp above which all is dimmed, as dark rooms with large lights need it."""
_BRIGHTEST_LAMP = 4.0
"""Irradiance of the lamp, divided by pi, above which it is dimmed: the sun would leave nothing else to see."""


@dataclass(frozen=True)
class Panorama:
    """Light from all directions.

    radiance [height, width, 3]: linear, first row at the zenith, middle column at azimuth 0 (+z), scaled so that the
    typical brightness suits a picture. harmonics [9, 3]: irradiance without the lamp. lamp_direction [3], lamp [3]:
    direction to the brightest spot and its irradiance.
    """

    radiance: Floats
    harmonics: Floats
    lamp_direction: Floats
    lamp: Floats

    def look(self, directions: Floats, turn: float = 0.0) -> Floats:
        """Radiance [n, 3] from unit directions [n, 3], with the panorama turned about y (radians); bicubic."""
        height, width, _ = self.radiance.shape
        azimuth = np.arctan2(directions[:, 0], directions[:, 2]) - turn
        x = (azimuth / (2 * np.pi) + 0.5) * width - 0.5
        y = (0.5 - np.arcsin(np.clip(directions[:, 1], -1, 1)) / np.pi) * height - 0.5
        column, row = np.floor(x).astype(int), np.floor(y).astype(int)
        total = np.zeros((len(directions), 3))
        weights_x, weights_y = _cubic(x - column), _cubic(y - row)
        for j in range(4):
            rows = np.clip(row + j - 1, 0, height - 1)
            for i in range(4):
                weight = weights_y[j] * weights_x[i]
                total += weight[:, None] * self.radiance[rows, (column + i - 1) % width]
        return total

    def irradiance(self, normals: Floats, turn: float = 0.0) -> Floats:
        """Light [n, 3] on surfaces with unit normals [n, 3] from everything but the lamp, divided by pi."""
        return np.clip(_harmonics(turned(normals, -turn)) @ self.harmonics, 0, None)


def turned(directions: Floats, turn: float) -> Floats:
    """Directions [n, 3] with their azimuth raised by `turn`."""
    cos, sin = np.cos(turn), np.sin(turn)
    return directions @ np.array([[cos, 0, -sin], [0, 1, 0], [sin, 0, cos]])


def read_panorama(path: Path) -> Panorama:
    """The panorama of an EXR, JPEG or PNG file, or of a JavaScript module that holds one as base64 text.

    Raises ArchiveError for files that cannot be read or are not twice as wide as high.
    """
    if path.stat().st_size > MAX_ENTRY_BYTES:
        raise ArchiveError(f"{path}: larger than {MAX_ENTRY_BYTES:,} bytes; refused")
    data = path.read_bytes()
    if path.suffix == ".js":
        found = re.search(rb"base64,([A-Za-z0-9+/=]+)", data)
        if found is None:
            raise ArchiveError(f"{path}: holds no base64 data")
        data = base64.b64decode(found.group(1))
    radiance = _read_exr(data, path) if data[:4] == b"v/1\x01" else _read_display(data, path)
    if radiance.ndim != 3 or radiance.shape[1] != 2 * radiance.shape[0]:
        raise ArchiveError(f"{path}: {radiance.shape[1]}x{radiance.shape[0]}; a panorama is twice as wide as high")
    return light_of(radiance)


def light_of(radiance: Floats) -> Panorama:
    """The panorama of linear radiance [height, width, 3]."""
    height, width, _ = radiance.shape
    radiance = np.clip(radiance, 0, _BRIGHTEST_PIXEL)
    brightness = radiance.mean(axis=2)
    typical = np.exp(np.mean(np.log(brightness[height // 4 : 3 * height // 4] + 1e-4)))
    radiance = radiance * (_MIDDLE_GREY / typical)
    brightness = radiance.mean(axis=2)

    directions, solid_angle = _grid(height, width)
    limit = max(np.quantile(brightness, _SUN_SHARE), 1e-6)
    bright = brightness > limit
    excess = np.where(bright, 1 - limit / np.maximum(brightness, 1e-9), 0)[..., None] * radiance
    rest = radiance - excess
    mean = float((rest.mean(axis=2) * solid_angle).sum() / (4 * np.pi))
    rest, excess = (part * min(1.0, _BRIGHTEST_MEAN / mean) for part in (rest, excess))

    lamp = (excess * solid_angle[..., None]).sum(axis=(0, 1)) / np.pi
    weaker = np.minimum(lamp, _BRIGHTEST_LAMP) / np.maximum(lamp, 1e-12)
    direction = ((excess.mean(axis=2) * solid_angle)[..., None] * directions).sum(axis=(0, 1))
    direction = direction + np.array([0, 1e-9, 0])
    harmonics = _harmonics(directions.reshape(-1, 3)).T @ (rest * solid_angle[..., None]).reshape(-1, 3)
    # Convolution with the clamped cosine, divided by pi: 1, 2/3 and 1/4 for the three bands.
    harmonics *= np.array([1, 2 / 3, 2 / 3, 2 / 3, 0.25, 0.25, 0.25, 0.25, 0.25])[:, None]
    return Panorama(rest + excess * weaker, harmonics, direction / np.linalg.norm(direction), lamp * weaker)


@functools.cache
def studio() -> Panorama:
    """Light for objects on white: brighter from above, and a lamp high on the right, of 5 degrees' radius."""
    height, width = 64, 128
    directions, solid_angle = _grid(height, width)
    lamp_direction, lamp = np.array([0.4, 0.8, 0.5]) / np.linalg.norm([0.4, 0.8, 0.5]), np.full(3, 0.5)
    disc = directions @ lamp_direction > np.cos(np.radians(5))
    radiance = np.repeat(0.55 + 0.375 * directions[..., 1:2], 3, axis=2)
    radiance[disc] += np.pi * lamp / solid_angle[disc].sum()
    harmonics = np.zeros((9, 3))
    harmonics[:2] = np.array([0.55 / 0.282095, 0.25 / 0.488603])[:, None]
    return Panorama(radiance, harmonics, lamp_direction, lamp)


def _grid(height: int, width: int) -> tuple[Floats, Floats]:
    """Directions [height, width, 3] and solid angles [height, width] of the pixels of a panorama."""
    elevation = (0.5 - (np.arange(height) + 0.5) / height) * np.pi
    azimuth = ((np.arange(width) + 0.5) / width - 0.5) * 2 * np.pi
    flat = np.cos(elevation)[:, None]
    directions = np.stack(
        [flat * np.sin(azimuth), np.repeat(np.sin(elevation)[:, None], width, axis=1), flat * np.cos(azimuth)], axis=-1
    )
    return directions, np.broadcast_to(flat * (np.pi / height) * (2 * np.pi / width), (height, width))


def _harmonics(directions: Floats) -> Floats:
    """The nine real spherical harmonics [n, 9] of orders 0 to 2."""
    x, y, z = directions.T
    return np.stack(
        [
            np.full_like(x, 0.282095),
            0.488603 * y, 0.488603 * z, 0.488603 * x,
            1.092548 * x * y, 1.092548 * y * z, 0.315392 * (3 * z**2 - 1), 1.092548 * x * z, 0.546274 * (x**2 - y**2),
        ],
        axis=1,
    )  # fmt: skip


def _cubic(t: Floats) -> list[Floats]:
    """Weights of four neighbours of a smooth (B-spline) interpolation, t in [0, 1) from the second."""
    return [(1 - t) ** 3 / 6, (3 * t**3 - 6 * t**2 + 4) / 6, (-3 * t**3 + 3 * t**2 + 3 * t + 1) / 6, t**3 / 6]


def _read_exr(data: bytes, path: Path) -> Floats:
    exr = need("OpenEXR", "reading EXR panoramas")
    with tempfile.NamedTemporaryFile(suffix=".exr") as file:
        file.write(data)
        file.flush()
        try:
            channels = exr.File(file.name).channels()
        except Exception as error:  # OpenEXR raises its own kinds
            raise ArchiveError(f"{path}: not a readable EXR ({error})") from None
        name = next((name for name in ("RGB", "RGBA") if name in channels), None)
        if name is None:
            raise ArchiveError(f"{path}: no red, green and blue channels")
        return mended(np.asarray(channels[name].pixels, dtype=np.float64)[..., :3])


def mended(radiance: Floats) -> Floats:
    """Linear radiance without what lossy compression does around bright lights.

    Pixels driven below zero, or to a colour that no light has, take the median of the sound ones around them.
    """
    radiance = np.nan_to_num(radiance, posinf=_BRIGHTEST_PIXEL)
    low, high = radiance.min(axis=2), radiance.max(axis=2)
    broken = (low < -0.005) | (high > 30 * np.maximum(low, 0.05))
    reach = 4
    sound = np.where(broken[..., None], np.nan, radiance)
    sound = np.pad(sound, ((0, 0), (reach, reach), (0, 0)), mode="wrap")
    sound = np.pad(sound, ((reach, reach), (0, 0), (0, 0)), constant_values=np.nan)
    around = np.lib.stride_tricks.sliding_window_view(sound, (2 * reach + 1, 2 * reach + 1), axis=(0, 1))[broken]
    around = around.reshape(len(around), 3, (2 * reach + 1) ** 2)
    known = np.isfinite(around[:, 0]).any(axis=1)
    filled = np.zeros((len(around), 3))
    filled[known] = np.nanmedian(around[known], axis=2)
    radiance[broken] = filled
    return np.maximum(radiance, 0)


def _read_display(data: bytes, path: Path) -> Floats:
    try:
        with Image.open(io.BytesIO(data)) as image:
            if image.width * image.height > MAX_PIXELS:
                raise ArchiveError(f"{path}: {image.width}x{image.height} pixels; refused")
            return linear_light(np.asarray(image.convert("RGB")))
    except (OSError, ValueError, SyntaxError) as error:
        if isinstance(error, ArchiveError):
            raise
        raise ArchiveError(f"{path}: not a readable panorama ({error})") from None
