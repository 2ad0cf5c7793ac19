"""The cars of the racing simulator TORCS, from Debian's package `torcs-data`.

Bodies, wheels and liveries are separate files there; the car's XML says which wheels belong where. Licences differ from
car to car (see the readme.txt beside each; the rest is GPL-2+): render them, do not ship them.
"""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dataset_preprocessing.cameras import Floats
from dataset_preprocessing.meshes.ac3d import read_ac3d
from dataset_preprocessing.meshes.mesh import Mesh, join
from training.archive import ArchiveError

_FRONT_TO_Z = np.array([[0.0, 0, -1], [0, 1, 0], [1, 0, 0]])
"""TORCS's cars face +x, y up; ours face +z."""

_DEFAULT_WHEELS = "trb1-1"
_INCH = 0.0254


@dataclass(frozen=True)
class Wheel:
    """Where a wheel is (TORCS's axes, from the car's origin), and its radius and width, in metres."""

    center: tuple[float, float, float]
    radius: float
    width: float


def find_cars(folder: Path) -> list[tuple[Path, Path | None]]:
    """Every (model, livery) pair below a folder of TORCS data, None being the own livery; empty without cars."""
    models = [
        file
        for file in sorted(folder.rglob("*.acc"))
        if file.parent.name == file.stem and file.parent.parent.name == "cars"
    ]
    pairs: list[tuple[Path, Path | None]] = []
    for model in models:
        drivers = model.parents[2] / "drivers"
        liveries = sorted(drivers.glob(f"*/*/{model.stem}.rgb")) + sorted(drivers.glob(f"*/{model.stem}.rgb"))
        pairs += [(model, None), *((model, livery) for livery in liveries)]
    return pairs


def load_car(model: Path, livery: Path | None) -> Mesh:
    """The car with its wheels, facing +z, y up, in metres. Raises ArchiveError for broken files."""
    body = read_ac3d(model, livery)
    wheels, kind = read_wheels(model.with_suffix(".xml"))
    wheel_model = model.parents[2] / "wheels" / kind / "wheel0.acc"
    parts = [body]
    if wheel_model.is_file():
        unit = read_ac3d(wheel_model)
        parts += [place_wheel(unit, wheel) for wheel in wheels]
    return join(parts).moved(_FRONT_TO_Z, np.zeros(3))


def place_wheel(unit: Mesh, wheel: Wheel) -> Mesh:
    """The wheel model (its axle along z, its radius and width brought to the wheel's) at its place."""
    points = unit.corners.reshape(-1, 3)
    radius = float(np.hypot(points[:, 0], points[:, 1]).max())
    low, high = float(points[:, 2].min()), float(points[:, 2].max())
    # The model's outer face has the larger z; TORCS's y runs to the car's left, AC3D's z to its right.
    side = 1.0 if wheel.center[1] < 0 else -1.0
    axes: Floats = np.diag([wheel.radius / radius, wheel.radius / radius, side * wheel.width / (high - low)])
    x, y, z = wheel.center
    return unit.moved(axes, np.array([x, z, -y]) - axes @ [0, 0, (low + high) / 2])


def read_wheels(path: Path) -> tuple[list[Wheel], str]:
    """The four wheels of a car's XML file and the folder of their model; ArchiveError if it cannot be read."""
    try:
        text = path.read_text("latin-1")
        # The files refer to entities in other files; what is needed does not depend on them, so they are dropped.
        start = text.index("<params")
        root = ElementTree.fromstring("".join(line for line in text[start:].splitlines(True) if "&" not in line))
    except (OSError, ValueError, ElementTree.ParseError) as error:
        raise ArchiveError(f"{path}: not a car description ({error})") from None
    sections = {section.get("name"): section for section in root.iter("section")}
    kind = _text(sections.get("Graphic Objects"), "3d wheel directory") or _DEFAULT_WHEELS
    wheels = []
    for axle in ("Front", "Rear"):
        along = _number(sections.get(f"{axle} Axle"), "xpos", 1.3 if axle == "Front" else -1.3)
        for side, across in (("Right", -0.8), ("Left", 0.8)):
            section = sections.get(f"{axle} {side} Wheel")
            width = _number(section, "tire width", 245.0)
            width = width / 1000 if width > 1 else width
            rim = _number(section, "rim diameter", 18.0)
            rim = rim * _INCH if rim > 3 else rim
            radius = rim / 2 + width * _number(section, "tire height-width ratio", 0.4)
            wheels.append(Wheel((along, _number(section, "ypos", across), radius), radius, width))
    return wheels, Path(kind).name


def _number(section: ElementTree.Element | None, name: str, default: float) -> float:
    for item in () if section is None else section.iter("attnum"):
        if item.get("name") == name:
            return float(item.get("val", default))
    return default


def _text(section: ElementTree.Element | None, name: str) -> str | None:
    for item in () if section is None else section.iter("attstr"):
        if item.get("name") == name:
            return item.get("val")
    return None
