"""Result lines: one JSON object a line in `metric-<name>.jsonl` beside the snapshots."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def append(record: Mapping[str, Any], run_dir: Path, snapshot: Path | None = None) -> dict[str, Any]:
    """Adds a record to the run's file of its metric and returns the line as written, with the snapshot's relative path.

    The line is written at once at the end of the file, so runs that score at the same time do not mix theirs.
    """
    relative = None if snapshot is None else os.path.relpath(snapshot, run_dir)
    line = {**record, "snapshot_pkl": relative}
    data = (json.dumps(line, allow_nan=False) + "\n").encode()
    descriptor = os.open(run_dir / f"metric-{record['metric']}.jsonl", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    try:
        os.write(descriptor, data)
    finally:
        os.close(descriptor)
    return line


def read(run_dir: Path, metric: str) -> list[dict[str, Any]]:
    """All result lines of a metric in a run folder, oldest first; empty where it was never computed.

    Raises ValueError, naming file and line, for a line that is not JSON.
    """
    path = run_dir / f"metric-{metric}.jsonl"
    if not path.is_file():
        return []
    lines = []
    for number, text in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            lines.append(json.loads(text))
        except ValueError as error:
            raise ValueError(f"{path}, line {number}: not JSON ({error}); remove that line") from error
    return lines


def summary(record: Mapping[str, Any]) -> str:
    """A line for the terminal: values, time and its stages."""
    values = ", ".join(f"{name} = {value:.6g}" for name, value in record["results"].items())
    stages = ", ".join(f"{stage} {cost:.1f}s" for stage, cost in record["seconds"].items())
    return f"{values}   ({record['total_time_str']}: {stages})"
