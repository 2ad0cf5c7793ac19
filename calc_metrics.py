"""Scores of a snapshot: `python calc_metrics.py --network=SNAPSHOT --metrics=fid50k_full,kid50k_full`."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import torch

from dnnlib.files import fetch
from metrics import registry, results
from metrics.evaluation import MetricError, Sampling
from metrics.features import DetectorError, Detectors, parse_source
from torch_utils import distributed
from training import snapshot
from training.dataset import DataConfig, DatasetError
from training.snapshot import SnapshotError


@dataclass(frozen=True)
class Job:
    """What every process of one call computes."""

    network: Path
    names: tuple[str, ...]
    data: DataConfig
    device: str
    sampling: Sampling
    verbose: bool
    detectors: dict[str, str] = field(default_factory=dict)


def score(rank: int, processes: int, address: str | None, job: Job) -> None:
    """Computes the job's metrics together with the other processes; the first one reports."""
    device = distributed.join(rank, processes, job.device, address)
    try:
        records = registry.compute(
            job.names,
            snapshot.load(job.network, device)["G_ema"],
            job.data,
            device=device,
            snapshot=job.network,
            sampling=job.sampling,
            detectors=job.detectors,
            progress=job.verbose,
        )
        if distributed.is_main():
            report(records, job)
    finally:
        distributed.leave()


def report(records: list[dict[str, Any]], job: Job) -> None:
    """Prints the result lines, and appends them beside the snapshot where that is a run's folder."""
    folder = job.network.resolve().parent
    in_run = (folder / "training_options.json").is_file()
    for record in records:
        line = results.append(record, folder, job.network.resolve()) if in_run else record
        print(json.dumps(line))
        if job.verbose:
            print(results.summary(record), file=sys.stderr)


def data_of(kwargs: dict[str, Any] | None, path: str | None, mirror: bool | None) -> DataConfig:
    """The data set to compare with: the given one, or the one that the snapshot was trained on.

    `kwargs` are the snapshot's notes on its data, ours or those of a published file (which says xflip for mirror).
    Raises MetricError where neither is known.
    """
    known = kwargs or {}
    chosen = path or known.get("path")
    if not chosen:
        raise MetricError("the snapshot does not say what it was trained on; give the data set with --data")
    mirrored = bool(known.get("mirror", known.get("xflip", False))) if mirror is None else mirror
    return DataConfig(path=str(chosen), mirror=mirrored, max_size=None if path else known.get("max_size"))


@click.command(context_settings={"show_default": True})
@click.option("--network", required=True, metavar="PKL|URL", help="Snapshot to score; its averaged generator is used.")
@click.option("--metrics", default="fid50k_full", help="Names, separated by commas; the count is part of a name.")
@click.option("--data", metavar="ZIP|DIR", help="Data set to compare with.  [default: that of the snapshot]")
@click.option("--mirror", type=bool, help="Whether the data set has mirrored copies.  [default: as in training]")
@click.option("--gpus", type=click.IntRange(min=1), default=1, help="Processes, one per GPU (or on the CPU).")
@click.option("--verbose", type=bool, default=True, help="Show progress and the time of each stage.")
@click.option("--device", type=click.Choice(["cuda", "cpu"]), help="[default: cuda where there is one]")
@click.option("--detector", "detectors", multiple=True, metavar="NAME=FILE|URL", help="Where a feature network is.")
@click.option("--seed", type=int, default=0, help="Seed of latents, cameras and noise.")
@click.option("--batch", type=click.IntRange(min=1), default=16, help="Pictures made at a time by a process.")
@click.option("--trunc", type=float, default=1.0, help="Truncation psi; published scores use 1.")
def main(
    network: str,
    metrics: str,
    data: str | None,
    mirror: bool | None,
    gpus: int,
    verbose: bool,
    device: str | None,
    detectors: tuple[str, ...],
    seed: int,
    batch: int,
    trunc: float,
) -> None:
    """Compute metrics of a snapshot; lines of JSON go to the terminal and beside a run's snapshot."""
    try:
        names = registry.parse_names(metrics)
        sources = dict(parse_source(text) for text in detectors)
        registry.require(names, Detectors(sources))
        path = fetch(network)
        job = Job(
            network=path,
            names=tuple(names),
            data=data_of(snapshot.load(path).get("training_set_kwargs"), data, mirror),
            device=device or ("cuda" if torch.cuda.is_available() else "cpu"),
            sampling=Sampling(seed=seed, batch=batch, truncation_psi=trunc),
            verbose=verbose,
            detectors=sources,
        )
        if gpus == 1:
            score(0, 1, None, job)
        else:
            workers = distributed.spawn(score, gpus, job)
            while not workers.join():
                pass
    except (MetricError, DetectorError, DatasetError, SnapshotError, OSError, ValueError) as error:
        raise click.ClickException(str(error)) from error


if __name__ == "__main__":
    main()
