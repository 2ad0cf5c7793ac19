from __future__ import annotations

import base64
import hashlib
import io
import json
import re
from pathlib import Path
from typing import Any

import mrcfile
import numpy as np
import pytest
import torch
import trimesh
from click.testing import CliRunner, Result
from PIL import Image

import gen_samples
from tests.tiny import generator
from training import snapshot
from training.background import SolidConfig
from training.cameras.paths import strip_cameras
from training.types import RenderSettings

SHAPE = ("--shape-res=24", "--shape-level=2")


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("network") / "network-snapshot-000001.pkl"
    G = generator()
    snapshot.save(path, G=G, D=None, G_ema=G)
    return path


@pytest.fixture(scope="module")
def eg3d(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("network") / "network-snapshot-000002.pkl"
    G = generator(SolidConfig())
    snapshot.save(path, G=G, D=None, G_ema=G)
    return path


def run(network: Path, outdir: Path, *options: str, seeds: str = "0") -> Result:
    arguments = [f"--network={network}", f"--outdir={outdir}", f"--seeds={seeds}", "--device=cpu", *options]
    return CliRunner().invoke(gen_samples.main, arguments)


def files(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def picture(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path))


def test_published_names_and_sizes(network, tmp_path):
    result = run(network, tmp_path, seeds="0,2-3")
    assert result.exit_code == 0, result.output
    names = {
        f"seed{seed:04d}{end}"
        for seed in (0, 2, 3)
        for end in (".png", "_alpha.png", "_fg.png", "_bg.png", "_depth.png", ".json")
    }
    assert set(files(tmp_path)) == names
    assert picture(tmp_path / "seed0000.png").shape == (32, 3 * 32, 3)
    assert picture(tmp_path / "seed0000_alpha.png").shape == (32, 3 * 32, 4)
    assert "of the rays solid" in result.output


def test_the_same_command_gives_the_same_bytes(network, tmp_path):
    options = ("--shapes=.mrc,.ply,.glb,.obj", "--shape-axes=scene", *SHAPE, "--sheet", "--grid")
    first, second = (run(network, tmp_path / name, *options, seeds="0-1") for name in ("a", "b"))
    assert first.exit_code == second.exit_code == 0, first.output
    assert files(tmp_path / "a") == files(tmp_path / "b")


def test_the_scene_is_built_once_a_seed(network, tmp_path, monkeypatch):
    calls = []
    original = gen_samples.load_snapshot

    def counting(*arguments):
        network, file = original(*arguments)
        network.scene.backbone.register_forward_hook(lambda *_: calls.append(1))
        return network, file

    monkeypatch.setattr(gen_samples, "load_snapshot", counting)
    result = run(network, tmp_path, "--view=8", "--shapes=.mrc,.ply", *SHAPE, "--sheet", seeds="0-1")
    assert result.exit_code == 0, result.output
    assert len(calls) == 2


def test_views_of_a_scene_alone_are_the_published_ones(eg3d, tmp_path):
    """The composed strip: yaw 0.4, 0, -0.4, pitch -0.2, told the frontal pose, no truncation."""
    assert run(eg3d, tmp_path, seeds="5").exit_code == 0
    G = snapshot.load(eg3d)["G_ema"]
    z = torch.from_numpy(np.random.RandomState(5).randn(1, G.z_dim)).float()
    label = strip_cameras(G.config.view, 1, 0.0).to_label()
    cameras = strip_cameras(G.config.view, 3, 0.4)
    latents = G.mapping(z, label)
    settings = RenderSettings(G.raw_resolution, jitter="center")
    images = G.synthesis(
        latents.expand(3), cameras, settings, noise_mode="const", field=G.field(latents).expand(3)
    ).image
    expected = (images * 127.5 + 128).clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).numpy()
    found = picture(tmp_path / "seed0005.png").reshape(32, 3, 32, 3).transpose(1, 0, 2, 3)
    assert np.abs(found.astype(int) - expected).max() <= 1
    assert set(files(tmp_path)) == {"seed0005.png", "seed0005_alpha.png", "seed0005_depth.png", "seed0005.json"}


