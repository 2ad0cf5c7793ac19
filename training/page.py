"""One self-contained HTML page of a call: a row for each seed, a column for each view."""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path

from dnnlib.files import write_text
from training import media
from training.exports import Made
from training.types import Camera
from training.views import camera_angles

FACTS = ("opacity", "solid", "empty", "inside")
"""What a row tells of its seed: the numbers of its separation."""


def save_page(path: Path, title: str, made: Sequence[Made], cameras: Camera) -> Path:
    """The path, after a page that needs no other file was written there.

    A click on the head of a column sorts the rows by what it holds, another click turns the order around. Cameras are
    those of the strips; their angles, in degrees from the frontal view, head the columns.
    """
    angles = [f"{round(azimuth):+}° {round(elevation):+}°" for azimuth, elevation in camera_angles(cameras)]
    head = "".join(f"<th>{html.escape(name)}" for name in ("seed", *FACTS, *angles))
    rows = "\n".join(_row(one) for one in made)
    write_text(path, PAGE.replace("TITLE", html.escape(title)).replace("HEAD", head).replace("ROWS", rows))
    return path


def _row(made: Made) -> str:
    facts = "".join(f"<td>{getattr(made.separation, name):.2f}" for name in FACTS)
    pictures = "".join(f'<td><img src="{media.data_url(picture)}">' for picture in made.strip)
    return f"<tr><th>{html.escape(made.name)}{facts}{pictures}"


PAGE = """<!doctype html>
<html lang=en><meta charset=utf-8><title>TITLE</title>
<style>
body { font: 14px/1.4 system-ui, sans-serif; margin: 1em; color: #222 }
table { border-collapse: collapse }
th, td { padding: 2px 6px; text-align: right; white-space: nowrap }
td:has(img) { padding: 1px }
thead th { position: sticky; top: 0; background: #fff; cursor: pointer; z-index: 1 }
tbody th { position: sticky; left: 0; background: #fff }
tbody tr:nth-child(even) > * { background: #eee }
img { display: block; max-height: 256px; min-height: 96px; image-rendering: auto }
</style>
<h1>TITLE</h1>
<table><thead><tr>HEAD</thead><tbody>
ROWS
</tbody></table>
<script>
document.querySelectorAll("thead th").forEach((head, column) => head.onclick = () => {
  const body = document.querySelector("tbody"), order = head.dataset.order = head.dataset.order == "1" ? "-1" : "1";
  const text = row => row.cells[column].textContent;
  [...body.rows].sort((a, b) => order * text(a).localeCompare(text(b), "en", { numeric: true }))
    .forEach(row => body.append(row));
});
</script>
</html>
"""
