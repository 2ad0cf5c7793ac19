"""The viewer, used in a real browser."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from tests.browser import Browser, chromium, wait
from tests.tiny import generator
from training import snapshot

ROOT = Path(__file__).resolve().parents[2]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """A running viewer of a small network."""
    pytest.importorskip("viser")
    network = tmp_path / "network-snapshot-000001.pkl"
    G = generator()
    snapshot.save(network, G=G, D=None, G_ema=G)
    port = free_port()
    command = [sys.executable, "visualizer.py", f"--network={network}", f"--port={port}", "--device=cpu"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait(lambda: _answers(port), 120)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(timeout=20)


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def labelled(label: str) -> str:
    """JavaScript for the input beside a label."""
    found = f"[...document.querySelectorAll('label')].find(e => e.textContent.trim() === '{label}')"
    beside = "label.closest('.mantine-Flex-root, div').parentElement.querySelector('input:not([type=hidden])')"
    return f"(() => {{ const label = {found}; return label && {beside}; }})()"


def button(text: str) -> str:
    """JavaScript for the tab or option with a text."""
    candidates = "[...document.querySelectorAll('[role=tab], [role=option], button')]"
    return f"{candidates}.find(e => e.textContent.trim() === '{text}')"


def canvas(browser: Browser) -> np.ndarray:
    """The picture, without the panel at the right."""
    return browser.screenshot()[:, :560].astype(int)


def settled(browser: Browser) -> np.ndarray:
    """The picture once it no longer changes."""
    pictures = [canvas(browser)]

    def still() -> bool:
        pictures.append(canvas(browser))
        return "full" in browser.text() and np.abs(pictures[-1] - pictures[-2]).max() <= 2

    wait(still, 60)
    return pictures[-1]


@pytest.mark.slow
@pytest.mark.skipif(chromium() is None, reason="no Chromium on this machine (apt-get install chromium)")
def test_viewer_in_a_browser(address: str):
    with Browser(address) as browser:
        wait(lambda: "pictures a second" in browser.text(), 90)
        first = settled(browser)
        assert first.std() > 5
        assert "1 scenes built" in browser.text()

        browser.drag((200, 300), (300, 320))
        turned = settled(browser)
        assert np.abs(turned - first).mean() > 1
        assert "1 scenes built" in browser.text()

        browser.click_on(button("View"))
        browser.click_on(labelled("Layer"))
        browser.click_on(button("depth"))
        depth = settled(browser)
        assert np.abs(depth - turned).mean() > 5

        browser.click_on(button("Scene"))
        browser.click_on(labelled("Seed"))
        browser.type("3")
        wait(lambda: "2 scenes built" in browser.text(), 60)
        assert np.abs(settled(browser) - depth).mean() > 0.5
        assert browser.errors == []


def test_a_bad_network_is_refused_before_anything_is_served(tmp_path: Path):
    pytest.importorskip("viser")
    import visualizer

    path = tmp_path / "network.pkl"
    path.write_text("no network")
    result = CliRunner().invoke(visualizer.main, [f"--network={path}", "--device=cpu"])
    assert result.exit_code == 1
    assert "network.pkl" in result.output
