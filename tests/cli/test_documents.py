"""The commands in README.md and docs/ are run at a tiny size, or at least name options that exist."""

from __future__ import annotations

import importlib
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from tests.tiny import generator
from tests.unit.training_parts import camera_labels
from training import snapshot

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
SMALL = {
    "gen_samples": ["--shape-res=16", "--shape-level=2", "--view=2", "--device=cpu"],
    "gen_videos": ["--w-frames=2", "--shape-res=16", "--shape-level=2", "--device=cpu"],
    "train": ["--dry-run", "--device=cpu"],
}
"""What makes a command short."""
NOT_RUN = {
    "visualizer": "serves until it is stopped; see test_viewer.py",
    "calc_metrics": "has tests of its own",
}


def fenced(document: Path, language: str = "") -> Iterator[str]:
    """The code blocks of a document."""
    text = document.read_text(encoding="utf-8")
    yield from re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)


def commands() -> Iterator[tuple[str, str]]:
    """Every `python ...` line with its document's name."""
    for document in DOCUMENTS:
        for block in fenced(document):
            for line in block.replace("\\\n", " ").splitlines():
                if line.strip().startswith("python "):
                    yield document.name, line.split(" #")[0].strip()


def find(line: str) -> tuple[str, click.Command, list[str]]:
    """Module, click command and arguments of a line."""
    words = shlex.split(line)[1:]
    if words[0] == "-m":
        name, arguments = words[1], words[2:]
    else:
        name, arguments = words[0].removesuffix(".py"), words[1:]
    try:
        module = importlib.import_module(f"{name}.__main__")
    except ModuleNotFoundError:
        module = importlib.import_module(name)
    return name, module.main, arguments


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a network, a data set and a run, under the names that the documents use."""
    monkeypatch.chdir(tmp_path)
    G = generator()
    snapshot.save("NET.pkl", G=G, D=None, G_ema=G, training_set_kwargs=None)
    folder = tmp_path / "DATA.zip"
    folder.mkdir()
    labels = camera_labels(8).tolist()
    for index in range(8):
        Image.fromarray(np.random.RandomState(index).randint(0, 256, [32, 32, 3], np.uint8)).save(
            folder / f"{index}.png"
        )
    entries = [[f"{index}.png", label] for index, label in enumerate(labels)]
    (folder / "dataset.json").write_text(json.dumps({"labels": entries}))
    run = tmp_path / "RUN_DIR"
    run.mkdir()
    (run / "training_options.json").write_text("{}")
    Image.new("RGB", (64, 32)).save(run / "fakes000001.png")
    return tmp_path


@pytest.mark.parametrize(("document", "line"), list(commands()))
def test_options_exist(document: str, line: str):
    _, command, arguments = find(line)
    while isinstance(command, click.Group):
        command = command.commands[arguments.pop(0)]
    known = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    own = arguments[: arguments.index("--")] if "--" in arguments else arguments  # the rest is another command's
    for argument in own:
        if argument.startswith("-"):
            assert argument.split("=")[0] in known | {"--help"}, f"{document}: {line}"


def runnable() -> list[str]:
    lines = [line for document, line in commands() if document in ("README.md", "seeing.md")]
    return sorted({line for line in lines if find(line)[0] not in NOT_RUN and "--resume" not in line})


@pytest.mark.parametrize("line", runnable())
def test_commands_run(line: str, workplace: Path):
    name, command, arguments = find(line)
    result = CliRunner().invoke(command, [*arguments, *SMALL.get(name, [])])
    assert result.exit_code == 0, result.output


def test_python_of_the_readme_runs(workplace: Path):
    for block in fenced(ROOT / "README.md", "python"):
        exec(compile(block, "README.md", "exec"), {})


def test_links_lead_somewhere():
    for document in DOCUMENTS:
        for target in re.findall(r"\]\((?!http)([^)#]+)\)", document.read_text(encoding="utf-8")):
            assert (document.parent / target).exists(), f"{document.name}: {target}"
