"""What a data set knows about its pictures beyond their cameras."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from training.archive import Archive, ArchiveError, open_archive, parse_json
from training.dataset import ImageDataset

PARAMETERS = "parameters.json"
MOST_CHOICES = 64


@dataclass(frozen=True)
class Truth:
    """Ground truth beside the pictures of a data set, in their order.

    archive: files named after the pictures: `_mask.png`, `_depth.npy` (distance along the ray, infinite off the
    object). scenes: the drawn parameters of each picture.
    """

    archive: Archive
    names: list[str]
    scenes: list[dict[str, Any]]

    @staticmethod
    def beside(dataset: ImageDataset) -> Truth | None:
        """The truth in the archive that has `-truth` behind the data set's name, or None where there is none."""
        path = Path(dataset.config.path).expanduser()
        place = path.with_name(f"{path.stem}-truth{path.suffix}")
        if not place.exists():
            return None
        archive = open_archive(place)
        if PARAMETERS not in archive.names:
            return None
        content = parse_json(archive.read(PARAMETERS), f"{place}: {PARAMETERS}")
        scenes = dict(content["scenes"])
        missing = [name for name in dataset.image_names if name not in scenes]
        if missing:
            raise ArchiveError(f"{place}: holds no truth for {missing[0]} of {path}; make both with the same command")
        return Truth(archive, dataset.image_names, [scenes[name] for name in dataset.image_names])

    @property
    def fingerprint(self) -> list[Any]:
        """What changes when the truth does."""
        return list(self.archive.fingerprint(PARAMETERS))

    def mask(self, index: int) -> Tensor:
        """Share of each pixel that the object covers, `1 height width` in [0, 1]."""
        pixels = np.array(Image.open(io.BytesIO(self._read(index, "_mask.png"))))
        return torch.from_numpy(pixels).float()[None] / 255

    def depth(self, index: int) -> Tensor:
        """Distance along the ray of each pixel's centre, `1 height width`, infinite off the object."""
        return torch.from_numpy(np.load(io.BytesIO(self._read(index, "_depth.npy"))))[None]

    def _read(self, index: int, ending: str) -> bytes:
        return self.archive.read(self.names[index].rsplit(".", 1)[0] + ending)


@dataclass(frozen=True)
class Factors:
    """Drawn parameters as numbers: standardized values and one-hot choices."""

    numbers: tuple[str, ...]
    choices: tuple[tuple[str, tuple[str, ...]], ...]
    mean: Tensor
    std: Tensor

    @staticmethod
    def of(scenes: list[dict[str, Any]]) -> Factors:
        """The factors that vary among scenes: numbers, and texts with 2 to 64 values."""
        flat = [flatten(scene) for scene in scenes]
        numbers = tuple(name for name, value in flat[0].items() if isinstance(value, float))
        texts = [name for name, value in flat[0].items() if isinstance(value, str)]
        found = [(name, tuple(sorted({scene[name] for scene in flat}))) for name in texts]
        choices = tuple((name, values) for name, values in found if 2 <= len(values) <= MOST_CHOICES)
        values = torch.tensor([[scene[name] for name in numbers] for scene in flat])
        mean = values.mean(dim=0)
        return Factors(numbers, choices, mean, (values - mean).square().mean(dim=0).sqrt().clamp(min=1e-6))

    @property
    def size(self) -> int:
        """Numbers in a row."""
        return len(self.numbers) + sum(len(values) for _, values in self.choices)

    def rows(self, scenes: list[dict[str, Any]]) -> Tensor:
        """One row a scene: standardized numbers, then a 1 for each choice made."""
        flat = [flatten(scene) for scene in scenes]
        values = torch.tensor([[scene[name] for name in self.numbers] for scene in flat])
        ones = [[float(scene[name] == value) for name, values in self.choices for value in values] for scene in flat]
        return torch.cat([(values - self.mean) / self.std, torch.tensor(ones)], dim=1)


def flatten(record: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """A nested record with dotted names."""
    flat: dict[str, Any] = {}
    for name, value in record.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat
