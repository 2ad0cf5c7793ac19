"""Devices and times."""

from __future__ import annotations

import torch

from torch_utils.misc import Clock, count_parameters, to_device


def test_clock_keeps_the_last_time_of_each_name(monkeypatch):
    moments = iter([0.0, 5.0, 10.0, 11.0, 20.0, 20.5])
    monkeypatch.setattr("torch_utils.misc.time.perf_counter", lambda: next(moments))
    clock = Clock(torch.device("cpu"))
    for name in ("a", "a", "b"):
        with clock(name):
            pass
    assert clock.read() == {"a": 1.0, "b": 0.5}
    assert clock.read() == {}


def test_to_device_leaves_what_is_there():
    tensor = torch.ones(2)
    assert to_device(tensor, torch.device("cpu")) is tensor


def test_count_parameters():
    assert count_parameters(torch.nn.Linear(3, 4)) == 16
