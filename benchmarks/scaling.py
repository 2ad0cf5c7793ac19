"""How time and memory grow with rays, samples, batch and points, one at a time.

python -m benchmarks.scaling
python -m benchmarks.scaling --axis samples --device cuda --json FILE
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import click

from benchmarks.cost import facts
from benchmarks.fresh import in_fresh_process
from benchmarks.works import Setup, measure
from dnnlib.files import write_text
from training.precision import Precision

AXES: dict[str, tuple[str, tuple[int, ...]]] = {
    "raw_resolution": ("image", (32, 64, 128, 256)),
    "samples": ("image", (12, 24, 48, 96)),
    "batch": ("image", (1, 2, 4)),
    "points": ("density", (100_000, 1_000_000, 10_000_000)),
    "train_batch": ("train", (2, 4, 8)),
}
"""What grows, the work that it is a part of, and the values that it takes."""


@click.command()
@click.option("--axis", "axes", type=click.Choice(list(AXES)), multiple=True, help="What grows; default: each in turn.")
@click.option("--device", default="cpu", show_default=True, help="cpu or cuda.")
@click.option("--precision", type=click.Choice(get_args(Precision)), default="float32", show_default=True)
@click.option("--threads", default=2, show_default=True, help="CPU threads.")
@click.option("--json", "out", type=click.Path(dir_okay=False, path_type=Path), help="File for the results.")
def main(axes: tuple[str, ...], device: str, precision: Precision, threads: int, out: Path | None) -> None:
    """Print seconds and memory for each value of each axis."""
    setup = Setup(device=device, precision=precision, threads=threads)
    results = facts(setup) | {"works": []}
    click.echo(f"{'axis':<16}{'value':>10}  {'work':<22}{'median s':>10}{'peak MiB':>10}")
    for axis in axes or tuple(AXES):
        work, values = AXES[axis]
        for value in values:
            change: dict[str, Any] = {axis: value}
            for step, cost in in_fresh_process(measure, work, replace(setup, **change)).items():
                results["works"].append({"axis": axis, "value": value, "work": step, **cost})
                seconds, peak = cost["median_seconds"], cost["peak_bytes"] / 2**20
                click.echo(f"{axis:<16}{value:>10}  {step:<22}{seconds:>10.3f}{peak:>10.0f}")
    if out:
        write_text(out, json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
