"""The benchmarks' own arithmetic, and their commands where they are quick."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from benchmarks import cost, processes, scaling, training_spread, works, yardstick
from benchmarks.measure import count_flop
from benchmarks.works import Setup

RUNS = [
    {"variant": variant, "seed": seed, "numbers": {"loss": loss, "score": score}, "curves": {}}
    for variant, seed, loss, score in (("a", 0, 1.0, 5.0), ("a", 1, 3.0, 5.2), ("b", 0, 4.0, 8.0), ("b", 1, 4.5, 8.1))
]


def test_operations_are_those_of_a_product():
    a, b = torch.zeros(3, 5), torch.zeros(5, 7)
    assert count_flop(lambda: a @ b) == 2 * 3 * 5 * 7


def test_an_iteration_holds_a_sixteenth_of_the_penalty():
    steps = [{"median_seconds": s, "peak_bytes": p} for s, p in ((3.0, 10), (2.0, 30), (1.6, 20))]
    assert cost.iteration(*steps) == {"median_seconds": pytest.approx(5.1), "peak_bytes": 30}


def test_the_unit_is_measured_without_this_projects_settings(monkeypatch):
    seen = {}

    class Result:
        stdout = "0.25\n"

    def run(command, **options):
        seen.update(options["env"])
        return Result()

    monkeypatch.setenv("THP_MEM_ALLOC_ENABLE", "1")
    monkeypatch.setenv("KEPT", "1")
    monkeypatch.setattr(yardstick.subprocess, "run", run)
    assert yardstick.measured_apart("cpu", 2) == 0.25
    assert "KEPT" in seen
    assert "THP_MEM_ALLOC_ENABLE" not in seen


def test_cost_and_scaling_tell_time_memory_and_operations(monkeypatch, tmp_path):
    costs = {"density": {"median_seconds": 0.5, "best_seconds": 0.4, "peak_bytes": 2**30, "flop": 10**9}}
    for module in (cost, scaling):
        monkeypatch.setattr(module, "in_fresh_process", lambda function, name, setup: json.loads(json.dumps(costs)))
    monkeypatch.setattr(cost, "best_rate", lambda device, dtype: 1e10)
    first, second = tmp_path / "first.json", tmp_path / "second.json"
    common = ["--only=density", "--unit-seconds=0.25"]
    assert CliRunner().invoke(cost.main, [*common, f"--json={first}"]).exit_code == 0
    costs["density"]["median_seconds"] = 0.25
    result = CliRunner().invoke(cost.main, [*common, f"--json={second}", f"--compare={first}"])
    assert result.exit_code == 0, result.output
    assert result.output.splitlines()[1].split() == [
        "density",
        "0.250",
        "0.400",
        "1.00",
        "0.100",
        "0.40",
        "1.0",
        "1024",
        "2.00",
        "(-50%)",
    ]
    assert json.loads(second.read_text())["works"]["density"]["floor_units"] == pytest.approx(0.4)

    result = CliRunner().invoke(scaling.main, ["--axis=points", f"--json={tmp_path / 'scaling.json'}"])
    assert result.exit_code == 0, result.output
    rows = json.loads((tmp_path / "scaling.json").read_text())["works"]
    assert [row["value"] for row in rows] == list(scaling.AXES["points"][1])


def test_works_are_measured(tmp_path):
    costs = works.measure("density", Setup(points=1000, warmup=0, repeats=1, threads=1))
    assert set(costs) == {"density", "density_with_features"}
    for step in costs.values():
        assert step["median_seconds"] > 0
        assert step["peak_bytes"] >= 0
        assert step["flop"] > 1000 * 2 * 32 * 64


def test_spread_compares_difference_with_deviation():
    found = training_spread.compared(RUNS, "a", "b")
    assert found["loss"] == {
        "mean": 2.0,
        "other_mean": 4.25,
        "deviation": pytest.approx(2**0.5),
        "other_deviation": pytest.approx(0.5 / 2**0.5),
        "within": True,
    }
    assert not found["score"]["within"]


def test_spread_trains_every_variant_with_every_seed(monkeypatch, tmp_path):
    asked = []

    def observe(data, arguments, variant, seed, metric):
        asked.append((variant, seed, arguments))
        return next(run for run in RUNS if (run["variant"], run["seed"]) == (variant, seed))

    monkeypatch.setattr(training_spread, "observe", observe)
    data = tmp_path / "set.zip"
    data.touch()
    options = [f"--data={data}", "--variant=a", "--variant=b", f"--json={tmp_path / 'out.json'}"]
    result = CliRunner().invoke(training_spread.main, [*options, "--seeds=0-1", "--", "--kimg=1"])
    assert result.exit_code == 0, result.output
    assert asked == [(variant, seed, ["--kimg=1"]) for seed in (0, 1) for variant in ("a", "b")]
    assert "beyond the spread" in result.output
    assert len(json.loads((tmp_path / "out.json").read_text())["runs"]) == 4
    result = CliRunner().invoke(training_spread.main, [*options, "--seeds=0", "--", "--kimg=1"])
    assert result.exit_code != 0
    assert "at least two seeds" in result.output


def test_processes_take_the_median_of_later_ticks(monkeypatch, tmp_path):
    def run(command, **options):
        folder = Path(next(word for word in command if word.startswith("--outdir=")).partition("=")[2]) / "00000-run"
        folder.mkdir()
        slower = 2.0 if "--gpus=1" in command else 1.0
        ticks = [{"Timing/sec_per_kimg": {"mean": slower * mean}} for mean in (90, 80, 10, 11, 30)]
        (folder / "stats.jsonl").write_text("".join(json.dumps(tick) + "\n" for tick in ticks))

    monkeypatch.setattr(processes.subprocess, "run", run)
    data = tmp_path / "set.zip"
    data.touch()
    result = CliRunner().invoke(processes.main, [f"--data={data}", "--", "--kimg=1"])
    assert result.exit_code == 0, result.output
    assert result.output.splitlines()[1] == "2 processes: 11.00 s per kimg, 2.00 times the speed of one"
