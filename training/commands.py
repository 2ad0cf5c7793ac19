"""What the commands that look at a snapshot have in common: how they read seeds, devices, cameras and networks."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import torch
from jaxtyping import UInt8
from numpy import ndarray
from torch import Tensor

from training import snapshot
from training.archive import ArchiveError
from training.cameras.prior import FRONT, ViewConfig, orbit_camera
from training.config import ConfigError, from_dict
from training.dataset import DataConfig, DatasetError, ImageDataset
from training.generator import Generator
from training.types import LABEL_SIZE, Camera, Latents

VIEW_ANGLE = click.FloatRange(0, 180, min_open=True, max_open=True)
FACTOR = click.FloatRange(0, min_open=True)


def parse_ints(text: str) -> list[int]:
    """The numbers of a list such as `0,1,4-6`, below 2^32. Raises ValueError for anything else."""
    numbers: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d+)(?:-(\d+))?\s*", part)
        if match is None:
            raise ValueError(f"{text!r} is no list of numbers such as 0,1,4-6")
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first:
            raise ValueError(f"{part.strip()!r} runs backwards")
        if last >= 2**32:
            raise ValueError(f"{last} is above 4294967295, the largest seed")
        numbers.extend(range(first, last + 1))
    return numbers


class IntList(click.ParamType):
    """An option whose value is a list of numbers such as `0,1,4-6`."""

    name = "list"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> list[int]:
        if isinstance(value, list):
            return value
        try:
            return parse_ints(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class FloatList(click.ParamType):
    """An option whose value is a list of numbers such as `0.3,-0.3`; `count` of them where it is given."""

    name = "numbers"

    def __init__(self, count: int | None = None):
        self.count = count

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[float, ...]:
        if isinstance(value, tuple):
            return value
        try:
            numbers = tuple(float(part) for part in value.split(","))
        except ValueError:
            self.fail(f"{value!r} is no list of numbers such as 0.3,-0.3", param, ctx)
        if self.count is not None and len(numbers) != self.count:
            self.fail(f"{value!r}: expected {self.count} numbers", param, ctx)
        return numbers


class NameList(click.ParamType):
    """An option whose value is a list of some of the given names; a leading dot of a name may be left out."""

    name = "list"

    def __init__(self, names: Iterable[str]):
        self.names = tuple(names)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> list[str]:
        if isinstance(value, list):
            return value
        chosen = []
        for part in (part.strip() for part in value.split(",")):
            match = next((name for name in self.names if part in (name, name.removeprefix("."))), None)
            if match is None:
                self.fail(f"{part!r} is none of {', '.join(self.names)}", param, ctx)
            chosen.append(match)
        return chosen


class GridSize(click.ParamType):
    """An option whose value is columns and rows, such as `4x2`."""

    name = "WxH"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        if isinstance(value, tuple):
            return value
        match = re.fullmatch(r"(\d+)[x,](\d+)", value)
        if match is None or "0" in match.groups():
            self.fail(f"{value!r} is no grid such as 4x2", param, ctx)
        return int(match[1]), int(match[2])


def pick_device(name: str) -> torch.device:
    """The device of that name; "auto" is a GPU where there is one. Raises ClickException where there is none."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name == "cuda" and not torch.cuda.is_available():
        raise click.ClickException("--device=cuda: no CUDA GPU is available; use --device=cpu")
    return torch.device(name)


def load_snapshot(network: str, device: torch.device) -> tuple[Generator, snapshot.Snapshot]:
    """The averaged generator of a snapshot, ready to render, and the snapshot.

    network: a file or an address. Raises ClickException, which names the file and the reason, where it cannot be
    read.
    """
    try:
        file = snapshot.load(network, device)
        return file["G_ema"], file
    except (OSError, ValueError) as error:
        raise click.ClickException(f"--network={network}: {error}") from error


def real_pictures(file: snapshot.Snapshot, count: int) -> UInt8[ndarray, "n high wide 3"] | None:
    """The first pictures of the data set that a snapshot was trained on; None where it cannot be read."""
    kwargs = file["training_set_kwargs"] or {}
    try:
        dataset = ImageDataset(from_dict(DataConfig, kwargs))
        return dataset.gather(range(min(count, len(dataset))))[0].permute(0, 2, 3, 1).numpy()
    except (ConfigError, DatasetError, ArchiveError, OSError):
        return None


def conditioning_camera(view: ViewConfig, fov_deg: float | None = None) -> Camera:
    """The frontal camera that conditions the mapping network of pictures no label describes."""
    front = torch.full([1], FRONT)
    return orbit_camera(front, front, view, fov_deg)


def read_cameras(path: Path) -> Camera:
    """The cameras of a JSON file: a list of 25-number labels, or a data set's `dataset.json`.

    Raises ValueError, which names the file and the entry at fault.
    """
    try:
        content = json.loads(path.read_text())
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: no JSON file; of a data set, that is the dataset.json inside") from error
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from error
    entries = content.get("labels") if isinstance(content, dict) else content
    if not isinstance(entries, list) or not entries:
        raise ValueError(f"{path}: expected a list of {LABEL_SIZE}-number labels, or an object with `labels`")
    labels = [entry[1] if len(entry) == 2 else entry for entry in entries]
    for index, label in enumerate(labels):
        if not isinstance(label, list) or len(label) != LABEL_SIZE:
            raise ValueError(f"{path}: entry {index} is no label of {LABEL_SIZE} numbers")
    return Camera.from_label(torch.tensor(labels, dtype=torch.float32))


def label_list(camera: Camera) -> list[list[float]]:
    """The cameras' labels as plain numbers, for JSON."""
    label: Tensor = camera.to_label()
    return [[round(number, 7) for number in row] for row in label.tolist()]


@dataclass(frozen=True)
class Truncation:
    """How far styles are pulled to the average: psi for the first `cutoff` rows, another psi for surroundings."""

    psi: float = 1.0
    cutoff: int | None = None
    background_psi: float | None = None

    def styles(self, generator: Generator, z: Tensor, camera: Camera) -> Latents:
        """The styles of z, conditioned on one camera."""
        label = camera.to_label().to(z.device).expand(len(z), -1)
        with torch.no_grad():
            return generator.mapping(z, label, self.psi, self.cutoff, self.background_psi)
