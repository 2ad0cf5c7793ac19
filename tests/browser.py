"""A headless Chromium for tests, driven over its debugging protocol."""

from __future__ import annotations

import base64
import io
import json
import shutil
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from websockets.sync.client import connect

FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--hide-scrollbars",
    "--remote-debugging-port=0",
)


@cache
def chromium() -> str | None:
    """The browser's program, or None where there is none that starts."""
    for program in filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))):
        if subprocess.run([program, "--version"], capture_output=True, timeout=60).returncode == 0:
            return program
    return None


class Browser:
    """One page; `errors` gathers what it logs as errors."""

    def __init__(self, url: str, size: tuple[int, int] = (960, 640)):
        self.errors: list[str] = []
        self._profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        program = chromium()
        assert program is not None
        arguments = [program, *FLAGS, f"--user-data-dir={self._profile.name}", f"--window-size={size[0]},{size[1]}"]
        quiet = subprocess.DEVNULL
        self._process = subprocess.Popen([*arguments, "about:blank"], stdout=quiet, stderr=quiet)
        port_file = Path(self._profile.name) / "DevToolsActivePort"
        wait(lambda: port_file.exists() and port_file.read_text().strip(), 60)
        port = port_file.read_text().split()[0]
        targets = json.loads(urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list").read())
        page = next(target for target in targets if target["type"] == "page")
        self._socket = connect(page["webSocketDebuggerUrl"], max_size=None)
        self._number = 0
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")
        self.call("Page.navigate", url=url)

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()
        self._process.terminate()
        self._process.wait(timeout=120)
        self._profile.cleanup()

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """The answer of the browser to one command."""
        self._number += 1
        self._socket.send(json.dumps({"id": self._number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self._socket.recv(timeout=60))
            self._note(message)
            if message.get("id") == self._number:
                assert "error" not in message, f"{method}: {message['error']}"
                return message["result"]

    def _note(self, message: dict[str, Any]) -> None:
        if message.get("method") == "Runtime.exceptionThrown":
            self.errors.append(message["params"]["exceptionDetails"]["text"])
        if message.get("method") == "Log.entryAdded" and message["params"]["entry"]["level"] == "error":
            self.errors.append(message["params"]["entry"]["text"])

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression."""
        return self.call("Runtime.evaluate", expression=expression, returnByValue=True)["result"].get("value")

    def text(self) -> str:
        """The visible text of the page."""
        return self.evaluate("document.body.innerText") or ""

    def screenshot(self) -> np.ndarray:
        """The page as RGB picture."""
        data = base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"])
        return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))

    def drag(self, start: tuple[float, float], end: tuple[float, float], steps: int = 8) -> None:
        """Moves the mouse with its left button down."""
        self._mouse("mousePressed", start)
        for step in range(1, steps + 1):
            self._mouse("mouseMoved", tuple(a + (b - a) * step / steps for a, b in zip(start, end, strict=True)))
            time.sleep(0.03)
        self._mouse("mouseReleased", end)

    def click(self, position: tuple[float, float]) -> None:
        """Presses and releases the left button."""
        self._mouse("mousePressed", position)
        self._mouse("mouseReleased", position)

    def click_on(self, expression: str) -> None:
        """Clicks in the middle of the element that a JavaScript expression gives, once nothing covers it."""
        place = f"""(() => {{
            const element = {expression};
            if (!element) return null;
            const box = element.getBoundingClientRect(), x = box.x + box.width / 2, y = box.y + box.height / 2;
            const top = document.elementFromPoint(x, y);
            return box.width && top && (element.contains(top) || top.contains(element)) ? [x, y] : null;
        }})()"""
        self.click(tuple(wait(lambda: self.evaluate(place), 120)))

    def type(self, text: str) -> None:
        """Replaces the content of the focused input and leaves it."""
        for key, code, modifiers in (("a", 65, 2), ("Backspace", 8, 0)):
            for kind in ("rawKeyDown", "keyUp"):
                self.call("Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=code, modifiers=modifiers)
        self.call("Input.insertText", text=text)
        for kind in ("rawKeyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key="Tab", windowsVirtualKeyCode=9)

    def _mouse(self, kind: str, position: tuple[float, ...]) -> None:
        buttons = {"button": "left", "buttons": 1, "clickCount": 1}
        self.call("Input.dispatchMouseEvent", type=kind, x=position[0], y=position[1], **buttons)


def wait(condition: Callable[[], Any], seconds: float) -> Any:
    """The first true value of a condition. Fails where there is none in that time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.1)
    raise AssertionError(f"not within {seconds} s")
