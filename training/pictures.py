"""The pictures that a run leaves behind: a grid of real ones, and at every snapshot grids of generated ones."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from numpy import ndarray
from torch import Tensor

from training import media
from training.cameras.prior import FRONT, orbit_camera
from training.dataset import ImageDataset
from training.generator import Generator
from training.types import Camera, Latents, Layer, RenderOutput, RenderSettings

SMALL_GRID = (7, 4)
"""Columns and rows where pictures are made on a CPU."""

LAYERS: dict[str, Layer] = {"": "full", "_fg": "foreground", "_bg": "background"}


@dataclass(frozen=True)
class Grid:
    """What the snapshot pictures of a run show, from its first to its last: latents and cameras of the data set."""

    z: Tensor
    labels: Tensor
    indices: list[int]
    columns: int

    @staticmethod
    def choose(dataset: ImageDataset, z_dim: int, device: torch.device) -> Grid:
        """A grid that depends on the data set alone; as large as published, or small on a CPU."""
        size = dataset.resolution
        columns, rows = media.grid_size(size, size) if device.type == "cuda" else SMALL_GRID
        labels = dataset.labels.numpy() if dataset.has_labels else None
        indices = media.grid_indices(labels, len(dataset), columns, rows)
        z = torch.randn(len(indices), z_dim, generator=torch.Generator().manual_seed(0))
        return Grid(z.to(device), dataset.labels[indices].to(device), indices, columns)


def save_reals(path: Path, dataset: ImageDataset, grid: Grid) -> None:
    """Writes the real pictures whose cameras the generated ones share."""
    images, _ = dataset.gather(grid.indices)
    media.save_png(path, media.tile(images.permute(0, 2, 3, 1).numpy(), grid.columns))


@torch.no_grad()
def save_fakes(folder: Path, kimg: int, G: Generator, grid: Grid, batch: int) -> dict[str, float]:
    """Writes `fakes<kimg>*.png`, and returns what the generator's depth and opacity look like in numbers.

    Composed pictures, raw pictures, depth and opacity; where the background has a latent, foreground and background
    alone as well. The mapping network is told the frontal camera, so that a picture shows one scene from any side.
    """
    layers = LAYERS if G.background_z_dim else {"": LAYERS[""]}
    parts: dict[str, list[ndarray]] = {}
    depths, opacities = [], []
    for latents, camera in _portions(G, grid, batch):
        field = G.field(latents, noise_mode="const")
        settings = RenderSettings(G.raw_resolution, jitter="center")
        for suffix, layer in layers.items():
            out = G.synthesis(latents, camera, settings, layer=layer, field=field, noise_mode="const")
            for name, portion in _pictures(out, suffix).items():
                parts.setdefault(name, []).append(portion)
            if layer == "full":
                opacities.append(out.opacity)
            if layer == "foreground" or len(layers) == 1:
                depths.append(out.image_depth)
    for name, pictures in parts.items():
        media.save_png(folder / f"fakes{kimg:06d}{name}.png", media.tile(np.concatenate(pictures), grid.columns))
    return _summary(torch.cat(depths), torch.cat(opacities))


def _portions(G: Generator, grid: Grid, batch: int) -> Iterator[tuple[Latents, Camera]]:
    front = torch.full([1], FRONT)
    told = orbit_camera(front, front, G.config.view).to_label().to(grid.z.device) if G.c_dim else None
    for z, labels in zip(grid.z.split(batch), grid.labels.split(batch), strict=True):
        yield G.mapping(z, None if told is None else told.expand(len(z), -1)), Camera.from_label(labels)


def _pictures(out: RenderOutput, suffix: str) -> dict[str, UInt8[ndarray, "n height width channels"]]:
    """Pictures of one layer by the end of their file name."""
    pictures = {
        suffix: media.to_uint8(out.image),
        f"{suffix or '_'}raw": media.to_uint8(out.image_raw),
        f"{suffix or '_'}depth": media.depth_pictures(out.image_depth),
    }
    return pictures if suffix else pictures | {"_opacity": media.to_uint8(out.opacity * 2 - 1)}


def _summary(depth: Tensor, opacity: Tensor) -> dict[str, float]:
    """Depth in scene units and opacity: neither should be the same everywhere."""
    return {
        "Render/opacity_mean": float(opacity.mean()),
        "Render/opacity_undecided": float(((opacity > 0.05) & (opacity < 0.95)).float().mean()),
        "Render/depth_min": float(depth.min()),
        "Render/depth_max": float(depth.max()),
        "Render/depth_spread": float(depth.flatten(1).std(dim=1).mean()),
    }