def test_surroundings_of_another_seed(network, tmp_path):
    assert run(network, tmp_path, seeds="0").exit_code == 0
    assert run(network, tmp_path, "--bg-seeds=7", seeds="0").exit_code == 0
    assert (picture(tmp_path / "seed0000_fg.png") == picture(tmp_path / "seed0000-on0007_fg.png")).all()
    assert (picture(tmp_path / "seed0000_bg.png") != picture(tmp_path / "seed0000-on0007_bg.png")).any()


def test_field_of_view_is_a_real_number(network, tmp_path):
    for name, degrees in (("a", "18.837"), ("b", "18"), ("c", None)):
        assert run(network, tmp_path / name, *([f"--fov-deg={degrees}"] if degrees else [])).exit_code == 0
    pictures = [picture(tmp_path / name / "seed0000.png") for name in "abc"]
    assert (pictures[0] == pictures[2]).all()
    assert (pictures[0] != pictures[1]).any()


def test_the_record_says_what_made_the_files(network, tmp_path):
    assert run(network, tmp_path, "--trunc=0.5", "--shapes=.ply", *SHAPE).exit_code == 0
    record = json.loads((tmp_path / "seed0000.json").read_text())
    assert record["network_sha256"] == hashlib.sha256(network.read_bytes()).hexdigest()
    assert record["seed"] == record["background_seed"] == 0
    assert record["truncation"] == {"psi": 0.5, "cutoff": 14, "background_psi": None}
    assert np.shape(record["cameras"]) == (3, 25)
    assert record["files"][".ply"] == "seed0000.ply"
    assert 0 <= record["separation"]["opacity"] <= 1


def test_shapes(network, tmp_path):
    result = run(network, tmp_path, "--shapes", *SHAPE)
    assert result.exit_code == 0, result.output
    assert mrcfile.validate(tmp_path / "seed0000.mrc")
    assert run(network, tmp_path, "--shapes=True", "--shape-format=.ply", *SHAPE).exit_code == 0
    assert run(network, tmp_path, "--shapes=glb,obj", *SHAPE).exit_code == 0
    sizes = [len(trimesh.load_mesh(tmp_path / f"seed0000{suffix}").faces) for suffix in (".ply", ".glb", ".obj")]
    assert len(set(sizes)) == 1


@pytest.mark.parametrize(("layer", "kind"), [("image", "jpeg"), ("alpha", "png")])
def test_page_of_seeds_and_views(network, tmp_path, layer, kind):
    result = run(network, tmp_path, "--page", "--view=4", "--yaw=0.3,-0.3", f"--layers={layer}", seeds="0-2")
    assert result.exit_code == 0, result.output
    page = (tmp_path / "page.html").read_text()
    assert re.findall(r"<tr><th>(\w+)", page) == ["seed", "seed0000", "seed0001", "seed0002"]
    assert re.findall(r"<th>([+-]\d+)° \+7°", page) == ["+17", "+6", "-6", "-17"]
    assert not re.search(r"(src|href)=\"(?!data:)", page)
    cells = re.findall(f'src="data:image/{kind};base64,([^"]+)"', page)
    assert len(cells) == 3 * 4
    shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(cells[5]))))
    strip = picture(tmp_path / ("seed0001.png" if layer == "image" else "seed0001_alpha.png"))[:, 32:64]
    assert np.abs(shown.astype(int) - strip).mean() < 6


def test_textures_of_shapes(network, tmp_path):
    options = ("--shapes=.glb,.obj,.ply", "--shape-texture=128", "--shape-faces=300", *SHAPE)
    assert run(network, tmp_path, *options).exit_code == 0
    loaded: Any = trimesh.load_mesh(tmp_path / "seed0000.glb")
    assert loaded.visual.material.baseColorTexture.size == (128, 128)
    assert picture(tmp_path / "seed0000_texture.png").shape == (128, 128, 3)
    assert json.loads((tmp_path / "seed0000.json").read_text())["shape"]["texture"] == 128


