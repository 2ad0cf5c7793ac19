"""One page about a snapshot: is it really 3-D, and is the foreground really separate?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from metrics import registry
from metrics.checks import QUESTIONS, Check
from metrics.estimators.truth import PARAMETERS, Truth
from metrics.evaluation import Evaluation
from metrics.ground_truth import GroundTruth
from torch_utils import distributed
from training.archive import parse_json
from training.dataset import ImageDataset


@dataclass(frozen=True)
class Counts:
    """How many pictures, scenes and meshes a card looks at."""

    pictures: int = 256
    scenes: int = 64
    meshes: int = 8


@dataclass(frozen=True)
class Line:
    """A check with its outcome, and the value of a perfect renderer where the data set has one."""

    check: Check
    value: float
    ideal: float | None

    @property
    def passed(self) -> bool:
        """Whether the value is good."""
        return self.check.gate.passes(self.value, self.ideal)


@dataclass(frozen=True)
class Card:
    """The answers by question, and the result records that they come from."""

    answers: dict[str, tuple[Line, ...]]
    records: tuple[dict[str, Any], ...]

    def failures(self) -> set[str]:
        """Keys of the checks that did not pass."""
        return {line.check.key for lines in self.answers.values() for line in lines if not line.passed}

    def to_dict(self) -> dict[str, Any]:
        """Plain containers, for JSON."""
        return {
            line.check.key: {"value": line.value, "ideal": line.ideal, "passed": line.passed}
            for lines in self.answers.values()
            for line in lines
        }


def names_for(dataset: ImageDataset, generator: Any, counts: Counts) -> dict[str, str]:
    """The metrics of a card by plain name: those that the data set and the generator can answer."""
    pictures, scenes = counts.pictures, counts.scenes
    names = {
        "fid": f"fid{pictures}_full_lite",
        "fid3d": f"fid3d{pictures}_full_lite",
        "pr": f"pr{pictures}_3_full_lite",
        "reprojection": f"reprojection{scenes}",
        "nfs": f"nfs{scenes}",
        "separation": f"separation{scenes}",
        "tightness": f"tightness{scenes}",
        "pose": f"pose{scenes}_trained",
    }
    if Truth.beside(dataset) is None:
        names["id"] = f"id{scenes}_lite"
    else:
        trained = {"depth": scenes, "mask": scenes, "id": scenes, "modes": pictures}
        names |= {name: f"{name}{count}_trained" for name, count in trained.items()}
    if getattr(generator, "background_z_dim", 0):
        names["fidfg"] = f"fidfg{pictures}_full_lite"
    if hasattr(generator, "field"):
        names["mesh"] = f"mesh{counts.meshes}"
    return names


def measure(evaluation: Evaluation, counts: Counts | None = None, snapshot: Path | None = None) -> Card:
    """The card of an evaluation; where the data set is synthetic, beside what a perfect renderer of it scores."""
    counts = counts or Counts()
    names = names_for(evaluation.dataset, evaluation.generator, counts)
    with evaluation.generator_at_rest():
        records = [registry.measure(evaluation, *registry.find(name), snapshot) for name in names.values()]
    ideal = ideal_values(evaluation, counts)
    return Card(answers(plain_values(names, records), ideal), tuple(records))


def answers(values: Mapping[str, float], ideal: Mapping[str, float] | None) -> dict[str, tuple[Line, ...]]:
    """The lines of each question for which there are values."""
    found = {}
    for question, checks in QUESTIONS.items():
        read = [(check, check.read(values), check.read(ideal or {})) for check in checks]
        found[question] = tuple(Line(check, value, best) for check, value, best in read if value is not None)
    return found


def plain_values(names: Mapping[str, str], records: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """The values of records with the counts taken out of their names: fid256_full_lite becomes fid."""
    values: dict[str, float] = {}
    for plain, record in zip(names, records, strict=True):
        values |= {name.replace(record["metric"], plain): value for name, value in record["results"].items()}
    return values


def ideal_values(evaluation: Evaluation, counts: Counts) -> dict[str, float] | None:
    """What a perfect renderer of the data set scores, kept by content; None where the set is not synthetic."""
    truth = Truth.beside(evaluation.dataset)
    if truth is None:
        return None
    options = parse_json(truth.archive.read(PARAMETERS), PARAMETERS)["options"]
    if options.get("work") != "synthetic":
        return None
    generator = GroundTruth.like(options)
    names = names_for(evaluation.dataset, generator, counts)
    key = {
        "kind": "ideal",
        "data": evaluation.dataset.content_hash,
        "names": names,
        "seed": evaluation.sampling.seed,
        "recipe": asdict(evaluation.recipe),
        "format": 2,
    }
    kept = distributed.broadcast_object(evaluation.store.load(key) if distributed.is_main() else None)
    if kept is None:
        perfect = Evaluation(
            generator,
            evaluation.dataset,
            evaluation.detectors,
            evaluation.store,
            evaluation.sampling,
            device=evaluation.device,
            progress=evaluation.progress,
            recipe=evaluation.recipe,
        )
        records = [registry.measure(perfect, *registry.find(name), None) for name in names.values()]
        kept = {name: np.array(value) for name, value in plain_values(names, records).items()}
        if distributed.is_main():
            evaluation.store.save(key, kept)
    return {name: float(value) for name, value in kept.items()}
