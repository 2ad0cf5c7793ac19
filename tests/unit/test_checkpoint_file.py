"""Files of networks: tensors come back, hostile and damaged files get one sentence and cost little."""

from __future__ import annotations

import collections
import io
import pickle
import random
import zipfile

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.official_files import GlobalName, Module, PythonPickler, module_tree, official_bytes
from training.checkpoint_file import read, read_bytes
from training.unpickle import Record, SnapshotError

DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.uint8, torch.bool)


def saved(value) -> bytes:
    file = io.BytesIO()
    torch.save(value, file)
    return file.getvalue()


def load(data: bytes):
    return read_bytes(memoryview(data))


def same(a, b) -> bool:
    if isinstance(a, Tensor):
        return isinstance(b, Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return a == b


@pytest.mark.parametrize("write", [saved, lambda value: pickle.dumps(value, 2), lambda value: pickle.dumps(value, 4)])
def test_tensors_come_back(write):
    base = torch.randn(6, 4)
    value: dict = {
        **{str(dtype): torch.randn(3, 2).to(dtype) for dtype in DTYPES},
        "scalar": torch.tensor(7.0),
        "empty": torch.empty(0, 3),
        "transposed": base.t(),
        "part": base[1:3, ::2],
        "expanded": torch.zeros(1).expand(4, 5),
        "parameter": torch.nn.Parameter(torch.ones(2)),
        "ordered": collections.OrderedDict(a=torch.arange(3)),
        "set": {"x"},
        "size": torch.ones(2, 3).shape,
        "numbers": [1, -2, 3.5, True, None, "text"],
    }
    expected = value | {"parameter": value["parameter"].data, "size": (2, 3)}
    assert same(load(write(value)), expected)


def test_shared_storages_stay_small():
    base = torch.randn(1000)
    loaded = load(saved([base[:10], base[10:20]]))
    assert loaded[0].untyped_storage().data_ptr() == loaded[1].untyped_storage().data_ptr()


@pytest.mark.parametrize("write", [saved, lambda value: pickle.dumps(value, 2), lambda value: pickle.dumps(value, 5)])
@pytest.mark.parametrize("number", [np.float64(2.5), np.float32(0.5), np.int64(-3), np.bool_(True), np.uint8(200)])
def test_numpy_numbers_become_plain(write, number):
    assert load(write({"number": number})) == {"number": number.item()}


def test_state_dict_with_metadata():
    state = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3)).state_dict()
    assert same(load(saved(state)), dict(state))


