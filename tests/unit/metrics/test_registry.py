"""Names, records, errors and repeatability of whole metrics on a fake generator."""

from __future__ import annotations

import json
import os
import resource
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from dnnlib.files import sha256_of
from metrics import registry, results
from metrics.evaluation import to_uint8
from metrics.features import DetectorError, Detectors, parse_source
from metrics.types import MetricError, Sampling
from tests.unit.metrics.fakes import FakeGenerator, write_dataset, write_detector
from torch_utils import distributed
from training.cameras.prior import AnglePrior, ViewConfig
from training.dataset import DataConfig

PUBLISHED = os.environ.get("GAN3D_INCEPTION", "")
"""The published file, if the user has it; tests hide it from all others."""
NAMES = ["fid40_full", "fid20", "kid30_full"]


def values(records: list[dict]) -> dict[str, float]:
    return {name: value for record in records for name, value in record["results"].items()}


@pytest.mark.parametrize(
    ("name", "family", "count", "full", "lite"),
    [
        ("fid50k_full", "fid", 50_000, True, False),
        ("fid2k_full", "fid", 2000, True, False),
        ("fid2k_lite", "fid", 2000, False, True),
        ("fid2048_full_lite", "fid", 2048, True, True),
        ("kid10k", "kid", 10_000, False, False),
        ("pr50k3_full", "pr", 50_000, True, False),
        ("pr200_3_lite", "pr", 200, False, True),
        ("is50k", "is", 50_000, False, False),
        ("ppl2_wend", "ppl2_wend", 50_000, False, False),
        ("ppl2_wend_2k_lite", "ppl2_wend", 2000, False, True),
        ("eqt50k_int", "eqt_int", 50_000, False, False),
        ("eqt1k_frac", "eqt_frac", 1000, False, False),
        ("eqr50k", "eqr", 50_000, False, False),
    ],
)
def test_names_say_count_and_variant(name: str, family: str, count: int, full: bool, lite: bool) -> None:
    _, request = registry.find(name)
    assert (request.family, request.count, request.full, request.lite) == (family, count, full, lite)


@pytest.mark.parametrize("name", ["fid", "fid50k_fool", "fid-5", "frechet50k", "fid2k_lite_full", "", "none"])
def test_wrong_names_are_refused_with_examples(name: str) -> None:
    with pytest.raises(MetricError, match="fid50k_full"):
        registry.find(name)


def test_lists_of_names() -> None:
    assert registry.parse_names(" fid2k_lite, kid2k_lite ") == ["fid2k_lite", "kid2k_lite"]
    assert registry.parse_names("none") == []
    with pytest.raises(MetricError, match="fid0"):
        registry.parse_names("fid0")


def test_record_holds_the_protocol(generator: FakeGenerator, data: DataConfig, detectors: dict, tmp_path: Path) -> None:
    snapshot = tmp_path / "network-snapshot-000001.pkl"
    snapshot.write_bytes(b"weights")
    (record,) = registry.compute(
        ["fid40_full"], generator, data, detectors=detectors, snapshot=snapshot, progress=False
    )
    assert set(record["results"]) == {"fid40_full"}
    assert record["results"]["fid40_full"] > 0
    protocol = record["protocol"]
    assert protocol["generated"] == {"count": 40}
    assert protocol["real"] == {"count": 24, "of": 24, "mirrored": False}
    assert len(protocol["detector"]["sha256"]) == 64
    assert protocol["detector"]["resize"] == "inside the network"
    assert protocol["truncation_psi"] == 1.0
    assert protocol["seed"] == 0
    assert "labels of the data set" in protocol["cameras"]
    assert len(protocol["data"]["content_hash"]) == 64
    assert record["snapshot"] == {"file": snapshot.name, "sha256": sha256_of(snapshot)}
    assert {"generate", "real features", "distance"} <= set(record["seconds"])
    assert generator.training
    line = results.append(record, tmp_path, snapshot)
    assert results.read(tmp_path, "fid40_full") == [json.loads(json.dumps(line))]
    assert line["snapshot_pkl"] == snapshot.name


