"""One self-contained HTML page about a training run: curves, metrics, how its pictures changed, configuration, files.

`python -m training.report RUN_DIR` writes RUN_DIR/report.html.
"""

from __future__ import annotations

import html
import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import click
import numpy as np
from PIL import Image

from dnnlib.files import sha256_of, write_text
from dnnlib.refusals import refusals_in_words
from dnnlib.util import format_bytes
from metrics import results
from training import media
from training.run_folder import OPTIONS_FILE, STATISTICS_FILE

PICTURE_SIZE = 900
LONGEST_LAPSE = 24
CURVES = {
    "Losses": ("Loss/G/loss", "Loss/D/loss"),
    "Scores of the discriminator": ("Loss/scores/real", "Loss/scores/fake"),
    "Gradient penalty": ("Loss/r1_penalty",),
    "Opacity": ("Render/opacity_mean", "Render/opacity_undecided"),
    "Depth": ("Render/depth_min", "Render/depth_max"),
    "Augmentation": ("Progress/augment",),
    "Seconds per kimg": ("Timing/sec_per_kimg",),
    "Memory, GiB": ("Resources/cpu_mem_gb", "Resources/peak_gpu_mem_gb"),
}
"""Title of a plot -> statistics that it shows, where the run has them."""

Series = Sequence[tuple[float, float]]


def read_statistics(run: Path) -> dict[str, list[tuple[float, float]]]:
    """Means of every statistic over kimg. Raises ValueError, with file and line, for a damaged line."""
    path = run / STATISTICS_FILE
    series: dict[str, list[tuple[float, float]]] = {}
    if not path.is_file():
        return series
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            record = json.loads(line)
            kimg = record["Progress/kimg"]["mean"]
        except (ValueError, KeyError) as error:
            raise ValueError(f"{path}, line {number}: no statistics ({error!r})") from error
        for name, moments in record.items():
            if isinstance(moments, dict) and math.isfinite(moments["mean"]):
                series.setdefault(name, []).append((kimg, moments["mean"]))
    return series


def lapses(run: Path) -> dict[str, list[Path]]:
    """Pictures of snapshots by what they show ("" for the composed ones), in order of time; evenly thinned out."""
    found: dict[str, list[Path]] = {}
    for path in sorted(run.glob("fakes*.png")):
        match = re.fullmatch(r"fakes(\d+)(\w*)\.png", path.name)
        if match:
            found.setdefault(match[2].lstrip("_"), []).append(path)
    return {name: _thinned(paths) for name, paths in found.items()}


