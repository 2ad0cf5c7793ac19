"""Schedules as functions of the images shown."""

from __future__ import annotations

import math

import pytest

from training.losses import DensityConfig, LossConfig, MarchConfig
from training.schedule import Schedule, ScheduleConfig, blur_sigma


def test_blur_keeps_the_order_of_operations():
    assert blur_sigma(0, 200, 10) == 10
    assert blur_sigma(100_000, 200, 10) == 5
    assert blur_sigma(180_000, 200, 10) == 0.9999999999999998
    assert blur_sigma(200_000, 200, 10) == 0
    assert blur_sigma(10**9, 200, 10) == 0
    assert blur_sigma(5, 0, 10) == 0


@pytest.mark.parametrize(("images", "probability"), [(0, 1.0), (500_000, 0.9), (10**6, 0.8), (10**7, 0.8)])
def test_pose_swap_fades_from_always(images, probability):
    schedule = Schedule(ScheduleConfig(swap_probability=0.8, swap_fade_kimg=1000))
    assert schedule.at(images).swap_probability == pytest.approx(probability)
    assert Schedule(ScheduleConfig(swap_probability=0.8, swap_fade_kimg=0)).at(images).swap_probability == 0.8


def test_resolution_fades_in_whole_numbers():
    config = ScheduleConfig(resolution=64, resolution_final=128, resolution_fade_kimg=1000)
    found = [Schedule(config).at(images).render.resolution for images in (0, 8_000, 500_000, 999_999, 10**6, 10**7)]
    assert found == [64, 65, 96, 128, 128, 128]
    assert Schedule(ScheduleConfig(resolution=32)).at(10**7).render.resolution == 32


def test_regularizers_start_and_warm_up_on_their_own():
    loss = LossConfig(
        density=DensityConfig(strength=0.25),
        fg_density=MarchConfig(strength=0.5, warm_up=True),
        bg_transmittance=MarchConfig(strength=0.1, start=1000),
    )
    schedule = Schedule(loss=loss)
    assert schedule.at(0).regularizer_scale == {"density": 0.25, "fg_density": 0.5 / 20}
    later = schedule.at(5000).regularizer_scale
    assert later == {"density": 0.25, "fg_density": pytest.approx(0.5 * math.e / 20), "bg_transmittance": 0.1}
    assert schedule.at(15_000).regularizer_scale["fg_density"] == 0.5
    before = Schedule(loss=loss, images_before=20_000)
    assert before.at(0).regularizer_scale == {"density": 0.25, "fg_density": 0.5, "bg_transmittance": 0.1}
    assert before.at(0).blur_sigma == 10


def test_monotonic_density_adds_a_term_of_fixed_strength():
    loss = LossConfig(density=DensityConfig(strength=0.25, kind="monotonic-detach"))
    assert Schedule(loss=loss).at(0).regularizer_scale == {"density": 0.25, "density_monotonic": 10.0}
    assert loss.density.step(box_side=1.6) == 1.6 / 256
    assert not LossConfig(density=DensityConfig(kind="monotonic-detach")).regularizes
    assert Schedule().at(0).regularizer_scale == {}
