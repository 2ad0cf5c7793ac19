"""How much faster several processes train than one, at the same batch over all of them.

    python -m benchmarks.processes --data SET.zip --json FILE -- --cfg=ffhq --batch=8 --gamma=1 --kimg=2

What follows `--` goes to train.py as it is. On a CPU each process computes in one thread.
"""

from __future__ import annotations

import json
import os
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

TICK_KIMG = "0.25"


def seconds_per_kimg(data: str, arguments: tuple[str, ...], processes: int) -> float:
    """Median over the ticks of a training, the first left out. Raises ValueError where there is no other."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "train.py", f"--outdir={folder}", f"--data={data}", f"--gpus={processes}"]
        command += [f"--tick={TICK_KIMG}", "--snap=1000", "--metrics=none", *arguments]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1"})
        lines = next(Path(folder).glob("*/stats.jsonl")).read_text().splitlines()
    rates = [json.loads(line)["Timing/sec_per_kimg"]["mean"] for line in lines[2:]]
    if not rates:
        raise ValueError(f"the training ended before its second tick; give --kimg of 4 * {TICK_KIMG} or more")
    return statistics.median(rates)


@click.command()
@click.option("--data", required=True, type=click.Path(exists=True), help="Data set.")
@click.option("--processes", default=2, show_default=True, help="How many are compared with one.")
@click.option("--json", "out", type=click.Path(dir_okay=False, path_type=Path), help="File for the results.")
@click.argument("arguments", nargs=-1)
def main(data: str, processes: int, out: Path | None, arguments: tuple[str, ...]) -> None:
    """Train with one process and with several, and print seconds for a thousand pictures."""
    rates = {count: seconds_per_kimg(data, arguments, count) for count in (1, processes)}
    for count, rate in rates.items():
        click.echo(f"{count} processes: {rate:.2f} s per kimg, {rates[1] / rate:.2f} times the speed of one")
    if out:
        facts: dict[str, Any] = {"date": datetime.now(UTC).isoformat(timespec="seconds"), "arguments": list(arguments)}
        device = "cuda" if torch.cuda.is_available() else "cpu"
        facts |= {"device": describe_device(torch.device(device)), "seconds_per_kimg": rates}
        write_text(out, json.dumps(facts, indent=1) + "\n")


if __name__ == "__main__":
    main()