def test_optimizer_state():
    layer = torch.nn.Linear(2, 2)
    optimizer = torch.optim.Adam(layer.parameters(), betas=(0.0, 0.99))
    layer(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    state = optimizer.state_dict()
    assert same(load(saved(state)), state)


def test_published_objects_become_records(tmp_path):
    by_reference = Module("OSGDecoder", parameters={"w": torch.ones(2)}, reference="training.triplane")
    network = module_tree("TriPlaneGenerator", {"z_dim": 4}, {"a.b.weight": torch.nn.Parameter(torch.ones(3))})
    network.parts["decoder"] = by_reference
    network.attributes["options"] = GlobalEasyDict({"x": 1})
    path = tmp_path / "net.pkl"
    path.write_bytes(official_bytes({"G_ema": network}))
    record = read(path)["G_ema"]
    assert record.class_name == "TriPlaneGenerator"
    assert record.state["_init_kwargs"] == {"z_dim": 4}
    assert record.state["options"] == {"x": 1}
    assert torch.equal(
        record.state["_modules"]["a"].state["_modules"]["b"].state["_parameters"]["weight"], torch.ones(3)
    )
    assert record.state["_modules"]["decoder"].class_name == "OSGDecoder"
    assert "module_src" not in record.state


class GlobalEasyDict(dict):
    """A dictionary of the class that published options are of."""

    def __reduce__(self):
        return GlobalName("dnnlib.util", "EasyDict"), (), None, None, iter(self.items())


FORBIDDEN = [
    ("os", "system"),
    ("builtins", "eval"),
    ("torch", "load"),
    ("numpy", "load"),
    ("torch.serialization", "os.system"),
    ("functools", "partial"),
    ("training.snapshot", "save"),
    ("training.loop", "<lambda>"),
]


class Call:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize(("module", "name"), FORBIDDEN)
def test_forbidden_globals(module, name, tmp_path):
    data = official_bytes({"G_ema": Call(GlobalName(module, name), f"touch {tmp_path}/written")})
    path = tmp_path / "net.pkl"
    path.write_bytes(data)
    with pytest.raises(
        SnapshotError, match=rf"net\.pkl: not a usable snapshot: refused: the global '{module}\.{name}'"
    ):
        read(path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["net.pkl"]


@pytest.mark.parametrize(("module", "name"), FORBIDDEN)
def test_forbidden_globals_in_zip_files(module, name):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", official_bytes(Call(GlobalName(module, name), "x")))
    with pytest.raises(SnapshotError, match="refused: the global"):
        load(file.getvalue())


def test_forbidden_global_within_a_storage():
    nested = pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2)
    nested += official_bytes(Call(GlobalName("os", "system"), "true"))
    hostile = Call(GlobalName("torch.storage", "_load_from_bytes"), nested)
    with pytest.raises(SnapshotError, match=r"refused: the global 'os\.system'"):
        load(official_bytes(hostile))


def test_module_source_never_runs(tmp_path):
    source = f"open({str(tmp_path / 'written')!r}, 'w')"
    network = module_tree("TriPlaneGenerator", {}, {"weight": torch.ones(1)})
    network.source = source
    assert isinstance(load(official_bytes({"G_ema": network}))["G_ema"], Record)
    assert not list(tmp_path.iterdir())


def rebuilt(storage, offset, size, stride):
    """A pickled tensor of any layout over a storage."""
    return Call(GlobalName("torch._utils", "_rebuild_tensor_v2"), storage, offset, size, stride, False, {})


class Raw:
    """A storage of n floats, pickled as torch does."""

    def __init__(self, n: int):
        self.storage = torch.zeros(n).untyped_storage()

    def __reduce__(self):
        return torch.zeros(self.storage.nbytes() // 4)._typed_storage().__reduce__()


LAYOUTS = {
    "beyond its storage": (rebuilt(Raw(4), 0, (5,), (1,)), "reaches beyond its storage"),
    "offset beyond its storage": (rebuilt(Raw(4), 4, (1,), (1,)), "reaches beyond its storage"),
    "stride beyond its storage": (rebuilt(Raw(4), 0, (2, 2), (3, 1)), "reaches beyond its storage"),
    "negative stride": (rebuilt(Raw(4), 3, (4,), (-1,)), "layout that is none"),
    "negative offset": (rebuilt(Raw(4), -1, (1,), (1,)), "layout that is none"),
    "negative size": (rebuilt(Raw(4), 0, (-1,), (1,)), "layout that is none"),
    "huge size": (rebuilt(Raw(1), 0, (2**60, 2**60), (0, 0)), "layout that is none"),
    "large expansion": (rebuilt(Raw(1), 0, (2**35,), (0,)), "far more memory than the file"),
    "many dimensions": (rebuilt(Raw(1), 0, (1,) * 9, (1,) * 9), "9 dimensions"),
    "sizes without strides": (rebuilt(Raw(4), 0, (2, 2), (1,)), "2 dimensions and 1 strides"),
    "text as size": (rebuilt(Raw(4), 0, ("2",), (1,)), "layout that is none"),
    "no storage": (rebuilt([1, 2], 0, (1,), (1,)), "without storage"),
}


@pytest.mark.parametrize("case", LAYOUTS)
def test_layouts_are_checked(case):
    tensor, message = LAYOUTS[case]
    with pytest.raises(SnapshotError, match=message):
        load(official_bytes(tensor))


def test_many_expanded_tensors_share_one_budget():
    storage = Raw(1)
    tensors = [rebuilt(storage, 0, (2**20,), (0,)) for _ in range(10)]
    with pytest.raises(SnapshotError, match="far more memory than the file"):
        load(official_bytes(tensors))


def test_one_byte_string_for_many_storages_shares_one_budget():
    data = Raw(2**18).__reduce__()[1][0]
    tensors = [rebuilt(Call(GlobalName("torch.storage", "_load_from_bytes"), data), 0, (1,), (1,)) for _ in range(50)]
    with pytest.raises(SnapshotError, match="far more memory than the file"):
        load(official_bytes(tensors))


STORAGE = object()


def nested_storage(**changes) -> bytes:
    parts = {"magic": 0x1950A86A20F9469CFC6C, "protocol": 1001, "system": {"little_endian": True}}
    identity = ("storage", GlobalName("torch", "FloatStorage"), "0", "cpu", changes.pop("length", 2), None)
    keys, count = changes.pop("keys", ["0"]), changes.pop("count", 2)
    parts |= changes

    class Persistent(PythonPickler):
        def persistent_id(self, value):
            return identity if value is STORAGE else None

        def save(self, value, save_persistent_id=True):
            if isinstance(value, GlobalName):
                self.write(f"c{value.module}\n{value.name}\n".encode())
            else:
                super().save(value, save_persistent_id)

    file = io.BytesIO()
    for value in (*parts.values(), STORAGE, keys):
        Persistent(file, 2).dump(value)
    return file.getvalue() + int(count).to_bytes(8, "little") + np.array([1.5, 2.5], np.float32).tobytes()


def of_nested(data: bytes):
    storage = Call(GlobalName("torch.storage", "_load_from_bytes"), data)
    return load(official_bytes(rebuilt(storage, 0, (2,), (1,))))


def test_nested_storage():
    assert torch.equal(of_nested(nested_storage()), torch.tensor([1.5, 2.5]))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"magic": 7}, "no torch file"),
        ({"system": {"little_endian": False}}, "byte order"),
        ({"system": {}}, "byte order"),
        ({"keys": ["0", "1"]}, "not the only one"),
        ({"count": 3}, "two lengths"),
        ({"length": 2**39, "count": 2**39}, "beyond the end"),
        ({"length": -1}, "a length that is none"),
        ({"length": 2**70}, "a length that is none"),
    ],
)
def test_nested_storages_are_checked(changes, message):
    with pytest.raises(SnapshotError, match=message):
        of_nested(nested_storage(**changes))


