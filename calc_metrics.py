"""Scores of a snapshot: `python calc_metrics.py --network=SNAPSHOT --metrics=fid50k_full,kid50k_full`."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import torch
from training.snapshot import SnapshotError

from dnnlib.files import fetch
from metrics import registry, results
from metrics.evaluation import MetricError, Sampling
from metrics.features import DetectorError, Detectors, parse_source
from torch_utils import distributed
from training import snapshot
from training.dataset import DataConfig, DatasetError


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


def score(rank: int, processes: int, address: str | None, job: Job) -> list[dict[str, Any]]:
    """The result lines of a job, computed by this process together with the others and written by the first."""
    device = distributed.join(rank, processes, job.device, address)
    try:
        G = snapshot.load(job.network)["G_ema"].to(device).requires_grad_(False)
        records = registry.compute(
            job.names,
            G,
            job.data,
            device=device,
            snapshot=job.network,
            sampling=job.sampling,
            detectors=job.detectors,
            progress=job.verbose,
        )
        return report(records, job) if rank == 0 else []
    finally:
        distributed.leave()


def report(records: list[dict[str, Any]], job: Job) -> list[dict[str, Any]]:
    """The lines of the records, printed, and appended beside the snapshot where that is a run's folder."""
    folder = job.network.resolve().parent
    in_run = (folder / "training_options.json").is_file()
    for record in records:
        line = results.append(record, folder, job.network) if in_run else {**record, "snapshot_pkl": job.network.name}
        print(json.dumps(line))
        if job.verbose:
            print(results.summary(record), file=sys.stderr)
    return records


def data_of(kwargs: dict[str, Any] | None, path: str | None, mirror: bool | None) -> DataConfig:
    """The data set to compare with: the given one, or the one that the snapshot was trained on.

    Raises MetricError where neither is known.
    """
    known = DataConfig(**kwargs) if kwargs else DataConfig()
    chosen = path or known.path
    if not chosen:
        raise MetricError("the snapshot does not say what it was trained on; give the data set with --data")
    mirrored = known.mirror if mirror is None else mirror
    return DataConfig(path=chosen, mirror=mirrored, max_size=None if path else known.max_size, seed=known.seed)


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
            distributed.spawn(score, gpus, job).join()
    except (MetricError, DetectorError, DatasetError, SnapshotError, OSError, ValueError) as error:
        raise click.ClickException(str(error)) from error


if __name__ == "__main__":
    main()
