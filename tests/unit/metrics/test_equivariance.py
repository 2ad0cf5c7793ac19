"""Moved cameras against pictures known in closed form, through the project's own rays."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from metrics import registry
from metrics.equivariance import peak_signal_to_noise, resampled, roll, shift_parts, shift_whole
from tests.unit.metrics.fakes import FakeGenerator
from training.cameras.camera import make_rays
from training.cameras.prior import ViewConfig, orbit_camera
from training.dataset import DataConfig
from training.types import Camera, RenderSettings


def sky(labels: Tensor, side: int) -> Tensor:
    """Smooth colours that depend on the ray's direction alone: a perfect renderer."""
    rays = make_rays(Camera.from_label(labels), RenderSettings(side))
    waves = torch.tensor([[9.0, 4, 2], [-5, 12, 3], [3, -7, 8]])
    return torch.sin(rays.directions @ waves).transpose(1, 2).reshape(-1, 3, side, side)


class SkyGenerator(FakeGenerator):
    """Renders `sky`; painted pixels stay where they are, whatever the camera does."""

    def __init__(self, size: int = 32, painted: float = 0.0):
        super().__init__(size)
        self.painted = painted

    def synthesis(self, latents, c, settings=None, *, layer="full", noise_mode="random"):
        out = super().synthesis(latents, c, settings)
        image = sky(c, self.img_resolution)
        checks = (torch.arange(self.img_resolution) % 2).float() * 2 - 1
        return type(out)(image + self.painted * checks, *list(out.values())[1:])


@pytest.mark.parametrize(("move", "decibels"), [(shift_whole, 100), (shift_parts, 45), (roll, 45)])
def test_moved_cameras_see_the_moved_picture(move, decibels: float) -> None:
    labels = orbit_camera(torch.tensor([1.5, 1.9, 1.2]), torch.tensor([1.4, 1.6, 1.7]), ViewConfig()).to_label()
    still = sky(labels, 64)
    rngs = [np.random.default_rng(i) for i in range(3)]
    cameras, expected, shown = move(still, labels, rngs)
    error = ((sky(cameras, 64) - expected).square() * shown).sum() / (shown.sum() * 3)
    assert peak_signal_to_noise(float(error)) > decibels
    assert 0.5 < float(shown.mean()) < 1


def test_resampling_is_exact_for_its_own_grid() -> None:
    images = torch.rand(2, 3, 16, 16)
    same = torch.eye(2, 3).repeat(2, 1, 1)
    torch.testing.assert_close(resampled(images, same), images, atol=1e-6, rtol=0)
    half_turn = torch.tensor([[-1.0, 0, 0], [0, -1, 0]]).repeat(2, 1, 1)
    torch.testing.assert_close(resampled(images, half_turn), images.flip([2, 3]), atol=1e-6, rtol=0)


def test_painting_on_pixels_costs_decibels(data: DataConfig) -> None:
    names = ["eqt9_int", "eqt9_frac", "eqr9"]

    def values(painted: float) -> list[float]:
        records = registry.compute(names, SkyGenerator(painted=painted), data, progress=False)
        return [value for record in records for value in record["results"].values()]

    for clean, dirty in zip(values(0.0), values(0.1), strict=True):
        assert clean > 35
        assert dirty < 30


def test_signal_to_noise() -> None:
    assert peak_signal_to_noise(0.04) == pytest.approx(20.0)
    assert peak_signal_to_noise(0.0) == pytest.approx(120.0)
    assert math.isfinite(peak_signal_to_noise(1e9))
