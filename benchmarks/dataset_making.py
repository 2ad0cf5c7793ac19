"""Pictures per second that `dataset_tool.py convert` makes, on one core and on several.

    python -m benchmarks.dataset_making
    python -m benchmarks.dataset_making --count 10000 --workers 2 --json new.json

Converts a folder of made-up photographs: smooth shapes under fine noise, in PNGs compressed as usual. `cores`: CPU
seconds of all processes in a second, `cores_of_others`: those of the rest of the machine, which should be next to none.
`peak_bytes`: the most memory that all together held at once, memory that they share counted once (Linux alone;
elsewhere counted for each).
"""

from __future__ import annotations

import json
import os
import resource
import shlex
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import numpy as np
import psutil  # type: ignore[import-untyped]
import torch
from PIL import Image

from benchmarks.measure import describe_device
from dataset_preprocessing.parallel import default_workers
from dnnlib.files import write_text

REPOSITORY = Path(__file__).parents[1]
DIFFERENT = 100
"""Pictures that are made; the others are links to them."""
SAMPLING_SECONDS = 0.1


def write_photographs(folder: Path, count: int, side: int) -> int:
    """PNGs of smooth random pictures with some noise; returns their mean size in bytes."""
    random = np.random.default_rng(0)
    for index in range(count):
        path = folder / f"{index // 1000:03d}" / f"{index:06d}.png"
        path.parent.mkdir(exist_ok=True)
        if index >= DIFFERENT:
            os.link(folder / "000" / f"{index % DIFFERENT:06d}.png", path)
            continue
        coarse = Image.fromarray(random.integers(0, 256, (8, 8, 3), dtype=np.uint8))
        smooth = np.asarray(coarse.resize((side, side), Image.Resampling.BICUBIC), dtype=np.float32)
        noisy = smooth + random.normal(0, 4, smooth.shape)
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(path)
    first = list((folder / "000").iterdir())[:DIFFERENT]
    return sum(path.stat().st_size for path in first) // len(first)


def held_bytes(process: psutil.Process) -> int:
    """Memory of a process and its children."""
    total = 0
    for one in (process, *process.children(recursive=True)):
        try:
            info = one.memory_full_info()
        except psutil.Error:  # it has just ended
            continue
        total += getattr(info, "pss", info.rss)
    return total


def convert(source: Path, dest: Path, workers: int, options: tuple[str, ...]) -> dict[str, float]:
    """Seconds, CPU seconds and memory of one conversion, by the public command in a process of its own."""
    command = [sys.executable, "dataset_tool.py", "convert", f"--source={source}", f"--dest={dest}"]
    own, all_cores, start, peak = children_seconds(), machine_seconds(), time.perf_counter(), 0
    with subprocess.Popen(
        [*command, f"--workers={workers}", *options], cwd=REPOSITORY, stdout=subprocess.DEVNULL
    ) as running:
        process = psutil.Process(running.pid)
        while running.poll() is None:
            peak = max(peak, held_bytes(process))
            time.sleep(SAMPLING_SECONDS)
    if running.returncode:
        raise click.ClickException(f"the conversion ended with status {running.returncode}")
    seconds, busy = time.perf_counter() - start, children_seconds() - own
    others = max(machine_seconds() - all_cores - busy, 0)
    return {
        "seconds": seconds,
        "cpu_seconds": busy,
        "cores": busy / seconds,
        "cores_of_others": others / seconds,
        "peak_bytes": peak,
    }


def children_seconds() -> float:
    """CPU seconds of the processes that this one has started and seen end, with those that they had started."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def machine_seconds() -> float:
    """CPU seconds of all processes of the machine."""
    times = psutil.cpu_times()
    return times.user + times.system


@click.command()
@click.option("--count", default=1500, show_default=True, help="Pictures.")
@click.option("--side", default=512, show_default=True, help="Their size, pixels.")
@click.option("--resolution", default=512, show_default=True, help="Size of the pictures to make.")
@click.option("--workers", "workers_list", multiple=True, type=int, help="Cores to work on; may be repeated.  [1, all]")
@click.option("--folder", type=click.Path(file_okay=False, path_type=Path), help="Where to work.  [a temporary one]")
@click.option("--json", "out", type=click.Path(dir_okay=False, path_type=Path), help="File for the results.")
def main(
    count: int, side: int, resolution: int, workers_list: tuple[int, ...], folder: Path | None, out: Path | None
) -> None:
    """Measure conversions of one folder and print a line for each."""
    results: dict[str, Any] = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": shlex.join(["python", "-m", "benchmarks.dataset_making", *sys.argv[1:]]),
        "device": f"{describe_device(torch.device('cpu'))}, {default_workers()} cores",
        "pictures": {"count": count, "side": side, "resolution": resolution},
        "conversions": [],
    }
    with tempfile.TemporaryDirectory(dir=folder) as place:
        source, dest = Path(place) / "photographs", Path(place) / "set.zip"
        source.mkdir()
        results["pictures"]["mean_bytes"] = write_photographs(source, count, side)
        for workers in workers_list or (1, default_workers()):
            cost = convert(source, dest, workers, (f"--resolution={resolution}x{resolution}",))
            dest.unlink()
            line = {"workers": workers, "pictures_per_second": count / cost["seconds"], **cost}
            line["speed_up"] = results["conversions"][0]["seconds"] / cost["seconds"] if results["conversions"] else 1.0
            results["conversions"].append(line)
            click.echo(
                f"{workers} workers: {line['pictures_per_second']:.0f} pictures/s, {line['cores']:.2f} cores "
                f"(others {line['cores_of_others']:.2f}), "
                f"{line['peak_bytes'] / 2**20:.0f} MiB, {line['speed_up']:.2f} times the first"
            )
    if out:
        write_text(out, json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
