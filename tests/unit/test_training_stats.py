"""Running statistics."""

from __future__ import annotations

import math

import pytest
import torch

from torch_utils.training_stats import Collector


def test_moments_over_reports_of_any_shape():
    collector = Collector()
    values = torch.randn(10, 3)
    collector.report("b", values[:4])
    collector.report("b", values[4:])
    collector.report("a", 2.5)
    found = collector.read()
    assert list(found) == ["a", "b"]
    assert found["a"].to_dict() == {"num": 1, "mean": 2.5, "std": 0.0}
    assert found["b"].num == 30
    assert found["b"].mean == pytest.approx(float(values.mean()), rel=1e-5)
    assert found["b"].std == pytest.approx(float(values.std(correction=0)), rel=1e-5)
    assert collector.read() == {}


def test_reports_do_not_keep_graphs():
    collector = Collector()
    collector.report("x", torch.ones(2, requires_grad=True) * 3)
    assert not collector.totals()["x"].requires_grad


def test_state_goes_on():
    collector, later = Collector(), Collector()
    collector.report("x", torch.tensor([1.0, 2.0]))
    later.add_totals(collector.totals())
    later.report("x", torch.tensor([6.0]))
    assert later.read()["x"].mean == 3


def test_nothing_reported_has_no_mean():
    collector = Collector()
    collector.report("x", torch.zeros(0))
    assert math.isnan(collector.read()["x"].mean)
