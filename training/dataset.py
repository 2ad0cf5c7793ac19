"""Pictures with camera labels, from a zip or a folder.

`dataset.json` holds `{"labels": [[file name, 25 numbers], ...]}`: row-major camera-to-world in OpenCV axes, then
row-major intrinsics normalized by the image size. Everything that can be wrong with a set is found on opening,
from the headers of the files, before a training run has made anything.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from PIL import Image
from torch import Tensor

from training.archive import (
    LABEL_FILE,
    MAX_PIXELS,
    ArchiveError,
    image_header,
    is_image,
    label_entries,
    open_archive,
    read_label_file,
)
from training.types import LABEL_SIZE

_READABLE_MODES = ("RGB", "L", "1")


class DatasetError(ValueError):
    """A set that cannot be trained on as it stands; the message names the file and the mend."""


@dataclass(frozen=True)
class DataConfig:
    """Which pictures a run sees.

    path: zip or folder. resolution: image size in pixels that the set must have (None: whatever it has).
    use_labels: read camera labels, which the set must then have. mirror: add a flipped copy of every picture,
    its pose flipped with it. max_size: train on that many pictures only, chosen by `seed`.
    workers: threads that decode ahead (0: in the training thread). cache_gib: decoded pictures are kept in memory
    where the whole set needs no more than this, per process.
    """

    path: str = ""
    resolution: int | None = None
    use_labels: bool = True
    mirror: bool = False
    max_size: int | None = None
    seed: int = 0
    workers: int = 3
    cache_gib: float = 4.0


def mirror_labels(labels: Float[Tensor, "n 25"]) -> Float[Tensor, "n 25"]:
    """Camera labels of horizontally flipped pictures: the world mirrored at its plane x = 0.

    Pose elements [0,1], [0,2], [1,0], [2,0] and [0,3] change sign, as does the skew; the principal point moves
    to the other side. Applied twice it gives the labels back.
    """
    mirrored = labels.clone()
    mirrored[:, [1, 2, 4, 8, 3, 17]] *= -1
    mirrored[:, 18] = 1 - mirrored[:, 18]
    return mirrored


class ImageDataset(torch.utils.data.Dataset):
    """Square RGB pictures of one size, uint8 [3, height, width], with camera labels, float32 [25].

    Without labels (none in the set, or not asked for) the labels are zeros. Sorted by name; with `mirror` the
    second half are the flipped pictures. Instances can be forked, pickled and shared between threads.

    Raises DatasetError, with one message that says what to do, for: no data, unreadable pictures, pictures that are
    not square, of different sizes or of a kind that training cannot use, another resolution than asked for, labels
    that are wanted but absent or incomplete, and labels that are not 25 finite numbers.
    """

    def __init__(self, config: DataConfig) -> None:
        self.config = config
        try:
            self._open(config)
        except ArchiveError as error:
            raise DatasetError(str(error)) from None
        self._cache: tuple[Tensor, np.ndarray] | None = None

    def _open(self, config: DataConfig) -> None:
        if not config.path:
            raise DatasetError("no data given: name a zip or a folder of pictures (--data)")
        self.archive = open_archive(config.path)
        names = [name for name in self.archive.names if is_image(name)]
        if not names:
            raise DatasetError(f"{self.archive.path}: no pictures (PNG, JPEG, ...) inside")
        if config.max_size is not None and config.max_size < 1:
            raise DatasetError(f"data.max_size={config.max_size}: at least one picture is needed")
        self.image_names = _subset(names, config.max_size, config.seed)
        self.resolution = self._common_size(config.resolution)
        labels = self._read_labels() if config.use_labels else None
        self.has_labels = labels is not None
        self._labels = torch.zeros(len(self.image_names), LABEL_SIZE) if labels is None else labels
        if config.mirror:
            self._labels = torch.cat([self._labels, mirror_labels(self._labels) if self.has_labels else self._labels])

    def _common_size(self, wanted: int | None) -> int:
        sizes: dict[str, tuple[int, int]] = {}
        for name in self.image_names:
            header = image_header(self.archive, name)
            where = f"{self.archive.path}: {name}"
            if header.mode not in _READABLE_MODES:
                raise DatasetError(f"{where} is of kind {header.mode}, not 8-bit RGB or grey; {_CONVERT}")
            if header.width * header.height > MAX_PIXELS:
                raise DatasetError(f"{where} has {header.width}x{header.height} pixels; refused")
            if header.width != header.height:
                raise DatasetError(
                    f"{where} is {header.width}x{header.height}, not square; {_CONVERT} with --transform=center-crop"
                )
            sizes[name] = (header.width, header.height)
        (common, _), count = Counter(sizes.values()).most_common(1)[0]
        for name, (width, height) in sizes.items():
            if width != common:
                raise DatasetError(
                    f"{self.archive.path}: {name} is {width}x{height} but {count} others are {common}x{common}; "
                    f"{_CONVERT} with --resolution={common}x{common}"
                )
        if wanted is not None and wanted != common:
            raise DatasetError(
                f"{self.archive.path} holds pictures of {common}x{common}, but the resolution asked for is {wanted}; "
                f"{_CONVERT} with --resolution={wanted}x{wanted}"
            )
        return common

    def _read_labels(self) -> Tensor:
        where = f"{self.archive.path}: {LABEL_FILE}"
        content = read_label_file(self.archive)
        entries = label_entries(content, where)
        if not entries:
            other = " (it has EpiGRAF's `camera_angles`: import them)" if "camera_angles" in content else ""
            raise DatasetError(
                f"{self.archive.path} has no camera labels in {LABEL_FILE}{other}; make them with "
                "`dataset_tool.py import` or `poses`; with --cond=False too, generated pictures are seen from them"
            )
        rows = np.empty((len(self.image_names), LABEL_SIZE), dtype=np.float32)
        for row, name in zip(rows, self.image_names, strict=True):
            row[:] = _label_row(entries.get(name), f"{where}: {name}")
        if not np.isfinite(rows).all():
            bad = self.image_names[int(np.flatnonzero(~np.isfinite(rows).all(axis=1))[0])]
            raise DatasetError(f"{where}: {bad} has a label that is not finite; run `dataset_tool.py check`")
        return torch.from_numpy(rows)

    @property
    def name(self) -> str:
        """Name of the file or folder, without suffix."""
        return self.archive.path.resolve().stem

    @property
    def labels(self) -> Float[Tensor, "n 25"]:
        """The labels of all pictures; zeros without labels."""
        return self._labels

    @cached_property
    def whole(self) -> ImageDataset:
        """The set with all its pictures, without mirrored copies; opened once, and none of them kept in memory."""
        if not self.config.mirror and self.config.max_size is None:
            return self
        return ImageDataset(replace(self.config, mirror=False, max_size=None, cache_gib=0))

    @cached_property
    def content_hash(self) -> str:
        """64 hexadecimal digits of pictures, their order and labels, whatever the place and the kind of archive."""
        digest = hashlib.sha256()
        for name in self.image_names:
            digest.update(json.dumps([name, *self.archive.fingerprint(name)]).encode())
        digest.update(self._labels.numpy().tobytes())
        digest.update(json.dumps([self.has_labels, self.config.mirror]).encode())
        return digest.hexdigest()

    def describe(self) -> dict[str, Any]:
        """Facts for a log or a result record: configuration, number of pictures, resolution, labels, content hash."""
        facts = {"images": len(self), "resolution": self.resolution, "labels": self.has_labels}
        return {**asdict(self.config), **facts, "content_hash": self.content_hash}

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, index: int) -> tuple[UInt8[Tensor, "3 height width"], Float[Tensor, " 25"]]:
        if not -len(self) <= index < len(self):
            raise IndexError(f"picture {index} of {len(self)}")
        return self._image(index % len(self)), self._labels[index]

    def gather(
        self, indices: Iterable[int] | Int[np.ndarray, " n"]
    ) -> tuple[UInt8[Tensor, "n 3 height width"], Float[Tensor, "n 25"]]:
        """A batch of pictures and labels."""
        rows = [int(index) for index in indices]
        return torch.stack([self._image(row) for row in rows]), self._labels[rows]

    def _image(self, index: int) -> Tensor:
        flip, source = divmod(index, len(self.image_names))
        pixels = self._cached(source)
        return pixels.flip(2) if flip else pixels

    def _cached(self, source: int) -> Tensor:
        shape = (len(self.image_names), 3, self.resolution, self.resolution)
        if np.prod(shape, dtype=np.float64) > self.config.cache_gib * 2**30:
            return self._decode(source)
        if self._cache is None:
            # Untouched memory costs nothing, so the room can be taken at once. Two threads may both come here: then one
            # of the two is dropped and its pictures are decoded again. Pixels and marks are exchanged as one.
            self._cache = torch.empty(shape, dtype=torch.uint8), np.zeros(len(self.image_names), dtype=bool)
        pixels, known = self._cache
        if not known[source]:
            pixels[source] = self._decode(source)
            known[source] = True
        return pixels[source]

    def _decode(self, source: int) -> Tensor:
        name = self.image_names[source]
        try:
            with Image.open(io.BytesIO(self.archive.read(name))) as image:
                pixels = np.array(image.convert("RGB"))
        except ArchiveError as error:
            raise DatasetError(str(error)) from None
        except (OSError, ValueError, SyntaxError) as error:
            raise DatasetError(f"{self.archive.path}: {name} cannot be decoded ({error}); replace it") from None
        if pixels.shape != (self.resolution, self.resolution, 3):
            raise DatasetError(f"{self.archive.path}: {name} changed since the set was opened")
        return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_cache": None}


_CONVERT = "mend it with `dataset_tool.py convert`"


def _subset(names: Iterable[str], max_size: int | None, seed: int) -> list[str]:
    """The names, or a choice of `max_size` of them that depends on the seed only; in order either way."""
    names = list(names)
    if max_size is None or max_size >= len(names):
        return names
    order = np.arange(len(names))
    np.random.RandomState(seed % 2**31).shuffle(order)
    return [names[i] for i in np.sort(order[:max_size])]


def _label_row(label: Any, where: str) -> list[float]:
    if label is None:
        raise DatasetError(f"{where} has no label; drop such pictures with `dataset_tool.py subset --labelled`")
    if isinstance(label, int):
        raise DatasetError(f"{where} is labelled with a class, not a camera; add cameras with `dataset_tool.py poses`")
    if not isinstance(label, list) or len(label) != LABEL_SIZE:
        size = f"{len(label)} numbers" if isinstance(label, list) else f"a {type(label).__name__}"
        raise DatasetError(f"{where} has a label of {size}; a camera label has {LABEL_SIZE}; see docs/datasets.md")
    if not all(isinstance(number, (int, float)) and not isinstance(number, bool) for number in label):
        raise DatasetError(f"{where} has a label that holds something else than numbers")
    return label
