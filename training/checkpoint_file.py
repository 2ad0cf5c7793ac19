"""Safe reading of network files: pickles and `torch.save` zip files become plain data and inert records.

The table below is all that such a file may name. Tensors are rebuilt here from their bytes; classes of the
published code become a `Record` of their attributes; the source text that published snapshots embed is dropped
unread. Nothing in a file is imported or run.
"""

from __future__ import annotations

import math
import mmap
import re
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from training.unpickle import Budget, Call, Record, SnapshotError, Unpickler, check_extent, checked_key

TENSOR_SHARE = 4
SMALL_TENSORS = 2**24
"""Tensors may take `TENSOR_SHARE` times the bytes of their file, and this many bytes more."""
MAX_DIMENSIONS = 8
MAX_DIRECTORY_BYTES = 2**22
"""Size of the list of entries of a zip file; `torch.save` needs about 70 bytes a tensor."""
ZIP_START = b"PK\x03\x04"
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
"""First value of the files that `torch.save` wrote before it used zip; a pickled storage still is such a file."""


class StoredNetwork(Record):
    """A network of this project as its file holds it: class_name is its tag, state has `config` and `state`."""


@dataclass
class Storage:
    """The bytes behind tensors of one type."""

    dtype: torch.dtype
    data: memoryview
    flat: Tensor | None = None

    @property
    def length(self) -> int:
        """Number of elements."""
        return len(self.data) // self.dtype.itemsize


@dataclass
class NumpyType:
    """The type of a number that NumPy pickled."""

    code: str

    def build(self, state: object) -> None:
        """Check the rest of the type's description: only little-endian numbers are read."""
        if not isinstance(state, tuple) or len(state) < 2 or state[1] not in ("<", "|", "="):
            raise SnapshotError("a number in a byte order other than little-endian")


def read(path: str | Path) -> Any:
    """The contents of a file: containers, numbers, text, byte views, tensors on the CPU, and `Record`s.

    Raises SnapshotError, with the file's name, for files that are none, damaged, or ask for more than data.
    """
    path = Path(path)
    if path.is_dir():
        raise SnapshotError(f"{path}: that is a folder; name a file in it, such as network-snapshot-000100.pkl")
    if not path.is_file():
        raise SnapshotError(f"{path}: there is no such file")
    try:
        if path.stat().st_size == 0:
            raise SnapshotError("it is empty")
        with path.open("rb") as file:
            data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        return read_bytes(data)
    except SnapshotError as error:
        raise SnapshotError(f"{path}: not a usable snapshot: {error}") from error


def read_bytes(data: memoryview) -> Any:
    """The same from bytes in memory."""
    budget = Budget(TENSOR_SHARE * len(data) + SMALL_TENSORS)
    tensors = TensorReader(budget)
    if data[: len(ZIP_START)] == ZIP_START:
        root = _read_zip(data, tensors)
    else:
        root = Unpickler(data, tensors.admitted, budget).load()
        if isinstance(root, int) and root == LEGACY_MAGIC:
            raise SnapshotError("it is in the old format of torch.save; load it and save it again with a newer torch")
    check_extent(root)
    return root


def tensor_of_bytes(data: memoryview | bytes, dtype: torch.dtype) -> Tensor:
    """A flat tensor of its own from the bytes of its numbers."""
    if len(data) == 0:
        return torch.empty(0, dtype=dtype)
    return torch.from_numpy(np.frombuffer(data, np.uint8).copy()).view(dtype)


def plain_tensor(tensor: Tensor) -> tuple[str, tuple[int, ...], bytes]:
    """A tensor as type, shape and bytes."""
    numbers = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
    return str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape), numbers


def tensor_of_plain(entry: Any) -> Tensor:
    """The tensor of type, shape and bytes; the inverse of `plain_tensor`.

    Raises SnapshotError where they do not belong together.
    """
    name, shape, data = entry if isinstance(entry, tuple) and len(entry) == 3 else (None, None, None)
    if name not in TYPE_NAMES or not isinstance(shape, tuple) or not isinstance(data, (bytes, memoryview)):
        raise SnapshotError("a tensor that is not given by type, shape and bytes")
    dtype = TYPE_NAMES[name]
    if not all(isinstance(n, int) and 0 <= n < 2**40 for n in shape) or math.prod(shape) * dtype.itemsize != len(data):
        raise SnapshotError(f"a tensor of {len(data)} bytes cannot have the shape {str(list(shape))[:80]} in {name}")
    return tensor_of_bytes(data, dtype).reshape(shape)


