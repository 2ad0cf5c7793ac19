"""Scores against those of torch-fidelity, an independent package (`pip install torch-fidelity`)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from metrics.features import Detector, Detectors
from metrics.fid import frechet_distance
from metrics.inception_score import split_scores
from metrics.kid import kernel_distance
from metrics.precision_recall import precision_recall
from metrics.statistics import Moments
from tests.unit.metrics.fakes import write_dataset
from training.dataset import DataConfig, ImageDataset

fidelity = pytest.importorskip("torch_fidelity", reason="needs torch-fidelity, to compare with")
PUBLISHED = os.environ.get("GAN3D_INCEPTION")
WEIGHTS = os.environ.get("TORCH_FIDELITY_WEIGHTS")


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    """Two sets of pictures."""
    return [write_dataset(tmp_path / name, count=300, size=64, seed=seed) for name, seed in (("a", 0), ("b", 1))]


def pictures(folder: Path) -> torch.Tensor:
    return ImageDataset(DataConfig(path=str(folder))).gather(range(300))[0]


class Pixels(torch.utils.data.Dataset):
    """Pictures alone."""

    def __init__(self, folder: Path):
        self.pictures = pictures(folder)

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> torch.Tensor:
        return self.pictures[index]


def theirs(folders: list[Path], **options: Any) -> dict[str, float]:
    sets = {"input1": Pixels(folders[0]), "input2": Pixels(folders[1])}
    scores = {"fid": True, "kid": True, "kid_subsets": 3, "kid_subset_size": 300}
    quiet = {"cuda": False, "cache": False, "verbose": False, "samples_shuffle": False, "save_cpu_ram": True}
    return fidelity.calculate_metrics(**sets, **scores, **quiet, **options)


def test_all_scores_of_a_network_that_both_look_with(folders: list[Path], detectors: dict[str, str]) -> None:
    detector = Detectors(detectors).get("inception")

    class Shared(fidelity.FeatureExtractorBase):
        """The test's detector as the other package wants it."""

        def __init__(self, name: str, features_list: list[str], **options: Any):
            super().__init__(name, features_list)

        @staticmethod
        def get_provided_features_list() -> tuple[str, ...]:
            return "features", "logits"

        @staticmethod
        def get_default_feature_layer_for_metric(metric: str) -> str:
            return "logits" if metric == "isc" else "features"

        def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
            answers = {"features": detector.features(images), "logits": detector.probabilities(images).log()}
            return tuple(answers[name] for name in self.features_list)

    fidelity.register_feature_extractor("shared", Shared)
    found = theirs(folders, feature_extractor="shared", isc=True, prc=True, prc_neighborhood=3)
    real, fake = (detector.features(pictures(folder)).numpy() for folder in reversed(folders))
    assert frechet_distance(Moments.of(real), Moments.of(fake)) == pytest.approx(
        found["frechet_inception_distance"], rel=0.01
    )
    rng = np.random.default_rng(0)
    assert kernel_distance(real, fake, rng, 3, 300) == pytest.approx(
        found["kernel_inception_distance_mean"], rel=1e-3, abs=1e-7
    )
    assert precision_recall(real, fake, 3) == pytest.approx((found["precision"], found["recall"]), abs=0.01)
    splits = split_scores(detector.probabilities(pictures(folders[0])).numpy(), 10)
    assert np.mean(splits) == pytest.approx(found["inception_score_mean"], rel=1e-5)
    assert np.std(splits) == pytest.approx(found["inception_score_std"], rel=1e-2)


@pytest.mark.skipif(not (PUBLISHED and WEIGHTS), reason="GAN3D_INCEPTION and TORCH_FIDELITY_WEIGHTS name no files")
def test_published_network_gives_the_published_distance(folders: list[Path]) -> None:
    """Our detector and statistics, theirs with their translation of the weights and their resizing."""
    assert PUBLISHED
    assert WEIGHTS
    found = theirs(folders, feature_extractor_weights_path=WEIGHTS)
    detector: Detector = Detectors({"inception": PUBLISHED}).get("inception")
    moments = [Moments.of(detector.features(pictures(folder)).numpy()) for folder in folders]
    assert frechet_distance(*moments) == pytest.approx(found["frechet_inception_distance"], rel=0.02)
