"""The score card of a perfect renderer is near perfect, and each planted failure fails its checks alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from dataset_preprocessing.synthetic.make import Options, make_set
from metrics import scorecard, scorecard_page
from metrics.checks import QUESTIONS, Around, AtLeast, AtMost
from metrics.estimators.recipe import Recipe
from metrics.evaluation import Evaluation
from metrics.features import Detectors
from metrics.ground_truth import GroundTruth
from metrics.scorecard import Card, Counts, answers, plain_values
from metrics.store import Store
from tests.unit.metrics import planted
from training.dataset import DataConfig, ImageDataset

pytest.importorskip("efficientnet_lite_pytorch")
ALL = {check.key for checks in QUESTIONS.values() for check in checks}
GEOMETRY_OF_WALL = {"depth", "nfs", "reprojection"}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[ImageDataset, Store]:
    """A small synthetic set, and a store in which its estimator is trained once for all tests."""
    folder = tmp_path_factory.mktemp("world")
    options = Options(resolution=32, seed=0, white=False, camera_range="frontal", views=1, supersampling=3)
    make_set(folder / "data.zip", options, count=260, workers=1)
    return ImageDataset(DataConfig(path=str(folder / "data.zip"))), Store(folder / "store")


def evaluation_of(world: tuple[ImageDataset, Store], renderer: type[GroundTruth]) -> Evaluation:
    dataset, store = world
    recipe = Recipe(steps=220, batch=32, rate=4e-3)
    return Evaluation(renderer(32, False), dataset, Detectors(), store, progress=False, recipe=recipe)


def card_of(world: tuple[ImageDataset, Store], renderer: type[GroundTruth]) -> Card:
    return scorecard.measure(evaluation_of(world, renderer), Counts(pictures=128, scenes=10, meshes=1))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("renderer", "found", "may_find"),
    [
        (GroundTruth, set(), set()),
        (planted.Flat, {"depth", "nfs"}, {"pose", "fid", "precision", "recall", "modes", "identity"}),
        (planted.Painted, {"separation", "mask"}, GEOMETRY_OF_WALL),
        (planted.Leaking, {"leak"}, {"recall", "precision", "modes"}),
        (planted.Collapsed, {"recall", "fid"}, {"modes", "identity", "nfs"}),
        (planted.Foggy, {"thickness", "opaque", "softness", "separation"}, {"nfs"}),
    ],
)
def test_planted_failures(world, renderer: type[GroundTruth], found: set[str], may_find: set[str]) -> None:
    card = card_of(world, renderer)
    failures = card.failures()
    assert found <= failures, card.to_dict()
    assert failures <= found | may_find, card.to_dict()


@pytest.mark.slow
def test_page_holds_numbers_and_pictures(world, tmp_path: Path) -> None:
    evaluation = evaluation_of(world, planted.Painted)
    card = scorecard.measure(evaluation, Counts(pictures=128, scenes=10, meshes=1))
    scorecard_page.write(tmp_path / "card.html", card, evaluation, "A <test>")
    page = (tmp_path / "card.html").read_text()
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
    found = answers({"fid": 10.0, "fid3d": 20.0, "separation": 0.9}, {"fid": 4.0})
    lines = {line.check.key: line for lines in found.values() for line in lines}
    assert set(lines) == {"leak", "fid", "separation"}
    assert lines["leak"].value == 2.0
    assert not lines["leak"].passed
    assert not lines["fid"].passed
    assert lines["separation"].passed
    assert set(lines) < ALL
    records = [
        {"metric": "fid64_full_lite", "results": {"fid64_full_lite": 1.0}},
        {"metric": "pr64_3_lite", "results": {"pr64_3_lite_recall": 0.5}},
    ]
    assert plain_values({"fid": "", "pr": ""}, records) == {"fid": 1.0, "pr_recall": 0.5}
