"""Scores of snapshots: `python calc_metrics.py --network=SNAPSHOT --metrics=fid50k_full,kid50k_full`."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import torch

from dnnlib.files import fetch, is_url, write_text
from metrics import registry, results, scorecard, scorecard_page
from metrics.evaluation import Evaluation
from metrics.features import DetectorError, Detectors, parse_source
from metrics.types import MetricError, Sampling
from torch_utils import distributed
from training import snapshot
from training.archive import ArchiveError
from training.dataset import DataConfig, DatasetError
from training.run_folder import OPTIONS_FILE
from training.snapshot import SnapshotError

CARD = "scorecard"


@dataclass(frozen=True)
class Job:
    """What every process of one call computes, snapshot after snapshot; no names: a score card."""

    networks: tuple[Path, ...]
    names: tuple[str, ...]
    data: DataConfig
    device: str
    sampling: Sampling
    verbose: bool
    resamples: int
    detectors: dict[str, str]


def evaluation_of(network: Path, job: Job, device: torch.device) -> Evaluation:
    """A snapshot ready to be scored.

    Raises MetricError where it cannot give the job's metrics on the job's data, as far as that is known beforehand.
    """
    evaluation = registry.open_evaluation(
        snapshot.load(network, device)["G_ema"],
        job.data,
        device=device,
        sampling=job.sampling,
        detectors=job.detectors,
        progress=job.verbose,
        resamples=job.resamples,
    )
    registry.check(job.names, evaluation.generator, evaluation.dataset)
    return evaluation


def score(rank: int, processes: int, address: str | None, job: Job, failures: torch.Tensor) -> None:
    """Computes the job's metrics together with the other processes; the first one reports.

    A metric that fails for one snapshot adds to `failures` (one number in shared memory) and does not keep the rest
    from being computed.
    """
    device = distributed.join(rank, processes, job.device, address)
    try:
        for network in job.networks:
            evaluation = evaluation_of(network, job, device)
            with evaluation.generator_at_rest():
                records = [registry.attempt(evaluation, *registry.find(name), network) for name in job.names]
            if not job.names:
                records = write_card(evaluation, network)
            if distributed.is_main():
                report(records, network, job.verbose)
                failures += sum("error" in record for record in records)
    finally:
        distributed.leave()


def write_card(evaluation: Evaluation, network: Path) -> list[dict[str, Any]]:
    """The result records of a snapshot's score card, after its page was written beside the snapshot.

    A card that cannot be made is one record that says why.
    """
    try:
        card = scorecard.measure(evaluation, snapshot=network)
    except MetricError as error:
        return [{"metric": CARD, "results": {}, "error": str(error)}]
    if distributed.is_main():
        page = network.resolve().with_name(f"scorecard-{network.stem}.html")
        scorecard_page.write(page, card, evaluation, f"Score card of {network.name}")
        for question, lines in card.answers.items():
            failed = [line.check.title for line in lines if not line.passed]
            verdict = f"{len(lines) - len(failed)} of {len(lines)} checks passed"
            print(f"{question} {verdict}" + (f"; not: {', '.join(failed)}" if failed else ""), file=sys.stderr)
        print(f"Wrote {page}", file=sys.stderr)
    return list(card.records)


def in_run(network: Path) -> bool:
    """Whether a snapshot lies in the folder of a run, where result lines are kept."""
    return (network.resolve().parent / OPTIONS_FILE).is_file()


def report(records: Sequence[dict[str, Any]], network: Path, verbose: bool) -> None:
    """Prints the result lines, and appends them beside the snapshot where that is a run's folder."""
    path = network.resolve()
    for record in records:
        line = results.append(record, path.parent, path) if in_run(path) else record
        print(json.dumps(line))
        if "error" in record:
            print(f"Error: {network.name}: {results.summary(record)}", file=sys.stderr)
        elif verbose:
            print(results.summary(record), file=sys.stderr)


