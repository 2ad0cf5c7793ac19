"""Readable numbers and a log file beside the terminal."""

from __future__ import annotations

import sys
from pathlib import Path
from types import TracebackType
from typing import TextIO


def format_seconds(seconds: float) -> str:
    """A duration in its two leading units: "42s", "3m 07s", "5h 02m", "2d 11h"."""
    total = max(round(seconds), 0)
    minutes, hours, days = total // 60, total // 3600, total // 86400
    if total < 60:
        return f"{total}s"
    if hours == 0:
        return f"{minutes}m {total % 60:02d}s"
    if days == 0:
        return f"{hours}h {minutes % 60:02d}m"
    return f"{days}d {hours % 24:02d}h"


def format_bytes(count: float) -> str:
    """A size in binary units with three significant digits: "512 B", "1.43 GiB"."""
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.3g} {unit}"
        count /= 1024
    return f"{count:.3g} GiB"


class Logger:
    """Copies what is printed, errors included, to a file while it is open; the terminal still gets all of it.

    Lines that end in a carriage return, such as progress displays, stay on the terminal alone.
    """

    def __init__(self, path: Path):
        self._file = open(path, "a", encoding="utf-8")  # noqa: SIM115
        self._stdout, self._stderr = sys.stdout, sys.stderr

    def __enter__(self) -> Logger:
        sys.stdout = _Tee(self._stdout, self._file)
        sys.stderr = _Tee(self._stderr, self._file)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        sys.stdout, sys.stderr = self._stdout, self._stderr
        self._file.close()


class _Tee:
    """A text stream that writes to a terminal at once and, line by line, to a file."""

    def __init__(self, terminal: TextIO, file: TextIO):
        self._terminal, self._file, self._line = terminal, file, ""

    def write(self, text: str) -> int:
        self._terminal.write(text)
        *lines, self._line = (self._line + text).split("\n")
        if lines and not self._file.closed:
            self._file.writelines(line.rsplit("\r", 1)[-1] + "\n" for line in lines)
            self._file.flush()
            self._terminal.flush()
        return len(text)

    def flush(self) -> None:
        self._terminal.flush()

    def __getattr__(self, name: str):
        return getattr(self._terminal, name)
