"""The command line of training: published commands, every option, every wrong input. Nothing trains here."""

from __future__ import annotations

import io
import json
import pickle
import zipfile

import pytest
from PIL import Image

from tests.training_runs import ON_CPU, SMALL_BACKGROUND, SMALL_NETWORKS, make_dataset, run_train
from training.options import OPTIONS
from training.snapshot import save

BASE = ("--cfg=ffhq", "--gpus=1", "--batch=8", "--gamma=1")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Data sets by the size of their pictures."""
    folder = tmp_path_factory.mktemp("data")
    return {size: make_dataset(folder / f"set{size}.zip", 4, size) for size in (32, 64, 128, 512)}


@pytest.fixture
def outdir(tmp_path):
    return tmp_path / "runs"


def plan(*arguments):
    """The configuration that a dry run prints."""
    result = run_train(*arguments, "--dry-run")
    assert result.exit_code == 0, result.output
    text = result.output
    return json.loads(text[text.index("{") : text.rindex("}") + 1])


def refusal(outdir, *arguments):
    """The one line that a wrong call prints."""
    result = run_train(f"--outdir={outdir}", *arguments)
    assert result.exit_code != 0, result.output
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert not outdir.exists()
    lines = [line for line in result.output.splitlines() if line.startswith("Error: ")]
    assert len(lines) == 1
    return lines[0]


PUBLISHED = {
    "ffhq, first stage": (512, "--cfg=ffhq --gpus=8 --batch=32 --gamma=1 --gen_pose_cond=True"),
    "ffhq, second stage": (
        512,
        "--cfg=ffhq --gpus=8 --batch=32 --gamma=1 --gen_pose_cond=True "
        "--resume=~/training-runs/ffhq_experiment_dir/network-snapshot-025000.pkl "
        "--neural_rendering_resolution_final=128",
    ),
    "afhq": (
        512,
        "--cfg=afhq --gpus=8 --batch=32 --gamma=5 --aug=ada --gen_pose_cond=True --gpc_reg_prob=0.8 "
        "--neural_rendering_resolution_final=128 "
        "--resume=~/training-runs/ffhq_experiment_dir/network-snapshot-025000.pkl",
    ),
    "shapenet": (128, "--cfg=shapenet --gpus=8 --batch=32 --gamma=0.3"),
}


@pytest.mark.parametrize("model", ["ballgan", "eg3d"])
@pytest.mark.parametrize("name", PUBLISHED)
def test_published_commands_run_dry(data, outdir, model, name):
    size, command = PUBLISHED[name]
    found = plan("--outdir=~/training-runs", f"--data={data[size]}", f"--model={model}", *command.split())
    assert found["generator"]["img_resolution"] == size
    assert found["loss"]["density"]["strength"] == (0.25 if model == "eg3d" else 0)
    assert not outdir.exists()


def test_a_new_stage_has_its_fades_over(data, outdir):
    arguments = (f"--outdir={outdir}", f"--data={data[512]}", *BASE, "--resume=missing.pkl")
    found = plan(*arguments)
    assert found["augment"]["kimg"] == 100
    assert found["ema"]["ramp_up"] is None
    assert (found["schedule"]["blur_sigma"], found["schedule"]["swap_fade_kimg"]) == (0, 0)
    kept = plan(*arguments, "--resume_blur=True")
    assert (kept["schedule"]["blur_sigma"], kept["schedule"]["swap_fade_kimg"]) == (10, 1000)


@pytest.mark.parametrize("model", ["ballgan", "eg3d"])
def test_every_option_with_its_published_default_changes_nothing(data, outdir, model):
    given = ("outdir", "data", "gpus", "batch", "gamma", "device")
    arguments = (f"--outdir={outdir}", f"--data={data[64]}", *BASE, f"--model={model}")
    defaults = [f"{o.name}={o.default}" for o in OPTIONS if o.default is not None and o.key not in given]
    assert len(defaults) > 50
    assert plan(*arguments, *defaults) == plan(*arguments)


VALUES = [
    ("--mirror=True", "data.mirror", True),
    ("--cond=False", "generator.c_dim", 0),
    ("--aug=fixed", "augment.mode", "fixed"),
    ("--nobench=True", "run.cudnn_benchmark", False),
    ("--metrics=fid2k_full,kid2k_full", "run.metrics", ["fid2k_full", "kid2k_full"]),
    ("--metrics=none", "run.metrics", []),
    ("--blur_fade_kimg=400", "schedule.blur_fade_kimg", 100),
    ("--cbase=1024", "discriminator.trunk.channel_base", 1024),
    ("--cbase=1024", "generator.scene.backbone.channel_base", 1024),
    ("--freezed=3", "discriminator.trunk.freeze_layers", 3),
    ("--g_num_fp16_res=2", "generator.scene.backbone.conv_clamp", 256),
    ("--sr-module=training.superresolution.SuperresolutionHybrid2X", "generator.upsampler.module", "2X"),
    ("--plane-axes=legacy", "generator.scene.axes", "legacy"),
    ("--bg-seamless=False", "generator.background.encoding", "normal"),
    ("--bg_ver=ver0", "generator.background.texture.kind", "plain"),
    ("--sigma_act=relu", "generator.scene.decoder.density_activation", "relu"),
    ("--fg_density_reg_scheduler=True", "loss.fg_density.warm_up", True),
    ("--bg_density_reg_scheduler=True", "loss.bg_transmittance.warm_up", True),
    ("--bg_transmittance_reg_start=500", "loss.bg_transmittance.start", 500),
    ("--reg_type=monotonic-fixed", "loss.density.kind", "monotonic-fixed"),
    ("--neural_rendering_resolution_initial=24", "generator.raw_resolution", 24),
    ("--neural_rendering_resolution_initial=24", "schedule.resolution", 24),
    ("--set=generator.scene.backbone.channel_max=64", "generator.scene.backbone.channel_max", 64),
    ("--set=generator.background=solid", "generator.background.kind", "solid"),
    ("--outdir=~/somewhere", "run.outdir", None),
]


@pytest.mark.parametrize(("option", "path", "value"), VALUES)
def test_options_reach_their_fields(data, outdir, option, path, value):
    found = plan(f"--outdir={outdir}", f"--data={data[64]}", *BASE, option)
    for name in path.split("."):
        found = found[name]
    assert found == value if value is not None else not found.startswith("~")


def test_options_of_the_release_that_do_nothing_say_so(data, outdir):
    result = run_train(f"--outdir={outdir}", f"--data={data[64]}", *BASE, "--c-noise=1", "--sr_first_cutoff=3", "-n")
    assert result.exit_code == 0
    assert "--c-noise has no effect" in result.output
    assert "--sr_first_cutoff has no effect" in result.output


WRONG = [
    (("--batch=9", "--gpus=2"), "--batch=9 is not divisible by --gpus=2"),
    (("--batch=8", "--batch-gpu=3"), "times --batch-gpu=3"),
    (("--batch-gpu=2",), "the batch of one GPU, 2, is smaller than --mbstd-group=4"),
    (("--mbstd-group=3",), "is not divisible by --mbstd-group=3"),
    (("--metrics=fid50k_fulll",), "unknown metric 'fid50k_fulll'"),
    (("--set=generator.scene.plane=3",), "generator.scene has no field 'plane'; it has: "),
    (("--set=generator.scene.axes",), "expected PART.FIELD=VALUE"),
    (("--set=run.kimg=long",), "run.kimg='long': expected a number"),
    (("--cfg=cars",), "Invalid value for '--cfg'"),
    (("--reg_type=l1-alt",), "--reg_type=l1-alt: named by the published code but never implemented"),
    (("--reg_type=total-variation",), "never implemented"),
    (("--bg_ver=ver2",), "--bg_ver=ver2: choose ver0 or ver1"),
    (("--bg_ver=ver0", "--w_bg_dim=64"), "--w_bg_dim=64: "),
    (("--model=eg3d", "--radius=4"), "--radius=4.0: generator.background.radius: "),
    (("--model=eg3d", "--sigma_act=relu"), "--sigma_act=relu: "),
    (("--model=eg3d", "--bg-pairs=True"), "--bg-pairs needs a background with a latent"),
    (("--radius=2.5",), "--radius=2.5: the sphere must contain all cameras, but that of img"),
    (("--desc=a/b",), "no slashes"),
    (("--device=cuda",), "--device=cuda: there is no usable GPU here"),
    (("--set=generator.upsampler=identity",), "without an upsampler the raw resolution is that of the pictures"),
    (("--fg_density_reg=1", "--set=generator.renderer.depth_resolution_importance=0"), "--fg_density_reg looks at"),
    (("--resume=latest",), "--resume=latest: there is no snapshot in the runs of"),
    (("--resume=nothing.pkl",), "nothing.pkl"),
    (("--resume=~",), "there are no snapshots (network-snapshot-*.pkl) in this folder"),
    (("--resume-mode=continue",), "--resume-mode=continue: "),
    (("--set=data.resolution=128",), "128"),
    (("--metrics=fid50k_full",), "the inception network is not part of this package"),
    (("--detector=resnet=file.pt",), "no detector 'resnet'"),
    (("--metrics=kid1_full",), "--metrics: kid1_full: needs at least 2 real and 2 generated pictures"),
    (("--metrics=pr50k9_full_lite",), "--metrics: pr50k9_full_lite: needs more than 9 real and 9 generated pictures"),
    (("--metrics=depth1k_trained",), "--metrics: depth1k_trained: "),
    (("--model=eg3d", "--metrics=fidfg2k_lite"), "--metrics: fidfg2k_lite: the background of this generator has no"),
    (("--keep-best=True",), "--keep-best=True: "),
    (("--set=data.use_labels=false",), "data.use_labels=false"),
]


@pytest.mark.parametrize(("arguments", "message"), WRONG)
def test_wrong_options_have_one_message(data, outdir, arguments, message, monkeypatch):
    monkeypatch.delenv("GAN3D_INCEPTION", raising=False)
    assert message in refusal(outdir, f"--data={data[64]}", *BASE, "--device=cpu", "--metrics=none", *arguments)


@pytest.mark.parametrize("name", ["cfg", "data", "gpus", "batch", "gamma"])
def test_required_options(data, outdir, name):
    arguments = [text for text in (*BASE, f"--data={data[64]}") if not text.startswith(f"--{name}=")]
    assert f"Missing option '--{name}'" in refusal(outdir, *arguments)


def test_an_outdir_that_is_a_file(data, tmp_path):
    outdir = tmp_path / "file"
    outdir.touch()
    result = run_train(f"--outdir={outdir}", f"--data={data[64]}", *BASE, "--device=cpu", "--metrics=none")
    assert result.exit_code == 1
    assert f"Error: {outdir}: File exists" in result.output


def test_wrong_data(outdir, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    short, oblong, mixed = (make_dataset(tmp_path / f"{name}.zip", 4, 32) for name in ("short", "oblong", "mixed"))
    rewrite(short, "dataset.json", json.dumps({"labels": [["img0000.png", [0.0] * 24]]}).encode())
    rewrite(oblong, "img0000.png", png(32, 48))
    rewrite(mixed, "img0002.png", png(64, 64))
    cases = {
        tmp_path / "nowhere.zip": "no such file or folder",
        empty: "no pictures",
        short: "24 numbers",
        oblong: "not square",
        mixed: "img0002.png is 64x64 but 3 others are 32x32",
        make_dataset(tmp_path / "unlabelled.zip", 4, 32, labels=False): "no camera labels",
        make_dataset(tmp_path / "odd.zip", 4, 48): "resolution 48 has no super-resolution",
    }
    for path, message in cases.items():
        assert message in refusal(outdir, f"--data={path}", *BASE, "--device=cpu")


def png(width, height):
    buffer = io.BytesIO()
    Image.new("RGB", (width, height)).save(buffer, "PNG")
    return buffer.getvalue()


def rewrite(path, name, content):
    """Replaces one entry of a zip."""
    with zipfile.ZipFile(path) as archive:
        entries = {entry: archive.read(entry) for entry in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for entry, data in (entries | {name: content}).items():
            archive.writestr(entry, data)


def test_wrong_snapshots(data, outdir, tmp_path):
    (tmp_path / "text.pkl").write_text("no snapshot")
    (tmp_path / "hostile.pkl").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    (tmp_path / "other.pkl").write_bytes(pickle.dumps({"a": 1}))
    for name, message in (("text", "not a usable snapshot"), ("hostile", "os.system"), ("other", "G_ema")):
        path = tmp_path / f"{name}.pkl"
        assert message in refusal(outdir, f"--data={data[64]}", *BASE, "--device=cpu", f"--resume={path}")


def test_a_stage_keeps_what_gives_the_weights_their_meaning(data, outdir, tmp_path):
    from tests.unit.training_parts import networks

    G, D = networks()
    path = tmp_path / "net.pkl"
    save(path, G=G, D=D, G_ema=G, facts={"kimg": 7.5})
    small = (f"--outdir={outdir}", f"--data={data[32]}", *BASE, *ON_CPU, *SMALL_NETWORKS, *SMALL_BACKGROUND)
    assert plan(*small)["generator"]["scene"]["axes"] == "corrected"
    found = plan(*small, f"--resume={path}")
    assert found["start"] == {"kind": "stage", "source": str(path), "images_before": 7500}
    assert found["generator"]["scene"]["axes"] == G.config.scene.axes
    assert plan(*small, f"--resume={path}", "--resume-kimg=2")["start"]["images_before"] == 2000
    legacy = plan(*small, f"--resume={path}", "--plane-axes=legacy", "--bg-seamless=False")["generator"]
    assert (legacy["scene"]["axes"], legacy["background"]["encoding"]) == ("legacy", "normal")
