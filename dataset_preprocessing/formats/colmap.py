"""COLMAP's sparse models, text and binary, in and out.

Format: documentation of COLMAP, "Output format". World-to-camera quaternions (w, x, y, z) and translations in OpenCV
axes; intrinsics in pixels, with the origin at the corner of the upper left pixel.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dataset_preprocessing.cameras import Floats
from dataset_preprocessing.formats.shots import Shot, find_image
from dataset_preprocessing.storage import write_atomically
from training.archive import ArchiveError, Source

MODELS = {
    0: ("SIMPLE_PINHOLE", 3),
    1: ("PINHOLE", 4),
    2: ("SIMPLE_RADIAL", 4),
    3: ("RADIAL", 5),
    4: ("OPENCV", 8),
}
"""Camera models that are read, by number: name and count of parameters. Distortion must be zero."""

_COUNTS = dict(MODELS.values())


class ColmapCamera(NamedTuple):
    """One camera of a model: its kind, image size in pixels, and parameters."""

    model: str
    width: int
    height: int
    parameters: tuple[float, ...]


class ColmapImage(NamedTuple):
    """One picture of a model: world-to-camera quaternion (w, x, y, z), translation, camera number, file name."""

    quaternion: tuple[float, ...]
    translation: tuple[float, ...]
    camera: int
    name: str


def model_folder(source: Source) -> str | None:
    """Prefix of the folder inside a source that holds a COLMAP model; None where there is none."""
    for name in sorted(source.names):
        stem, _, suffix = name.rpartition(".")
        if stem.rsplit("/", 1)[-1] == "cameras" and suffix in ("bin", "txt"):
            prefix = stem[: -len("cameras")]
            if f"{prefix}images.{suffix}" in source.names:
                return prefix
    return None


def read_colmap(source: Source) -> list[Shot]:
    """All registered pictures of the first COLMAP model in a source, sorted by name.

    Raises ArchiveError for broken files, distorted cameras (undistort first) and pictures that are not there.
    """
    prefix = model_folder(source)
    if prefix is None:
        raise ArchiveError(f"{source.path}: no COLMAP model (cameras.bin and images.bin, or .txt) inside")
    suffix = "bin" if f"{prefix}cameras.bin" in source.names else "txt"
    where = f"{source.path}: {prefix}images.{suffix}"
    try:
        read_cameras, read_images = (
            (_binary_cameras, _binary_images) if suffix == "bin" else (_text_cameras, _text_images)
        )
        cameras = read_cameras(source.read(f"{prefix}cameras.{suffix}"))
        images = read_images(source.read(f"{prefix}images.{suffix}"))
    except (struct.error, ValueError, IndexError, OverflowError, KeyError) as error:
        raise ArchiveError(f"{where}: not a COLMAP model ({error})") from None
    shots = []
    for image in sorted(images, key=lambda image: image.name):
        if image.camera not in cameras:
            raise ArchiveError(f"{where}: {image.name} has camera {image.camera}, which is not in the model")
        name = find_image(source, image.name, where)
        shots.append(Shot(name, _pose(image), _intrinsics(cameras[image.camera], where)))
    if not shots:
        raise ArchiveError(f"{where}: the model has no registered pictures")
    return shots


def write_colmap(folder: Path, shots: Sequence[Shot], size: tuple[int, int], binary: bool = False) -> None:
    """Write cameras, images and an empty points file of shots whose pictures have `size` (width, height)."""
    folder.mkdir(parents=True, exist_ok=True)
    kinds: dict[tuple[float, ...], int] = {}
    images = []
    for shot in shots:
        matrix = shot.intrinsics
        if abs(matrix[0, 1]) > 1e-9:
            raise ArchiveError(f"{shot.image}: COLMAP has no camera model with skew")
        scaled = (matrix[0, 0] * size[0], matrix[1, 1] * size[1], matrix[0, 2] * size[0], matrix[1, 2] * size[1])
        number = kinds.setdefault(tuple(map(float, scaled)), len(kinds) + 1)
        inverse: Floats = np.asarray(np.linalg.inv(shot.pose), dtype=np.float64)
        images.append(
            ColmapImage(tuple(quaternion(inverse[:3, :3])), tuple(map(float, inverse[:3, 3])), number, shot.image)
        )
    cameras = {number: ColmapCamera("PINHOLE", *size, parameters) for parameters, number in kinds.items()}
    write = _write_binary if binary else _write_text
    for name, data in write(cameras, images).items():
        write_atomically(folder / name, data)


def quaternion(rotation: Floats) -> list[float]:
    """Unit quaternion (w, x, y, z), w >= 0, of a rotation matrix (Shepperd's method: the largest part first)."""
    r = np.asarray(rotation)
    squares = [np.trace(r), r[0, 0], r[1, 1], r[2, 2]]
    largest = int(np.argmax(squares))
    if largest == 0:
        parts = [1 + squares[0], r[2, 1] - r[1, 2], r[0, 2] - r[2, 0], r[1, 0] - r[0, 1]]
    else:
        i = largest - 1
        j, k = (i + 1) % 3, (i + 2) % 3
        parts = [r[k, j] - r[j, k], 0.0, 0.0, 0.0]
        parts[1 + i] = 1 + r[i, i] - r[j, j] - r[k, k]
        parts[1 + j] = r[j, i] + r[i, j]
        parts[1 + k] = r[k, i] + r[i, k]
    unit = np.array(parts) / np.linalg.norm(parts)
    return [float(value) for value in (unit if unit[0] >= 0 else -unit)]


def rotation_matrix(parts: Sequence[float]) -> Floats:
    """The rotation of a quaternion (w, x, y, z) of any length."""
    w, x, y, z = np.asarray(parts, dtype=np.float64) / np.linalg.norm(parts)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )


