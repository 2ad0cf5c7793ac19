from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner
from PIL import Image

from training.report import LONGEST_LAPSE, lapses, main, read_statistics, write_report


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "00000-ffhq-toys"
    folder.mkdir()
    (folder / "training_options.json").write_text('{"model": "<ballgan>"}')
    lines = [
        {"Progress/kimg": {"mean": kimg}, "Loss/G/loss": {"num": 1, "mean": value, "std": 0}, "timestamp": 1}
        for kimg, value in ((1, 0.7), (2, float("nan")), (3, 1.5))
    ]
    (folder / "stats.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    for kimg in range(40):
        Image.new("RGB", (64, 32), (kimg, 0, 0)).save(folder / f"fakes{kimg:06d}.png")
    Image.new("L", (64, 32)).save(folder / "fakes000000_opacity.png")
    Image.new("RGB", (64, 32)).save(folder / "reals.png")
    (folder / "network-snapshot-000003.pkl").write_bytes(b"snapshot")
    return folder


def test_page_is_whole_and_needs_nothing_else(run):
    page = write_report(run).read_text()
    assert not re.search(r"(src|href)=[\"']?(?!data:)\w", page)
    assert "&lt;ballgan&gt;" in page
    assert page.count("<img") == 1 + len(lapses(run)[""]) + 1
    assert "No metric has been computed" in page
    assert "16a0eeb0791b6c92451fd284dd9f599e0a7dbe7f6ebea6e2d2d06c7f74aec112" in page


def test_pictures_are_thinned_out_evenly(run):
    assert len(lapses(run)[""]) <= LONGEST_LAPSE
    assert set(lapses(run)) == {"", "opacity"}
    assert lapses(run)[""][-1].name == "fakes000039.png"


def test_numbers_that_are_none_are_left_out(run):
    assert read_statistics(run)["Loss/G/loss"] == [(1, 0.7), (3, 1.5)]


def test_wrong_folders_are_refused(run, tmp_path):
    result = CliRunner().invoke(main, [str(tmp_path)])
    assert result.exit_code == 1
    assert "is no run folder" in result.output
    for text in ("{}", "{"):
        (run / "stats.jsonl").write_text(text)
        result = CliRunner().invoke(main, [str(run)])
        assert result.exit_code == 1
        assert "stats.jsonl, line 1: no statistics" in result.output
