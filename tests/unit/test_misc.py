"""Devices and times."""

from __future__ import annotations

import time

import torch

from torch_utils.misc import Clock, count_parameters, to_device


def test_clock_keeps_the_last_time_of_each_name():
    clock = Clock(torch.device("cpu"))
    for seconds in (0.05, 0.01):
        with clock("a"):
            time.sleep(seconds)
    with clock("b"):
        pass
    found = clock.read()
    assert set(found) == {"a", "b"}
    assert 0.01 <= found["a"] < 0.05
    assert clock.read() == {}


def test_to_device_leaves_what_is_there():
    tensor = torch.ones(2)
    assert to_device(tensor, torch.device("cpu")) is tensor


def test_count_parameters():
    assert count_parameters(torch.nn.Linear(3, 4)) == 16
