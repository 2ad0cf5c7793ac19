"""The metrics command end to end on a small generator with random weights."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import calc_metrics
from metrics import registry, results
from metrics.names import match
from tests import tiny
from tests.unit.metrics.fakes import write_dataset, write_detector
from training import snapshot
from training.dataset import DataConfig

pytestmark = pytest.mark.usefixtures("own_cache")
ALL = (
    "fid20_full,fid16,kid20_full,pr20_3_full,is20,ppl2_wend_6,eqt6_int,eqt6_frac,eqr6,fid3d12_full,fidfg12_full,id8,"
    "depth6,mask6,pose6,reprojection4,nfs4,separation8,tightness8,mesh2"
)


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GAN3D_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("GAN3D_INCEPTION", raising=False)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_dataset(tmp_path / "data")


@pytest.fixture
def run_folder(tmp_path: Path, data: Path) -> Path:
    folder = tmp_path / "00000-run"
    folder.mkdir()
    (folder / "training_options.json").write_text("{}")
    for kimg, seed in ((1, 0), (2, 1)):
        G = tiny.generator(seed=seed)
        path = folder / snapshot.snapshot_name(kimg)
        snapshot.save(path, G=G, D=None, G_ema=G, training_set_kwargs={"path": str(data)})
    return folder


@pytest.fixture
def inception(tmp_path: Path) -> str:
    return f"--detector=inception={write_detector(tmp_path / 'inception.pt')}"


def run(*words: object, fails: bool = False) -> Result:
    result = CliRunner().invoke(calc_metrics.main, [str(word) for word in words] + ["--device=cpu"])
    assert (result.exit_code != 0) == fails, result.output
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result


def records(result: Result) -> dict[str, float]:
    lines = [json.loads(line) for line in result.stdout.splitlines() if line.startswith("{")]
    return {name: value for line in lines for name, value in line["results"].items()}


def test_lines_go_beside_the_snapshot_and_equal_those_of_training(run_folder: Path, data: Path, inception: str) -> None:
    network = run_folder / "network-snapshot-000001.pkl"
    printed = records(run(f"--network={network}", "--metrics=fid20_full,kid20_full", inception))
    (line,) = results.read(run_folder, "fid20_full")
    assert line["results"]["fid20_full"] == printed["fid20_full"]
    assert line["snapshot_pkl"] == network.name
    assert line["protocol"]["data"]["name"] == "data"
    source = {"inception": inception.partition("inception=")[2]}
    in_training = registry.compute(
        ["fid20_full", "kid20_full"],
        tiny.generator(seed=0),
        DataConfig(path=str(data)),
        detectors=source,
        progress=False,
    )
    assert {name: value for r in in_training for name, value in r["results"].items()} == pytest.approx(
        printed, rel=1e-9
    )


def test_two_processes_agree_with_one(run_folder: Path, inception: str, tmp_path: Path, capfd) -> None:
    words = (f"--network={run_folder}", "--metrics=fid40_full,kid40_full,separation40,reprojection6", inception)
    one = records(run(*words))
    shutil.rmtree(tmp_path / "cache")
    run(*words, "--gpus=2")
    two: dict[str, float] = {}
    for name in ("fid40_full", "kid40_full", "separation40", "reprojection6"):
        line = results.read(run_folder, name)[-1]
        assert line["num_gpus"] == 2
        two |= line["results"]
    assert two == pytest.approx(one, rel=1e-6)


@pytest.mark.slow
def test_every_metric_runs_on_a_generator(run_folder: Path, tmp_path: Path) -> None:
    import torch

    class Plug(torch.nn.Module):
        def __init__(self, kind: str):
            super().__init__()
            self.kind = kind

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            x = images.float() / 255
            if self.kind == "pose":
                return torch.eye(3).expand(images.size(0), 3, 3)
            if self.kind == "embedder":
                return x.mean(dim=[2, 3])
            return x.mean(dim=1, keepdim=True) + (0.1 if self.kind == "depth" else 0.0)

    sources = [f"--detector={n}={write_detector(tmp_path / n)}" for n in ("inception", "vgg16")]
    for kind in ("depth", "pose", "mask", "embedder"):
        torch.jit.script(Plug(kind)).save(str(tmp_path / f"{kind}.pt"))
        sources.append(f"--detector={kind}={tmp_path / kind}.pt")
    found = records(run(f"--network={run_folder}", f"--metrics={ALL}", *sources, "--verbose=False"))
    for name in ALL.split(","):
        assert any(key.startswith(name) for key in found), name
    tested = {
        family.name
        for family in registry.FAMILIES
        for name in ALL.split(",")
        if match(name, family.name, family.pattern, 1)
    }
    assert {family.name for family in registry.FAMILIES} - tested == {"modes"}


def test_every_snapshot_table_plot_best_and_comparison(run_folder: Path, inception: str, tmp_path: Path) -> None:
    words = (f"--network={run_folder}", "--metrics=kid24_full", inception)
    plot = tmp_path / "kid.svg"
    result = run(*words, "--every", "--bootstrap=30", "--compare", f"--plot={plot}")
    assert "better:" in result.stdout
    for kimg in (1, 2):
        assert f"network-snapshot-{kimg:06d}.pkl" in result.stderr
    assert plot.read_text().count("<circle") == 2
    lines = {line["snapshot_pkl"]: line["results"]["kid24_full"] for line in results.read(run_folder, "kid24_full")}
    best = run(f"--network={run_folder}", "--metrics=kid24_full", "--best")
    assert min(lines, key=lambda name: lines[name]) in best.stdout
    assert run(f"--network={run_folder}", "--metrics=fid24_full", "--best", fails=True).output.count("\n") <= 2


def test_a_snapshot_outside_of_a_run_is_only_printed(run_folder: Path, inception: str, tmp_path: Path) -> None:
    alone = tmp_path / "alone.pkl"
    shutil.copy(run_folder / "network-snapshot-000001.pkl", alone)
    assert records(run(f"--network={alone}", "--metrics=fid12_full", inception))
    assert not list(tmp_path.glob("*.jsonl"))
    refused = run(f"--network={alone}", "--metrics=separation4", f"--plot={tmp_path / 'a.svg'}", fails=True)
    assert "--plot: none of these snapshots lies in the folder of a run" in refused.output


def test_a_snapshot_whose_data_set_is_elsewhere_asks_for_it(run_folder: Path, data: Path) -> None:
    data.rename(data.with_name("moved"))
    network = f"--network={run_folder / 'network-snapshot-000001.pkl'}"
    assert (
        f"was trained on {data}, which is not there; give the data set with --data"
        in run(network, "--metrics=separation4", fails=True).stderr
    )
    assert records(run(network, "--metrics=separation4", f"--data={data.with_name('moved')}"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--metrics=fod50k"], "unknown metric 'fod50k'"),
        (["--metrics=fid20_full"], "--detector inception="),
        (["--metrics=fid20_full", "--detector=resnet=a.pt"], "no detector 'resnet'"),
        (["--metrics=separation4", "--data=/nowhere.zip"], "no such file"),
        (["--metrics=depth4_trained"], "no ground truth beside it to learn depth from"),
        (["--metrics=separation4", "--compare"], "two different snapshots"),
        (["--metrics="], "--metrics=: name at least one metric"),
        (["--metrics=none"], "--metrics=none: name at least one metric"),
        (["--metrics=scorecard", "--best"], "--metrics=scorecard: name at least one metric"),
    ],
)
def test_wrong_input_is_one_message(run_folder: Path, words: list[str], message: str) -> None:
    result = run(f"--network={run_folder / 'network-snapshot-000001.pkl'}", *words, fails=True)
    error = [line for line in result.stderr.splitlines() if line.startswith("Error")]
    assert len(error) == 1
    assert message in error[0]


@pytest.mark.parametrize("gpus", ["--gpus=1", pytest.param("--gpus=2", marks=pytest.mark.slow)])
def test_others_are_scored_beside_a_snapshot_that_cannot_be(run_folder: Path, inception: str, gpus: str, capfd) -> None:
    broken = tiny.generator()
    for parameter in broken.parameters():
        parameter.fill_(float("nan"))
    data = snapshot.load(run_folder / "network-snapshot-000001.pkl")["training_set_kwargs"]
    path = run_folder / snapshot.snapshot_name(0)
    snapshot.save(path, G=broken, D=None, G_ema=broken, training_set_kwargs=data)
    result = run(f"--network={run_folder}", "--metrics=kid6_full", inception, "--every", gpus, fails=True)
    printed = result.stderr + capfd.readouterr().err
    assert f"Error: {path.name}: kid6_full failed: the generator makes pictures that are not finite" in printed
    assert "Traceback" not in printed
    found = results.read(run_folder, "kid6_full")
    assert [line["snapshot_pkl"] for line in found] == ["network-snapshot-000001.pkl", "network-snapshot-000002.pkl"]
    (first, *_) = (run_folder / "metric-kid6_full.jsonl").read_text().splitlines()
    assert "not finite" in json.loads(first)["error"]


def test_several_processes_refuse_in_one_sentence(run_folder: Path, capfd) -> None:
    result = run(f"--network={run_folder}", "--metrics=depth4_trained", "--gpus=2", fails=True)
    assert "no ground truth" in result.output
    assert "Traceback" not in result.output + capfd.readouterr().err


def test_wrong_networks_are_one_message(tmp_path: Path, data: Path, run_folder: Path) -> None:
    other = write_dataset(tmp_path / "large", size=64)
    cases = {
        f"--network={tmp_path / 'absent.pkl'}": "no such file",
        f"--network={data}": "no snapshots",
        f"--network={data / '000.png'}": "",
    }
    for word, message in cases.items():
        assert message in run(word, "--metrics=separation4", fails=True).stderr
    result = run(f"--network={run_folder}", "--metrics=separation4", f"--data={other}", fails=True)
    assert "32x32 but the data set" in result.stderr
