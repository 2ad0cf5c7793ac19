"""The viewer, used in a real browser."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from tests.browser import Browser, chromium, wait
from tests.tiny import generator
from training import media, snapshot
from training.cameras.prior import frontal_camera
from training.viewing import SceneChoice, ViewChoice, Viewer

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def network(tmp_path: Path) -> Path:
    pytest.importorskip("viser")
    path = tmp_path / "network-snapshot-000001.pkl"
    G = generator()
    snapshot.save(path, G=G, D=None, G_ema=G)
    return path


@pytest.fixture
def address(network: Path, tmp_path: Path) -> Iterator[str]:
    """Where a running viewer of the network says that it is to be found."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "visualizer.py", f"--network={network}", f"--port={port}", "--device=cpu"]
    output = tmp_path / "output.txt"
    with output.open("w") as file:
        process = subprocess.Popen(command, cwd=ROOT, stdout=file, stderr=subprocess.STDOUT)

    def found() -> re.Match | None:
        assert process.poll() is None, output.read_text()
        return re.search(r"Open (http://127\.0\.0\.1:\d+) ", output.read_text())

    try:
        yield wait(found, 120)[1]
    finally:
        process.terminate()
        process.wait(timeout=120)
    assert "Warning" not in output.read_text()


def labelled(label: str) -> str:
    """JavaScript for the input beside a label."""
    found = f"[...document.querySelectorAll('label')].find(e => e.textContent.trim() === '{label}')"
    beside = "label.closest('.mantine-Flex-root, div').parentElement.querySelector('input:not([type=hidden])')"
    return f"(() => {{ const label = {found}; return label && {beside}; }})()"


def button(text: str) -> str:
    """JavaScript for the tab or option with a text."""
    candidates = "[...document.querySelectorAll('[role=tab], [role=option], button')]"
    return f"{candidates}.find(e => e.textContent.trim() === '{text}')"


def inner(picture: np.ndarray) -> np.ndarray:
    """The part of a square picture that neither its frame nor a notice of the browser touches."""
    side = len(picture)
    return picture[side // 3 : -side // 8, side // 8 : -side // 8].astype(int)


def canvas(browser: Browser) -> np.ndarray:
    """The square in the middle of the window, which the picture fills."""
    x, y, width, height = map(
        round,
        browser.evaluate(
            "(() => { const r = document.querySelector('canvas').getBoundingClientRect();"
            " return [r.x, r.y, r.width, r.height]; })()"
        ),
    )
    side = min(width, height)
    left, top = x + (width - side) // 2, y + (height - side) // 2
    return browser.screenshot()[top : top + side, left : left + side]


def shows(browser: Browser, expected: np.ndarray) -> bool:
    """Whether the window shows a picture, give or take compression and interpolation."""
    seen = canvas(browser)
    difference = np.abs(inner(seen) - inner(media.resize(expected[None], len(seen))[0]))
    return "(full)" in browser.text() and difference.mean() < 12


def another(browser: Browser, before: np.ndarray) -> bool:
    """Whether the window shows, at rest, another picture than before."""
    first, second = inner(canvas(browser)), inner(canvas(browser))
    still = first.shape == second.shape and np.abs(first - second).max() <= 2
    return "(full)" in browser.text() and still and np.abs(second - before).mean() > 5


@pytest.mark.slow
@pytest.mark.skipif(chromium() is None, reason="no Chromium on this machine (apt-get install chromium)")
def test_viewer_in_a_browser(address: str, network: Path):
    viewer = Viewer(torch.device("cpu"))
    front = frontal_camera(viewer.generator(str(network)).config.view, 1)

    def picture(seed: float, layer: str) -> np.ndarray:
        return viewer.picture(viewer.scene(SceneChoice(str(network), seed, seed)), front, ViewChoice(layer))

    with Browser(address) as browser:
        wait(lambda: "pictures a second" in browser.text(), 120)
        wait(lambda: shows(browser, picture(0, "image")), 60)
        assert "scenes built: 1" in browser.text()

        before = inner(canvas(browser))
        browser.drag((200, 300), (320, 320))
        wait(lambda: another(browser, before), 60)
        assert "scenes built: 1" in browser.text()

        before = inner(canvas(browser))
        browser.click_on(button("View"))
        browser.click_on(labelled("Layer"))
        browser.click_on(button("depth"))
        wait(lambda: another(browser, before), 60)
        browser.click_on(button("Front"))
        wait(lambda: shows(browser, picture(0, "depth")), 60)

        browser.click_on(button("Scene"))
        browser.click_on(labelled("Seed"))
        browser.type("3")
        wait(lambda: shows(browser, picture(3, "depth")), 60)
        assert "scenes built: 2" in browser.text()
        assert not shows(browser, picture(0, "depth")), "seeds can be told apart"
        assert browser.errors == []


def test_a_bad_network_is_refused_before_anything_is_served(tmp_path: Path):
    pytest.importorskip("viser")
    import visualizer

    path = tmp_path / "network.pkl"
    path.write_text("no network")
    result = CliRunner().invoke(visualizer.main, [f"--network={path}", "--device=cpu"])
    assert result.exit_code == 1
    assert "network.pkl" in result.output
