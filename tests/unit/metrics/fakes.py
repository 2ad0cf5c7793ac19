"""A tiny labelled data set, a generator without training and a TorchScript detector for tests of the metrics."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from training.cameras.prior import ViewConfig, orbit_camera
from training.types import Latents, RayMarch, RenderOutput


def write_dataset(folder: Path, count: int = 24, size: int = 32, seed: int = 0) -> Path:
    """A folder of random smooth pictures with cameras around the frontal view."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    angles = torch.tensor(rng.uniform(-0.4, 0.4, [count, 2]), dtype=torch.float32) + np.pi / 2
    labels = orbit_camera(angles[:, 0], angles[:, 1], ViewConfig()).to_label()
    for i in range(count):
        coarse = Image.fromarray(rng.integers(0, 255, [4, 4, 3], dtype=np.uint8))
        coarse.resize((size, size), Image.Resampling.BICUBIC).save(folder / f"{i:03d}.png")
    pairs = [[f"{i:03d}.png", label.tolist()] for i, label in enumerate(labels)]
    (folder / "dataset.json").write_text(json.dumps({"labels": pairs}))
    return folder


class FakeGenerator:
    """Pictures that depend on the latent, the camera and random noise."""

    def __init__(self, size: int = 32, noise: float = 0.1):
        self.z_dim, self.img_resolution, self.raw_resolution = 12, size, 8
        self.training, self.noise = True, noise

    def train(self, mode: bool = True) -> FakeGenerator:
        self.training = mode
        return self

    def mapping(self, z: Tensor, c: Tensor, truncation_psi: float = 1, truncation_cutoff=None) -> Latents:
        rows = (z + c[:, :12]) * truncation_psi
        empty = z.new_zeros(len(z), 0, 0)
        return Latents(rows[:, None], empty, empty)

    def synthesis(self, latents, c, settings=None, *, layer="full", noise_mode="random") -> RenderOutput:
        assert not self.training
        n, size, raw = len(c), self.img_resolution, settings.resolution
        coarse = torch.tanh(latents.scene[:, 0].reshape(n, 3, 2, 2))
        image = torch.nn.functional.interpolate(coarse, [size, size], mode="bilinear")
        image = image + self.noise * torch.randn_like(image)
        flat = torch.full([n, 1, raw, raw], 2.7)
        depths = torch.linspace(2.25, 3.3, 5).expand(n, raw * raw, 5)
        weights = torch.full([n, raw * raw, 4], 0.25)
        depth = flat.flatten(2).transpose(1, 2)
        none = depths[..., :0]
        march = RayMarch(none, depth, weights, 0 * depth, depths, 0 * depths, none, none)
        return RenderOutput(image, image[:, :, :raw, :raw], flat, torch.ones_like(flat), march)


class ScriptedDetector(torch.nn.Module):
    """The calls of the published TorchScript files on a network of one layer."""

    def __init__(self, size: int = 8):
        super().__init__()
        self.size = size
        self.layer = torch.nn.Linear(3 * size * size, 6)

    def forward(
        self,
        images: Tensor,
        return_features: bool = False,
        no_output_bias: bool = False,
        resize_images: bool = True,
        return_lpips: bool = False,
    ) -> Tensor:
        assert images.dtype == torch.uint8 or return_lpips
        x = torch.nn.functional.interpolate(images.float(), [self.size, self.size], mode="bilinear") / 255
        features = self.layer(x.flatten(1))
        if return_features or return_lpips:
            return features
        return features.softmax(dim=1)


def write_detector(path: Path, seed: int = 0) -> Path:
    """A TorchScript file with the interface of the published ones."""
    torch.manual_seed(seed)
    torch.jit.script(ScriptedDetector()).save(str(path))
    return path
