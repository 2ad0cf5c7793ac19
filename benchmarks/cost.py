"""What pictures, densities and training steps cost, beside the least that their arithmetic could take.

    python -m benchmarks.cost                                    every work, float32, CPU
    python -m benchmarks.cost --precision bfloat16 --only image
    python -m benchmarks.cost --device cuda --json new.json --compare old.json

Each work runs in a process of its own. Times are medians after two warm-up runs, in seconds and in units (`u`) of one
fixed piece of work measured just before and after. The floor is the time of the work's convolutions and matrix
products at the best rate that the device reached in this format.
"""

from __future__ import annotations

import json
import shlex
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

import click
import torch

from benchmarks.fresh import in_fresh_process
from benchmarks.measure import best_rate, describe_device
from benchmarks.works import WORKS, Setup, measure
from benchmarks.yardstick import measured_apart
from dnnlib.files import write_text
from training.precision import Precision
from training.presets import SYSTEMS

R1_INTERVAL = 16
TRAINING_STEPS = ("generator_step", "discriminator_step", "r1_step")


@click.command()
@click.option("--system", type=click.Choice(list(SYSTEMS)), default="ballgan", show_default=True)
@click.option("--device", default="cpu", show_default=True, help="cpu or cuda.")
@click.option("--precision", type=click.Choice(get_args(Precision)), default="float32", show_default=True)
@click.option("--only", "names", type=click.Choice(list(WORKS)), multiple=True, help="A work; may be repeated.")
@click.option("--threads", default=2, show_default=True, help="CPU threads.")
@click.option("--kernels/--no-kernels", default=True, show_default=True, help="Our CUDA kernels, or plain torch.")
@click.option("--repeats", default=3, show_default=True, help="Runs that count, after two that warm up.")
@click.option("--unit-seconds", "unit", type=float, help="The unit, where it was measured by other means.")
@click.option("--json", "out", type=click.Path(dir_okay=False, path_type=Path), help="File for the results.")
@click.option("--compare", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Results of before.")
def main(
    system: str,
    device: str,
    precision: Precision,
    names: tuple[str, ...],
    threads: int,
    kernels: bool,
    repeats: int,
    unit: float | None,
    out: Path | None,
    compare: Path | None,
) -> None:
    """Measure the works and print a table."""
    setup = Setup(system=system, device=device, precision=precision, threads=threads, kernels=kernels, repeats=repeats)
    old = json.loads(compare.read_text())["works"] if compare else {}
    results = facts(setup)
    click.echo(heading(bool(old)))
    for name in names or tuple(WORKS):
        for step, cost in measured(name, setup, results["operations_per_second"], unit).items():
            results["works"][step] = cost
            click.echo(line(step, cost, old.get(step)))
    if out:
        write_text(out, json.dumps(results, indent=1) + "\n")


def facts(setup: Setup) -> dict[str, Any]:
    """What results mean nothing without, and room for them."""
    torch.set_num_threads(setup.threads)
    device = torch.device(setup.device)
    dtype = torch.bfloat16 if setup.precision == "bfloat16" else torch.float32
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": shlex.join(["python", "-m", "benchmarks.cost", *sys.argv[1:]]),
        "device": describe_device(device),
        "torch": torch.__version__,
        "system": setup.system,
        "precision": setup.precision,
        "kernels": setup.kernels,
        "operations_per_second": best_rate(device, dtype),
        "works": {},
    }


def measured(name: str, setup: Setup, rate: float, unit: float | None) -> dict[str, dict[str, float]]:
    """Costs of the steps of a work; training gets a whole iteration, of which R1 takes part in every 16th."""
    before = unit or measured_apart(setup.device, setup.threads)
    costs = in_fresh_process(measure, name, setup)
    during = (before + (unit or measured_apart(setup.device, setup.threads))) / 2
    if name == "train":
        costs["iteration"] = iteration(*(costs[step] for step in TRAINING_STEPS))
    for cost in costs.values():
        cost["unit_seconds"] = during
        cost["units"] = cost["median_seconds"] / during
        cost["floor_seconds"] = cost["flop"] / rate
        cost["floor_units"] = cost["floor_seconds"] / during
    return costs


def iteration(generator: dict, discriminator: dict, r1: dict) -> dict[str, float]:
    """Mean cost of a training iteration."""
    sums = {key: generator[key] + discriminator[key] + r1[key] / R1_INTERVAL for key in generator}
    return sums | {"peak_bytes": max(cost["peak_bytes"] for cost in (generator, discriminator, r1))}


def heading(compares: bool) -> str:
    """First line of the table."""
    titles = f"{'work':<22}{'median s':>10}{'best s':>9}{'u':>8}{'floor s':>9}{'floor u':>9}"
    titles += f"{'GFLOP':>9}{'peak MiB':>10}"
    return titles + ("    u of before" if compares else "")


def line(step: str, cost: dict[str, float], old: dict[str, float] | None) -> str:
    """One line of the table."""
    text = (
        f"{step:<22}{cost['median_seconds']:>10.3f}{cost['best_seconds']:>9.3f}{cost['units']:>8.2f}"
        f"{cost['floor_seconds']:>9.3f}{cost['floor_units']:>9.2f}{cost['flop'] / 1e9:>9.1f}"
        f"{cost['peak_bytes'] / 2**20:>10.0f}"
    )
    if old is None:
        return text
    return f"{text}{old['units']:>9.2f} ({cost['units'] / old['units'] - 1:+.0%})"


if __name__ == "__main__":
    main()