class TensorReader:
    """Rebuilds tensors, within a budget; `admitted` is the table of all globals that a file may name."""

    def __init__(self, budget: Budget):
        self.budget = budget
        self.admitted = PLAIN_GLOBALS | {
            "torch._utils._rebuild_tensor_v2": Call(self.tensor),
            "torch.storage._load_from_bytes": Call(self.nested_storage),
            "training.snapshot.rebuild_network": Call(self.stored_network),
        }

    def tensor(
        self, storage: Any, offset: Any, size: Any, stride: Any, requires_grad: Any, hooks: Any, metadata: Any = None
    ) -> Tensor:
        """A tensor of the given layout over a storage; its layout must lie within the storage."""
        if not isinstance(storage, Storage) or not isinstance(size, tuple) or not isinstance(stride, tuple):
            raise SnapshotError("a tensor without storage or layout")
        numbers = (offset, *size, *stride)
        if not all(isinstance(number, int) and 0 <= number < 2**40 for number in numbers):
            raise SnapshotError("a tensor with a layout that is none")
        if len(size) != len(stride) or len(size) > MAX_DIMENSIONS:
            raise SnapshotError(f"a tensor of {len(size)} dimensions and {len(stride)} strides")
        count = math.prod(size)
        last = offset + sum((length - 1) * step for length, step in zip(size, stride, strict=True))
        if count and last >= storage.length:
            raise SnapshotError(f"a tensor of shape {list(size)} reaches beyond its storage")
        self.budget.spend_tensor(count * storage.dtype.itemsize)
        if storage.flat is None:
            self.budget.spend_tensor(len(storage.data))
            storage.flat = tensor_of_bytes(storage.data, storage.dtype)
        return storage.flat.as_strided(size, stride, offset if count else 0)

    def stored_network(self, tag: Any, config: Any, state: Any) -> StoredNetwork:
        """One of our networks, its tensors rebuilt from type, shape and bytes."""
        tensors = {}
        for name, entry in state.items():
            self.budget.spend_tensor(len(entry[-1]))
            tensors[name] = tensor_of_plain(entry)
        return StoredNetwork(str(tag), {"config": config, "state": tensors})

    def nested_storage(self, content: Any) -> Storage:
        """The storage in a byte string that holds a `torch.save` file of the old format."""
        data, position = memoryview(content), 0

        def value(persistent_load: Callable[[Any], Any] | None = None) -> Any:
            nonlocal position
            reader = Unpickler(data, self.admitted, self.budget, persistent_load, position)
            loaded = reader.load()
            position = reader.position
            return loaded

        if value() != LEGACY_MAGIC:
            raise SnapshotError("a storage that is no torch file")
        value()  # the protocol of that format; there is only one
        if value().get("little_endian") is not True:
            raise SnapshotError("a storage in a byte order other than little-endian")
        dtype, key, length = value(_storage_id)
        if value() != [key]:
            raise SnapshotError("a storage that is not the only one in its torch file")
        if int.from_bytes(data[position : position + 8], "little") != length:
            raise SnapshotError("a storage of two lengths")
        return Storage(dtype, _exactly(data[position + 8 :], length * dtype.itemsize))


def _storage_id(identity: Any) -> tuple[torch.dtype, str, int]:
    """Type, name and length of the storage that a persistent id of a torch file means."""
    kind, dtype, key, _location, length, *view = identity
    if kind != "storage" or not isinstance(dtype, torch.dtype) or not isinstance(key, str) or view not in ([], [None]):
        raise SnapshotError("refused: a persistent id that is no storage")
    if not isinstance(length, int) or not 0 <= length < 2**40:
        raise SnapshotError("a storage with a length that is none")
    return dtype, key, length


def _exactly(data: memoryview, length: int) -> memoryview:
    if len(data) < length:
        raise SnapshotError("it is cut off: a storage reaches beyond the end")
    return data[:length]


def _read_zip(data: memoryview, tensors: TensorReader) -> Any:
    """The value in a `torch.save` zip file. Its entries lie there uncompressed, one for each storage."""
    try:
        file = _ByteFile(data, MAX_DIRECTORY_BYTES)
        with zipfile.ZipFile(file) as archive:
            file.most = len(data)
            entries = {entry.filename: entry for entry in archive.infolist()}
            total = sum(entry.file_size for entry in entries.values())
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries.values()) or total > len(data):
                raise SnapshotError("its zip entries are compressed, which torch.save never does")
            roots = [name.removesuffix("/data.pkl") for name in entries if re.fullmatch(r"[^/]+/data\.pkl", name)]
            if len(roots) != 1:
                raise SnapshotError("it is a zip file, but none of torch.save")
            root = roots[0]
            if f"{root}/byteorder" in entries and archive.read(f"{root}/byteorder") != b"little":
                raise SnapshotError("its byte order is other than little-endian")
            storages: dict[str, Storage] = {}

            def storage(identity: Any) -> Storage:
                dtype, key, length = _storage_id(identity)
                if key not in storages:
                    entry = memoryview(archive.read(f"{root}/data/{key}"))
                    storages[key] = Storage(dtype, _exactly(entry, length * dtype.itemsize))
                if storages[key].dtype != dtype or storages[key].length != length:
                    raise SnapshotError(f"storage {key[:50]!r} is of two types")
                return storages[key]

            pickled = memoryview(archive.read(f"{root}/data.pkl"))
            return Unpickler(pickled, tensors.admitted, tensors.budget, storage).load()
    except SnapshotError:
        raise
    except (zipfile.BadZipFile, EOFError, LookupError, OSError, RuntimeError, ValueError, struct.error) as error:
        raise SnapshotError("its zip structure is damaged or cut off") from error


