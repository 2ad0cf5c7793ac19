"""From the name of a metric to its value and the record of how it was computed."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from dnnlib.files import cache_folder, sha256_of
from dnnlib.util import format_seconds
from metrics import (
    consistency,
    equivariance,
    estimated,
    fid,
    inception_score,
    kid,
    mesh_statistics,
    nonflatness,
    opacity,
    path_length,
    precision_recall,
    reprojection,
)
from metrics.estimators.source import check_truth
from metrics.evaluation import Evaluation
from metrics.features import PLUG_INS, Detectors
from metrics.names import Request, match
from metrics.store import Store
from metrics.types import MISHAPS, GeneratorLike, MetricError, Sampling, in_words
from torch_utils import distributed
from training.cameras.prior import CameraPrior
from training.dataset import DataConfig, ImageDataset


def anything(request: Request, generator: GeneratorLike, dataset: ImageDataset) -> None:
    """Finds nothing wrong."""


@dataclass(frozen=True)
class Family:
    """Metrics that differ in count and variant; `pattern` is how their names read.

    detector: the feature network without `_lite`, None where none is needed. larger_is_better: how to rank.
    check: raises MetricError where generator and data set cannot give the metric, which is known before the first
    picture.
    """

    name: str
    pattern: str
    example: str
    measure: Callable[[Evaluation, Request], dict[str, float]]
    detector: str | None = None
    larger_is_better: bool = False
    default_count: int = 50_000
    check: Callable[[Request, GeneratorLike, ImageDataset], None] = anything


COUNT, COUNT_K = r"(?P<count>\d+k?)", r"(?P<count>\d+k|\d+_)"
FULL, LITE = r"(?P<full>_full)?", r"(?P<lite>_lite)?"
TRAINED, EMBEDDER = r"(?P<source>_trained)?", r"(?P<source>_lite|_faces|_trained)?"
FAMILIES = (
    Family("fid", f"fid{COUNT}{FULL}{LITE}", "fid50k_full", fid.measure, "inception"),
    Family("fid3d", f"fid3d{COUNT}{FULL}{LITE}", "fid3d50k_full", fid.measure_fixed_pose, "inception"),
    Family(
        "fidfg",
        f"fidfg{COUNT}{FULL}{LITE}",
        "fidfg50k_full",
        fid.measure_recomposed,
        "inception",
        check=fid.check_background,
    ),
    Family("kid", f"kid{COUNT}{FULL}{LITE}", "kid50k_full", kid.measure, "inception", check=kid.check),
    Family(
        "pr",
        rf"pr{COUNT_K}(?P<neighbours>\d){FULL}{LITE}",
        "pr50k3_full",
        precision_recall.measure,
        "vgg16",
        larger_is_better=True,
        check=precision_recall.check,
    ),
    Family(
        "is",
        rf"is{COUNT}{LITE}",
        "is50k",
        inception_score.measure,
        "inception",
        larger_is_better=True,
        check=inception_score.check,
    ),
    Family(
        "ppl2_wend",
        rf"ppl2_wend(?:_{COUNT})?{LITE}",
        "ppl2_wend",
        path_length.measure,
        "vgg16",
        check=path_length.check,
    ),
    Family("eqt_int", rf"eqt{COUNT}_int", "eqt50k_int", equivariance.measure_whole_shifts, larger_is_better=True),
    Family("eqt_frac", rf"eqt{COUNT}_frac", "eqt50k_frac", equivariance.measure_part_shifts, larger_is_better=True),
    Family("eqr", rf"eqr{COUNT}", "eqr50k", equivariance.measure_rotations, larger_is_better=True),
    Family(
        "id",
        f"id{COUNT}{EMBEDDER}",
        "id1k_lite",
        consistency.measure,
        "embedder",
        larger_is_better=True,
        check=check_truth,
    ),
    Family("depth", f"depth{COUNT}{TRAINED}", "depth1k_trained", estimated.measure_depth, "depth", check=check_truth),
    Family("pose", f"pose{COUNT}{TRAINED}", "pose1k_trained", estimated.measure_pose, "pose"),
    Family(
        "mask",
        f"mask{COUNT}{TRAINED}",
        "mask1k_trained",
        estimated.measure_mask,
        "mask",
        larger_is_better=True,
        check=check_truth,
    ),
    Family(
        "modes",
        f"modes{COUNT}(?P<source>_trained)",
        "modes1k_trained",
        estimated.measure_modes,
        larger_is_better=True,
        check=check_truth,
    ),
    Family("reprojection", f"reprojection{COUNT}", "reprojection1k", reprojection.measure),
    Family("nfs", f"nfs{COUNT}", "nfs1k", nonflatness.measure, larger_is_better=True),
    Family("separation", f"separation{COUNT}", "separation1k", opacity.measure_separation, larger_is_better=True),
    Family("tightness", f"tightness{COUNT}", "tightness1k", opacity.measure_tightness),
    Family("mesh", f"mesh{COUNT}", "mesh16", mesh_statistics.measure, check=mesh_statistics.check),
)
"""All metrics; the docstring of each `measure` says what its value means."""


def find(name: str) -> tuple[Family, Request]:
    """The family and the request of a metric's name.

    Raises MetricError for a name that is none, with examples of the right ones.
    """
    for family in FAMILIES:
        request = match(name, family.name, family.pattern, family.default_count)
        if request is not None:
            if request.count < 1:
                raise MetricError(f"{name}: a metric of 0 pictures has no value")
            return family, request
    examples = ", ".join(family.example for family in FAMILIES)
    raise MetricError(
        f"unknown metric {name!r}; there are {examples}, each with any count (fid2k_full) and, where a feature network "
        "is needed, with _lite at the end for the small packaged one"
    )


def parse_names(text: str) -> list[str]:
    """The names of a comma-separated list; empty for "none".

    Raises MetricError for a name that is no metric.
    """
    names = [name.strip() for name in text.split(",") if name.strip()] if text.strip().lower() != "none" else []
    for name in names:
        find(name)
    return names


def check(names: Iterable[str], generator: GeneratorLike, dataset: ImageDataset) -> None:
    """Returns if generator and data set can give these metrics; the generator may be without weights.

    Raises MetricError, which begins with the name of the metric.
    """
    for name in names:
        family, request = find(name)
        try:
            family.check(request, generator, dataset)
        except MetricError as error:
            raise MetricError(f"{name}: {error}") from error


def require(names: Iterable[str], detectors: Detectors, side: int = 64) -> None:
    """Loads and tries the feature networks that these metrics need, so that what they lack is known at the start.

    The user's own are shown two grey pictures of `side` pixels.

    Raises MetricError for a wrong name and DetectorError for a network that cannot be had.
    """
    for name in names:
        family, request = find(name)
        packaged = "lite" if request.lite else request.source
        if family.detector is not None and packaged != "trained":
            detector = detectors.get(packaged or family.detector)
            if not packaged and family.detector in PLUG_INS:
                grey = torch.full([2, 3, side, side], 128, dtype=torch.uint8, device=detectors.device)
                with torch.no_grad():
                    detector.features(grey)


def compute(
    names: Iterable[str],
    G: GeneratorLike,
    data: DataConfig | ImageDataset,
    *,
    device: torch.device | str = "cpu",
    snapshot: Path | None = None,
    sampling: Sampling | None = None,
    detectors: Mapping[str, str] | None = None,
    cameras: CameraPrior | None = None,
    progress: bool = True,
    resamples: int = 0,
) -> list[dict[str, Any]]:
    """Result records of metrics of one generator, in training and stand-alone alike; pictures are shared among them.

    Where several processes have joined (`torch_utils.distributed.join`), all call this, share the work and get the
    records. `snapshot` is the file that holds G, for the record. `detectors` are sources by name (see
    `metrics.features.Detectors`). `cameras` are where pictures are seen from if the data set has no labels.
    `resamples` > 0 adds that many bootstrap values.

    Raises MetricError, with one sentence that names the mend.
    """
    requests = [find(name) for name in names]
    evaluation = open_evaluation(
        G,
        data,
        device=device,
        sampling=sampling,
        detectors=detectors,
        cameras=cameras,
        progress=progress,
        resamples=resamples,
    )
    with evaluation.generator_at_rest():
        return [measure(evaluation, family, request, snapshot) for family, request in requests]


def open_evaluation(
    G: GeneratorLike,
    data: DataConfig | ImageDataset,
    *,
    device: torch.device | str = "cpu",
    sampling: Sampling | None = None,
    detectors: Mapping[str, str] | None = None,
    cameras: CameraPrior | None = None,
    progress: bool = True,
    resamples: int = 0,
) -> Evaluation:
    """An evaluation of G on a data set, with the user's cache folder as its store; arguments as for `compute`."""
    return Evaluation(
        generator=G,
        dataset=data if isinstance(data, ImageDataset) else ImageDataset(data),
        detectors=Detectors(detectors or {}, device),
        store=Store(cache_folder() / "features"),
        sampling=sampling or Sampling(),
        cameras=cameras,
        device=device,
        progress=progress,
        resamples=resamples,
    )


