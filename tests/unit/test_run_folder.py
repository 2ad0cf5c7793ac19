"""Run folders, their options and statistics; what may change when a run goes on."""

from __future__ import annotations

import errno
import fcntl
import json
from dataclasses import replace

import pytest

from torch_utils.training_stats import Moments
from training.config import ConfigError, TrainConfig, override
from training.resume import Start, changes, has_state, stage_config
from training.run_folder import StatisticsWriter, create_run_folder, held, read_options, run_name, write_options


def test_names_and_numbers(tmp_path):
    config = TrainConfig()
    config = replace(config, run=replace(config.run, gpus=8), data=replace(config.data, path="/x/FFHQ_512.zip"))
    assert run_name("ffhq", config) == "ffhq-FFHQ_512-gpus8-batch32-gamma1"
    assert run_name("ffhq", override(config, "run.desc", "test")) == "ffhq-FFHQ_512-gpus8-batch32-gamma1-test"
    assert run_name("ffhq", override(config, "loss.r1_gamma", 0.3)).endswith("gamma0.3")
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "notes.txt").touch()
    names = [create_run_folder(str(tmp_path / "runs"), "a").name for _ in range(2)]
    (tmp_path / "runs" / "00007-other").mkdir()
    names.append(create_run_folder(str(tmp_path / "runs"), "b").name)
    assert names == ["00000-a", "00001-a", "00008-b"]


def test_a_run_is_held_by_one_process(tmp_path):
    with held(tmp_path), pytest.raises(ConfigError, match="going on in another process"), held(tmp_path):
        pass
    with held(tmp_path):
        assert [path.name for path in tmp_path.iterdir()] == ["log.txt"]


def test_file_systems_without_locks_bring_a_warning(tmp_path, monkeypatch, capsys):
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with held(tmp_path):
        assert "files cannot be locked" in capsys.readouterr().out


def test_options_survive_the_file(tmp_path):
    config = override(TrainConfig(), "generator.scene.axes", "legacy")
    write_options(tmp_path, "ballgan", "ffhq", config)
    assert read_options(tmp_path) == ("ballgan", "ffhq", config)
    (tmp_path / "training_options.json").write_text("{}")
    with pytest.raises(ConfigError, match="not the options of a run"):
        read_options(tmp_path)


def test_statistics_are_cut_where_a_run_goes_on(tmp_path):
    def write(images, *kimgs):
        writer = StatisticsWriter(tmp_path, images)
        for kimg in kimgs:
            writer.write({"Loss/x": Moments(2, 1.5, 0.5)}, {"Progress/kimg": kimg}, int(kimg * 1000))
        writer.close()

    write(0, 1, 2, 3)
    write(2000, 2.5)
    lines = [json.loads(line) for line in (tmp_path / "stats.jsonl").read_text().splitlines()]
    assert [line["Progress/kimg"]["mean"] for line in lines] == [1, 2, 2.5]
    assert lines[0]["Loss/x"] == {"num": 2, "mean": 1.5, "std": 0.5}
    assert lines[0]["timestamp"] > 0


def test_changes_are_what_decides_what_is_learned():
    config = TrainConfig()
    free = {"run.kimg": 5, "run.gpus": 2, "run.outdir": "x", "data.path": "y", "data.workers": 1, "run.metrics": "none"}
    for path, value in free.items():
        assert changes(config, override(config, path, value)) == {}, path
    kept = {"run.batch": 16, "run.seed": 3, "loss.r1_gamma": 2.0, "data.mirror": True, "generator.scene.axes": "legacy"}
    for path, value in kept.items():
        assert changes(config, override(config, path, value))[path][1] == value
    assert "generator.background.radius" in changes(config, override(config, "generator.background", "sphere"))


def test_a_stage_starts_without_fades():
    config = stage_config(TrainConfig(), keep_fades=False)
    assert (config.augment.kimg, config.ema.ramp_up) == (100, None)
    assert (config.schedule.blur_sigma, config.schedule.swap_fade_kimg) == (0, 0)
    assert stage_config(TrainConfig(), keep_fades=True).schedule == TrainConfig().schedule


def test_a_run_goes_on_in_its_folder_from_its_last_snapshot_alone(tmp_path):
    paths = [tmp_path / f"network-snapshot-{kimg:06d}.pkl" for kimg in (4, 12)]
    for path in paths:
        path.touch()
    assert Start("continue", str(paths[1])).folder == tmp_path
    assert Start("continue", str(paths[0])).folder is None
    assert Start("stage", str(paths[1])).folder is None
    assert not has_state(str(paths[1]))
    (tmp_path / "training-state-000012.pt").touch()
    (tmp_path / "training_options.json").touch()
    assert has_state(str(paths[1]))
    assert not has_state("https://example.org/network-snapshot-000012.pkl")
