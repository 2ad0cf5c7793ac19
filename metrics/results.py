"""Result lines: one JSON object a line in `metric-<name>.jsonl` beside the snapshots, and what is read off them."""

from __future__ import annotations

import html
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

COVERAGE = 0.95


def append(record: Mapping[str, Any], run_dir: Path, snapshot: Path | None = None) -> dict[str, Any]:
    """Adds a record to the run's file of its metric and returns the line as written, with the snapshot's relative path.

    The line is written at once at the end of the file, so runs that score at the same time do not mix theirs.
    """
    relative = None if snapshot is None else os.path.relpath(snapshot, run_dir)
    line = {**record, "snapshot_pkl": relative}
    data = (json.dumps(line) + "\n").encode()
    descriptor = os.open(run_dir / f"metric-{record['metric']}.jsonl", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    try:
        os.write(descriptor, data)
    finally:
        os.close(descriptor)
    return line


def read(run_dir: Path, metric: str) -> list[dict[str, Any]]:
    """The lines of a metric that have a value, in a run folder, oldest first; empty where it was never computed.

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
    return [line for line in lines if "error" not in line]


def best(run_dir: Path, metric: str) -> dict[str, Any]:
    """The result line of the best snapshot that a run folder still has, the earliest of equals.

    A metric of several values is ranked by its first. Raises ValueError where no snapshot has been scored.
    """
    lines = [line for line in read(run_dir, metric) if (run_dir / (line["snapshot_pkl"] or "none")).is_file()]
    if not lines:
        raise ValueError(f"{run_dir}: no snapshot here has a {metric}; compute it with calc_metrics.py --every")
    sign = -1 if lines[0]["larger_is_better"] else 1
    return min(lines, key=lambda line: sign * main_value(line))


def keep_best(run_dir: Path, metric: str) -> list[Path]:
    """The snapshots removed from a run's folder, with their training states: all but the best and the newest.

    Nothing is removed while no snapshot has been scored.
    """
    snapshots = sorted(run_dir.glob("network-snapshot-*.pkl"))
    try:
        kept = {run_dir / best(run_dir, metric)["snapshot_pkl"], *snapshots[-1:]}
    except ValueError:
        return []
    removed = [path for path in snapshots if path not in kept]
    for path in removed:
        path.unlink()
        number = path.stem.rpartition("-")[2]
        path.with_name(f"training-state-{number}.pt").unlink(missing_ok=True)
    return removed


def main_value(record: Mapping[str, Any]) -> float:
    """The first value of a record, by which snapshots are ranked."""
    return next(iter(record["results"].values()))


def summary(record: Mapping[str, Any]) -> str:
    """A line for the terminal: values, with intervals where there are any, time and its stages; or what failed."""
    if "error" in record:
        return f"{record['metric']} failed: {record['error']}"
    stages = ", ".join(f"{stage} {cost:.1f}s" for stage, cost in record["seconds"].items())
    values = []
    for name, value in record["results"].items():
        draws = record.get("resampled", {}).get(name)
        low, high = interval(value, draws) if draws else (value, value)
        values.append(f"{name} = {value:.6g}" + (f" [{low:.6g}, {high:.6g}]" if draws else ""))
    return f"{', '.join(values)}   ({record['total_time_str']}: {stages})"


def interval(value: float, draws: Sequence[float]) -> tuple[float, float]:
    """The basic bootstrap interval (95 %) of a value: what resampling adds to it, taken away on the other side.

    Unlike percentiles of the draws it does not inherit the bias that distances have when pictures occur twice
    (Davison & Hinkley 1997, eq. 5.6).
    """
    low, high = np.quantile(draws, [(1 - COVERAGE) / 2, (1 + COVERAGE) / 2])
    return 2 * value - float(high), 2 * value - float(low)


@dataclass(frozen=True)
class Comparison:
    """Second minus first value, its 95 % interval, and which is better ("first", "second" or "undecided")."""

    name: str
    first: float
    second: float
    low: float
    high: float
    better: str


def compare(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[Comparison]:
    """The differences of two records of one metric, with intervals from their bootstrap values.

    Raises ValueError where the two are not comparable: another metric, protocol or data, or no bootstrap values.
    """
    for what in ("metric", "data", "detector", "estimator", "generated", "real", "truncation_psi"):
        a, b = (record["metric"] if what == "metric" else record["protocol"].get(what) for record in (first, second))
        if _identity(a) != _identity(b):
            raise ValueError(f"the two results cannot be compared: their {what} differ ({a} and {b})")
    if "resampled" not in first or "resampled" not in second:
        raise ValueError(f"{first['metric']}: a result has no bootstrap values; compute both with --bootstrap=200")
    comparisons = []
    for name, value in first["results"].items():
        other = second["results"][name]
        count = min(len(record["resampled"][name]) for record in (first, second))
        draws = np.subtract(second["resampled"][name][:count], first["resampled"][name][:count])
        low, high = interval(other - value, draws.tolist())
        sign = 1 if first["larger_is_better"] else -1
        better = "undecided" if low <= 0 <= high else "second" if sign * (other - value) > 0 else "first"
        comparisons.append(Comparison(name, value, other, low, high, better))
    return comparisons


def _identity(value: Any) -> Any:
    """What has to agree of a part of the protocol: contents, not names."""
    if isinstance(value, dict):
        return {key: item for key, item in value.items() if key not in ("name", "held_out")}
    return value


def table(records: Iterable[Mapping[str, Any]]) -> str:
    """Snapshots as rows and values as columns, aligned for a terminal, in the order in which they come."""
    rows: dict[str, dict[str, float]] = {}
    for record in records:
        place = record["snapshot"]["file"] if record["snapshot"] else "-"
        rows.setdefault(place, {}).update(record["results"])
    names = list(dict.fromkeys(name for values in rows.values() for name in values))
    cells = [["snapshot", *names]]
    for place, values in rows.items():
        cells.append([place, *(f"{values[name]:.5g}" if name in values else "" for name in names)])
    widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
    lines = ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in cells]
    return "\n".join(line.rstrip() for line in lines)


def kimg_of(record: Mapping[str, Any]) -> float | None:
    """How long a record's snapshot had been trained, by the number in its name."""
    found = re.search(r"(\d+)\.pkl$", record["snapshot"]["file"]) if record["snapshot"] else None
    return None if found is None else float(found[1])


COLORS = ("#1f6fb2", "#c8541c", "#2b8a4b", "#7d4fa3", "#a8871b", "#4a4a4a")


def plot(curves: Mapping[str, Sequence[tuple[float, float]]], title: str) -> str:
    """An SVG picture of curves of (kimg, value) by name."""
    width, height, left, bottom = 720, 400, 80, 50
    points = [point for curve in curves.values() for point in curve]
    spans = []
    for axis in (0, 1):
        low, high = min(p[axis] for p in points), max(p[axis] for p in points)
        margin = (high - low) * 0.05 or abs(high) * 0.05 or 1.0
        spans.append((low - margin * axis, high + margin))

    def place(point: tuple[float, float]) -> tuple[float, float]:
        shares = [(value - low) / (high - low) for value, (low, high) in zip(point, spans, strict=True)]
        return left + shares[0] * (width - left - 20), height - bottom - shares[1] * (height - bottom - 40)

    parts = [f'<text x="{left}" y="22" font-size="15">{html.escape(title)}</text>']
    for axis, (low, high) in enumerate(spans):
        for value in np.linspace(low, high, 5):
            x, y = place((value, spans[1][0]) if axis == 0 else (spans[0][0], value))
            anchor, dx, dy = ("middle", 0, 18) if axis == 0 else ("end", -8, 4)
            parts.append(f'<text x="{x + dx:.1f}" y="{y + dy:.1f}" text-anchor="{anchor}">{value:.4g}</text>')
            end = place((value, spans[1][1]) if axis == 0 else (spans[0][1], value))
            parts.append(f'<line x1="{x:.1f}" y1="{y:.1f}" x2="{end[0]:.1f}" y2="{end[1]:.1f}" stroke="#ddd"/>')
    parts.append(f'<text x="{width / 2}" y="{height - 10}" text-anchor="middle">kimg</text>')
    for number, (name, curve) in enumerate(curves.items()):
        color = COLORS[number % len(COLORS)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in map(place, sorted(curve)))
        parts.append(f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="2"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{color}"/>' for x, y in map(place, curve)]
        label = f'<text x="{width - 24}" y="{52 + 16 * number}" text-anchor="end" fill="{color}">'
        parts.append(f"{label}{html.escape(name)}</text>")
    body = "\n".join(parts)
    font = 'font-family="sans-serif" font-size="12"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" {font}>'
    return f'{head}\n<rect width="{width}" height="{height}" fill="white"/>\n{body}\n</svg>\n'
