"""The commands take published snapshots like our own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from dataset_preprocessing.synthetic.__main__ import main as synthesize
from tests.official_files import tiny_snapshot
from training import snapshot

ROOT = Path(__file__).parents[2]
SMALL_NETWORKS = [
    "--cbase=1024",
    "--cmax=4",
    "--neural_rendering_resolution_initial=16",
    "--set=generator.z_dim=16",
    "--set=generator.mapping.layer_features=16",
    "--set=generator.mapping.embed_features=16",
    "--set=generator.renderer.depth_resolution=6",
    "--set=generator.renderer.depth_resolution_importance=6",
    "--set=discriminator.trunk.channel_base=256",
    "--set=discriminator.trunk.channel_max=8",
]
SMALL_SPHERE = ["--z_bg_dim=16", "--w_bg_dim=16", "--hidden_size=16", "--bg_mapping=2"]


def run(*arguments: str | Path) -> str:
    """What a command prints; it must end well."""
    command = [sys.executable, *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("published")
    return {system: tiny_snapshot(folder / f"{system}.pkl", system) for system in ("eg3d", "ballgan")}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    path = tmp_path_factory.mktemp("pictures") / "toys.zip"
    options = [f"--dest={path}", "--resolution=128", "--count=4", "--supersampling=1", "--workers=1"]
    synthesize(options, standalone_mode=False)
    return path


def test_samples(files, tmp_path):
    for system, extra in (("eg3d", set()), ("ballgan", {"seed0003_fg.png", "seed0003_bg.png"})):
        out = tmp_path / system
        run("gen_samples.py", f"--network={files[system]}", "--seeds=3", f"--outdir={out}", "--trunc=0.7")
        names = {path.name for path in out.iterdir()}
        assert {"seed0003.png", "seed0003_alpha.png"} | extra <= names
        with Image.open(out / "seed0003.png") as picture:
            assert picture.size == (3 * 128, 128)
        notes = json.loads((out / "seed0003.json").read_text())
        assert snapshot.load(files[system]).sha256 in json.dumps(notes)


@pytest.mark.slow
def test_scores(files, pictures, tmp_path):
    arguments = [f"--network={files['ballgan']}", f"--data={pictures}", "--metrics=kid2_full_lite", "--device=cpu"]
    record = json.loads(run("calc_metrics.py", *arguments, "--batch=2", "--verbose=False").splitlines()[-1])
    assert record["snapshot"]["sha256"] == snapshot.load(files["ballgan"]).sha256
    assert record["protocol"]["raw_resolution"] == 16


def train(source: Path, pictures: Path, outdir: Path, *extra: str) -> tuple[str, snapshot.Snapshot]:
    """What one step of training from a snapshot prints, and the snapshot that it writes."""
    printed = run(
        *("train.py", "--cfg=ffhq", "--device=cpu", f"--outdir={outdir}", f"--data={pictures}", "--gpus=1"),
        *("--batch=2", "--gamma=1", "--gen_pose_cond=True", "--metrics=none", "--kimg=0.002", "--mbstd-group=2"),
        *(f"--resume={source}", *SMALL_NETWORKS, *extra),
    )
    return printed, snapshot.load(snapshot.resolve_resume("latest", outdir))


@pytest.mark.slow
def test_fine_tuning(files, pictures, tmp_path):
    printed, tuned = train(files["ballgan"], pictures, tmp_path, "--model=ballgan", *SMALL_SPHERE)
    assert "Starts from the networks of" in printed
    assert "Not taken" not in printed
    before = snapshot.load(files["ballgan"])
    for name in ("G", "D", "G_ema"):
        was, now = before.weights(name), tuned.weights(name)
        assert was.keys() == now.keys()
        moved = {key for key in was if (now[key] - was[key]).abs().max() > 0.02 and key != "dataset_label_std"}
        assert not moved, f"{name}: {sorted(moved)[:5]} are not those of the published file"
    recipe: Any = tuned.recipe("G_ema")
    assert recipe.scene.axes == "legacy"


@pytest.mark.slow
def test_what_does_not_match_is_listed(files, pictures, tmp_path):
    printed, tuned = train(files["eg3d"], pictures, tmp_path, "--model=ballgan", *SMALL_SPHERE)
    for text in ("scene.decoder.color.weight [32, 64] is missing", "scene.decoder.out.weight [33, 64] is left over"):
        assert f"G_ema: {text}" in printed
    assert "mapping.background.fc0.weight" in printed
    kept = snapshot.load(files["eg3d"]).weights("G")["scene.backbone.b4.const"]
    assert (tuned.weights("G")["scene.backbone.b4.const"] - kept).abs().max() < 0.02
