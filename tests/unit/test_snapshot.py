"""Snapshots: written whole, read safely, the same by `pickle.load`; training states; the last snapshot of a run."""

from __future__ import annotations

import http.server
import pickle
import resource
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

from dnnlib.files import CACHE_VARIABLE, sha256_of
from tests.unit import training_parts as tiny
from training import snapshot
from training.augment import AugmentConfig, AugmentPipe
from training.snapshot_commands import commands
from training.types import RenderSettings
from training.unpickle import SnapshotError

FACTS = {"kimg": 3.5, "system": "ballgan", "run": {"batch": 4, "resumed": None}}
TRAINING_SET = {"path": "data.zip", "resolution": 32}


@pytest.fixture
def file(tmp_path) -> Path:
    G, D = tiny.networks()
    G_ema, _ = tiny.networks(1)
    pipe = AugmentPipe(AugmentConfig(mode="fixed", p=0.25))
    path = tmp_path / "network-snapshot-000003.pkl"
    snapshot.save(path, G=G, D=D, G_ema=G_ema, augment_pipe=pipe, training_set_kwargs=TRAINING_SET, facts=FACTS)
    return path


class Stored:
    """A network as our files hold it, right or wrong."""

    def __init__(self, tag, config, state):
        self.call = snapshot.rebuild_network, (tag, config, state)

    def __reduce__(self):
        return self.call


def picture(G: Any) -> torch.Tensor:
    z = torch.randn(1, G.z_dim, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        return G(z, tiny.camera_labels(1), settings=RenderSettings(8, jitter="center"), noise_mode="const").image


def test_what_is_saved_is_loaded(file):
    networks = dict(zip(("G", "D"), tiny.networks(), strict=True)) | {"G_ema": tiny.networks(1)[0]}
    loaded = snapshot.load(str(file))
    unpickled = pickle.loads(file.read_bytes())
    assert list(loaded) == list(unpickled) == ["G", "D", "G_ema", "augment_pipe", "training_set_kwargs", "facts"]
    assert len(loaded) == 6
    for source in (loaded, unpickled):
        assert source["facts"] == FACTS
        assert source["training_set_kwargs"] == TRAINING_SET
        assert float(source["augment_pipe"].p) == 0.25
        for name, network in networks.items():
            read = source[name]
            assert not read.training
            assert not any(parameter.requires_grad for parameter in read.parameters())
            assert read.config == network.config
            assert all(torch.equal(read.state_dict()[key], tensor) for key, tensor in network.state_dict().items())
        assert torch.equal(picture(source["G_ema"]), picture(networks["G_ema"].eval()))
    assert loaded["G"] is loaded["G"]
    assert not loaded.is_official
    assert loaded.sha256 == sha256_of(file)


def test_networks_are_built_when_asked_for(file, monkeypatch):
    built = []
    build_with = snapshot.build_with

    def counted(recipe, *rest):
        built.append(recipe)
        return build_with(recipe, *rest)

    monkeypatch.setattr(snapshot, "build_with", counted)
    loaded = snapshot.load(file)
    recipe: Any = loaded.recipe("G_ema")
    assert recipe.z_dim == 12
    assert loaded.weights("D")["trunk.b32.conv0.bias"].shape == (4,)
    assert not built
    loaded["G_ema"]
    assert len(built) == 1


def test_saving_leaves_the_networks_as_they_are(tmp_path):
    G, D = tiny.networks()
    snapshot.save(tmp_path / "net.pkl", G=G, D=D, G_ema=G)
    assert G.training
    assert all(parameter.requires_grad for parameter in G.parameters())
    loaded = snapshot.load(tmp_path / "net.pkl")
    assert loaded["augment_pipe"] is None
    assert loaded["training_set_kwargs"] is None
    assert loaded["facts"] == {}
    assert loaded.stored == ["G", "D", "G_ema"]


def test_the_same_networks_give_the_same_bytes(file, tmp_path):
    G, D = tiny.networks()
    for name in ("a.pkl", "b.pkl"):
        snapshot.save(tmp_path / name, G=G, D=D, G_ema=G, facts=FACTS)
    assert (tmp_path / "a.pkl").read_bytes() == (tmp_path / "b.pkl").read_bytes()


def test_a_failed_save_leaves_the_old_file(file, monkeypatch):
    before = file.read_bytes()
    G, D = tiny.networks()
    monkeypatch.setattr(snapshot, "plain_tensor", lambda tensor: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        snapshot.save(file, G=G, D=D, G_ema=G)
    assert file.read_bytes() == before
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_only_plain_values_are_saved(tmp_path):
    G, D = tiny.networks()
    with pytest.raises(TypeError, match=r"snapshot\.facts\.run\[1\] is a PosixPath; only plain values"):
        snapshot.save(tmp_path / "net.pkl", G=G, D=D, G_ema=G, facts={"run": [1, Path("x")]})
    with pytest.raises(TypeError, match=r"training state\.x has a key \(1, 2\)"):
        snapshot.save_training_state(tmp_path / "state.pt", {"x": {(1, 2): 3}})
    assert not list(tmp_path.iterdir())


def test_unknown_names(file):
    with pytest.raises(KeyError, match="'G_emma'; a snapshot has G, D, G_ema"):
        snapshot.load(file)["G_emma"]
    assert "G_emma" not in snapshot.load(file)


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        ([1, 2], "it holds no network named G_ema"),
        ({"a": 1}, "it holds no network named G_ema"),
        ({"G_ema": {"weights": [1]}}, "it holds no network named G_ema"),
        ({"G_ema": None}, "it holds no network named G_ema"),
        ({"facts": [1]}, "its facts is a list"),
        ({"training_set_kwargs": "data.zip"}, "its training_set_kwargs is a str"),
        ({"facts": {"kimg": "7"}}, "its kimg is no number"),
        ({"D": {"weights": 1}}, "its D is a dict"),
    ],
)
def test_files_without_networks(contents, message, tmp_path):
    path = tmp_path / "net.pkl"
    if isinstance(contents, dict) and "G_ema" not in contents and "a" not in contents:
        contents = {"G_ema": Stored("generator", {}, {})} | contents
    path.write_bytes(pickle.dumps(contents))
    with pytest.raises(SnapshotError, match=rf"net\.pkl: not a usable snapshot: {message}"):
        snapshot.load(path)


