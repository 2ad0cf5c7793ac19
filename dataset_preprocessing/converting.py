"""Any pictures, with the labels that lie beside them, into a checked set of one size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from dataset_preprocessing.building import Angles, Item, Label, numbered_names
from dataset_preprocessing.sources import image_names
from training.archive import LABEL_FILE, ArchiveError, Source, is_image, label_entries, parse_json, read_label_file

_VOLUMEGAN_LABELS = "annotation.json"


def plan_conversion(
    source: Source, *, max_images: int | None = None, keep_names: bool = False, seed: int | None = None
) -> list[Item]:
    """All pictures of a source, each with its labels where the source has any.

    New names are numbers, in the order of the old ones, or with `keep_names` the old ones with the suffix `.png`.
    `max_images` keeps the first, or a random choice by `seed`. Raises ArchiveError for names that would collide.
    """
    names = image_names(source)
    if max_images is not None and max_images < len(names):
        chosen = (
            range(max_images)
            if seed is None
            else sorted(np.random.default_rng(seed).permutation(len(names))[:max_images])
        )
        names = [names[index] for index in chosen]
    labels, angles = find_labels(source)
    new_names = [_png_name(name) for name in names] if keep_names else numbered_names(len(names))
    if len(set(new_names)) < len(new_names):
        twice = next(name for name in new_names if new_names.count(name) > 1)
        raise ArchiveError(f"{source.path}: several pictures would be named {twice}; leave out --keep-names")
    return [
        Item(name, new, by_name(labels, name), by_name(angles, name))
        for name, new in zip(names, new_names, strict=True)
    ]


def find_labels(source: Source) -> tuple[dict[str, Label], dict[str, Angles]]:
    """Labels and camera angles by name, from `dataset.json` or VolumeGAN's `annotation.json`; empty without them."""
    content = read_label_file(source)
    where = f"{source.path}: {LABEL_FILE}"
    if not content and _VOLUMEGAN_LABELS in source.names:
        where = f"{source.path}: {_VOLUMEGAN_LABELS}"
        pairs = parse_json(source.read(_VOLUMEGAN_LABELS), where)
        content = {"labels": [pair for pair in pairs if isinstance(pair, list)] if isinstance(pairs, list) else pairs}
    labels = label_entries(content, where)
    for name, value in labels.items():
        if not (value is None or isinstance(value, int) or _is_numbers(value)):
            raise ArchiveError(
                f"{where}: the label of {name} must be a list of numbers, the number of a class, or null"
            )
    angles = label_entries({"labels": content.get("camera_angles")}, where)
    for name, value in angles.items():
        if not (_is_numbers(value) and len(value) == 3):
            raise ArchiveError(f"{where}: `camera_angles` of {name} must be yaw, pitch and roll in radians")
    return labels, angles


def _is_numbers(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(number, (int, float)) for number in value)


def by_name(entries: dict[str, Any], name: str) -> Any:
    """The entry of a picture, by its full name or, as EpiGRAF's files have it, without suffix or first folder."""
    if not entries:
        return None
    stem = name.rsplit(".", 1)[0]
    inner = stem.split("/", 1)[-1]
    for candidate in (name, stem, name.split("/", 1)[-1], inner):
        if candidate in entries:
            return entries[candidate]
    for suffix in (".png", ".jpg"):
        if stem + suffix in entries:
            return entries[stem + suffix]
    return None


def _png_name(name: str) -> str:
    return f"{name.rsplit('.', 1)[0] if is_image(name) else name}.png"


def parse_resolution(text: str | None) -> tuple[int, int] | None:
    """Width and height of text such as `256x256`; ValueError for anything else."""
    if text is None:
        return None
    parts = text.lower().split("x")
    if len(parts) == 1:
        parts = parts * 2
    if len(parts) != 2 or not all(part.isdigit() and int(part) > 0 for part in parts):
        raise ValueError(f"{text!r}: give a size as WIDTHxHEIGHT, such as 256x256")
    return int(parts[0]), int(parts[1])


def beside(dest: Path, what: str) -> Path:
    """A neighbour of a data set: `set.zip` -> `set-WHAT.zip`."""
    return dest.with_name(f"{dest.stem}-{what}{dest.suffix}")
