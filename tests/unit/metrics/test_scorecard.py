"""The score card of a perfect renderer is near perfect, and each planted failure fails its checks alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dataset_preprocessing.synthetic.make import Options, make_set
from metrics import registry, scorecard, scorecard_page
from metrics.checks import QUESTIONS, Around, AtLeast, AtMost
from metrics.estimators.recipe import Recipe
from metrics.evaluation import Evaluation
from metrics.features import Detectors
from metrics.ground_truth import GroundTruth
from metrics.scorecard import Card, Counts, answers, plain_values
from metrics.store import Store
from metrics.types import MetricError
from tests.unit.metrics import planted
from training.dataset import DataConfig, ImageDataset

pytest.importorskip("efficientnet_lite_pytorch")
ALL = {check.key for checks in QUESTIONS.values() for check in checks}
GEOMETRY_OF_WALL = {"depth", "nfs", "reprojection"}


CASES: list[tuple[type[GroundTruth], set[str], set[str]]] = [
    (GroundTruth, set(), set()),
    (planted.Flat, {"depth", "nfs"}, {"pose", "fid", "precision", "recall", "modes", "identity"}),
    (planted.Painted, {"separation", "mask"}, GEOMETRY_OF_WALL),
    (planted.Leaking, {"leak"}, {"recall", "precision", "modes"}),
    (planted.Collapsed, {"recall", "fid"}, {"modes", "identity", "nfs"}),
    (planted.Foggy, {"thickness", "opaque", "softness", "separation"}, {"nfs"}),
]
"""Renderers, the checks that must find what is wrong with them, and those that may."""


@pytest.mark.slow
def test_planted_failures_are_found_by_their_checks_alone(tmp_path: Path) -> None:
    options = Options(resolution=32, seed=0, white=False, camera_range="frontal", views=1, supersampling=3)
    make_set(tmp_path / "data.zip", options, count=260, workers=1)
    dataset, store = ImageDataset(DataConfig(path=str(tmp_path / "data.zip"))), Store(tmp_path / "store")
    recipe = Recipe(steps=160, batch=24, rate=4e-3)
    for renderer, found, may_find in CASES:
        evaluation = Evaluation(renderer(32, False), dataset, Detectors(), store, progress=False, recipe=recipe)
        card = scorecard.measure(evaluation, Counts(pictures=128, scenes=10, meshes=1))
        failures = card.failures()
        assert found <= failures, (renderer, card.to_dict())
        assert failures <= found | may_find, (renderer, card.to_dict())
    check_page(tmp_path / "card.html", card, evaluation)


def check_page(path: Path, card: Card, evaluation: Evaluation) -> None:
    scorecard_page.write(path, card, evaluation, "A <test>")
    page = path.read_text()
    assert page.count("data:image/png;base64,") == 4
    assert "A &lt;test&gt;" in page
    for question, lines in card.answers.items():
        assert question in page
        for line in lines:
            assert (line.check.tells in page) or line.passed


def test_gates() -> None:
    assert AtMost(0.5, 2, 0.1).passes(0.9, 0.4)
    assert not AtMost(0.5, 2, 0.1).passes(0.95, 0.4)
    assert AtMost(0.5).rule(0.1) == "at most 0.5"
    assert AtLeast(0.5, 0.1).passes(0.4, None) is False
    assert AtLeast(0.5, 0.1).rule(0.9) == "at least 0.8"
    assert Around(2.0, 0.5, 2).passes(3.0, None)
    assert not Around(2.0, 0.5, 2).passes(3.0, 1.0)


def test_lines_of_values() -> None:
    found = answers({"fid": 10.0, "fid3d": 20.0, "separation": 0.9}, {"fid": 4.0}, {})
    lines = {line.check.key: line for lines in found.values() for line in lines}
    assert set(lines) == {"leak", "fid", "separation"}
    assert lines["leak"].value == 2.0
    assert not lines["leak"].passed
    assert not lines["fid"].passed
    assert lines["separation"].passed
    assert set(lines) < ALL
    assert lines["separation"].tells == ""
    assert lines["fid"].tells == "pictures unlike the real ones"
    records = [
        {"metric": "fid64_full_lite", "results": {"fid64_full_lite": 1.0}},
        {"metric": "pr64_3_lite", "results": {"pr64_3_lite_recall": 0.5}},
    ]
    assert plain_values({"fid": "", "pr": ""}, records) == {"fid": 1.0, "pr_recall": 0.5}


def test_a_metric_that_fails_fails_its_checks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_set(
        tmp_path / "data.zip",
        Options(resolution=16, seed=0, white=False, camera_range="frontal", views=1, supersampling=1),
        count=4,
        workers=1,
    )
    dataset = ImageDataset(DataConfig(path=str(tmp_path / "data.zip")))
    evaluation = Evaluation(GroundTruth(16, False), dataset, Detectors(), Store(tmp_path / "store"), progress=False)
    monkeypatch.setattr(scorecard, "ideal_values", lambda *_: None)
    failing = {"reprojection10"}

    def attempt(_: Evaluation, __: object, request: registry.Request, ___: object) -> dict[str, Any]:
        name = request.name
        outcome = {"error": "no <surface>", "results": {}} if name in failing else {"results": {name: 1.0}}
        return {"metric": name, "protocol": {}, "total_time_str": "1s", "snapshot": None, **outcome}

    monkeypatch.setattr(registry, "attempt", attempt)
    counts = Counts(pictures=16, scenes=10, meshes=1)
    card = scorecard.measure(evaluation, counts)
    outcome = card.to_dict()["reprojection"]
    assert outcome == {"value": None, "ideal": None, "passed": False, "tells": "no <surface>"}
    assert "fid" in card.to_dict()
    scorecard_page.write(tmp_path / "card.html", card, evaluation, "Card")
    assert "none<td class=n><td>at most 0.02<td>no &lt;surface&gt;" in (tmp_path / "card.html").read_text()

    failing |= set(scorecard.names_for(dataset, evaluation.generator, counts).values())
    with pytest.raises(MetricError, match="no <surface>"):
        scorecard.measure(evaluation, counts)
