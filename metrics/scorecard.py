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
from metrics.types import MetricError
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
    """A check with its outcome, and the value of a perfect renderer where the data set has one.

    value: None where the metric failed; `error` says why.
    """

    check: Check
    value: float | None
    ideal: float | None
    error: str = ""

    @property
    def passed(self) -> bool:
        """Whether there is a value, and a good one."""
        return self.value is not None and self.check.gate.passes(self.value, self.ideal)

    @property
    def tells(self) -> str:
        """What a check that did not pass means."""
        return "" if self.passed else self.error or self.check.tells


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
            line.check.key: {"value": line.value, "ideal": line.ideal, "passed": line.passed, "tells": line.tells}
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
    """The card of an evaluation; where the data set is synthetic, beside what a perfect renderer of it scores.

    A metric that fails fails its checks. Raises MetricError where all do.
    """
    counts = counts or Counts()
    names = names_for(evaluation.dataset, evaluation.generator, counts)
    with evaluation.generator_at_rest():
        records = [registry.attempt(evaluation, *registry.find(name), snapshot) for name in names.values()]
    errors = {plain: record["error"] for plain, record in zip(names, records, strict=True) if "error" in record}
    if len(errors) == len(names):
        raise MetricError(next(iter(errors.values())))
    ideal = ideal_values(evaluation, counts)
    return Card(answers(plain_values(names, records), ideal, errors), tuple(records))


def answers(
    values: Mapping[str, float], ideal: Mapping[str, float] | None, errors: Mapping[str, str]
) -> dict[str, tuple[Line, ...]]:
    """The lines of each question for which there are values, or errors of the metrics that should give them."""

    def line(check: Check) -> Line | None:
        value, error = check.read(values), " ".join(errors[name] for name in check.metrics if name in errors)
        return Line(check, value, check.read(ideal or {}), error) if value is not None or error else None

    return {
        question: tuple(found for check in checks if (found := line(check)) is not None)
        for question, checks in QUESTIONS.items()
    }


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
