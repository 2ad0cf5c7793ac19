"""3-D metrics on hand-made cases with a known answer."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor

from metrics import registry
from metrics.consistency import cosines
from metrics.estimated import angle_between, histogram_overlap, overlap, standardized_error
from metrics.estimators.network import Estimator, resize, rotation_of
from metrics.estimators.truth import Factors
from metrics.features import DetectorError, Detectors
from metrics.mesh_statistics import statistics
from metrics.opacity import separation
from metrics.types import MetricError
from tests.unit.metrics.fakes import FakeGenerator
from training.dataset import DataConfig
from training.shapes import extract_mesh


def test_depth_error_ignores_scale_and_offset() -> None:
    depth = torch.rand(1, 1, 16, 16, generator=torch.Generator().manual_seed(0)) + 2
    everywhere = torch.ones_like(depth, dtype=torch.bool)
    assert float(standardized_error(depth, 5 * depth - 1, everywhere)) < 1e-10
    assert float(standardized_error(depth, -depth, everywhere)) == pytest.approx(4.0, rel=1e-6)
    flat = torch.full_like(depth, 2.7)
    assert float(standardized_error(flat, depth, everywhere)) == pytest.approx(1.0, rel=1e-6)
    other = torch.rand(1, 1, 400, 400, generator=torch.Generator().manual_seed(1))
    third = torch.rand(1, 1, 400, 400, generator=torch.Generator().manual_seed(2))
    assert float(standardized_error(other, third, torch.ones_like(other) > 0)) == pytest.approx(2.0, rel=0.02)


def test_depth_outside_of_the_mask_does_not_count() -> None:
    depth = torch.rand(1, 1, 16, 16)
    mask = torch.zeros_like(depth, dtype=torch.bool)
    mask[..., :8] = True
    noisy = torch.where(mask, depth, 1e6)
    assert float(standardized_error(depth, noisy, mask)) < 1e-10
    mask[:] = False
    assert math.isnan(float(standardized_error(depth, noisy, mask)))


@pytest.mark.parametrize("angle", [0.0, 1e-6, 0.3, 2.0, 3.1, math.pi])
def test_angles_between_rotations(angle: float) -> None:
    rng = np.random.default_rng(0)
    axis = rng.normal(size=3)
    axis /= np.linalg.norm(axis)
    first = Rotation.random(rng=rng)
    second = first * Rotation.from_rotvec(angle * axis)
    a, b = (torch.from_numpy(r.as_matrix())[None] for r in (first, second))
    assert float(angle_between(a, b)) == pytest.approx(angle, abs=1e-8)


def test_mask_overlap() -> None:
    a = torch.zeros(3, 1, 4, 4, dtype=torch.bool)
    b = a.clone()
    a[0, 0, :2], b[0, 0, 1:3] = True, True
    a[1] = True
    assert overlap(a, b).tolist() == pytest.approx([1 / 3, 0.0, 1.0])


def test_separation_knows_object_wall_nothing_and_fog() -> None:
    disc = torch.zeros(1, 1, 20, 20)
    disc[..., 5:15, 5:15] = 1
    cases = {"disc": disc, "wall": torch.ones_like(disc), "nothing": 0 * disc, "fog": torch.full_like(disc, 0.5)}
    scores = {name: float(separation(opacity)[0]) for name, opacity in cases.items()}
    assert scores == pytest.approx({"disc": 1.0, "wall": 0.0, "nothing": 0.0, "fog": 0.0})
    leak = torch.where(disc > 0, 1.0, 0.3)
    assert float(separation(leak)[0]) < 0.5


def test_variety_of_parameters() -> None:
    rng = np.random.default_rng(0)
    real, same = rng.normal(size=[2, 4000, 3])
    assert histogram_overlap(real, real) == pytest.approx(1.0)
    assert histogram_overlap(real, same) > 0.95
    assert histogram_overlap(real, np.zeros([500, 3])) == pytest.approx(1 / 8, abs=0.01)


def test_cosines_of_views() -> None:
    rows = np.stack([np.eye(4), np.eye(4)], axis=1)
    assert cosines(rows) == pytest.approx((1.0, 0.0))
    rows[2] = np.nan
    assert cosines(rows)[0] == pytest.approx(1.0)


def test_estimator_answers_at_any_size_and_alone_or_together() -> None:
    torch.manual_seed(0)
    network = Estimator(7).eval()
    images = torch.randint(0, 256, [3, 3, 48, 48], dtype=torch.uint8)
    together, alone = network(images), network(images[1:2])
    assert together.depth.shape == together.mask.shape == (3, 1, 32, 32)
    assert together.factors.shape == (3, 7)
    torch.testing.assert_close(together.depth[1:2], alone.depth, atol=1e-5, rtol=1e-4)
    identity = together.rotation @ together.rotation.transpose(1, 2)
    torch.testing.assert_close(identity, torch.eye(3).expand(3, 3, 3), atol=1e-5, rtol=0)
    torch.testing.assert_close(torch.linalg.det(together.rotation), torch.ones(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(rotation_of(torch.zeros(1, 6)), torch.eye(3)[None])
    assert resize(torch.ones(1, 1, 128, 128), 32).mean() == 1


def test_factors_of_drawn_parameters() -> None:
    scenes = [{"a": {"size": float(i), "kind": "xy"[i % 2]}, "seed": i} for i in range(4)]
    factors = Factors.of(scenes)
    assert factors.numbers == ("a.size",)
    assert factors.size == 3
    rows = factors.rows(scenes)
    assert float(rows[:, 0].mean()) == pytest.approx(0, abs=1e-6)
    assert rows[:, 1:].tolist() == [[1, 0], [0, 1], [1, 0], [0, 1]]
    nothing = Factors.of([{"name": str(i), "same": "x"} for i in range(100)])
    assert nothing.size == 0
    assert nothing.rows([{"name": "7", "same": "x"}]).shape == (1, 0)
    assert Estimator(0)(torch.zeros(1, 3, 64, 64)).factors.shape == (1, 0)


def test_mesh_of_two_balls() -> None:
    axis = np.linspace(-0.5, 0.5, 64)
    x, y, z = np.meshgrid(axis, axis, axis, indexing="ij")
    balls = [r - np.sqrt((x - c) ** 2 + y**2 + z**2) for r, c in ((0.2, -0.2), (0.1, 0.3))]
    density = np.maximum(*balls).astype(np.float32)
    area, volume, parts, share, clear = statistics(extract_mesh(density, 1.0, 0.0), 1.0)
    assert area == pytest.approx(4 * math.pi * (0.04 + 0.01), rel=0.02)
    assert volume == pytest.approx(4 / 3 * math.pi * (0.008 + 0.001), rel=0.02)
    assert parts == 2
    assert share == pytest.approx(0.8, abs=0.02)
    assert clear == 1
    wall = np.where(z < 0, 1.0, -1.0).astype(np.float32)
    assert statistics(extract_mesh(wall, 1.0, 0.0), 1.0)[4] == 0


class Plain(FakeGenerator):
    """Opaque everywhere, half a unit deep, the same picture from every side."""


def test_metrics_run_and_name_their_values(data: DataConfig, detectors: dict) -> None:
    names = ["fid3d12_full", "separation6", "tightness6", "nfs6", "reprojection4"]
    records = registry.compute(names, Plain(noise=0), data, detectors=detectors, progress=False)
    values = {name: value for record in records for name, value in record["results"].items()}
    assert values["separation6"] == 0
    assert values["separation6_coverage"] == 1
    assert 0 <= values["reprojection4_overlap"] <= 1
    assert set(names) <= set(values)
    assert records[0]["protocol"]["conditioning"] == "the frontal camera"
    assert records[1]["protocol"]["conditioning"] == "the rendering camera"


def test_what_a_generator_lacks_is_said(data: DataConfig, detectors: dict) -> None:
    with pytest.raises(MetricError, match="no latent of its own to exchange"):
        registry.compute(["fidfg8_full"], FakeGenerator(), data, detectors=detectors, progress=False)
    with pytest.raises(MetricError, match="no field"):
        registry.compute(["mesh2"], FakeGenerator(), data, progress=False)
    with pytest.raises(MetricError, match=r"--detector depth=PATH_OR_URL .* _trained"):
        registry.compute(["depth8"], FakeGenerator(), data, progress=False)
    with pytest.raises(MetricError, match="--detector embedder=PATH_OR_URL"):
        registry.compute(["id8"], FakeGenerator(), data, progress=False)


class Unsure(torch.nn.Module):
    """An embedder that finds nothing to embed."""

    def forward(self, images: Tensor) -> Tensor:
        return torch.full([images.size(0), 4], float("nan"))


@pytest.mark.filterwarnings("ignore:Mean of empty slice")
def test_a_value_that_is_none_is_refused(data: DataConfig, tmp_path) -> None:
    torch.jit.script(Unsure()).save(str(tmp_path / "unsure.pt"))
    sources = {"embedder": str(tmp_path / "unsure.pt")}
    with pytest.raises(MetricError, match=r"no finite value .*'id4': nan"):
        registry.compute(["id4"], FakeGenerator(), data, detectors=sources, progress=False)


class FixedAnswer(torch.nn.Module):
    """A plug-in that sees the same map in every picture."""

    def forward(self, images: Tensor) -> Tensor:
        rows = torch.linspace(1, 2, 8).view(1, 1, 8, 1)
        return rows.expand(images.size(0), 1, 8, 8)


@pytest.mark.parametrize(("metric", "name", "wanted"), [("pose1k", "pose", "n 3 3"), ("id1k", "embedder", "n d")])
def test_files_that_answer_something_else_are_refused_at_the_start(tmp_path, metric, name, wanted) -> None:
    torch.jit.script(FixedAnswer()).save(str(tmp_path / "maps.pt"))
    detectors = Detectors({name: str(tmp_path / "maps.pt")})
    with pytest.raises(DetectorError, match=rf"shape \[2, 3, 32, 32\] are answered by \[2, 1, 8, 8\], not {wanted}"):
        registry.require([metric], detectors, side=32)


def test_files_that_fail_are_refused_at_the_start(tmp_path) -> None:
    torch.jit.script(torch.nn.Conv2d(4, 1, 1)).save(str(tmp_path / "four.pt"))
    with pytest.raises(DetectorError, match=r"--detector depth=.*four.pt: pictures of shape .* make it fail \("):
        registry.require(["depth1k"], Detectors({"depth": str(tmp_path / "four.pt")}))


def test_estimators_can_be_files(data: DataConfig, tmp_path) -> None:
    torch.jit.script(FixedAnswer()).save(str(tmp_path / "fixed.pt"))
    sources = {name: str(tmp_path / "fixed.pt") for name in ("depth", "mask")}
    records = registry.compute(["depth6", "mask6"], FakeGenerator(), data, detectors=sources, progress=False)
    # The fake's depth is flat, the plug-in's is not; the fake is opaque everywhere, and so is the plug-in's mask.
    assert records[0]["results"]["depth6"] == pytest.approx(1.0, rel=1e-5)
    assert records[1]["results"]["mask6"] == 1.0
    assert records[0]["protocol"]["detector"]["name"] == "depth (fixed.pt)"
