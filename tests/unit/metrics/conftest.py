from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.metrics.fakes import FakeGenerator, write_dataset, write_detector
from training.dataset import DataConfig


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No test sees what another, or the user, has kept."""
    monkeypatch.setenv("GAN3D_CACHE", str(tmp_path / "cache"))
    for name in ("INCEPTION", "VGG16"):
        monkeypatch.delenv(f"GAN3D_{name}", raising=False)
    return tmp_path / "cache"


@pytest.fixture
def data(tmp_path: Path) -> DataConfig:
    return DataConfig(path=str(write_dataset(tmp_path / "data")))


@pytest.fixture
def detectors(tmp_path: Path) -> dict[str, str]:
    return {name: str(write_detector(tmp_path / f"{name}.pt")) for name in ("inception", "vgg16")}


@pytest.fixture
def generator() -> FakeGenerator:
    return FakeGenerator()
