from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from metrics import registry
from metrics.path_length import shrink, trimmed_mean
from tests.unit.metrics.fakes import FakeGenerator
from training.dataset import DataConfig


class LinearGenerator(FakeGenerator):
    """Pictures that are a linear function of the latent, so that the path length has a closed form."""

    def synthesis(self, latents, c, settings=None, *, layer="full", noise_mode="random"):
        assert noise_mode == "const"
        out = super().synthesis(latents, c, settings, noise_mode=noise_mode)
        rows = latents.scene[:, 0].double().reshape(-1, 3, 2, 2)
        return type(out)(*[rows.repeat_interleave(4, 2).repeat_interleave(4, 3), *list(out.values())[1:]])


class FlatDetector:
    """Rows are the pixels themselves."""

    @staticmethod
    def perceptual(images: Tensor) -> Tensor:
        return images.double().flatten(1) / 127.5


def test_linear_generator_has_the_closed_form(data: DataConfig, detectors: dict, monkeypatch) -> None:
    monkeypatch.setattr("metrics.evaluation.Detectors.get", lambda self, name: _describing(FlatDetector()))
    (record,) = registry.compute(
        ["ppl2_wend_4k"], LinearGenerator(size=32, noise=0), data, detectors=detectors, progress=False
    )
    # Each of 12 numbers fills 16 pixels; the difference of two standard normal ones has variance 2.
    assert record["results"]["ppl2_wend_4k"] == pytest.approx(12 * 16 * 2, rel=0.03)


def _describing(detector: FlatDetector) -> FlatDetector:
    detector.describe = dict  # type: ignore[attr-defined]
    return detector


def test_percentiles_are_left_out() -> None:
    values = np.concatenate([np.full(98, 2.0), [1e9, -1e9]])
    assert trimmed_mean(np.concatenate([values, np.full(100, 2.0)])) == 2.0
    assert trimmed_mean(np.array([1.0, 3.0])) == 2.0


def test_large_pictures_shrink() -> None:
    assert shrink(torch.ones(1, 3, 512, 512)).shape == (1, 3, 256, 256)
    assert shrink(torch.ones(1, 3, 128, 128)).shape == (1, 3, 128, 128)