def test_shapes_without_surface_are_named(network, tmp_path):
    result = run(network, tmp_path, "--shapes=.ply", "--shape-res=16", "--shape-level=100000")
    assert result.exit_code == 1
    assert "level 100000 gives no surface: the densities lie between" in result.output
    assert "no surface for seed0000.ply" in result.output
    assert (tmp_path / "seed0000.png").exists()


def test_layers_sweeps_mixtures_and_backdrops(network, tmp_path):
    layers = "image,alpha,fg,bg,hole,raw,depth,opacity,normals"
    backdrop = tmp_path / "backdrop.png"
    Image.new("RGB", (50, 40), "green").save(backdrop)
    extras = (
        "--trunc-sweep=0,0.5,1",
        "--mix-seeds=3,4",
        "--mix-rows=2-4",
        "--bg-angles=0.3,0",
        f"--backdrop={backdrop}",
    )
    result = run(network, tmp_path, f"--layers={layers}", "--view=2", *extras)
    assert result.exit_code == 0, result.output
    assert picture(tmp_path / "seed0000_trunc.png").shape == (3 * 32, 2 * 32, 3)
    assert picture(tmp_path / "seed0000_mix.png").shape == (2 * 32, 2 * 32, 3)
    assert picture(tmp_path / "seed0000_over.png").shape == (32, 2 * 32, 3)
    assert picture(tmp_path / "seed0000_raw.png").shape == (16, 2 * 16, 3)


def test_cameras_of_a_file(network, tmp_path):
    labels = strip_cameras(snapshot.load(network)["G_ema"].config.view, 4).to_label().tolist()
    cameras = tmp_path / "dataset.json"
    cameras.write_text(json.dumps({"labels": [[f"{index}.png", label] for index, label in enumerate(labels)]}))
    assert run(network, tmp_path / "out", f"--cameras={cameras}", "--view=4").exit_code == 0
    assert picture(tmp_path / "out" / "seed0000.png").shape == (32, 4 * 32, 3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--seeds=a",), "no list of numbers such as 0,1,4-6"),
        (("--seeds=6-4",), "runs backwards"),
        (("--layers=pictures",), "none of image, alpha"),
        (("--shapes=.stl",), "none of .mrc, .ply, .obj, .glb"),
        (("--class=3",), "--seeds"),
        (("--bg_ver=ver1",), "the snapshot knows its own background"),
        (("--backdrop=nothing.png",), "neither a colour nor a picture file"),
        (("--mix-seeds=1", "--mix-rows=99"), "style rows 0 to"),
        (("--bg-angles=1",), "expected 2 numbers"),
        (("--fov-deg=180",), "not in the range 0<x<180"),
        (("--sample-mult=0",), "not in the range x>0"),
        (("--trunc-cutoff=-1",), "not in the range x>=0"),
        (("--outdir=/proc/none",), "Error: /proc/none: No such file or directory"),
    ],
)
def test_wrong_options_are_refused(network, tmp_path, options, message):
    result = run(network, tmp_path / "out", *options)
    assert result.exit_code != 0
    assert message in result.output.replace("\n", " ")


def test_wrong_networks_are_refused(tmp_path):
    text = tmp_path / "text.pkl"
    text.write_text("no network")
    cases = {
        tmp_path / "missing.pkl": "no such file",
        text: "not a usable snapshot",
        tmp_path: "there are no snapshots",
    }
    for path, message in cases.items():
        result = run(path, tmp_path / "out")
        assert result.exit_code == 1
        assert path.name in result.output
        assert message in result.output
    assert not (tmp_path / "out").exists()


def test_wrong_camera_files_are_refused(network, tmp_path):
    cameras = tmp_path / "cameras.json"
    for content, message in (
        ("[", "cameras.json"),
        ("{}", "expected a list"),
        ("[[1, 2, 3]]", "entry 0 is no label"),
        ("\xe9", "no JSON file"),
    ):
        cameras.write_text(content, encoding="latin-1")
        result = run(network, tmp_path / "out", f"--cameras={cameras}")
        assert result.exit_code == 1
        assert message in result.output
