"""Models in AC3D's text format (`.ac`), and TORCS's dialect of it (`.acc`) with normals and triangle strips.

Objects nest; each has a name, perhaps a texture, vertices, and surfaces that are polygons, lines or strips.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from dataset_preprocessing.cameras import Floats
from dataset_preprocessing.meshes.mesh import Mesh, Texture, join, read_texture
from training.archive import ArchiveError

_MAX_VERTICES = 5_000_000
_STRIP = 4


class _Object:
    """One object: its place in the world, its vertices, and its triangles as rows of (vertex, u, v)."""

    def __init__(self, parent: _Object | None = None) -> None:
        self.name = ""
        self.texture: str | None = None
        self.offset: Floats = np.zeros(3) if parent is None else parent.offset
        self.axes: Floats = np.eye(3) if parent is None else parent.axes
        self.vertices: Floats = np.zeros((0, 6))
        self.faces: list[list[list[float]]] = []
        self.materials: list[int] = []

    def describe(self, word: str, rest: str) -> None:
        """Take in one line that says what the object is and where."""
        if word == "name":
            self.name = rest.strip('"')
        elif word == "texture" and self.texture is None:
            self.texture = rest.split('"')[1] if '"' in rest else rest
        elif word == "loc":
            self.offset = self.offset + self.axes @ np.array(rest.split(), dtype=np.float64)
        elif word == "rot":
            self.axes = self.axes @ np.array(rest.split(), dtype=np.float64).reshape(3, 3).T

    def add_geometry(self, word: str, rest: str, lines: Iterator[str]) -> None:
        """Take in the vertices or one surface, whose lines follow."""
        if word == "numvert":
            self.vertices = _vertices(lines, int(rest))
        elif word == "SURF":
            triangles, material = _surface(lines, int(rest, 16))
            self.faces += triangles
            self.materials += [material] * len(triangles)


def read_ac3d(path: Path, livery: Path | None = None) -> Mesh:
    """The triangles of a model, y up as AC3D has it. `livery` replaces the texture named like the model.

    Textures that are not beside the model are left out. Raises ArchiveError for files that are not AC3D or broken.
    """
    try:
        text = path.read_text("latin-1")
    except OSError as error:
        raise ArchiveError(f"{path}: {error.strerror}") from None
    lines = iter(text.splitlines())
    if not next(lines, "").startswith("AC3D"):
        raise ArchiveError(f"{path}: not an AC3D file")
    textures: dict[str, Texture | None] = {}

    def texture_of(name: str) -> Texture | None:
        if name not in textures:
            file = path.parent / Path(name).name
            if livery is not None and file.stem == path.stem:
                file = livery
            textures[name] = read_texture(file) if file.is_file() else None
        return textures[name]

    colors: list[list[float]] = []
    try:
        items = [item for item in _objects(lines, None, colors) if item.faces]
        parts = [_mesh(item, colors, texture_of(item.texture) if item.texture else None) for item in items]
    except (ValueError, IndexError, RuntimeError) as error:  # the lines end too early: RuntimeError
        raise ArchiveError(f"{path}: broken AC3D file ({error})") from None
    if not parts:
        raise ArchiveError(f"{path}: holds no triangles")
    return join(parts)


def _objects(lines: Iterator[str], parent: _Object | None, colors: list[list[float]]) -> Iterator[_Object]:
    """The objects of the lines, children after parents; colours of materials are added to `colors`."""
    for line in lines:
        word, _, rest = line.strip().partition(" ")
        if word == "MATERIAL":
            colors.append([float(number) for number in rest.rsplit('"', 1)[-1].split()[1:4]])
        elif word == "OBJECT":
            yield from _object(lines, parent, colors)
            if parent is not None:
                return


def _object(lines: Iterator[str], parent: _Object | None, colors: list[list[float]]) -> Iterator[_Object]:
    current = _Object(parent)
    for line in lines:
        word, _, rest = line.strip().partition(" ")
        if word == "data":
            next(lines)
        elif word in ("numvert", "SURF"):
            current.add_geometry(word, rest, lines)
        elif word == "kids":
            yield current
            for _ in range(int(rest)):
                yield from _objects(lines, current, colors)
            return
        else:
            current.describe(word, rest)


def _vertices(lines: Iterator[str], count: int) -> Floats:
    if count > _MAX_VERTICES:
        raise ValueError(f"{count} vertices")
    rows = [np.array(next(lines).split(), dtype=np.float64) for _ in range(count)]
    return np.stack(rows) if rows else np.zeros((0, 3))


def _surface(lines: Iterator[str], kind: int) -> tuple[list[list[list[float]]], int]:
    """Triangles of one surface, each three rows (vertex, u, v), and its material."""
    material = 0
    for line in lines:
        word, *rest = line.split()
        if word == "mat":
            material = int(rest[0])
        elif word == "refs":
            count = int(rest[0])
            if count > _MAX_VERTICES:
                raise ValueError(f"{count} corners")
            rows = [[float(number) for number in next(lines).split()[:3]] for _ in range(count)]
            return _triangles(rows, kind & 0xF), material
    raise ValueError("a surface without corners")


def _triangles(rows: list[list[float]], kind: int) -> list[list[list[float]]]:
    if kind == 0:
        return [[rows[0], rows[i], rows[i + 1]] for i in range(1, len(rows) - 1)]
    if kind == _STRIP:
        turns = (
            [rows[i], rows[i + 1], rows[i + 2]] if i % 2 == 0 else [rows[i + 1], rows[i], rows[i + 2]]
            for i in range(len(rows) - 2)
        )
        return [corners for corners in turns if len({corner[0] for corner in corners}) == 3]
    return []


def _mesh(item: _Object, colors: list[list[float]], texture: Texture | None) -> Mesh:
    faces = np.array(item.faces)
    index = faces[..., 0].astype(np.int64)
    if index.min() < 0 or index.max() >= len(item.vertices):
        raise ValueError(f"object {item.name!r} refers to vertices that it does not have")
    corners = item.vertices[index][..., :3] @ item.axes.T + item.offset
    if item.vertices.shape[1] >= 6:
        normals = item.vertices[index][..., 3:6] @ item.axes.T
    else:
        flat = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        normals = np.repeat(flat[:, None], 3, axis=1)
    normals = normals / np.maximum(np.linalg.norm(normals, axis=2, keepdims=True), 1e-12)
    color = np.array([colors[m] if m < len(colors) else [1.0, 1.0, 1.0] for m in item.materials]) ** 2.2
    number = np.full(len(faces), -1 if texture is None else 0)
    return Mesh(corners, normals, faces[..., 1:3], number, color, () if texture is None else (texture,))
