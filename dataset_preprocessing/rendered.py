"""Data sets of rendered pictures: the set itself, and its ground truth in a second archive beside it."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from dataset_preprocessing.building import numbered_names
from dataset_preprocessing.parallel import ordered_map
from dataset_preprocessing.pictures import encode_png
from dataset_preprocessing.storage import Writer, open_writer, remaining
from dataset_preprocessing.synthetic.render import Picture, to_bytes

TRUTH_SUFFIXES = ("_foreground.png", "_mask.png", "_depth.npy")


def write_rendered_set(
    dest: Path,
    plan: dict[str, Any],
    labels: list[list[float]],
    records: list[dict[str, Any]],
    render: Callable[[int], Picture],
    workers: int,
) -> Path:
    """Write a set and, beside it, its ground truth, whose path comes back (`-truth` in its name).

    `render(index)` makes the picture of `labels[index]`; it is sent to worker processes. The truth holds for each
    picture the foreground with straight alpha, the mask, the depth (distance along the ray, infinite off the object),
    and all `records` in parameters.json. Raises StorageError where one of the two exists already.
    """
    truth_dest = dest.with_name(f"{dest.stem}-truth{dest.suffix}")
    names = numbered_names(len(labels))
    truth_names = [truth_name(name, suffix) for name in names for suffix in TRUTH_SUFFIXES]
    with open_writer(dest, plan) as writer, open_writer(truth_dest, plan) as truth_writer:
        missing, truth_missing = set(remaining(writer, names)), set(remaining(truth_writer, truth_names))

        def unfinished(name: str) -> bool:
            return name in missing or any(truth_name(name, suffix) in truth_missing for suffix in TRUTH_SUFFIXES)

        todo = [index for index, name in enumerate(names) if unfinished(name)]
        made = ordered_map(partial(_files, render=render), todo, workers, "rendering")
        for index, (image, truth) in zip(todo, made, strict=True):
            if names[index] in missing:
                writer.add(names[index], image)
            for suffix, data in truth.items():
                if truth_name(names[index], suffix) in truth_missing:
                    truth_writer.add(truth_name(names[index], suffix), data)
        pairs = [[name, label] for name, label in zip(names, labels, strict=True)]
        scenes = [[name, record] for name, record in zip(names, records, strict=True)]
        _add_json(writer, "dataset.json", {"labels": pairs})
        _add_json(truth_writer, "parameters.json", {"options": plan, "scenes": scenes, "labels": pairs})
    return truth_dest


def truth_name(name: str, suffix: str) -> str:
    """Name of a ground-truth file of a picture."""
    return name.removesuffix(".png") + suffix


def _files(index: int, render: Callable[[int], Picture]) -> tuple[bytes, dict[str, bytes]]:
    """The PNG of a picture, and its ground-truth files by suffix."""
    picture = render(index)
    depth = io.BytesIO()
    np.save(depth, picture.depth.astype(np.float32))
    truth = [_png(picture.rgba()), _png(to_bytes(picture.mask)), depth.getvalue()]
    return _png(to_bytes(picture.image)), dict(zip(TRUTH_SUFFIXES, truth, strict=True))


def _png(pixels: np.ndarray) -> bytes:
    return encode_png(Image.fromarray(pixels))


def _add_json(writer: Writer, name: str, content: dict[str, Any]) -> None:
    if name not in writer.done:
        writer.add(name, json.dumps(content).encode())
