"""Triangles with colours: what every model file becomes before it is rendered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from dataset_preprocessing.cameras import Floats
from dataset_preprocessing.extras import need
from training.archive import MAX_PIXELS, ArchiveError

Texture = NDArray[np.uint8]
"""Display colour and alpha [height, width, 4], first row on top."""


@dataclass(frozen=True)
class Mesh:
    """Triangles of one object.

    corners [m, 3, 3]: positions. normals [m, 3, 3]: of the corners. uv [m, 3, 2]: texture places, v upwards.
    texture [m]: index into `textures`, -1 for none. color [m, 3]: linear light, multiplied with the texture.
    """

    corners: Floats
    normals: Floats
    uv: Floats
    texture: NDArray[np.int64]
    color: Floats
    textures: tuple[Texture, ...] = field(default=(), repr=False)

    @property
    def planes(self) -> Floats:
        """Normals [m, 3] of the triangles, as long as twice their areas."""
        edges = self.corners[:, 1:] - self.corners[:, :1]
        return np.cross(edges[:, 0], edges[:, 1])

    def moved(self, axes: Floats, offset: Floats) -> Mesh:
        """The mesh with `axes @ point + offset` for every point."""
        normals = self.normals @ np.linalg.inv(axes)
        length = np.linalg.norm(normals, axis=2, keepdims=True)
        return replace(self, corners=self.corners @ axes.T + offset, normals=normals / np.maximum(length, 1e-12))

    def fitted(self, radius: float) -> Mesh:
        """The mesh moved and scaled so that its box is centred and its farthest point `radius` from the origin."""
        points = self.corners.reshape(-1, 3)
        middle = (points.min(axis=0) + points.max(axis=0)) / 2
        reach = float(np.linalg.norm(points - middle, axis=1).max())
        if not reach > 0:
            raise ArchiveError("the mesh has no extent")
        return self.moved(np.eye(3) * (radius / reach), -middle * (radius / reach))


def join(meshes: Sequence[Mesh]) -> Mesh:
    """One mesh of several; a texture that they share is kept once."""
    textures = {id(texture): texture for mesh in meshes for texture in mesh.textures}
    place = {key: index for index, key in enumerate(textures)}
    texture = []
    for mesh in meshes:
        places = np.array([*(place[id(texture)] for texture in mesh.textures), -1])
        texture.append(places[mesh.texture])
    return Mesh(
        np.concatenate([mesh.corners for mesh in meshes]),
        np.concatenate([mesh.normals for mesh in meshes]),
        np.concatenate([mesh.uv for mesh in meshes]),
        np.concatenate(texture),
        np.concatenate([mesh.color for mesh in meshes]),
        tuple(textures.values()),
    )


def linear_light(values: ArrayLike) -> Floats:
    """Linear light in [0, 1] of display values from 0 to 255."""
    return (np.asarray(values, dtype=np.float64) / 255) ** 2.2


def coated(color: Floats, alpha: Floats) -> tuple[Floats, Floats]:
    """Linear albedo [..., 3] and gloss [..., 1] (share of a mirror's image) of a surface's colour and alpha [..., 1].

    See-through parts (windows) look like dark, shiny glass: what is behind them is not shown.
    """
    return color * alpha + 0.02 * (1 - alpha), 0.35 + 0.65 * (1 - alpha)


def read_texture(image: Image.Image | Path) -> Texture:
    """The texture of a picture or picture file; ArchiveError if it cannot be read."""
    try:
        opened = Image.open(image) if isinstance(image, Path) else image
        if opened.width * opened.height > MAX_PIXELS:
            raise ArchiveError(f"{image}: {opened.width}x{opened.height} pixels; refused")
        return np.asarray(opened.convert("RGBA"))
    except (OSError, ValueError, SyntaxError) as error:
        raise ArchiveError(f"{image}: not a readable texture ({error})") from None


def load_mesh(path: Path) -> Mesh:
    """The mesh of a model file: `.ac` and `.acc` by our own reader, others (glb, gltf, obj, ply, ...) by trimesh.

    glTF and most others stand y up and face +z. Raises ArchiveError for files that hold no triangles.
    """
    if path.suffix.lower() in (".ac", ".acc"):
        from dataset_preprocessing.meshes.ac3d import read_ac3d

        return read_ac3d(path)
    trimesh = need("trimesh", "reading model files")
    try:
        scene = trimesh.load(path, force="scene")
        parts = [_from_trimesh(part) for part in scene.dump() if len(getattr(part, "faces", ()))]
    except ArchiveError:
        raise
    except Exception as error:  # trimesh raises many kinds for damaged files
        raise ArchiveError(f"{path}: not a readable model ({error})") from None
    if not parts:
        raise ArchiveError(f"{path}: holds no triangles")
    return join(parts)


def _from_trimesh(part: Any) -> Mesh:
    faces = np.asarray(part.faces)
    count = len(faces)
    visual = part.visual
    textures: tuple[Texture, ...] = ()
    color, uv, texture = np.ones((count, 3)), np.zeros((count, 3, 2)), np.full(count, -1)
    if visual.kind == "texture" and visual.uv is not None:
        material = visual.material
        image = getattr(material, "baseColorTexture", None) or getattr(material, "image", None)
        factor = getattr(material, "baseColorFactor", None)
        if factor is not None:
            color *= linear_light(factor[:3])
        if image is not None:
            uv, texture, textures = (
                np.asarray(visual.uv, dtype=np.float64)[faces],
                np.zeros(count, int),
                (read_texture(image),),
            )
        elif factor is None:
            color *= linear_light(material.main_color[:3])
    elif visual.kind in ("vertex", "face"):
        color = linear_light(np.asarray(visual.face_colors)[:, :3])
    normals = np.asarray(part.vertex_normals, dtype=np.float64)[faces]
    return Mesh(np.asarray(part.vertices, dtype=np.float64)[faces], normals, uv, texture, color, textures)
