from __future__ import annotations

import numpy as np
import pytest

from metrics import registry
from metrics.precision_recall import precision_recall
from metrics.types import MetricError
from tests.unit.metrics.fakes import FakeGenerator
from training.dataset import DataConfig


def by_loops(points: np.ndarray, members: np.ndarray, k: int) -> float:
    def distance(a: np.ndarray, b: np.ndarray) -> float:
        return float(np.sqrt(np.sum((a - b) ** 2)))

    radii = [
        sorted(distance(m, other) for j, other in enumerate(members) if j != i)[k - 1] for i, m in enumerate(members)
    ]
    inside = [any(distance(p, m) <= r for m, r in zip(members, radii, strict=True)) for p in points]
    return sum(inside) / len(points)


@pytest.mark.parametrize("block", [7, 1000])
def test_agrees_with_the_definition(block: int) -> None:
    rng = np.random.default_rng(0)
    real, fake = rng.normal(size=[60, 5]), rng.normal(size=[40, 5]) * 0.7 + 1.3
    expected = by_loops(fake, real, 3), by_loops(real, fake, 3)
    assert precision_recall(real, fake, 3, block=block) == pytest.approx(expected)
    assert 0 < expected[1] < expected[0] < 1


def test_known_cases() -> None:
    rng = np.random.default_rng(1)
    real = rng.normal(size=[100, 4])
    assert precision_recall(real, real.copy(), 3) == (1.0, 1.0)
    assert precision_recall(real, real + 100, 3) == (0.0, 0.0)
    collapsed = real[:1] + 1e-4 * rng.normal(size=[100, 4])
    precision, recall = precision_recall(real, collapsed, 3)
    assert precision == 1.0
    assert recall < 0.05


def test_too_few_pictures(data: DataConfig, detectors: dict) -> None:
    with pytest.raises(MetricError, match="more than 3 real and 3 generated"):
        registry.compute(["pr3_3_full"], FakeGenerator(), data, detectors=detectors, progress=False)
    (record,) = registry.compute(["pr20_3_full"], FakeGenerator(), data, detectors=detectors, progress=False)
    assert set(record["results"]) == {"pr20_3_full_precision", "pr20_3_full_recall"}
