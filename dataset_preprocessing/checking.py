"""Everything that can be wrong with a posed data set, found before a training run suffers from it."""

from __future__ import annotations

import hashlib
import json
import shlex
from collections import Counter, defaultdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from dataset_preprocessing.camera_checks import check_cameras
from dataset_preprocessing.cameras import LABEL_SIZE
from dataset_preprocessing.findings import Report
from dataset_preprocessing.parallel import threaded_map
from dataset_preprocessing.pictures import decode
from training.archive import (
    LABEL_FILE,
    MAX_PIXELS,
    Archive,
    ArchiveError,
    image_header,
    is_image,
    label_entries,
    open_archive,
    read_label_file,
)

_CONVERT = "dataset_tool.py convert"
_OTHER_COLORS = ("CMYK", "YCbCr", "LAB", "HSV", "F")


def quick_check(path: str, *, use_labels: bool = True) -> Report:
    """What headers and labels tell, without decoding a picture; seconds for a hundred thousand pictures."""
    report = Report(Path(path).expanduser())
    try:
        archive = open_archive(path)
        report.images = [name for name in archive.names if is_image(name)]
    except ArchiveError as error:
        report.add("error", "unreadable", str(error), [str(path)], "make or copy the archive anew")
        return report
    if not report.images:
        report.add("error", "no pictures", "there are no pictures inside", [str(path)], f"make a set with {_CONVERT}")
        return report
    report.add(
        "error",
        "name",
        "names that are not UTF-8",
        archive.foreign_names,
        f"rename the files, or {_CONVERT}, which numbers them",
    )
    _check_headers(archive, report)
    if use_labels:
        _check_labels(archive, report)
    return report


def full_check(path: str, *, use_labels: bool = True, workers: int = 1) -> Report:
    """`quick_check`, and every picture decoded and compared with the others."""
    report = quick_check(path, use_labels=use_labels)
    if not report.images:
        return report
    archive = open_archive(path)
    known = {name for finding in report.findings if finding.code in ("broken", "huge") for name in finding.files}
    todo = [name for name in report.images if name not in known]
    broken: list[tuple[str, str]] = []
    same: dict[bytes, list[str]] = defaultdict(list)
    results = threaded_map(partial(_decode_and_hash, archive=archive), todo, workers, "checking")
    for name, (fault, digest) in zip(todo, results, strict=True):
        if fault:
            broken.append((name, fault))
        else:
            same[digest].append(name)
    report.add(
        "error",
        "broken",
        f"pictures that cannot be decoded ({broken[0][1] if broken else ''})",
        [name for name, _ in broken],
        f"replace them, or leave them out with {_CONVERT} --skip-broken",
    )
    copies = [name for group in same.values() for name in group[1:]]
    mend = "fine in a rebalanced set; else drop them with subset --distinct"
    report.add("warning", "duplicates", "copies of other pictures", copies, mend)
    return report


def _decode_and_hash(name: str, archive: Archive) -> tuple[str | None, bytes]:
    """What is wrong with a picture, and the hash of its file."""
    try:
        data = archive.read(name)
        decode(data, name)
    except ArchiveError as error:
        return str(error).removeprefix(f"{name}: "), b""
    return None, hashlib.sha256(data).digest()


def _check_headers(archive: Archive, report: Report) -> None:
    headers, broken = {}, []
    for name in report.images:
        try:
            headers[name] = image_header(archive, name)
        except ArchiveError:
            broken.append(name)
    again = f"{_CONVERT} --source={shlex.quote(str(report.path))} --dest=NEW.zip"
    report.add("error", "broken", "pictures that cannot be read", broken, f"replace them, or {again} --skip-broken")
    kinds = {
        "16-bit": (lambda mode: mode.endswith(";16") or mode.startswith("I"), "have 16 bits a channel, not 8"),
        "palette": (lambda mode: mode in ("P", "PA"), "have a palette"),
        "alpha": (lambda mode: mode in ("RGBA", "LA"), "have an alpha channel"),
        "CMYK": (lambda mode: mode in _OTHER_COLORS, "are CMYK or of another colour model"),
    }
    for code, (matches, words) in kinds.items():
        bad = [name for name, header in headers.items() if matches(header.mode)]
        report.add("error", code, f"pictures that {words}", bad, again + (" (see --alpha)" if code == "alpha" else ""))
    huge = [name for name, header in headers.items() if header.width * header.height > MAX_PIXELS]
    report.add("error", "huge", f"pictures of more than {MAX_PIXELS:,} pixels", huge, "replace them")
    report.sizes = Counter((header.width, header.height) for header in headers.values())
    common = report.sizes.most_common(1)[0][0] if headers else (0, 0)
    others = [name for name, header in headers.items() if (header.width, header.height) != common]
    size = f"{common[0]}x{common[1]}"
    report.add("error", "sizes", f"pictures of another size than {size}", others, f"{again} --resolution={size}")
    oblong = [name for name, header in headers.items() if header.width != header.height]
    report.add("error", "not square", "pictures that are not square", oblong, f"{again} --transform=center-crop")
    if headers and common[0] & (common[0] - 1) and common[0] == common[1]:
        power = 2 ** (common[0].bit_length() - 1)
        report.add(
            "warning", "size", f"{size} is no power of two", [str(report.path)], f"{again} --resolution={power}x{power}"
        )