def data_of(kwargs: dict[str, Any] | None, path: str | None, mirror: bool | None) -> DataConfig:
    """The data set to compare with: the given one, or the one that the snapshot was trained on.

    `kwargs` are the snapshot's notes on its data, ours or those of a published file (which says xflip for mirror).
    Raises MetricError where neither is known, or the latter is not there.
    """
    known = kwargs or {}
    chosen = path or known.get("path")
    if not chosen:
        raise MetricError("the snapshot does not say what it was trained on; give the data set with --data")
    if path is None and not Path(chosen).expanduser().exists():
        raise MetricError(f"the snapshot was trained on {chosen}, which is not there; give the data set with --data")
    mirrored = bool(known.get("mirror", known.get("xflip", False))) if mirror is None else mirror
    return DataConfig(path=str(chosen), mirror=mirrored, max_size=None if path else known.get("max_size"))


def snapshots_of(network: str, every: bool) -> list[Path]:
    """The files that a `--network` means: a snapshot, or those of a run's folder, all or the last.

    Raises SnapshotError for a folder without snapshots.
    """
    path = Path(network).expanduser()
    if is_url(network) or not (path.is_dir() or every):
        return [fetch(network)]
    found = snapshot.snapshots_in(path if path.is_dir() else path.parent)
    return found if every else found[-1:]


Lines = dict[tuple[Path, str], dict[str, Any]]


def newest_lines(networks: Sequence[Path], names: Sequence[str]) -> Lines:
    """The last result line of each snapshot and metric, for those that lie in run folders."""
    found: Lines = {}
    for network in networks:
        for name in names:
            lines = [
                line for line in results.read(network.resolve().parent, name) if line["snapshot_pkl"] == network.name
            ]
            if lines:
                found[network, name] = lines[-1]
    return found


def draw_curves(path: Path, lines: Lines) -> None:
    """Writes the picture of the metrics over the length of training.

    Raises MetricError where there is nothing to draw.
    """
    curves: dict[str, list[tuple[float, float]]] = {}
    for (network, name), line in lines.items():
        kimg = results.kimg_of(line)
        if kimg is not None:
            curve = curves.setdefault(f"{network.resolve().parent.name} {name}", [])
            curve.append((kimg, results.main_value(line)))
    if not curves:
        raise MetricError("--plot: no snapshot of these has a result line in its run's folder")
    write_text(path, results.plot(curves, "Metrics over training"))
    print(f"Wrote {path}", file=sys.stderr)


def print_comparison(first: Path, last: Path, names: Sequence[str], lines: Lines) -> None:
    """Prints which of two snapshots is better by each metric, and how surely.

    Raises MetricError where one of the results is missing, ValueError where they are not comparable.
    """
    for name in names:
        if (first, name) not in lines or (last, name) not in lines or first == last:
            raise MetricError(f"--compare needs two different snapshots in run folders; {name} of both is not there")
        for found in results.compare(lines[first, name], lines[last, name]):
            difference = f"difference {found.second - found.first:+.4g} [{found.low:+.4g}, {found.high:+.4g}]"
            print(f"{found.name}: {found.first:.6g} -> {found.second:.6g}, {difference}, better: {found.better}")