def test_the_same_seed_repeats_and_another_does_not(data: DataConfig, detectors: dict) -> None:
    first, again = (
        values(registry.compute(NAMES, FakeGenerator(), data, detectors=detectors, progress=False)) for _ in range(2)
    )
    assert first == again
    other = registry.compute(
        NAMES, FakeGenerator(), data, detectors=detectors, sampling=Sampling(seed=1), progress=False
    )
    assert all(values(other)[name] != first[name] for name in NAMES)


def test_other_draws_before_do_not_matter(data: DataConfig, detectors: dict) -> None:
    together = values(registry.compute(NAMES, FakeGenerator(), data, detectors=detectors, progress=False))
    torch.manual_seed(5)
    alone: dict[str, float] = {}
    for name in reversed(NAMES):
        alone |= values(registry.compute([name], FakeGenerator(), data, detectors=detectors, progress=False))
    assert alone == pytest.approx(together, rel=1e-12)


def test_features_not_kept_give_the_same_distance(
    data: DataConfig, detectors: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = values(registry.compute(["fid40_full"], FakeGenerator(), data, detectors=detectors, progress=False))
    monkeypatch.setattr("metrics.evaluation.KEPT_PICTURES", 10)
    streamed = values(registry.compute(["fid40_full"], FakeGenerator(), data, detectors=detectors, progress=False))
    assert streamed == pytest.approx(kept, rel=1e-10)


def score_in_process(rank: int, processes: int, address: str, data: DataConfig, detectors: dict, out: Path) -> None:
    torch.set_num_threads(1)
    distributed.join(rank, processes, "cpu", address)
    records = registry.compute(NAMES, FakeGenerator(), data, detectors=detectors, progress=False)
    if rank == 0:
        out.write_text(json.dumps(records))
    distributed.leave()


def test_two_processes_give_the_numbers_of_one(data: DataConfig, detectors: dict, tmp_path: Path, own_cache) -> None:
    out = tmp_path / "two.json"
    distributed.run_processes(score_in_process, 2, data, detectors, out)
    records = json.loads(out.read_text())
    assert records[0]["num_gpus"] == 2
    for entry in (own_cache / "features").iterdir():
        for file in entry.iterdir():
            file.unlink()
        entry.rmdir()
    one = registry.compute(NAMES, FakeGenerator(), data, detectors=detectors, progress=False)
    assert values(records) == pytest.approx(values(one), rel=1e-9)


def test_real_statistics_are_kept_by_content(data: DataConfig, detectors: dict, tmp_path: Path, own_cache) -> None:
    kept = own_cache / "features"
    registry.compute(["fid40_full"], FakeGenerator(), data, detectors=detectors, progress=False)
    assert len(list(kept.iterdir())) == 1
    moved = tmp_path / "elsewhere"
    Path(data.path).rename(moved)
    (record,) = registry.compute(
        ["fid30_full"], FakeGenerator(), replace(data, path=str(moved)), detectors=detectors, progress=False
    )
    assert "real features" not in record["seconds"]
    other = {"inception": detectors["vgg16"] + "2"}
    write_detector(Path(other["inception"]), seed=3)
    registry.compute(["fid40_full"], FakeGenerator(), replace(data, path=str(moved)), detectors=other, progress=False)
    assert len(list(kept.iterdir())) == 2


def test_full_means_all_pictures_unmirrored(data: DataConfig, detectors: dict) -> None:
    small = replace(data, mirror=True, max_size=10)
    full, plain = registry.compute(["fid8_full", "fid8"], FakeGenerator(), small, detectors=detectors, progress=False)
    assert full["protocol"]["real"] == {"count": 24, "of": 24, "mirrored": False}
    assert plain["protocol"]["real"] == {"count": 8, "of": 20, "mirrored": True}


def test_too_few_pictures_for_the_rank_is_said_once(data: DataConfig, detectors: dict, capsys) -> None:
    (record,) = registry.compute(["fid4_full"], FakeGenerator(), data, detectors=detectors, progress=False)
    (warning,) = record["warnings"]
    assert "4 pictures cannot fill a covariance of 6 dimensions" in warning
    with pytest.raises(MetricError, match="at least 2 real and 2 generated"):
        registry.compute(["kid1_full"], FakeGenerator(), data, detectors=detectors, progress=False)


def test_data_of_another_resolution(data: DataConfig, detectors: dict) -> None:
    with pytest.raises(MetricError, match=r"64x64 but the data set .* holds 32x32"):
        registry.compute(["fid4_full"], FakeGenerator(size=64), data, detectors=detectors, progress=False)


def test_data_without_cameras(data: DataConfig, detectors: dict) -> None:
    (Path(data.path) / "dataset.json").unlink()
    bare = replace(data, use_labels=False)
    with pytest.raises(MetricError, match="no camera labels"):
        registry.compute(["fid4_full"], FakeGenerator(), bare, detectors=detectors, progress=False)
    prior = AnglePrior(ViewConfig(), 0.3, 0.1)
    (record,) = registry.compute(
        ["fid9_full"], FakeGenerator(), bare, detectors=detectors, cameras=prior, progress=False
    )
    assert "AnglePrior" in record["protocol"]["cameras"]


def test_missing_detector_is_one_sentence() -> None:
    with pytest.raises(DetectorError) as error:
        registry.require(["fid2k_full"], Detectors())
    message = str(error.value)
    assert all(part in message for part in ("inception-2015-12-05.pt", "--detector inception=", "_lite"))
    assert "\n" not in message


def test_detectors_are_checked(tmp_path: Path, detectors: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DetectorError, match="no such file"):
        Detectors({"inception": str(tmp_path / "absent.pt")}).get("inception")
    with pytest.raises(DetectorError, match="SHA-256"):
        Detectors({"inception": detectors["inception"] + "#sha256=" + "0" * 64}).get("inception")
    text = tmp_path / "text.pt"
    text.write_text("no network")
    with pytest.raises(DetectorError, match="not a TorchScript file"):
        Detectors({"inception": str(text)}).get("inception")
    monkeypatch.setenv("GAN3D_INCEPTION", detectors["inception"])
    images = torch.zeros(2, 3, 16, 16, dtype=torch.uint8)
    detector = Detectors().get("inception")
    assert detector.features(images).shape == (2, 6)
    np.testing.assert_allclose(detector.probabilities(images).sum(dim=1), 1, rtol=1e-6)


def test_sources_of_detectors() -> None:
    assert parse_source("vgg16=a.pt") == ("vgg16", "a.pt")
    assert parse_source("https://x.org/inception.pt?a=b") == ("inception", "https://x.org/inception.pt?a=b")
    assert parse_source("dir/inception.pt") == ("inception", "dir/inception.pt")
    with pytest.raises(ValueError, match="no detector 'resnet'"):
        parse_source("resnet=a.pt")


def test_uint8_as_published() -> None:
    x = torch.tensor([-1.0, -0.999, 0.0, 0.5, 0.996, 1.0, 2.0]).view(1, 1, 1, 7)
    assert to_uint8(x)[0, 0, 0].tolist() == [0, 0, 128, 191, 254, 255, 255]
    assert to_uint8(x).shape[1] == 3
    with pytest.raises(MetricError, match="not finite"):
        to_uint8(torch.tensor([float("nan")]).view(1, 1, 1, 1))


def test_damaged_result_line_is_named(tmp_path: Path) -> None:
    (tmp_path / "metric-fid2k.jsonl").write_text('{"a": 1}\n{oops\n')
    with pytest.raises(ValueError, match="line 2"):
        results.read(tmp_path, "fid2k")
    assert results.read(tmp_path, "kid2k") == []


@pytest.mark.slow
def test_ten_thousand_pictures_in_bounded_memory(tmp_path: Path, detectors: dict) -> None:
    """All the pictures together are 2 GB as numbers, half a GB as bytes; only a few batches are alive at a time."""
    wide = DataConfig(path=str(write_dataset(tmp_path / "wide", count=4, size=128)))
    generator, batch = FakeGenerator(128, noise=0), Sampling(batch=64)
    registry.compute(["fid64_full"], generator, wide, detectors=detectors, sampling=batch, progress=False)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    registry.compute(["fid10k_full"], generator, wide, detectors=detectors, sampling=batch, progress=False)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert (after - before) * 1024 < 150 * 2**20
