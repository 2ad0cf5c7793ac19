"""One picture of a full-size published network: `python -m tests.system.full_size SYSTEM FILE`, in its own process.

Writes a snapshot of random weights in the published layout, reads it, renders one picture and prints the seconds and
the peak memory of the process that read it.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch

from tests.official_files import PUBLISHED, module_tree, write_official
from torch_utils.ops.upfirdn2d import setup_filter
from training import snapshot
from training.cameras.prior import frontal_camera
from training.official import our_key
from training.types import RenderSettings

DISCRIMINATOR: dict[str, Any] = {
    "c_dim": 25,
    "img_resolution": 512,
    "img_channels": 3,
    "num_fp16_res": 4,
    "conv_clamp": 256,
    "disc_c_noise": 0,
    "block_kwargs": {"freeze_layers": 0},
    "epilogue_kwargs": {"mbstd_group_size": 4},
}


def write(system: str, path: Path) -> None:
    """A snapshot with G, D and G_ema of the published sizes, all different."""
    table = json.loads((PUBLISHED / f"{system}_ffhq512.json").read_text())

    def tensors(name: str, seed: int) -> dict[str, torch.Tensor]:
        generator = torch.Generator().manual_seed(seed)
        return {
            key: setup_filter([1, 3, 3, 1]) if our_key(key) is None else torch.randn(shape, generator=generator) / 10
            for key, shape, _, _ in table[name]
        }

    kwargs, attributes = table["G_kwargs"], {"neural_rendering_resolution": 128}
    generators = {
        name: module_tree("TriPlaneGenerator", kwargs, tensors("G", seed), attributes)
        for seed, name in enumerate(("G", "G_ema"))
    }
    write_official(path, **generators, D=module_tree("DualDiscriminator", DISCRIMINATOR, tensors("D", 2)))


def render(path: Path) -> None:
    """Reads the snapshot and renders one picture; prints what that took."""
    torch.set_num_threads(2)
    start = time.perf_counter()
    loaded = snapshot.load(path)
    G, D = loaded["G_ema"], loaded["D"]
    read = time.perf_counter()
    z = torch.randn(1, G.z_dim, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        out = G(z, frontal_camera(G.config.view), settings=RenderSettings(G.raw_resolution, jitter="center"))
    assert out.image.shape == (1, 3, 512, 512)
    assert out.image_raw.shape == (1, 3, 128, 128)
    assert out.image.isfinite().all()
    assert D.img_resolution == 512
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    rendered = time.perf_counter() - read
    print(json.dumps({"read_seconds": read - start, "picture_seconds": rendered, "peak_gib": peak}))


if __name__ == "__main__":
    if len(sys.argv) == 3:
        write(sys.argv[1], Path(sys.argv[2]))
        subprocess.run([sys.executable, "-m", "tests.system.full_size", sys.argv[2]], check=True)
    else:
        render(Path(sys.argv[1]))