def _thinned(paths: list[Path]) -> list[Path]:
    """The last one, and every n-th before it."""
    step = -(-len(paths) // LONGEST_LAPSE)
    return paths[::-1][::step][::-1]


def write_report(run: Path) -> Path:
    """The path of the page. Raises ValueError for a folder that is no run, or a damaged statistics file."""
    if not (run / OPTIONS_FILE).is_file():
        raise ValueError(f"{run} is no run folder: it has no {OPTIONS_FILE}")
    parts = [
        f"<h1>{html.escape(run.resolve().name)}</h1>",
        "<h2>Pictures</h2>",
        _lapse_section(run),
        "<h2>Curves</h2>",
        _curve_section(read_statistics(run)),
        "<h2>Metrics</h2>",
        _metric_section(run),
        "<h2>Snapshots</h2>",
        _snapshot_section(run),
        "<h2>Configuration</h2>",
        f"<pre>{html.escape((run / OPTIONS_FILE).read_text(encoding='utf-8'))}</pre>",
    ]
    path = run / "report.html"
    write_text(path, PAGE.replace("BODY", "\n".join(parts)))
    return path


def _curve_section(series: Mapping[str, Series]) -> str:
    plots = []
    for title, names in CURVES.items():
        shown = {name.rpartition("/")[2]: list(series[name]) for name in names if name in series}
        if shown:
            plots.append(f"<figure>{results.plot(shown, title)}</figure>")
    return f"<div class=row>{''.join(plots)}</div>" if plots else "<p>No statistics yet.</p>"


def _lapse_section(run: Path) -> str:
    figures = []
    if (run / "reals.png").is_file():
        figures.append(f"<figure>{_picture(run / 'reals.png')}<figcaption>training pictures</figcaption></figure>")
    for name, paths in lapses(run).items():
        frames = "".join(_picture(path, hidden=path != paths[-1]) for path in paths)
        slider = f"<input type=range min=0 max={len(paths) - 1} value={len(paths) - 1} oninput=show(this)>"
        kimg = [re.sub(r"\D", "", path.name) for path in paths]
        caption = f"<figcaption>{html.escape(name or 'composed')}, <b>{int(kimg[-1])}</b> kimg</figcaption>"
        times = html.escape(json.dumps([int(text) for text in kimg]))
        figures.append(f'<figure data-kimg="{times}">{frames}{slider}{caption}</figure>')
    return f"<div class=row>{''.join(figures)}</div>" if figures else "<p>No pictures yet.</p>"


def _picture(path: Path, hidden: bool = False) -> str:
    with Image.open(path) as picture:
        small = picture.convert("RGB")
    small.thumbnail((PICTURE_SIZE, PICTURE_SIZE), Image.Resampling.LANCZOS)
    url = media.data_url(np.asarray(small), quality=85)
    return f'<img {"hidden " if hidden else ""}alt="{html.escape(path.name)}" src="{url}">'


def _metric_section(run: Path) -> str:
    plots, records = [], []
    for path in sorted(run.glob("metric-*.jsonl")):
        name = path.stem.removeprefix("metric-")
        lines = results.read(run, name)
        records += lines
        points = [(results.kimg_of(line), results.main_value(line)) for line in lines]
        curve = sorted((kimg, value) for kimg, value in points if kimg is not None)
        if len(curve) > 1:
            plots.append(f"<figure>{results.plot({name: curve}, name)}</figure>")
    if not records:
        return "<p>No metric has been computed.</p>"
    return f"<pre>{html.escape(results.table(records))}</pre><div class=row>{''.join(plots)}</div>"


def _snapshot_section(run: Path) -> str:
    rows = []
    for path in sorted(run.glob("network-snapshot-*.pkl")):
        cells = (path.name, format_bytes(path.stat().st_size), sha256_of(path))
        rows.append(f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in cells)}</tr>")
    return f"<table><tr><th>file<th>size<th>SHA-256</tr>{''.join(rows)}</table>"


PAGE = """<!doctype html>
<html lang=en><meta charset=utf-8><title>Training run</title>
<style>
body { font: 15px/1.5 system-ui, sans-serif; margin: 2em auto; max-width: 1500px; padding: 0 1em; color: #222 }
.row { display: flex; flex-wrap: wrap; gap: 1em }
figure { margin: 0; width: min(440px, 100%) }
figure img, figure svg, input { width: 100%; height: auto; image-rendering: auto }
table { border-collapse: collapse } td, th { padding: .2em .8em; text-align: left; border-bottom: 1px solid #ddd }
pre { background: #f5f5f5; padding: 1em; max-height: 30em; overflow: auto }
</style>
<script>
function show(slider) {
  const figure = slider.parentElement, kimg = JSON.parse(figure.dataset.kimg);
  figure.querySelectorAll("img").forEach((image, index) => { image.hidden = index != slider.value });
  figure.querySelector("b").textContent = kimg[slider.value];
}
</script>
BODY
</html>
"""


@click.command()
@click.argument("run_dir", type=click.Path(exists=True, file_okay=False, path_type=Path))
@refusals_in_words()
def main(run_dir: Path) -> None:
    """Write one self-contained HTML page about the training run in RUN_DIR."""
    try:
        click.echo(f"{write_report(run_dir)}")
    except (OSError, ValueError) as error:
        raise click.ClickException(str(error)) from error


if __name__ == "__main__":
    main()