class _ByteFile:
    """Bytes in memory as the kind of file that `zipfile` reads; it gives out at most `most` bytes at a time."""

    def __init__(self, data: memoryview, most: int):
        self.data, self.most, self.position = data, most, 0

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.position

    def seek(self, offset: int, whence: int = 0) -> int:
        position = offset + (0, self.position, len(self.data))[whence]
        if position < 0:
            raise OSError("before the beginning")
        self.position = position
        return position

    def read(self, count: int = -1) -> bytes:
        end = len(self.data) if count is None or count < 0 else min(self.position + count, len(self.data))
        if end - self.position > self.most:
            raise SnapshotError("it is a zip file with far too many entries")
        piece = bytes(self.data[self.position : end])
        self.position += len(piece)
        return piece


def _dictionary(items: Any = ()) -> dict:
    return {checked_key(key): value for key, value in items}


def _numpy_type(code: Any, _align: Any = False, _copy: Any = False) -> NumpyType:
    if not isinstance(code, str) or not re.fullmatch(r"[<|=]?(b1|[iu][1248]|f[248])", code):
        raise SnapshotError(f"a NumPy type {str(code)[:20]!r} that is no number")
    return NumpyType(code)


def _numpy_scalar(dtype: Any, data: Any) -> Any:
    return np.frombuffer(data, np.dtype(dtype.code), count=1)[0].item()


def _latin_bytes(text: Any, encoding: Any) -> bytes:
    if encoding != "latin1":
        raise SnapshotError("text in an encoding other than latin1")
    return text.encode("latin-1")


def _persistent_object(fields: Any) -> Record:
    """The record of a published class that was pickled with its source; only name and attributes are looked at."""
    record = Record(str(fields["class_name"]))
    record.build(fields["state"])
    return record


def _stand_in(class_name: str) -> Call:
    return Call(lambda: Record(class_name))


STAND_INS = (
    "torch.nn.modules.activation.LeakyReLU",
    "torch.nn.modules.activation.ReLU",
    "torch.nn.modules.activation.Sigmoid",
    "torch.nn.modules.activation.Softplus",
    "torch.nn.modules.container.ModuleList",
    "torch.nn.modules.container.Sequential",
    "torch.nn.modules.linear.Linear",
    "training.kaolin_version.DeformationDecoder",
    "training.kaolin_version.LaplaceDensity",
    "training.kaolin_version.OSGDecoder",
    "training.kaolin_version.Sdf2DensityRayMarcher",
    "training.kaolin_version.TriImportanceRenderer",
    "training.orthoplanes.OSGDecoder",
    "training.triplane.OSGDecoder",
    "training.volumetric_rendering.ray_marcher.MipRayMarcher2",
    "training.volumetric_rendering.ray_sampler.RaySampler",
    "training.volumetric_rendering.renderer.ImportanceRenderer",
    "training.volumetric_rendering.renderer.TriImportanceRenderer",
)
"""Classes of torch and of published code that snapshots hold by reference."""

STORAGE_TYPES = {
    "Bool": torch.bool,
    "Byte": torch.uint8,
    "Char": torch.int8,
    "Short": torch.int16,
    "Int": torch.int32,
    "Long": torch.int64,
    "Half": torch.float16,
    "BFloat16": torch.bfloat16,
    "Float": torch.float32,
    "Double": torch.float64,
}

TYPE_NAMES = {str(dtype).removeprefix("torch."): dtype for dtype in STORAGE_TYPES.values()}

PLAIN_GLOBALS: dict[str, Any] = {
    "collections.OrderedDict": Call(_dictionary),
    "dnnlib.util.EasyDict": Call(_dictionary),
    "easydict.EasyDict": Call(_dictionary),
    "builtins.set": Call(lambda items=(): set(map(checked_key, items))),
    "__builtin__.set": Call(lambda items=(): set(map(checked_key, items))),
    "_codecs.encode": Call(_latin_bytes),
    "numpy.dtype": Call(_numpy_type),
    "numpy.core.multiarray.scalar": Call(_numpy_scalar),
    "numpy._core.multiarray.scalar": Call(_numpy_scalar),
    "torch.Size": Call(lambda lengths: tuple(lengths)),
    "torch._utils._rebuild_parameter": Call(lambda data, requires_grad, hooks: data),
    "torch_utils.persistence._reconstruct_persistent_obj": Call(_persistent_object),
    **{f"torch.{name}Storage": dtype for name, dtype in STORAGE_TYPES.items()},
    **{name: _stand_in(name.rpartition(".")[2]) for name in STAND_INS},
}