@click.command(context_settings={"show_default": True})
@click.option(
    "--network", "networks", required=True, multiple=True, metavar="PKL|URL|RUN", help="Snapshot, or folder of a run."
)
@click.option("--metrics", default="fid50k_full", help="Names, separated by commas, or `scorecard` for a page.")
@click.option("--data", metavar="ZIP|DIR", help="Data set to compare with.  [default: that of the snapshot]")
@click.option("--mirror", type=bool, help="Whether the data set has mirrored copies.  [default: as in training]")
@click.option("--gpus", type=click.IntRange(min=1), default=1, help="Processes, one per GPU (or on the CPU).")
@click.option("--verbose", type=bool, default=True, help="Show progress and the time of each stage.")
@click.option("--device", type=click.Choice(["cuda", "cpu"]), help="[default: cuda where there is one]")
@click.option("--detector", "detectors", multiple=True, metavar="NAME=FILE|URL", help="Where a needed network is.")
@click.option("--seed", type=click.IntRange(min=0), default=0, help="Seed of latents, cameras and noise.")
@click.option("--batch", type=click.IntRange(min=1), default=16, help="Pictures made at a time by a process.")
@click.option("--trunc", type=float, default=1.0, help="Truncation psi; published scores use 1.")
@click.option("--every", is_flag=True, help="Score every snapshot of the run.")
@click.option("--bootstrap", type=click.IntRange(min=0), default=0, help="Resamples for 95 % intervals (200 is usual).")
@click.option("--compare", is_flag=True, help="Tell which of the first and last snapshot is better, and how surely.")
@click.option("--plot", type=click.Path(path_type=Path, dir_okay=False), help="SVG file for curves over kimg.")
@click.option("--best", is_flag=True, help="Compute nothing; print a run's best snapshot by its result lines.")
def main(
    networks: tuple[str, ...],
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
    every: bool,
    bootstrap: int,
    compare: bool,
    plot: Path | None,
    best: bool,
) -> None:
    """Compute metrics of snapshots.

    Lines of JSON with the whole protocol go to the terminal and, for a snapshot in a run's folder, to
    metric-NAME.jsonl there. docs/metrics.md says what each metric means.
    """
    try:
        names = [] if metrics.strip() == CARD else registry.parse_names(metrics)
        if not names and (best or metrics.strip() != CARD):
            raise MetricError(f"--metrics={metrics}: name at least one metric, such as fid50k_full")
        if best:
            print_best(networks, names)
            return
        sources = dict(parse_source(text) for text in detectors)
        registry.require(names or ["fid2_lite"], Detectors(sources))
        files = [file for network in networks for file in snapshots_of(network, every)]
        if plot is not None and not any(in_run(file) for file in files):
            raise MetricError(
                "--plot: none of these snapshots lies in the folder of a run, where result lines are kept"
            )
        job = Job(
            networks=tuple(files),
            names=tuple(names),
            data=data_of(snapshot.load(files[0]).get("training_set_kwargs"), data, mirror),
            device=device or ("cuda" if torch.cuda.is_available() else "cpu"),
            sampling=Sampling(seed=seed, batch=batch, truncation_psi=trunc),
            verbose=verbose,
            resamples=bootstrap,
            detectors=sources,
        )
        succeeded = run(job, gpus)
        if os.environ.get("RANK", "0") != "0":
            return
        lines = newest_lines(files, names)
        if len(files) > 1 and lines:
            print(results.table(lines.values()), file=sys.stderr)
        if plot is not None:
            draw_curves(plot, lines)
        if compare:
            print_comparison(files[0], files[-1], names, lines)
        if not succeeded:
            sys.exit(1)
    except (MetricError, DetectorError, DatasetError, SnapshotError, ArchiveError, OSError, ValueError) as error:
        raise click.ClickException(str(error)) from error


def run(job: Job, processes: int) -> bool:
    """Computes a job in this process, among those that torchrun started, or in several new ones.

    Returns whether all metrics succeeded.
    """
    failures = torch.zeros(1, dtype=torch.int32).share_memory_()
    if distributed.started_by_torchrun():
        score(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]), None, job, failures)
    elif processes == 1:
        score(0, 1, None, job, failures)
    else:
        for network in job.networks:  # what can be refused is refused here, in one sentence of one process
            evaluation_of(network, job, torch.device("cpu"))
        distributed.run_processes(score, processes, job, failures)
    return not failures.any()


def print_best(networks: Sequence[str], names: Sequence[str]) -> None:
    """Prints the best snapshot of each run by each metric."""
    for network in networks:
        folder = Path(network).expanduser()
        for name in names:
            line = results.best(folder, name)
            print(f"{folder / line['snapshot_pkl']}  {name} = {results.main_value(line):.6g}")


if __name__ == "__main__":
    main()
