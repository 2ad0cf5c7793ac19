"""Compares this project with golden numbers of the released systems.

    python -m tests.parity.check FILE.json [...]
    python -m tests.parity.check --snapshot FILE.pkl FILE.json

For every array of a file: the largest difference over its tolerance, which must not exceed 1. Exit status 0 if all
arrays of all files hold; an array that nobody knows how to compute counts as a failure.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import click
import numpy as np
import torch

from tests.parity import augment, cameras, gaps, generator, numbers, ops, snapshot, superresolution
from tests.parity.golden import Golden

FUNCTION_KINDS = (ops, augment, cameras)
NAME_WIDTH = 52


@dataclass(frozen=True)
class Row:
    """The outcome for one array: its largest error over tolerance, or why there is none."""

    name: str
    ratio: float | None = None
    problem: str = ""
    required: bool = True

    @property
    def holds(self) -> bool:
        """Whether the array was computed and agrees."""
        return self.ratio is not None and self.ratio <= 1

    def __str__(self) -> str:
        verdict = "ok" if self.holds else "FAILED" if self.ratio is not None else self.problem
        ratio = " " * 9 if self.ratio is None else f"{self.ratio:9.3f}"
        return f"  {self.name:<{NAME_WIDTH}} {ratio}  {verdict}"


def kind_of(golden: Golden) -> ModuleType:
    """The module that knows the arrays of a file."""
    if "official_module" in golden.spec:
        return superresolution
    if "G_state_dict" in golden.spec:
        return generator
    if "globals" in golden.spec:
        return snapshot
    if "state_dicts" in golden.spec:
        return gaps
    return max(FUNCTION_KINDS, key=lambda kind: sum(kind.recipes.find(name) is not None for name in golden.outputs))


def check(golden: Golden, pickle: Path | None = None) -> Iterator[Row]:
    """The outcomes for all arrays of a file, in its order; of a snapshot, for the weights of its networks too."""
    kind = kind_of(golden)
    case = kind.Case(golden) if pickle is None else snapshot.Case(golden, pickle)
    if pickle is not None:
        for name, difference in case.weight_errors().items():
            yield Row(f"{name} weights", 0.0 if difference == 0 else float("inf"))
    for name in golden.outputs:
        yield check_array(golden, kind, case, name)
    for name in golden.undescribed:
        yield Row(name, problem="not described")
    for name, value in golden.spec.get("numbers", {}).items():
        yield check_number(case, name, value)


def check_array(golden: Golden, kind: ModuleType, case: Any, name: str) -> Row:
    """The outcome for one array."""
    recipe = kind.recipes.find(name)
    if recipe is None or name not in golden.values:
        return Row(name, problem="not checked")
    function, match = recipe
    try:
        actual = function(case, match, golden.entry(name))
    except Exception as error:  # whatever goes wrong belongs into the table, beside the arrays that hold
        return Row(name, problem=f"{type(error).__name__}: {error}")
    return compare(name, np.asarray(torch.as_tensor(actual).detach()), golden.values[name], golden.tolerance(name))


def check_number(case: Any, name: str, value: Any) -> Row:
    """The outcome for a number or table beside the arrays; many only tell of the released code."""
    recipe = numbers.recipes.find(name)
    if recipe is None:
        return Row(name[:NAME_WIDTH], problem="not compared", required=False)
    function, match = recipe
    try:
        return Row(name[:NAME_WIDTH], function(case, match, value))
    except Exception as error:  # as above
        return Row(name[:NAME_WIDTH], problem=f"{type(error).__name__}: {error}")


def compare(name: str, actual: np.ndarray, expected: np.ndarray, tolerance: np.ndarray) -> Row:
    """The largest difference over its tolerance."""
    if actual.shape != expected.shape:
        return Row(name, problem=f"shape {list(actual.shape)} instead of {list(expected.shape)}")
    difference = np.abs(actual.astype(np.float64) - expected)
    ratio = np.where(difference == 0, 0, difference / np.maximum(tolerance, np.finfo(float).tiny))
    return Row(name, float(np.max(np.nan_to_num(ratio, nan=np.inf), initial=0)))


def report(path: Path, pickle: Path | None = None) -> bool:
    """Prints the table of a file; whether all of it holds."""
    print(path)
    rows = []
    for row in check(Golden.read(path), pickle):
        rows.append(row)
        print(row, flush=True)
    rows = [row for row in rows if row.required]
    good = sum(row.holds for row in rows)
    print(f"  {good} of {len(rows)} hold\n")
    return good == len(rows)


EXISTING = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command()
@click.argument("files", nargs=-1, required=True, type=EXISTING)
@click.option("--snapshot", "pickle", type=EXISTING, help="Official snapshot that the one FILE describes.")
def main(files: tuple[Path, ...], pickle: Path | None) -> None:
    """Compare with golden files: error over tolerance for every array."""
    if pickle is not None and len(files) != 1:
        raise click.UsageError("--snapshot goes with the one json that describes it")
    results = [holds(path, pickle) for path in files]
    sys.exit(0 if all(results) else 1)


def holds(path: Path, pickle: Path | None) -> bool:
    """Whether all of a file holds; one that cannot be read does not, and is told."""
    try:
        return report(path, pickle)
    except (OSError, ValueError) as error:
        click.echo(f"Error: {error}\n", err=True)
        return False


if __name__ == "__main__":
    main()
