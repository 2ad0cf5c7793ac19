"""The averaged generator."""

from __future__ import annotations

import pytest
import torch

from training.ema import EmaConfig, decay, update

PUBLISHED = [
    (32, 0.05, 0, 0.0),
    (32, 0.05, 32, 9.5367431640625e-07),
    (32, 0.05, 1000, 0.6417129487814521),
    (32, 0.05, 199968, 0.9977840329622313),
    (32, 0.05, 200000, 0.9977843871238888),
    (32, None, 0, 0.9977843871238888),
    (8, 0.05, 1000, 0.8950250709279725),
    (8, 0.05, 20000, 0.9944701686732144),
    (8, None, 1000, 0.9977843871238888),
]


@pytest.mark.parametrize(("batch", "ramp_up", "images", "expected"), PUBLISHED)
def test_decay_follows_the_published_rule(batch, ramp_up, images, expected):
    assert decay(EmaConfig(ramp_up=ramp_up), batch, images) == pytest.approx(expected, rel=1e-12)


def test_half_life_is_what_it_says():
    config = EmaConfig(half_life_kimg=2, ramp_up=None)
    assert decay(config, batch=500, images=0) ** 4 == pytest.approx(0.5)


@pytest.mark.parametrize(("batch", "images", "expected"), [(32, 0, 2.0), (32, 1000, 0.07486110925674438)])
def test_update_moves_parameters_and_copies_buffers(batch, images, expected):
    average, network = torch.nn.BatchNorm1d(3), torch.nn.BatchNorm1d(3)
    with torch.no_grad():
        average.weight.fill_(-1)
        network.weight.fill_(2)
        network.get_buffer("running_mean").fill_(7)
    update(average, network, decay(EmaConfig(), batch, images))
    torch.testing.assert_close(average.weight, torch.full([3], expected))
    assert torch.equal(average.get_buffer("running_mean"), network.get_buffer("running_mean"))
    if images == 0:
        assert torch.equal(average.weight, network.weight)
