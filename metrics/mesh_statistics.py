"""Numbers of the surfaces that the fields hold."""

from __future__ import annotations

from typing import Any

import numpy as np

from metrics.evaluation import Evaluation
from metrics.names import Request
from metrics.types import Draw, GeneratorLike, MetricError
from training.dataset import ImageDataset
from training.shapes import Mesh, density_grid, extract_mesh, find_level, largest_part

RESOLUTION = 64


def check(request: Request, generator: GeneratorLike, dataset: ImageDataset) -> None:
    """Raises MetricError for a generator without a field."""
    if not hasattr(generator, "field"):
        raise MetricError("this generator has no field that can be queried at points")


def measure(evaluation: Evaluation, request: Request) -> dict[str, float]:
    """Mean area and volume (scene units) of the level surface, number of parts and the largest one's share of the area.

    Also `_closed`, the share of scenes whose surface stays clear of the faces of the scene's box (others are cut open
    there, as walls are), and `_found`, the share that has a surface at all. A grid of 64^3 densities over the box; the
    level is the one that fits the frontal opacity best (`training.shapes.find_level`).
    """
    generator: Any = evaluation.generator
    side = float(generator.config.scene.box_warp)

    def compute(draw: Draw) -> np.ndarray:
        latents = evaluation.frontal_latents(draw)
        labels = evaluation.surround.front(len(draw)).to(evaluation.device)
        rows = []
        for i in range(len(draw)):
            one = latents[i : i + 1]
            with evaluation.stage("generate"):
                march = evaluation.view(one, labels[:1], noise_mode="const").march
            with evaluation.stage("grid"):
                density = density_grid(generator.field(one, "const"), RESOLUTION, side, device=evaluation.device)
            try:
                mesh = extract_mesh(density, side, find_level(march.density, march.opacity))
                rows.append([1.0, *statistics(mesh, side)])
            except ValueError:
                rows.append([0.0] * 6)
        return np.array(rows)

    rows = evaluation.collect(request.count, compute, "meshes")

    def result(rows: np.ndarray) -> dict[str, float]:
        found = rows[:, 0] > 0
        means = rows[found, 1:].mean(axis=0) if found.any() else np.zeros(5)
        names = ("area", "volume", "parts", "largest", "closed")
        values = {f"{request.name}_{name}": float(value) for name, value in zip(names, means, strict=True)}
        return {**values, f"{request.name}_found": float(found.mean())}

    return evaluation.summarize(rows, result)


def statistics(mesh: Mesh, side: float) -> list[float]:
    """Area, volume, number of connected parts, the largest part's share of the area, and 1 if off the box's faces."""
    import trimesh

    whole = trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)
    largest = largest_part(mesh)
    share = trimesh.Trimesh(largest.vertices, largest.faces, process=False).area / whole.area
    parts = len(trimesh.graph.connected_components(whole.edges, nodes=np.arange(len(mesh.vertices)), min_len=3))
    clear = bool(np.abs(mesh.vertices).max() < side / 2 * (1 - 1 / RESOLUTION))
    return [float(whole.area), float(abs(whole.volume)), float(parts), float(share), float(clear)]