def measure(evaluation: Evaluation, family: Family, request: Request, snapshot: Path | None) -> dict[str, Any]:
    """The record of one metric: value, cost of each stage and all that is needed to repeat it.

    Raises MetricError where the metric cannot be computed or has no finite value.
    """
    evaluation.begin()
    start = time.perf_counter()
    check([request.name], evaluation.generator, evaluation.dataset)
    results = family.measure(evaluation, request)
    if not all(math.isfinite(value) for value in results.values()):
        raise MetricError(f"no finite value for this snapshot: {results}")
    return _record(evaluation, family, request, snapshot, results, time.perf_counter() - start)


def attempt(evaluation: Evaluation, family: Family, request: Request, snapshot: Path | None) -> dict[str, Any]:
    """The record of one metric as from `measure`; where it fails, one without results that says why as `error`."""
    start = time.perf_counter()
    try:
        return measure(evaluation, family, request, snapshot)
    except MISHAPS as error:
        record = _record(evaluation, family, request, snapshot, {}, time.perf_counter() - start)
        return record | {"error": in_words(error)}


def _record(
    evaluation: Evaluation,
    family: Family,
    request: Request,
    snapshot: Path | None,
    results: dict[str, float],
    seconds: float,
) -> dict[str, Any]:
    file = None if snapshot is None else {"file": snapshot.name, "sha256": sha256_of(snapshot)}
    return {
        "results": results,
        **({"resampled": evaluation.draws} if evaluation.draws else {}),
        "metric": request.name,
        "larger_is_better": family.larger_is_better,
        "total_time": seconds,
        "total_time_str": format_seconds(seconds),
        "seconds": {stage: round(cost, 3) for stage, cost in evaluation.seconds.items()},
        "num_gpus": distributed.world_size(),
        "device": str(evaluation.device),
        "snapshot": file,
        "timestamp": time.time(),
        "protocol": evaluation.protocol(),
        "warnings": list(evaluation.warnings),
        "versions": {"torch": str(torch.__version__)},
    }
