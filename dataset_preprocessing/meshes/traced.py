"""Light on meshes by path tracing (Mitsuba 3): soft shadows, light between surfaces, true reflections.

Slower than the light of `render`, which stays the default; mask, depth and normals come from there in both cases.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.ndimage import distance_transform_edt

from dataset_preprocessing.cameras import Floats, fov_from_focal, split_label
from dataset_preprocessing.extras import need
from dataset_preprocessing.meshes.mesh import Mesh, coated, linear_light
from dataset_preprocessing.meshes.panorama import Panorama
from dataset_preprocessing.synthetic.solids import unit

_BOUNCES = 4
_ROUGHNESS = 0.08


def need_mitsuba() -> Any:
    """Mitsuba with its scalar variant, which needs no compiler and no GPU; ArchiveError where it is not installed.

    It uses as many threads as OMP_NUM_THREADS says, by default one a core.
    """
    mitsuba = need("mitsuba", "--light-samples", extra="light")
    mitsuba.set_variant("scalar_rgb")
    threads = os.environ.get("OMP_NUM_THREADS", "")
    if threads.isdigit():
        need("drjit", "--light-samples", extra="light").set_thread_count(int(threads))
    return mitsuba


class PathTracer:
    """Traces the light on one mesh, along `samples` paths a pixel."""

    def __init__(self, mesh: Mesh, samples: int) -> None:
        self.samples = samples
        self._mitsuba = need_mitsuba()
        self._shapes = {f"part{k}": self._shape(part) for k, part in enumerate(_parts(mesh))}

    def radiance(self, panorama: Panorama, turn: float, label: ArrayLike, resolution: int, seed: int) -> Floats:
        """Linear radiance [resolution, resolution, 3] of the mesh in a camera's view; the same seed gives the same.

        Pixels beside the mesh have the colour of the nearest one on it, black where nothing is seen.
        """
        scene = {
            "type": "scene",
            "integrator": {"type": "path", "max_depth": _BOUNCES + 1, "hide_emitters": True},
            "sensor": self._camera(label, resolution),
            "light": self._light(panorama, turn),
        }
        rendered = self._mitsuba.render(self._mitsuba.load_dict(scene | self._shapes), spp=self.samples, seed=seed)
        film = np.asarray(rendered, dtype=np.float64)
        seen = film[..., 3] > 0
        if not seen.any():
            return np.zeros((resolution, resolution, 3))
        nearest = distance_transform_edt(~seen, return_distances=False, return_indices=True)
        return (film[..., :3] / np.maximum(film[..., 3:], 1e-9))[tuple(nearest)]

    def _camera(self, label: ArrayLike, resolution: int) -> dict[str, Any]:
        pose, intrinsics = split_label(label)
        return {
            "type": "perspective",
            "fov": float(fov_from_focal(intrinsics[0, 0])),
            "near_clip": 1e-3,
            # Mitsuba's cameras look along +z too, but with x to the left and y upwards.
            "to_world": self._mitsuba.ScalarTransform4f(pose @ np.diag([-1.0, -1, 1, 1])),
            "sampler": {"type": "multijitter"},
            "film": {
                "type": "hdrfilm",
                "width": resolution,
                "height": resolution,
                "pixel_format": "rgba",
                "rfilter": {"type": "box"},
            },
        }

    def _light(self, panorama: Panorama, turn: float) -> dict[str, Any]:
        return {
            "type": "envmap",
            # Mitsuba's maps run the other way round.
            "bitmap": self._mitsuba.Bitmap(np.ascontiguousarray(panorama.radiance[:, ::-1], dtype=np.float32)),
            "to_world": self._mitsuba.ScalarTransform4f().rotate([0, 1, 0], float(np.degrees(turn))),
        }

    def _shape(self, part: _Part) -> Any:
        """A Mitsuba shape with a glossy coat, lit on both sides."""
        properties = self._mitsuba.Properties()
        albedo, gloss = coated(part.texels[..., :3], part.texels[..., 3:])
        coat = {"type": "roughplastic", "alpha": _ROUGHNESS}
        coat |= {"diffuse_reflectance": self._texture(albedo, part.smooth)}
        coat |= {"specular_reflectance": self._texture(gloss, part.smooth)}
        properties["mesh_bsdf"] = self._mitsuba.load_dict({"type": "twosided", "bsdf": coat})
        count = len(part.corners)
        shape = self._mitsuba.Mesh("part", 3 * count, count, properties, True, True)
        values = self._mitsuba.traverse(shape)
        values["vertex_positions"] = part.corners.astype(np.float32).ravel()
        values["vertex_normals"] = part.normals.astype(np.float32).ravel()
        values["vertex_texcoords"] = (part.uv * [1, -1] + [0, 1]).astype(np.float32).ravel()
        values["faces"] = np.arange(3 * count, dtype=np.uint32)
        values.update()
        return shape

    def _texture(self, texels: Floats, smooth: bool) -> dict[str, Any]:
        return {
            "type": "bitmap",
            "raw": True,
            "filter_type": "bilinear" if smooth else "nearest",
            "bitmap": self._mitsuba.Bitmap(texels.astype(np.float32)),
        }


@dataclass(frozen=True)
class _Part:
    """Triangles of one texture: corners, normals and uv as in Mesh; texels [height, width, 4]: linear colour, alpha."""

    corners: Floats
    normals: Floats
    uv: Floats
    texels: Floats
    smooth: bool = True


def _parts(mesh: Mesh) -> Iterator[_Part]:
    """The triangles of each texture and colour, and those without a texture with their colours as a palette."""
    usable = np.linalg.norm(mesh.normals, axis=2, keepdims=True) > 1e-3
    normals = np.where(usable, mesh.normals, unit(mesh.planes + 1e-30)[:, None])
    for index in np.unique(mesh.texture):
        rows = np.flatnonzero(mesh.texture == index)
        colors, number = np.unique(mesh.color[rows], axis=0, return_inverse=True)
        if index < 0:
            uv = np.stack([(number.ravel() + 0.5) / len(colors), np.full(len(rows), 0.5)], axis=1)[:, None]
            palette = np.pad(colors, ((0, 0), (0, 1)), constant_values=1)[None]
            yield _Part(mesh.corners[rows], normals[rows], np.repeat(uv, 3, axis=1), palette, smooth=False)
            continue
        texture = mesh.textures[index]
        texels = np.concatenate([linear_light(texture[..., :3]), texture[..., 3:] / 255], axis=2)
        for k, color in enumerate(colors):
            chosen = rows[number.ravel() == k]
            tinted = texels * np.append(color, 1)
            yield _Part(mesh.corners[chosen], normals[chosen], mesh.uv[chosen], tinted)
