from __future__ import annotations

import numpy as np
import pytest
import torch

from training.interpolation import CURVES, between, cubic, spherical
from training.types import Latents

KEYS = np.random.RandomState(0).randn(4, 6)


@pytest.mark.parametrize("name", list(CURVES))
def test_curves_pass_through_their_keys_and_close(name: str):
    curve = CURVES[name]
    for index, key in enumerate(KEYS):
        assert curve(KEYS, float(index)) == pytest.approx(key)
    assert curve(KEYS, 4.0) == pytest.approx(KEYS[0])
    assert curve(KEYS, 4 - 1e-6) == pytest.approx(KEYS[0], abs=1e-4)


@pytest.mark.parametrize("name", list(CURVES))
@pytest.mark.parametrize("count", [1, 2])
def test_few_keys(name: str, count: int):
    assert np.isfinite(CURVES[name](KEYS[:count], 0.3)).all()
    if count == 1:
        assert CURVES[name](KEYS[:1], 0.7) == pytest.approx(KEYS[0])


def test_cubic_is_smooth_where_it_closes():
    step = 1e-4
    before = (cubic(KEYS, 4.0) - cubic(KEYS, 4 - step)) / step
    after = (cubic(KEYS, step) - cubic(KEYS, 0.0)) / step
    assert before == pytest.approx(after, abs=0.01)


def test_spherical_keeps_lengths():
    keys = KEYS / np.linalg.norm(KEYS, axis=1, keepdims=True)
    for time in np.linspace(0, 4, 17):
        assert np.linalg.norm(spherical(keys, float(time))) == pytest.approx(1)


def test_parts_move_apart():
    keys = Latents(torch.randn(3, 2, 5), torch.randn(3, 1, 4), torch.randn(3, 1, 5))
    still = between(keys, 1.4, CURVES["cubic"], scene=False)
    assert torch.equal(still.scene, keys.scene[:1])
    assert torch.equal(still.upsampler, keys.upsampler[:1])
    assert not torch.equal(still.background, keys.background[:1])
    front = between(keys, 1.0, CURVES["cubic"], background=False)
    assert torch.allclose(front.scene, keys.scene[1:2])
    assert torch.equal(front.background, keys.background[:1])


def test_a_background_without_latent_is_left_alone():
    keys = Latents(torch.randn(2, 2, 5), torch.zeros(2, 0, 0), torch.randn(2, 1, 5))
    assert between(keys, 0.5, CURVES["linear"]).background.shape == (1, 0, 0)