def _pose(image: ColmapImage) -> Floats:
    rotation = rotation_matrix(image.quaternion)
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = rotation.T, -rotation.T @ np.array(image.translation)
    return pose


def _intrinsics(camera: ColmapCamera, where: str) -> Floats:
    p, count = camera.parameters, 2 if camera.model in ("PINHOLE", "OPENCV") else 1
    focal, center, distortion = p[:count], p[count : count + 2], p[count + 2 :]
    if any(abs(value) > 1e-6 for value in distortion):
        raise ArchiveError(f"{where}: the {camera.model} camera is distorted; run `colmap image_undistorter` first")
    return np.array(
        [
            [focal[0] / camera.width, 0, center[0] / camera.width],
            [0, focal[-1] / camera.height, center[1] / camera.height],
            [0, 0, 1],
        ]
    )


def _checked(number: int, model: str, width: int, height: int, parameters: Sequence[float]) -> ColmapCamera:
    if model not in _COUNTS:
        raise ValueError(f"camera {number} has model {model}; undistort it to PINHOLE with `colmap image_undistorter`")
    if len(parameters) != _COUNTS[model] or width <= 0 or height <= 0:
        raise ValueError(f"camera {number} is incomplete")
    return ColmapCamera(model, width, height, tuple(parameters))


def _text_cameras(data: bytes) -> dict[int, ColmapCamera]:
    cameras = {}
    for words in _lines(data):
        number, model, width, height, *parameters = words
        cameras[int(number)] = _checked(int(number), model, int(width), int(height), [float(p) for p in parameters])
    return cameras


def _text_images(data: bytes) -> list[ColmapImage]:
    # Each picture has two lines, the second (its points) perhaps empty; a comment may stand only before them.
    lines = [line for line in data.decode("utf-8").splitlines() if not line.startswith("#")]
    images = []
    for line in lines[::2]:
        if line.strip():
            words = line.split(maxsplit=9)
            images.append(
                ColmapImage(tuple(map(float, words[1:5])), tuple(map(float, words[5:8])), int(words[8]), words[9])
            )
    return images


def _lines(data: bytes) -> list[list[str]]:
    lines = (line.strip() for line in data.decode("utf-8").splitlines())
    return [line.split() for line in lines if line and not line.startswith("#")]


def _binary_cameras(data: bytes) -> dict[int, ColmapCamera]:
    (count,), at, cameras = struct.unpack_from("<Q", data), 8, {}
    for _ in range(_bounded(count, data, 24)):
        number, model, width, height = struct.unpack_from("<iiQQ", data, at)
        name, size = MODELS.get(model, (f"number {model}", 0))
        parameters = struct.unpack_from(f"<{size}d", data, at + 24)
        cameras[number] = _checked(number, name, width, height, parameters)
        at += 24 + 8 * size
    return cameras


def _binary_images(data: bytes) -> list[ColmapImage]:
    (count,), at, images = struct.unpack_from("<Q", data), 8, []
    for _ in range(_bounded(count, data, 73)):
        _, *values = struct.unpack_from("<i7di", data, at)
        end = data.index(b"\0", at + 64)
        name = data[at + 64 : end].decode("utf-8")
        (points,) = struct.unpack_from("<Q", data, end + 1)
        at = end + 9 + 24 * _bounded(points, data, 24)
        images.append(ColmapImage(tuple(values[:4]), tuple(values[4:7]), values[7], name))
    return images


def _bounded(count: int, data: bytes, size: int) -> int:
    """A count that the data has room for."""
    if count * size > len(data):
        raise ValueError(f"{count} entries in {len(data)} bytes")
    return count


def _write_text(cameras: dict[int, ColmapCamera], images: Sequence[ColmapImage]) -> dict[str, bytes]:
    camera_lines = [f"{n} {c.model} {c.width} {c.height} {_numbers(c.parameters)}\n" for n, c in cameras.items()]
    image_lines = [
        f"{n} {_numbers(i.quaternion)} {_numbers(i.translation)} {i.camera} {i.name}\n\n"
        for n, i in enumerate(images, 1)
    ]
    return {
        "cameras.txt": "".join(["# CAMERA_ID MODEL WIDTH HEIGHT PARAMS[]\n", *camera_lines]).encode(),
        "images.txt": "".join(["# IMAGE_ID QW QX QY QZ TX TY TZ CAMERA_ID NAME\n", *image_lines]).encode(),
        "points3D.txt": b"# POINT3D_ID X Y Z R G B ERROR TRACK[]\n",
    }


def _numbers(values: Sequence[float]) -> str:
    return " ".join(repr(float(value)) for value in values)


def _write_binary(cameras: dict[int, ColmapCamera], images: Sequence[ColmapImage]) -> dict[str, bytes]:
    camera_data = [struct.pack("<iiQQ4d", n, 1, c.width, c.height, *c.parameters) for n, c in cameras.items()]
    image_data = [
        struct.pack("<i7di", n, *i.quaternion, *i.translation, i.camera) + i.name.encode() + b"\0" + bytes(8)
        for n, i in enumerate(images, 1)
    ]
    return {
        "cameras.bin": struct.pack("<Q", len(cameras)) + b"".join(camera_data),
        "images.bin": struct.pack("<Q", len(images)) + b"".join(image_data),
        "points3D.bin": bytes(8),
    }
