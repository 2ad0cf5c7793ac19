"""What a check found: faults, where they are, and what mends them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Severity = Literal["error", "warning"]

_SHOWN = 5


@dataclass(frozen=True)
class Finding:
    """One fault: what it is, the files it was seen in, and the command or step that mends it."""

    severity: Severity
    code: str
    message: str
    files: tuple[str, ...]
    mend: str

    def __str__(self) -> str:
        names = [name.encode("utf-8", "backslashreplace").decode() for name in self.files[:_SHOWN]]
        more = f" and {len(self.files) - _SHOWN} more" if len(self.files) > _SHOWN else ""
        where = f" [{', '.join(names)}{more}]" if names else ""
        return f"{self.severity}: {self.message}{where}; mend: {self.mend}"


@dataclass
class Report:
    """The findings of a check, and what a page about the set needs."""

    path: Path
    images: list[str] = field(default_factory=list)
    labels: dict[str, list[float]] = field(default_factory=dict)
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    findings: list[Finding] = field(default_factory=list)

    @property
    def errors(self) -> list[Finding]:
        """The findings that make training impossible or pointless."""
        return [finding for finding in self.findings if finding.severity == "error"]

    def add(self, severity: Severity, code: str, message: str, files: Iterable[str], mend: str) -> None:
        """Note a finding, unless it concerns no file."""
        names = tuple(files)
        if names:
            self.findings.append(Finding(severity, code, message, names, mend))
