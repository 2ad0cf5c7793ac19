"""Data sets and options for training runs that take seconds."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import numpy as np
import torch
from click.testing import CliRunner, Result
from PIL import Image

import train
from training.cameras.prior import FRONT, ViewConfig, orbit_camera

SMALL_NETWORKS = (
    "--cbase=128",
    "--cmax=8",
    "--map-depth=1",
    "--set=generator.z_dim=8",
    "--set=generator.w_dim=8",
    "--set=generator.scene.backbone.resolution=16",
    "--set=generator.renderer.depth_resolution=4",
    "--set=generator.renderer.depth_resolution_importance=4",
    "--set=generator.upsampler.channels=4,4",
    "--neural_rendering_resolution_initial=8",
)
SMALL_BACKGROUND = ("--z_bg_dim=6", "--w_bg_dim=6", "--bg_mapping=1", "--n_blocks=2", "--hidden_size=8")
ON_CPU = ("--device=cpu", "--metrics=none", "--workers=0")


def make_dataset(path: Path, count: int = 12, resolution: int = 32, radius: float = 2.7, labels: bool = True) -> Path:
    """A zip of random pictures with cameras in front of the scene."""
    random = np.random.RandomState(0)
    yaw, pitch = torch.from_numpy(random.randn(2, count) * 0.2).float()
    cameras = orbit_camera(FRONT + yaw, FRONT + pitch, ViewConfig(radius=radius)).to_label().tolist()
    with zipfile.ZipFile(path, "w") as archive:
        for index in range(count):
            buffer = io.BytesIO()
            Image.fromarray(random.randint(0, 256, [resolution, resolution, 3], dtype=np.uint8)).save(buffer, "PNG")
            archive.writestr(f"img{index:04d}.png", buffer.getvalue())
        named = [[f"img{index:04d}.png", camera] for index, camera in enumerate(cameras)]
        archive.writestr("dataset.json", json.dumps({"labels": named if labels else None}))
    return path


def run_train(*arguments: object) -> Result:
    """What `train.py` says to these arguments, in this process."""
    return CliRunner().invoke(train.main, [str(argument) for argument in arguments])


def folder_of(outdir: Path) -> Path:
    """The newest run folder."""
    return max(outdir.iterdir())


def statistics(folder: Path) -> list[dict]:
    """The lines of a run's `stats.jsonl`."""
    return [json.loads(line) for line in (folder / "stats.jsonl").read_text().splitlines()]
