"""Files of a scene: strips of its layers, sheets, shapes, and a record of what made them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy import ndarray
from PIL import Image, ImageColor

from dnnlib.files import write_text
from training import media, shapes
from training.commands import Truncation, label_list
from training.generator import Generator
from training.latents import seeds_to_z
from training.rasterizer import draw_mesh
from training.types import Camera, Latents, RenderSettings
from training.views import (
    LAYERS,
    BuiltScene,
    Separation,
    ShapeSettings,
    Shot,
    scene_density,
    scene_mesh,
    separation,
)

SHEET_CELL = 128
SHAPE_FORMATS = (".mrc", *shapes.MESH_FORMATS)


@dataclass(frozen=True)
class Shooting:
    """What every scene of a call is photographed with."""

    cameras: Camera
    background_cameras: Camera | None
    settings: RenderSettings

    def shots(self, scene: BuiltScene) -> list[Shot]:
        """One shot a camera, so that memory does not grow with their number."""
        behind = self.background_cameras
        return [
            scene.shoot(self.cameras[i : i + 1], self.settings, None if behind is None else behind[i : i + 1])
            for i in range(len(self.cameras))
        ]


def read_backdrop(text: str, size: int) -> ndarray:
    """A colour [3] from its name or #rrggbb, or a picture [size, size, 3] from a file, cut to a square.

    Raises ClickException where the text is neither.
    """
    try:
        return np.array(ImageColor.getrgb(text)[:3], dtype=np.uint8)
    except ValueError:
        pass
    try:
        picture = Image.open(text).convert("RGB")
    except OSError as error:
        raise click.ClickException(f"--backdrop={text}: neither a colour nor a picture file") from error
    side = min(picture.size)
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    square = picture.crop((left, top, left + side, top + side))
    return np.asarray(square.resize((size, size), Image.Resampling.LANCZOS))


def mixed(latents: Latents, other: Latents, rows: Sequence[int]) -> Latents:
    """The latents with some of the scene's style rows taken from others. Raises ClickException for rows not there."""
    count = latents.scene.shape[1]
    if max(rows) >= count:
        raise click.ClickException(f"--mix-rows: this network has style rows 0 to {count - 1}")
    scene = latents.scene.clone()
    scene[:, list(rows)] = other.scene[:, list(rows)]
    upsampler = other.upsampler if count - 1 in rows else latents.upsampler
    return Latents(scene, latents.background, upsampler)


def save_layers(
    folder: Path, name: str, shots: list[Shot], layers: Sequence[str], backdrop: str | None
) -> dict[str, str]:
    """File names of the strips that were saved, by layer."""
    files = {}
    for layer in layers:
        pictures = LAYERS[layer](shots)
        files[layer] = f"{name}.png" if layer == "image" else f"{name}_{layer}.png"
        media.save_png(folder / files[layer], media.tile(pictures, len(pictures)))
    if backdrop is not None:
        rgba = LAYERS["alpha"](shots)
        files["over"] = f"{name}_over.png"
        laid = media.over(rgba, read_backdrop(backdrop, rgba.shape[1]))
        media.save_png(folder / files["over"], media.tile(laid, len(laid)))
    return files


def save_shapes(
    folder: Path, name: str, scene: BuiltScene, formats: Sequence[str], settings: ShapeSettings, axes: str
) -> tuple[dict[str, str], shapes.Mesh | None]:
    """File names of the shapes that were saved, by format, and the mesh where one was made.

    axes: "published" or "scene" for all formats, or "auto": published for volumes, scene for meshes. Where there is
    no surface the reason is printed and the file left out.
    """
    density = scene_density(scene, settings, progress=True)
    mesh, files = None, {}
    for suffix in formats:
        path = folder / f"{name}{suffix}"
        try:
            if suffix == ".mrc":
                volume = shapes.scene_axes(density) if axes == "scene" else shapes.published_axes(density)
                shapes.save_mrc(path, volume, scene.box_side)
            elif axes == "published":
                level = shapes.MRC_LEVEL if settings.level is None else settings.level
                shapes.save_mesh(path, shapes.published_mesh(density, level))
            else:
                mesh = mesh or scene_mesh(scene, density, settings)
                shapes.save_mesh(path, mesh)
            files[suffix] = path.name
        except ValueError as error:
            path.unlink(missing_ok=True)
            click.echo(f"{path.name}: {error} (--shape-level)", err=True)
    return files, mesh