def test_a_network_in_the_place_of_another(tmp_path):
    D = tiny.networks()[1]
    snapshot.save(tmp_path / "net.pkl", G=D, D=D, G_ema=D)
    with pytest.raises(SnapshotError, match="G_ema: it is a network of another kind"):
        snapshot.load(tmp_path / "net.pkl")["G_ema"]


def stored(tag: str = "generator", config: Any = None, **tensors: Any) -> bytes:
    G = tiny.networks()[0]
    _, values = snapshot.to_stored(G.config)
    state = {name: snapshot.plain_tensor(tensor) for name, tensor in G.state_dict().items()} | tensors
    return pickle.dumps({"G_ema": Stored(tag, values if config is None else config, state)})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tag": "scene"}, "G_ema: it holds a 'scene'"),
        ({"config": {}}, "G_ema: its weights do not fit its configuration"),
        ({"config": [1]}, "G_ema: its generator has a configuration that does not fit"),
        ({"extra": ("float32", (1,), b"1234")}, r"G_ema: .*: extra \[1\] is left over"),
        ({"extra": ("complex64", (1,), b"12345678")}, "a tensor that is not given by type, shape and bytes"),
        ({"extra": ("float32", (3,), b"1234")}, r"a tensor of 4 bytes cannot have the shape \[3\] in float32"),
        ({"extra": ("float32", (-1,), b"1234")}, "cannot have the shape"),
        ({"extra": ("float32", (2**50,), b"1234")}, "cannot have the shape"),
        ({"extra": ("float32", [1], b"1234")}, "not given by type, shape and bytes"),
        ({"extra": 7}, "makes no sense"),
    ],
)
def test_stored_networks_are_checked(changes, message, tmp_path):
    path = tmp_path / "net.pkl"
    path.write_bytes(stored(**changes))
    with pytest.raises(SnapshotError, match=message):
        snapshot.load(path)["G_ema"]


def test_one_byte_string_for_many_tensors_costs_no_more_than_the_file(tmp_path):
    data = bytes(2**20)
    state = {f"part{i}": ("uint8", (2**20,), data) for i in range(100)}
    path = tmp_path / "net.pkl"
    path.write_bytes(pickle.dumps({"G_ema": Stored("generator", {}, state)}))
    with pytest.raises(SnapshotError, match="far more memory than the file"):
        snapshot.load(path)


def test_addresses(file, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=str(file.parent))

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/{file.name}"
        first = snapshot.load(address)
        server.shutdown()
    assert sha256_of(file) in capsys.readouterr().out
    assert snapshot.load(address).path == first.path
    assert first["G_ema"].z_dim == 22


