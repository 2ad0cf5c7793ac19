"""What a film shows: cells that move through latents, seen by one camera after the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import UInt8
from numpy import ndarray

from training import media
from training.generator import Generator
from training.interpolation import Curve, between
from training.rasterizer import draw_mesh
from training.shapes import Mesh
from training.types import Camera, Latents, RenderSettings
from training.views import LAYERS, BuiltScene, ShapeSettings, Shot, depth_layer, hit_range, scene_density, scene_mesh

MESH_LAYER = "mesh"
FILM_LAYERS = (*LAYERS, MESH_LAYER)
PREVIEW_RAYS = 32
PREVIEW_FRAMES = 8


@dataclass(frozen=True)
class Motion:
    """How a cell moves through its key latents: along which curve, and which of its parts."""

    curve: Curve
    scene: bool = True
    background: bool = True


@dataclass
class Cell:
    """One place in the grid of a film: its key latents, and the scene as long as it stands still."""

    generator: Generator
    keys: Latents
    motion: Motion
    _still: BuiltScene | None = field(default=None, init=False)
    _mesh: Mesh | None = field(default=None, init=False)

    @property
    def scene_moves(self) -> bool:
        """Whether the scene differs from frame to frame."""
        return self.motion.scene and len(self.keys) > 1

    def scene(self, time: float) -> BuiltScene:
        """The scene at a time, in keys; a scene that stands still is built once."""
        latents = between(
            self.keys, time, self.motion.curve, scene=self.motion.scene, background=self.motion.background
        )
        if self.scene_moves:
            return BuiltScene.build(self.generator, latents)
        if self._still is None:
            self._still = BuiltScene.build(self.generator, latents)
        return BuiltScene(self.generator, latents, self._still.field)

    def mesh(self, settings: ShapeSettings) -> Mesh:
        """The coloured surface of a scene that stands still, made once."""
        if self._mesh is None:
            scene = self.scene(0.0)
            self._mesh = scene_mesh(scene, scene_density(scene, settings, progress=True), settings)
        return self._mesh


@dataclass(frozen=True)
class Reel:
    """A film before it is drawn: its cells in rows, one camera a frame, and the layers shown beside each other."""

    cells: Sequence[Cell]
    columns: int
    cameras: Camera
    layers: Sequence[str]
    settings: RenderSettings
    shape: ShapeSettings

    def __post_init__(self) -> None:
        if MESH_LAYER in self.layers and any(cell.scene_moves for cell in self.cells):
            raise ValueError("a mesh is made of a scene that stands still: one key frame a cell, or --move=background")

    def __len__(self) -> int:
        return len(self.cameras)

    def time(self, frame: int, cell: Cell) -> float:
        """Time in keys at a frame: the film goes once through all keys."""
        return frame / len(self) * len(cell.keys)

    def preview(self) -> tuple[float, float]:
        """The range of depths that the film will show, from a few frames at low resolution."""
        settings = RenderSettings(PREVIEW_RAYS, jitter="center")
        frames = np.unique(np.linspace(0, len(self) - 1, PREVIEW_FRAMES).round().astype(int)).tolist()
        shots = [self._shoot(cell, frame, settings) for cell in self.cells for frame in frames]
        return hit_range(shots)

    def painter(self) -> Callable[[int], UInt8[ndarray, "high wide channels"]]:
        """The function that draws a frame."""
        layers = dict(LAYERS)
        if "depth" in self.layers:
            layers["depth"] = depth_layer(self.preview())

        def paint(frame: int) -> UInt8[ndarray, "high wide channels"]:
            pictures = []
            for cell in self.cells:
                shot = self._shoot(cell, frame, self.settings)
                parts = [self._picture(cell, frame, shot, layer, layers) for layer in self.layers]
                pictures.append(np.concatenate(parts, axis=1))
            return media.tile(np.stack(pictures), self.columns)

        return paint

    def _shoot(self, cell: Cell, frame: int, settings: RenderSettings) -> Shot:
        return cell.scene(self.time(frame, cell)).shoot(self.cameras[frame : frame + 1], settings)

    def _picture(
        self, cell: Cell, frame: int, shot: Shot, layer: str, layers: dict
    ) -> UInt8[ndarray, "high wide channels"]:
        size = cell.generator.img_resolution
        if layer == MESH_LAYER:
            picture = draw_mesh(cell.mesh(self.shape), self.cameras[frame : frame + 1], size)[0]
        else:
            picture = media.resize(layers[layer]([shot]), size)[0]
        return picture if len(self.layers) == 1 and layer == "alpha" else _opaque(picture)


def _opaque(picture: UInt8[ndarray, "high wide channels"]) -> UInt8[ndarray, "high wide 3"]:
    """Three channels: grey is repeated, transparency shows a checkerboard."""
    if picture.shape[2] == 4:
        return media.over(picture[None], media.checkerboard(*picture.shape[:2]))[0]
    return picture.repeat(3, axis=2) if picture.shape[2] == 1 else picture


def key_cells(
    styles: Callable[[Sequence[tuple[int, int]]], Latents],
    generator: Generator,
    pairs: Sequence[tuple[int, int]],
    cells: int,
    keys: int,
    motion: Motion,
) -> list[Cell]:
    """Cells whose keys are the styles of consecutive pairs of seeds; pairs repeat where there are too few."""
    latents = styles([pairs[index % len(pairs)] for index in range(cells * keys)])
    return [Cell(generator, latents[start : start + keys], motion) for start in range(0, cells * keys, keys)]
