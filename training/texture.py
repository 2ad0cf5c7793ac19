"""Textures of meshes: a picture with a place of its own for every triangle, filled from the field.

Two triangles share a square cell of the picture, each in one half of it. A triangle's corners lie on centres of texels,
and the texels just beyond its edges continue it, so interpolation sees nothing of a neighbour: there are no seams.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Integer
from numpy import ndarray
from tqdm import tqdm

from training.rendering.renderer import PointField
from training.shapes import Gaze, Mesh, Texture, surface_colors, vertex_normals

GOOD_CELL, SMALLEST_CELL = 6, 4
"""Texels a side; with 4 of them a triangle has texels at its corners alone."""
FACES_PER_CHUNK = 1 << 12


def most_faces(size: int) -> int:
    """The number of triangles for which a picture of size x size texels has good room."""
    return 2 * (size // GOOD_CELL) ** 2


@dataclass(frozen=True)
class Atlas:
    """Where the triangles lie: cells of `cell` texels a side, `columns` in a row, in a picture of `size` texels a side.

    Texels are counted from the upper left.
    """

    size: int
    cell: int
    columns: int

    @staticmethod
    def of(faces: int, size: int) -> Atlas:
        """The atlas with the largest cells. Raises ValueError where the picture is too small."""
        columns = math.ceil(math.sqrt(math.ceil(faces / 2)))
        if size // columns < SMALLEST_CELL:
            raise ValueError(f"a texture of {size} texels a side is too small for {faces} triangles")
        return Atlas(size, size // columns, columns)

    def place(
        self, faces: Integer[ndarray, " faces"], inside: Integer[ndarray, "points 2"]
    ) -> Integer[ndarray, "faces points 2"]:
        """Column and row of texels given by their steps from the first corner, along the edges to the other two."""
        cells = faces // 2
        start = np.stack([cells % self.columns, cells // self.columns], axis=-1)[:, None] * self.cell
        lower = (faces % 2)[:, None, None]
        return start + np.where(lower, self.cell - 1 - inside, inside)

    @property
    def edge(self) -> int:
        """Steps from a triangle's first corner to the others."""
        return self.cell - 3

    @property
    def texels(self) -> Integer[ndarray, "texels 2"]:
        """Steps to the texels of a triangle, one row beyond its longest edge included."""
        steps = np.stack(np.meshgrid(np.arange(self.cell), np.arange(self.cell), indexing="ij"), axis=-1).reshape(-1, 2)
        return steps[steps.sum(axis=1) <= self.edge + 1]

    def uv(self, faces: int) -> Float[ndarray, "faces 3 2"]:
        """Places of the corners, in [0, 1] from the lower left of the picture."""
        corners = self.place(np.arange(faces), np.array([[0, 0], [self.edge, 0], [0, self.edge]]))
        return ((corners + 0.5) / self.size * [1, -1] + [0, 1]).astype(np.float32)


def bake(
    mesh: Mesh,
    field: PointField,
    gaze: Gaze,
    size: int,
    *,
    device: torch.device | str = "cpu",
    progress: bool = False,
) -> Mesh:
    """The mesh with a texture of size x size texels, each the field's colour at its place of the surface.

    Raises ValueError where the mesh has more triangles than the texture has room for.
    """
    atlas = Atlas.of(len(mesh.faces), size)
    normals = vertex_normals(mesh)
    texels = atlas.texels
    shares = texels / atlas.edge
    shares = np.concatenate([1 - shares.sum(axis=1, keepdims=True), shares], axis=1)
    image = np.zeros([size, size, 3], dtype=np.uint8)
    filled = np.zeros([size, size], dtype=bool)
    count = len(mesh.faces)
    with tqdm(total=count, desc="texture", unit="face", leave=False, delay=3, disable=not progress) as bar:
        for start in range(0, count, FACES_PER_CHUNK):
            chosen = np.arange(start, min(start + FACES_PER_CHUNK, count))
            column, row = np.moveaxis(atlas.place(chosen, texels), 2, 0)
            points, outwards = (
                np.einsum("tk,fkd->ftd", shares, values[mesh.faces[chosen]]).reshape(-1, 3).astype(np.float32)
                for values in (mesh.vertices, normals)
            )
            lengths = np.linalg.norm(outwards, axis=1, keepdims=True).clip(1e-12)
            colors = surface_colors(field, points, outwards / lengths, gaze, device=device)
            image[row, column] = colors.reshape(*row.shape, 3)
            filled[row, column] = True
            bar.update(len(chosen))
    # The diagonals between two triangles: seen only where a viewer shrinks the picture.
    image[~filled] = np.roll(image, 1, axis=1)[~filled]
    return replace(mesh, texture=Texture(image, atlas.uv(count)))
