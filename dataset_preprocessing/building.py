"""Making a data set from planned items: pictures in parallel, labels beside them, resumable to the same bytes."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from PIL import ImageOps

from dataset_preprocessing.cameras import LABEL_SIZE, mirror_label
from dataset_preprocessing.parallel import threaded_map
from dataset_preprocessing.pictures import (
    PictureOptions,
    crop_and_resize,
    decode,
    encode_png,
    plan_crop,
    split_alpha,
    upright,
)
from dataset_preprocessing.storage import Writer, open_writer, plan_hash, remaining
from training.archive import LABEL_FILE, MAX_PIXELS, ArchiveError, Source, image_header

Label = list[float] | int | None
Angles = list[float] | None


@dataclass(frozen=True)
class Item:
    """One picture of the set to be made.

    source: its name in the source. name: its name in the set. label: camera (25 numbers) or class, as the source has
    it. angles: EpiGRAF's yaw, pitch, roll. mirrored: flip it, its label and angles with it. finished_label: the label
    belongs to the finished picture already, so a crop does not move it.
    """

    source: str
    name: str
    label: Label = None
    angles: Angles = None
    mirrored: bool = False
    finished_label: bool = False


@dataclass(frozen=True)
class Summary:
    """What a run made. `left_out`: the faults of broken pictures. `unlabelled`: number of pictures without a label."""

    path: Path
    images: int
    resolution: int
    left_out: list[str]
    unlabelled: int


def numbered_names(count: int) -> list[str]:
    """Names of pictures as the field has them: `00000/img00000000.png`, a thousand to a folder."""
    return [f"{index // 1000:05d}/img{index:08d}.png" for index in range(count)]


def build(
    dest: Path,
    source: Source,
    items: Sequence[Item],
    options: PictureOptions,
    *,
    workers: int = 1,
    skip_broken: bool = False,
    extra: dict[str, Any] | None = None,
) -> Summary:
    """Make the set `dest` (zip or folder) of the items, with `extra` added to its `dataset.json`.

    With alpha "mask" a second archive with `-masks` in its name gets the masks, so that the set holds pictures only.
    A broken picture ends the run, or is left out with `skip_broken`.
    Raises ArchiveError for pictures that cannot be used, StorageError for destinations that cannot be written.
    """
    if not items:
        raise ArchiveError(f"{source.path}: no pictures are left to make a set of")
    resolution = _common_resolution(source, items[0], options)
    plan = {"options": asdict(options), "skip": skip_broken, "items": plan_hash([asdict(item) for item in items])}
    with contextlib.ExitStack() as stack:
        writer = stack.enter_context(open_writer(dest, plan))
        mask_writer: Writer | None = None
        if options.alpha == "mask":
            mask_writer = stack.enter_context(open_writer(dest.with_name(f"{dest.stem}-masks{dest.suffix}"), plan))
        left_out = _add_pictures(writer, mask_writer, source, items, options, workers, skip_broken, resolution)
        present = writer.fingerprints()
        kept = [item for item in items if item.name in present]
        if LABEL_FILE not in present:
            labels = _label_file(source, kept, options)
            facts = {"images": len(kept), "resolution": resolution, "sha256": _pictures_hash(writer)}
            writer.add(LABEL_FILE, json.dumps({**labels, **facts, **(extra or {})}).encode())
    return Summary(dest, len(kept), resolution, left_out, sum(item.label is None for item in kept))


def _common_resolution(source: Source, first: Item, options: PictureOptions) -> int:
    """Side of the finished pictures, by the first one; ArchiveError unless it is square and a power of two."""
    width, height = plan_crop(_size(source, first.source), options).result
    if width != height:
        raise ArchiveError(
            f"{source.path}: {first.source} would become {width}x{height}, not square; "
            "add --transform=center-crop (and --resolution=256x256, or the size that you want)"
        )
    if width & (width - 1):
        raise ArchiveError(
            f"{source.path}: {first.source} would become {width}x{height}, not a power of two; "
            f"add --resolution={2 ** (width.bit_length() - 1)}x{2 ** (width.bit_length() - 1)}"
        )
    return width


def _size(source: Source, name: str) -> tuple[int, int]:
    header = image_header(source, name)
    if header.width * header.height > MAX_PIXELS:
        raise ArchiveError(
            f"{source.path}: {name}: {header.width}x{header.height} pixels, over the limit of {MAX_PIXELS:,}; refused"
        )
    return header.width, header.height


def _add_pictures(
    writer: Writer,
    mask_writer: Writer | None,
    source: Source,
    items: Sequence[Item],
    options: PictureOptions,
    workers: int,
    skip_broken: bool,
    resolution: int,
) -> list[str]:
    """Make what is missing; the faults of the pictures that were left out come back."""
    names = [item.name for item in items]
    missing = set(remaining(writer, names))
    masks_missing = set(remaining(mask_writer, names)) if mask_writer else set()
    todo = [item for item in items if item.name in missing or item.name in masks_missing]
    make = partial(_make, source=source, options=options, resolution=resolution)
    left_out = []
    for item, made in zip(todo, threaded_map(make, todo, workers, "pictures"), strict=True):
        if isinstance(made, str):
            if not skip_broken:
                raise ArchiveError(made)
            left_out.append(made)
            continue
        png, mask = made
        if item.name in missing:
            writer.add(item.name, png)
        if mask_writer is not None and item.name in masks_missing:
            mask_writer.add(item.name, mask)
    return left_out


def _make(item: Item, source: Source, options: PictureOptions, resolution: int) -> tuple[bytes, bytes] | str:
    """PNG and mask (empty unless asked for) of one picture, or its fault."""
    where = f"{source.path}: {item.source}"
    try:
        image = decode(source.read(item.source), where)
    except ArchiveError as error:
        return str(error)
    if item.label is None or item.finished_label:
        # A camera label belongs to the pixels as they are stored; an unlabelled photograph is turned upright.
        image = upright(image)
    image = crop_and_resize(image, plan_crop(image.size, options))
    if image.size != (resolution, resolution):
        return (
            f"{where} would become {image.width}x{image.height} but the first picture {resolution}x{resolution}; "
            f"add --resolution={resolution}x{resolution} and --transform=center-crop"
        )
    if item.mirrored:
        image = ImageOps.mirror(image)
    picture, mask = split_alpha(image, options.alpha)
    return encode_png(picture), encode_png(mask) if mask else b""


def _label_file(source: Source, items: Sequence[Item], options: PictureOptions) -> dict[str, Any]:
    """`labels` and, where there are any, `camera_angles` of the finished pictures."""
    content: dict[str, Any] = {"labels": None}
    if any(item.label is not None for item in items):
        content["labels"] = [[item.name, _final_label(source, item, options)] for item in items]
    angles = [item for item in items if item.angles is not None]
    if angles:
        signs = [-1.0, 1.0, -1.0]
        content["camera_angles"] = [
            [
                item.name,
                [a * s for a, s in zip(item.angles or (), signs, strict=True)] if item.mirrored else item.angles,
            ]
            for item in angles
        ]
    return content


def _final_label(source: Source, item: Item, options: PictureOptions) -> Label:
    label = item.label
    if isinstance(label, list) and len(label) == LABEL_SIZE:
        label = [float(value) + 0.0 for value in label]  # there is one zero, not also -0.0
        if options.transform != "none" and not item.finished_label:
            size = _size(source, item.source)
            label = plan_crop(size, options).camera(label, size)
        if item.mirrored:
            label = mirror_label(label)
    return label


def _pictures_hash(writer: Writer) -> str:
    digest = hashlib.sha256()
    for name, (size, crc, tail) in writer.fingerprints().items():
        digest.update(f"{name} {size} {crc} {tail}\n".encode())
    return digest.hexdigest()
