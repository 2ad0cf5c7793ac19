"""Imports run one way: docs/architecture.md names the floors, and the imports keep to them."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def read_floors() -> dict[str, int]:
    """The height of each module that the document names: one a line, and one more for each bar in it."""
    lines = (ROOT / "docs/architecture.md").read_text().partition("## Floors")[2].split("```")[1].strip().splitlines()
    floors = [part.split() for line in lines for part in line[18:].split("|")]
    names = [[name.removesuffix(".py") for name in floor] for floor in floors]
    return {name: -depth for depth, floor in enumerate(names) for name in floor}


FLOORS = read_floors()
MODULES = {
    path: path.relative_to(ROOT / "training").parts[0].removesuffix(".py")
    for path in sorted((ROOT / "training").rglob("*.py"))
} | {path: path.stem for path in sorted(ROOT.glob("*.py"))}


def imported(path: Path) -> set[str]:
    """Modules of this project that a file imports, by the names that the document gives them."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return {name.removeprefix("training.").partition(".")[0] for name in names}


@pytest.mark.parametrize("path", [path for path in MODULES if path.stem != "__init__"], ids=lambda path: path.stem)
def test_nothing_imports_from_a_floor_above(path: Path):
    module = MODULES[path]
    assert module in FLOORS, f"docs/architecture.md has no floor for {module}"
    above = {name for name in imported(path) if FLOORS.get(name, FLOORS[module]) > FLOORS[module]}
    assert not above, f"{module} imports {sorted(above)}, which stand above it"


def test_parts_know_neither_the_configuration_nor_each_other():
    parts = ("scene", "background", "upsampling", "discriminators", "rendering")
    for path, module in MODULES.items():
        if module in parts:
            others = {"config", "presets", *parts} - {module, "rendering"}
            assert not imported(path) & others, path


def test_metrics_and_data_sets_stand_beside_the_training():
    for path in sorted((ROOT / "metrics").rglob("*.py")):
        assert not imported(path) & {"loop", "options"}, path
    for path in sorted((ROOT / "dataset_preprocessing").rglob("*.py")):
        assert not imported(path) & {"loop", "generator", "discriminators"}, path