def test_training_state(tmp_path):
    G, _ = tiny.networks()
    optimizer = torch.optim.Adam(G.parameters(), lr=0.002, betas=(0.0, 0.99))
    torch.cat([parameter.flatten() for parameter in G.parameters()]).sum().backward()
    optimizer.step()
    state: dict[str, Any] = {
        "optimizers": {"G": optimizer.state_dict()},
        "random": [torch.get_rng_state()],
        "counters": {"images": 2**40, "tick": 7},
        "ada": {"p": 0.125, "signs": torch.tensor([3.0, 4.0], dtype=torch.float64)},
        "name": "run",
        "nothing": None,
        "pair": (1, 2.5),
        "bytes": b"\x00\xff",
    }
    path = tmp_path / "training-state-000003.pt"
    snapshot.save_training_state(path, state)
    loaded = snapshot.load_training_state(path)
    optimizer.load_state_dict(loaded["optimizers"]["G"])
    for name in ("counters", "name", "nothing", "pair", "bytes"):
        assert loaded[name] == state[name]
    assert torch.equal(loaded["random"][0], state["random"][0])
    before, after = state["optimizers"]["G"]["state"], loaded["optimizers"]["G"]["state"]
    assert all(torch.equal(before[i]["exp_avg"], after[i]["exp_avg"]) for i in before)
    torch.load(path, weights_only=True)
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_a_training_state_on_a_full_disk_is_an_error_of_the_disk(tmp_path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        with pytest.raises(OSError, match=r"File too large: .*state\.pt"):
            snapshot.save_training_state(tmp_path / "state.pt", {"x": torch.zeros(10_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(tmp_path.iterdir()) == []


def test_training_states_that_are_none(tmp_path):
    path = tmp_path / "state.pt"
    torch.save([1], path)
    with pytest.raises(SnapshotError, match="not a usable training state: it holds a list"):
        snapshot.load_training_state(path)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(SnapshotError, match=r"state\.pt: not a usable snapshot: its zip structure"):
        snapshot.load_training_state(path)


def test_folder_of_a_run_stands_for_its_last_snapshot(file):
    (file.parent / "network-snapshot-000001.pkl").write_text("older")
    (file.parent / "training-state-000009.pt").write_text("no snapshot")
    assert [path.name[17:23] for path in snapshot.snapshots_in(file.parent)] == ["000001", "000003"]
    assert snapshot.load(file.parent).path == file


def test_names():
    assert snapshot.snapshot_name(12) == "network-snapshot-000012.pkl"
    assert snapshot.training_state_path("runs/network-snapshot-000012.pkl") == Path("runs/training-state-000012.pt")
    assert snapshot.training_state_path("ffhq512-128.pkl") == Path("training-state-ffhq512-128.pt")


def test_resume_latest(tmp_path):
    for name in ("00000-a/network-snapshot-000100.pkl", "00002-b/network-snapshot-000009.pkl"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    (tmp_path / "00002-b" / "network-snapshot-000010.pkl").touch()
    (tmp_path / "00002-b" / "network-snapshot-best.pkl").touch()
    (tmp_path / "00003-c").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "network-snapshot-999999.pkl").touch()
    expected = str(tmp_path / "00002-b" / "network-snapshot-000010.pkl")
    assert snapshot.resolve_resume("latest", tmp_path) == expected
    assert snapshot.resolve_resume("https://example.com/net.pkl", tmp_path) == "https://example.com/net.pkl"
    assert snapshot.resolve_resume(str(tmp_path / "00002-b"), "elsewhere") == expected
    with pytest.raises(SnapshotError, match=r"00003-c: there are no snapshots \(network-snapshot-\*\.pkl\)"):
        snapshot.resolve_resume(str(tmp_path / "00003-c"), tmp_path)
    with pytest.raises(SnapshotError, match="--resume=latest: there is no snapshot in the runs of"):
        snapshot.resolve_resume("latest", tmp_path / "00003-c")


def test_inspect_shows_the_run(file):
    result = CliRunner().invoke(commands, ["inspect", str(file)])
    assert result.exit_code == 0, result.output
    for text in (
        "this project",
        "kimg           3.5",
        "ballgan",
        "corrected",
        "picture 32, rendered 8",
        sha256_of(file),
    ):
        assert text in result.output
    assert (
        CliRunner().invoke(commands, ["inspect", "nothing.pkl"]).output == "Error: nothing.pkl: there is no such file\n"
    )


def test_convert_says_what_the_published_code_does_otherwise(file, tmp_path):
    def output(network: str) -> str:
        arguments = ["convert", str(file), str(tmp_path / "out.npz"), f"--network={network}"]
        result = CliRunner().invoke(commands, arguments)
        assert result.exit_code == 0, result.output
        return result.output

    assert "Note" not in output("D")
    for text in ("three different pairs of axes", "no seam", "no pictures of this size"):
        assert text in output("G_ema")