def sheet_column(shots: Sequence[Shot], mesh: shapes.Mesh | None) -> dict[str, ndarray]:
    """A scene's pictures for a contact sheet, by caption: each view, then the layers of the one in the middle."""
    middle = [shots[len(shots) // 2]]
    views = {f"view {index + 1}": LAYERS["image"]([shot]) for index, shot in enumerate(shots)}
    rgba = media.resize(LAYERS["alpha"](middle), SHEET_CELL)
    board = media.checkerboard(SHEET_CELL, SHEET_CELL)
    column = views | {
        "foreground": media.over(rgba, board),
        "surroundings": LAYERS["bg"](middle),
        "opacity": LAYERS["opacity"](middle).repeat(3, axis=-1),
        "depth": LAYERS["depth"](middle),
        "normals": LAYERS["normals"](middle),
    }
    if mesh is None:
        return column
    size = 2 * middle[0].scene.generator.img_resolution
    return column | {"mesh": draw_mesh(mesh, middle[0].camera, size)}


@dataclass(frozen=True)
class Made:
    """What a seed leaves for pictures of several seeds: the strip of its first layer, and its sheet's column."""

    name: str
    strip: ndarray
    separation: Separation
    column: dict[str, ndarray]


def save_sheet(path: Path, made: Sequence[Made], real: ndarray | None) -> None:
    """Saves a labelled sheet: a column a seed, a row each for training pictures, views and layers."""
    captions = [caption for caption in made[0].column if all(caption in one.column for one in made)]
    cells = {caption: [media.resize(one.column[caption], SHEET_CELL) for one in made] for caption in captions}
    rows = [(caption, np.concatenate(pictures)) for caption, pictures in cells.items()]
    if real is not None:
        rows.insert(0, ("training\npictures", real))
    media.save_png(path, media.contact_sheet(rows, SHEET_CELL))


@dataclass(frozen=True)
class Job:
    """What is made of every seed, and where it goes."""

    generator: Generator
    source: dict[str, str]
    folder: Path
    truncation: Truncation
    conditioning: Camera
    shooting: Shooting
    layers: Sequence[str]
    backdrop: str | None
    shape_formats: Sequence[str]
    shape: ShapeSettings
    shape_axes: str

    def latents(self, seed: int, background_seed: int, truncation: Truncation | None = None) -> Latents:
        """The styles of a scene and its surroundings."""
        z = seeds_to_z(self.generator, [seed], [background_seed])
        return (truncation or self.truncation).styles(self.generator, z, self.conditioning)

    def run(self, name: str, seed: int, background_seed: int, with_sheet: bool = False) -> Made:
        """What is left to put together when all files of a seed have been saved."""
        scene = BuiltScene.build(self.generator, self.latents(seed, background_seed))
        shots = self.shooting.shots(scene)
        files, mesh = save_layers(self.folder, name, shots, self.layers, self.backdrop), None
        if self.shape_formats:
            made, mesh = save_shapes(self.folder, name, scene, self.shape_formats, self.shape, self.shape_axes)
            files |= made
        found = separation(shots)
        self.describe(name, files, seed=seed, background_seed=background_seed, separation=asdict(found))
        column = sheet_column(shots, mesh) if with_sheet else {}
        return Made(name, LAYERS[self.layers[0]](shots), found, column)

    def sweep(self, name: str, seed: int, background_seed: int, psis: Sequence[float]) -> None:
        """Saves the seed's views at several truncations, one row each."""
        rows = []
        for psi in psis:
            truncation = Truncation(psi, self.truncation.cutoff, self.truncation.background_psi)
            scene = BuiltScene.build(self.generator, self.latents(seed, background_seed, truncation))
            rows.append(LAYERS["image"](self.shooting.shots(scene)))
        self.save_grid(f"{name}_trunc", rows, seed=seed, background_seed=background_seed, psis=list(psis))

    def mix(self, name: str, seed: int, background_seed: int, others: Sequence[int], rows: Sequence[int]) -> None:
        """Saves the seed's views with some style rows of other seeds, one row of pictures each."""
        own = self.latents(seed, background_seed)
        strips = []
        for other in others:
            scene = BuiltScene.build(self.generator, mixed(own, self.latents(other, background_seed), rows))
            strips.append(LAYERS["image"](self.shooting.shots(scene)))
        facts = {"mix_seeds": list(others), "mix_rows": list(rows)}
        self.save_grid(f"{name}_mix", strips, seed=seed, background_seed=background_seed, **facts)

    def missing_shapes(self, names: Iterable[str]) -> list[str]:
        """Shapes that these scenes should have and have not."""
        wanted = [f"{name}{suffix}" for name in names for suffix in self.shape_formats]
        return [name for name in wanted if not (self.folder / name).exists()]

    def save_grid(self, name: str, rows: Sequence[ndarray], **facts: Any) -> None:
        """Saves strips below each other, and what made them."""
        media.save_png(self.folder / f"{name}.png", media.tile(np.concatenate(rows), len(rows[0])))
        self.describe(name, {"image": f"{name}.png"}, **facts)

    def describe(self, name: str, files: dict[str, str], **facts: Any) -> None:
        """Saves what made some files as JSON beside them."""
        behind = self.shooting.background_cameras
        record = {
            **facts,
            **self.source,
            "truncation": asdict(self.truncation),
            "cameras": label_list(self.shooting.cameras),
            "background_cameras": None if behind is None else label_list(behind),
            "rays_per_side": self.shooting.settings.resolution,
            "samples_multiplier": self.shooting.settings.samples_multiplier,
            "backdrop": self.backdrop,
            "shape": asdict(self.shape) | {"axes": self.shape_axes} if self.shape_formats else None,
            "files": files,
        }
        write_text(self.folder / f"{name}.json", json.dumps(record, indent=1) + "\n")
