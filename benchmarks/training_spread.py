"""Whether a setting trains like another one: several seeds of each, compared by their spread.

    python -m benchmarks.training_spread --data SET.zip --variant=--precision=float32 --variant=--precision=bfloat16
        --seeds=0-2 --metric=kid500_full_lite --json FILE -- --cfg=ffhq --gpus=1 --batch=8 --gamma=1 --kimg=4

What follows `--` goes to train.py as it is. Of each run count the mean losses of its second half and the score of its
last snapshot. The first variant is the measure of the others: a difference of means within twice its standard
deviation over seeds, or the other's where that is larger, is called within the spread.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import torch

from benchmarks.measure import describe_device
from dnnlib.files import write_text
from training.commands import IntList

LOSSES = ("Loss/G/loss", "Loss/D/loss", "Loss/r1_penalty")
TICK_KIMG = "0.5"


def train(data: str, arguments: list[str], variant: str, seed: int, folder: Path) -> Path:
    """The folder of a finished run."""
    command = [sys.executable, "train.py", f"--outdir={folder}", f"--data={data}", f"--seed={seed}"]
    command += [f"--tick={TICK_KIMG}", "--snap=1000", "--metrics=none", *variant.split(), *arguments]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return next(path for path in folder.iterdir() if path.is_dir())


def curves(run: Path) -> dict[str, list[float]]:
    """Mean losses of every tick."""
    ticks = [json.loads(line) for line in (run / "stats.jsonl").read_text().splitlines()]
    return {name: [tick[name]["mean"] for tick in ticks if name in tick] for name in LOSSES}


def score(run: Path, metric: str) -> float:
    """The score of a run's last snapshot."""
    network = max(run.glob("network-snapshot-*.pkl"))
    command = [sys.executable, "calc_metrics.py", f"--network={network}", f"--metrics={metric}"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    line = (run / f"metric-{metric}.jsonl").read_text().splitlines()[-1]
    return json.loads(line)["results"][metric]


def observe(data: str, arguments: list[str], variant: str, seed: int, metric: str) -> dict[str, Any]:
    """What one run showed."""
    with tempfile.TemporaryDirectory() as folder:
        run = train(data, arguments, variant, seed, Path(folder))
        losses = curves(run)
        numbers = {name: statistics.fmean(values[len(values) // 2 :]) for name, values in losses.items()}
        numbers[metric] = score(run, metric)
    return {"variant": variant, "seed": seed, "numbers": numbers, "curves": losses}


def compared(runs: list[dict[str, Any]], first: str, other: str) -> dict[str, dict[str, float | bool]]:
    """For each number: means and deviations of two variants, and whether they are within the spread."""
    result = {}
    for name in runs[0]["numbers"]:
        groups = [[run["numbers"][name] for run in runs if run["variant"] == variant] for variant in (first, other)]
        means, deviations = [statistics.fmean(g) for g in groups], [statistics.stdev(g) for g in groups]
        within = abs(means[1] - means[0]) <= 2 * max(deviations)
        result[name] = dict(
            zip(("mean", "other_mean", "deviation", "other_deviation"), (*means, *deviations), strict=True),
            within=within,
        )
    return result


@click.command()
@click.option("--data", required=True, type=click.Path(exists=True), help="Data set.")
@click.option("--variant", "variants", multiple=True, required=True, help="Options of train.py; give at least two.")
@click.option("--seeds", type=IntList(), default="0-2", show_default=True, help="Two or more, such as 0-2.")
@click.option("--metric", default="kid500_full_lite", show_default=True, help="Score of the last snapshots.")
@click.option("--json", "out", type=click.Path(dir_okay=False, path_type=Path), help="File for the results.")
@click.argument("arguments", nargs=-1)
def main(
    data: str, variants: tuple[str, ...], seeds: list[int], metric: str, out: Path | None, arguments: tuple[str, ...]
) -> None:
    """Train every variant with every seed, and compare."""
    if len(variants) < 2 or len(seeds) < 2:
        raise click.UsageError("give --variant twice or more, and at least two seeds: a spread needs them")
    runs = []
    for seed in seeds:
        for variant in variants:
            runs.append(observe(data, list(arguments), variant, seed, metric))
            shown = ", ".join(f"{name} {value:.4g}" for name, value in runs[-1]["numbers"].items())
            click.echo(f"{variant}, seed {seed}: {shown}")
    comparisons = {other: compared(runs, variants[0], other) for other in variants[1:]}
    for other, comparison in comparisons.items():
        for name, both in comparison.items():
            verdict = "within the spread" if both["within"] else "beyond the spread"
            click.echo(
                f"{name:<20}{both['mean']:>10.4f} +- {both['deviation']:.4f}   "
                f"{other} {both['other_mean']:.4f} +- {both['other_deviation']:.4f}   {verdict}"
            )
    if out:
        facts: dict[str, Any] = {"date": datetime.now(UTC).isoformat(timespec="seconds")}
        facts |= {"device": describe_device(torch.device("cpu")), "arguments": list(arguments)}
        facts |= {"runs": runs, "comparisons": comparisons}
        write_text(out, json.dumps(facts, indent=1) + "\n")


if __name__ == "__main__":
    main()
