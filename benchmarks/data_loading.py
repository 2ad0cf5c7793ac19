"""Pictures per second that the reader delivers, against what a training step asks for.

Run as `python -m benchmarks.data_loading --data SET.zip`; without `--data` it makes sets of noise pictures of
several resolutions in a temporary folder. The first pass decodes; later passes come from memory where the set fits
in `--cache-gib`.
"""

from __future__ import annotations

import io
import json
import tempfile
import time
import zipfile
from pathlib import Path

import click
import numpy as np
from PIL import Image

from training.batches import Batches
from training.dataset import DataConfig, ImageDataset


def measure(dataset: ImageDataset, batch: int, workers: int, images: int) -> float:
    """Images per second over at least `images` images, after one batch of warm-up."""
    with Batches(dataset, batch, workers=workers) as batches:
        next(batches)
        start = time.perf_counter()
        count = -(-images // batch)
        for _ in range(count):
            next(batches)
        return count * batch / (time.perf_counter() - start)


def write_noise_set(path: Path, resolution: int, count: int) -> None:
    """A stored zip of PNGs of smooth random pictures, with labels."""
    random = np.random.default_rng(0)
    labels = []
    with zipfile.ZipFile(path, "w") as archive:
        for index in range(count):
            coarse = Image.fromarray(random.integers(0, 256, (8, 8, 3), dtype=np.uint8))
            stream = io.BytesIO()
            coarse.resize((resolution, resolution)).save(stream, "PNG", compress_level=0)
            archive.writestr(f"img{index:08d}.png", stream.getvalue())
            labels.append([f"img{index:08d}.png", [*np.eye(4).ravel(), *np.eye(3).ravel()]])
        archive.writestr("dataset.json", json.dumps({"labels": labels}))


@click.command()
@click.option("--data", type=click.Path(exists=True), help="Zip or folder to read; default: generated sets.")
@click.option("--batch", default=32, show_default=True, help="Pictures in a batch.")
@click.option("--images", default=2000, show_default=True, help="Pictures to read in each measurement.")
@click.option("--workers", "workers_list", multiple=True, type=int, default=(0, 1, 2, 3), show_default=True)
@click.option("--cache-gib", default=4.0, show_default=True, help="Memory for decoded pictures.")
def main(data: str | None, batch: int, images: int, workers_list: tuple[int, ...], cache_gib: float) -> None:
    """Print images per second, as JSON lines, for each number of decoding threads."""
    with tempfile.TemporaryDirectory() as folder:
        paths = [data] if data else []
        for resolution in () if data else (64, 128, 256, 512):
            noise = Path(folder) / f"noise{resolution}.zip"
            write_noise_set(noise, resolution, count=200)
            paths.append(str(noise))
        for path in paths:
            for workers in workers_list:
                for cache in (0.0, cache_gib):
                    dataset = ImageDataset(DataConfig(path=path, use_labels=False, cache_gib=cache))
                    if cache:
                        measure(dataset, batch, workers, len(dataset))
                    rate = measure(dataset, batch, workers, min(images, 8 * len(dataset)))
                    line = {"resolution": dataset.resolution, "workers": workers, "cached": cache > 0}
                    click.echo(json.dumps({**line, "images_per_s": round(rate)}))


if __name__ == "__main__":
    main()
