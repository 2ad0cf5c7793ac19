"""What the name of a metric asks for."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Request:
    """One metric as asked for by its name.

    count: generated pictures (or scenes, or pairs). full: compare with all real pictures, never mirrored.
    lite: the packaged feature network instead of the published detector. source: where an estimator comes from.
    neighbours: the k of precision and recall.
    """

    name: str
    family: str
    count: int
    full: bool = False
    lite: bool = False
    source: str = ""
    neighbours: int = 3


def parse_count(text: str) -> int:
    """The number of "2048", "2048_" or "50k"."""
    text = text.rstrip("_")
    return int(text[:-1]) * 1000 if text.endswith("k") else int(text)


def match(name: str, family: str, pattern: str, default_count: int) -> Request | None:
    """The request that a name makes of a family whose names follow `pattern`, or None for another family's name.

    Named groups of the pattern fill the fields of the request.
    """
    found = re.fullmatch(pattern, name)
    if found is None:
        return None
    groups = found.groupdict()
    return Request(
        name=name,
        family=family,
        count=parse_count(groups["count"]) if groups.get("count") else default_count,
        full=groups.get("full") is not None,
        lite=groups.get("lite") is not None,
        source=(groups.get("source") or "").lstrip("_"),
        neighbours=int(groups.get("neighbours") or 3),
    )