def _check_labels(archive: Archive, report: Report) -> None:
    where = f"{report.path}: {LABEL_FILE}"
    try:
        content = read_label_file(archive, allow_nan=True)
        entries = label_entries(content, where)
    except ArchiveError as error:
        report.add(
            "error", "label file", str(error), [LABEL_FILE], "write the file anew; docs/datasets.md shows the format"
        )
        return
    if not entries:
        report.add(
            "error", "no labels", "there are no camera labels", [LABEL_FILE],
            "dataset_tool.py import (known cameras) or poses (a camera prior)",
        )  # fmt: skip
        return
    pairs = content["labels"]
    repeated = Counter(pair[0] for pair in pairs) if isinstance(pairs, list) else Counter[str]()
    twice = [name for name, count in repeated.items() if count > 1]
    report.add(
        "error",
        "duplicate names",
        "names that are labelled twice",
        twice,
        f"remove one of the entries from {LABEL_FILE}",
    )
    pictures, labelled = set(report.images), set(entries)
    report.add(
        "error", "missing file", "labels whose picture is not there", sorted(labelled - pictures),
        "add the pictures, or drop the labels with dataset_tool.py subset",
    )  # fmt: skip
    without = [name for name in report.images if entries.get(name) is None]
    report.add(
        "error",
        "no label",
        "pictures without a label",
        without,
        "add their labels, or drop them with dataset_tool.py subset --labelled",
    )
    report.labels = _check_numbers(report, {n: entries[n] for n in report.images if entries.get(n) is not None})
    if report.labels:
        check_cameras(report, list(report.labels), np.array(list(report.labels.values())))


def _check_numbers(report: Report, entries: dict[str, Any]) -> dict[str, list[float]]:
    """The labels that are 25 finite numbers."""

    def is_number(value: Any) -> bool:
        return isinstance(value, (int, float)) and not isinstance(value, bool)

    good: dict[str, list[float]] = {}
    bad: dict[str, list[str]] = defaultdict(list)
    for name, label in entries.items():
        if isinstance(label, int):
            bad["class"].append(name)
        elif not isinstance(label, list) or len(label) != LABEL_SIZE:
            bad[f"{len(label)} numbers" if isinstance(label, list) else "no list"].append(name)
        elif not all(is_number(value) and np.isfinite(value) for value in label):
            bad["not finite"].append(name)
        else:
            good[name] = label
    for kind, names in bad.items():
        if kind == "class":
            report.add("error", "class labels", "labels that are classes, not cameras", names, "dataset_tool.py poses")
        elif kind == "not finite":
            report.add(
                "error",
                "not finite",
                "labels with NaN, infinity or words",
                names,
                "make these labels anew, or drop them with subset",
            )
        else:
            report.add(
                "error", "label length", f"labels of {kind} instead of {LABEL_SIZE}", names,
                f"write all {LABEL_SIZE}: pose 4x4, then intrinsics 3x3, row by row",
            )  # fmt: skip
    return good


def summarize(report: Report) -> str:
    """The findings as text for a terminal, errors first."""
    size = ", ".join(f"{count} of {width}x{height}" for (width, height), count in report.sizes.most_common(3))
    lines = [f"{report.path}: {len(report.images)} pictures ({size or 'none'}), {len(report.labels)} camera labels"]
    lines += sorted(map(str, report.findings))
    verdict = f"errors: {len(report.errors)}, warnings: {len(report.findings) - len(report.errors)}"
    return "\n".join([*lines, "all is well" if not report.findings else verdict])


def as_json(report: Report) -> str:
    """The findings for programs."""
    findings = [{**finding.__dict__, "files": list(finding.files)} for finding in report.findings]
    return json.dumps({"path": str(report.path), "images": len(report.images), "findings": findings})
