from __future__ import annotations

import numpy as np
import pytest

from metrics import registry
from metrics.inception_score import split_scores
from metrics.types import MetricError
from tests.unit.metrics.fakes import FakeGenerator
from training.dataset import DataConfig


def test_known_cases() -> None:
    sure = np.eye(5)[np.arange(100) % 5]
    assert split_scores(sure, 10) == pytest.approx([5.0] * 10)
    assert split_scores(np.full([30, 7], 1 / 7), 3) == pytest.approx([1.0] * 3)
    assert split_scores(np.tile(np.eye(5)[:1], [20, 1]), 2) == pytest.approx([1.0] * 2)


def test_agrees_with_the_definition() -> None:
    p = np.random.default_rng(0).dirichlet(np.ones(4), size=12)
    expected = np.exp(np.mean([sum(q * np.log(q / m) for q, m in zip(row, p.mean(0), strict=True)) for row in p]))
    assert split_scores(p, 1) == pytest.approx([expected], rel=1e-12)


def test_metric(data: DataConfig, detectors: dict) -> None:
    (record,) = registry.compute(["is20"], FakeGenerator(), data, detectors=detectors, progress=False)
    assert record["results"]["is20_mean"] >= 1
    with pytest.raises(MetricError, match="at least 10"):
        registry.compute(["is9"], FakeGenerator(), data, detectors=detectors, progress=False)
