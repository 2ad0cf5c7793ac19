"""MediaPipe's canonical face: 468 points in centimetres, and which of them say most about the pose.

It is part of the npm package `@mediapipe/face_mesh` (Apache-2.0), as a protocol buffer inside a bundle of files.
"""

from __future__ import annotations

import re
import struct
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dataset_preprocessing.cameras import Floats
from dataset_preprocessing.meshes.fetch import run_tool, the_only_file
from training.archive import MAX_ENTRY_BYTES, ArchiveError

POINTS = 468
_VERTEX_FLOATS = 5
_METADATA = "geometry_pipeline_metadata_landmarks.binarypb"


@dataclass(frozen=True)
class FaceModel:
    """points [468, 3]: x to the picture's right, y up, z out of the face; cm. weights [468]: zero for most."""

    points: Floats
    weights: Floats


def read_face_model(path: Path) -> FaceModel:
    """The model of a file that `fetch_face_model` wrote; ArchiveError if it is not one."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            model = FaceModel(arrays["points"].astype(np.float64), arrays["weights"].astype(np.float64))
    except (OSError, ValueError, KeyError) as error:
        raise ArchiveError(f"{path}: not a face model; get it with `portraits fetch-face-model` ({error})") from None
    if model.points.shape != (POINTS, 3) or model.weights.shape != (POINTS,):
        raise ArchiveError(f"{path}: a face model has {POINTS} points")
    return model


def fetch_face_model(dest: Path, package: Path | None = None) -> None:
    """Write the canonical face to an `.npz` file, from `package` (the npm package's .tgz) or by `npm pack`.

    Raises ArchiveError where that fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        if package is None:
            run_tool(["npm", "pack", "@mediapipe/face_mesh"], Path(folder))
            package = the_only_file(Path(folder), "*.tgz")
        try:
            with tarfile.open(package) as tar:
                files = {Path(member.name).name: _content(tar, member) for member in tar if member.isreg()}
        except (tarfile.TarError, OSError, EOFError) as error:
            raise ArchiveError(f"{package}: not a readable package ({error})") from None
    model = parse_bundle(files)
    dest.parent.mkdir(parents=True, exist_ok=True)
    with open(dest, "wb") as file:
        np.savez(file, points=model.points, weights=model.weights)


def parse_bundle(files: dict[str, bytes]) -> FaceModel:
    """The model of the package's files; ArchiveError where it is not among them."""
    loader = files.get("face_mesh_solution_packed_assets_loader.js", b"").decode("latin-1")
    data = files.get("face_mesh_solution_packed_assets.data", b"")
    place = re.search(rf'{re.escape(_METADATA)}", "start": (\d+), "end": (\d+)', loader)
    if place is None:
        raise ArchiveError("the package holds no canonical face model; is it @mediapipe/face_mesh?")
    try:
        return parse_metadata(data[int(place.group(1)) : int(place.group(2))])
    except (IndexError, struct.error, ValueError) as error:
        raise ArchiveError(f"the canonical face model cannot be read ({error})") from None


def parse_metadata(data: bytes) -> FaceModel:
    """The model of a serialized `GeometryPipelineMetadata`: field 1 the mesh (3: x y z u v), 2 weighted points."""
    points, weights = np.zeros((0, 3)), np.zeros(POINTS)
    for number, value in _fields(data):
        if number == 1 and isinstance(value, bytes):
            floats = (item for field, item in _fields(value) if field == 3 and isinstance(item, bytes))
            numbers = [struct.unpack("<f", item)[0] for item in floats]
            points = np.array(numbers).reshape(-1, _VERTEX_FLOATS)[:, :3]
        elif number == 2 and isinstance(value, bytes):
            parts = dict(_fields(value))
            weight = parts.get(2, b"")
            weights[int(parts.get(1, 0))] = struct.unpack("<f", weight)[0]  # type: ignore[arg-type]
    if points.shape != (POINTS, 3) or not weights.any():
        raise ValueError(f"{len(points)} points")
    return FaceModel(points, weights)


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Number and content of each field of a protocol buffer message."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        kind = key & 7
        if kind == 0:
            value, at = _varint(data, at)
            yield key >> 3, value
            continue
        if kind == 2:
            size, at = _varint(data, at)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
        else:
            raise ValueError(f"wire type {kind}")
        yield key >> 3, data[at : at + size]
        at += size


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = tar.extractfile(member)
    return file.read(MAX_ENTRY_BYTES) if file else b""