def test_old_torch_files_are_named():
    file = io.BytesIO()
    torch.save({"a": torch.ones(1)}, file, _use_new_zipfile_serialization=False)
    with pytest.raises(SnapshotError, match=r"old format of torch\.save"):
        load(file.getvalue())


def rezipped(change) -> bytes:
    """A torch file whose entries went through `change(name, data) -> data`, or None to leave one out."""
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(saved({"a": torch.ones(4)}))) as old, zipfile.ZipFile(file, "w") as new:
        for entry in old.infolist():
            data = change(entry.filename, old.read(entry))
            if data is not None:
                new.writestr(entry.filename, data)
    return file.getvalue()


def test_zip_files_are_checked():
    assert same(load(rezipped(lambda name, data: data)), {"a": torch.ones(4)})
    with pytest.raises(SnapshotError, match="makes no sense"):
        load(rezipped(lambda name, data: None if name.endswith("data/0") else data))
    with pytest.raises(SnapshotError, match="storage reaches beyond"):
        load(rezipped(lambda name, data: data[:8] if name.endswith("data/0") else data))
    with pytest.raises(SnapshotError, match=r"none of torch\.save"):
        load(rezipped(lambda name, data: None if name.endswith("data.pkl") else data))
    with pytest.raises(SnapshotError, match="byte order"):
        load(rezipped(lambda name, data: b"big" if name.endswith("byteorder") else data))


def test_zip_bombs_are_refused():
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02N." + bytes(10**7))
    with pytest.raises(SnapshotError, match="compressed"):
        load(file.getvalue())


def test_zip_files_of_too_many_entries():
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for index in range(1000):
            archive.writestr(f"archive/{index:0>5000}", b"")
        archive.writestr("archive/data.pkl", b"\x80\x02N.")
    with pytest.raises(SnapshotError, match="far too many entries"):
        load(file.getvalue())


@pytest.mark.parametrize("kind", ["official", "zip"])
def test_cut_files(kind):
    network = module_tree("TriPlaneGenerator", {"z_dim": 4}, {f"part{i}.weight": torch.randn(20) for i in range(10)})
    data = official_bytes({"G_ema": network}) if kind == "official" else saved({"a": torch.randn(300), "b": [1, 2]})
    places = sorted(random.Random(0).sample(range(1, len(data)), 200))
    for place in places:
        with pytest.raises(SnapshotError) as caught:
            load(data[:place])
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"hello", b"\x89PNG\r\n", b"{}", bytes(1000)])
def test_files_that_are_none(content, tmp_path):
    path = tmp_path / "net.pkl"
    path.write_bytes(content)
    with pytest.raises(SnapshotError, match=r"net\.pkl: not a usable snapshot"):
        read(path)


def test_missing_file_and_folder(tmp_path):
    for path, message in ((tmp_path / "none.pkl", "there is no such file"), (tmp_path, "that is a folder")):
        with pytest.raises(SnapshotError, match=message):
            read(path)


def test_numpy_arrays_and_foreign_types_are_refused():
    with pytest.raises(SnapshotError, match=r"refused: the global 'numpy\._?core\.multiarray\._reconstruct'"):
        load(pickle.dumps(np.zeros(3), 2))
    with pytest.raises(SnapshotError, match="no number"):
        load(official_bytes(Call(GlobalName("numpy", "dtype"), "O8", False, True)))
    with pytest.raises(SnapshotError, match="little-endian"):
        load(pickle.dumps(np.dtype(">f8").type(1).astype(">f8"), 4).replace(b"\x8c\x01<", b"\x8c\x01>"))
