"""The score card as one HTML file: numbers, and the best and worst scenes with geometry and foreground."""

from __future__ import annotations

import base64
import html
import io
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from dnnlib.files import write_text
from metrics.evaluation import Evaluation
from metrics.geometry import foreground_depth
from metrics.reprojection import YAWS
from metrics.scorecard import Card, Line

SHOWN = 3
CELL = 128
STYLE = """
body { font: 15px/1.45 sans-serif; margin: 2em auto; max-width: 62em; color: #222 }
h1 { font-size: 1.5em } h2 { font-size: 1.15em; margin-top: 1.8em }
table { border-collapse: collapse; width: 100% }
td, th { text-align: left; padding: .25em .6em; border-bottom: 1px solid #ddd }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums }
.yes { color: #1c7a3c } .no { color: #b3261e } .facts { color: #666; font-size: 13px }
img { max-width: 100%; image-rendering: pixelated }
"""


def write(path: Path, card: Card, evaluation: Evaluation, title: str) -> None:
    """Writes the page of a card, with pictures made by the generator that was measured."""
    parts = [f"<!doctype html><meta charset=utf-8><title>{html.escape(title)}</title><style>{STYLE}</style>"]
    parts.append(f"<h1>{html.escape(title)}</h1>")
    for question, lines in card.answers.items():
        parts.append(answer(question, lines))
    parts.append(
        "<h2>Scenes</h2><p>From the left: the picture, the foreground on a checkerboard, its depth (near is "
        "bright), its opacity, and five views around it.</p>"
    )
    for heading, numbers in chosen_scenes(evaluation).items():
        strips = torch.cat([scene_strip(evaluation, number) for number in numbers], dim=1)
        parts.append(f"<h3>{html.escape(heading)}</h3>{picture(strips)}")
    parts.append(protocol(card))
    write_text(path, "\n".join(parts))


def answer(question: str, lines: tuple[Line, ...]) -> str:
    """A question, how many of its checks passed, and its table."""
    passed = sum(line.passed for line in lines)
    rows = [
        f"<h2>{html.escape(question)} <span class={'yes' if passed == len(lines) else 'no'}>"
        f"{passed} of {len(lines)} checks</span></h2>"
    ]
    rows.append("<table><tr><th>check<th class=n>value<th class=n>perfect renderer<th>good is<th>otherwise</tr>")
    for line in lines:
        ideal = "" if line.ideal is None else f"{line.ideal:.4g}"
        value = "none" if line.value is None else f"{line.value:.4g}"
        rows.append(
            f"<tr><td>{html.escape(line.check.title)}<td class='n {'yes' if line.passed else 'no'}'>{value}"
            f"<td class=n>{ideal}<td>{html.escape(line.check.gate.rule(line.ideal))}<td>{html.escape(line.tells)}</tr>"
        )
    return "\n".join(rows) + "</table>"


def chosen_scenes(evaluation: Evaluation) -> dict[str, list[int]]:
    """Numbers of the scenes with the best and worst reprojection and separation, under headings."""
    chosen: dict[str, list[int]] = {}
    for name, rows in evaluation.rows.items():
        if name.startswith("reprojection"):
            order = np.argsort(rows[:, 2] / np.maximum(rows[:, 3], 1))
            chosen["Views that agree best"], chosen["Views that agree worst"] = best_and_worst(order)
        elif name.startswith("separation"):
            order = np.argsort(-rows[:, 0])
            chosen["Foreground clearest"], chosen["Foreground least clear"] = best_and_worst(order)
    return chosen


def best_and_worst(order: np.ndarray) -> tuple[list[int], list[int]]:
    """The first numbers and, worst first, the last of an order."""
    return order[:SHOWN].tolist(), order[::-1][:SHOWN].tolist()


@torch.no_grad()
def scene_strip(evaluation: Evaluation, number: int) -> Tensor:
    """Pictures of one scene in a row, `3 height width` in [0, 1]."""
    draw = evaluation.draw(range(number, number + 1))
    latents = evaluation.frontal_latents(draw)
    front = evaluation.surround.front(1).to(evaluation.device)
    full = evaluation.view(latents, front, noise_mode="const")
    alone = evaluation.view(latents, front, layer="foreground", noise_mode="const").image
    opacity, depth = enlarged(full.opacity), enlarged(foreground_depth(full))
    light = torch.where(opacity > 0.5, depth, torch.nan)
    near, far = light.nan_to_num(1e9).min(), light.nan_to_num(-1e9).max()
    shade = ((far - depth) / (far - near).clamp(min=1e-6) * 0.8 + 0.2).clamp(0, 1) * (opacity > 0.5)
    # What the generator shows of the foreground alone stands on black: adding the checkerboard behind it is exact.
    behind = checkerboard() * (1 - opacity)
    cells = [enlarged((full.image + 1) / 2), enlarged((alone + 1) / 2) + behind, shade, opacity]
    for yaw in YAWS:
        labels = evaluation.surround.labels(torch.tensor([yaw]), torch.zeros(1)).to(evaluation.device)
        cells.append(enlarged((evaluation.view(latents, labels, noise_mode="const").image + 1) / 2))
    return torch.cat([cell[0, :3].expand(3, CELL, CELL).clamp(0, 1).cpu() for cell in cells], dim=2)


def enlarged(values: Tensor) -> Tensor:
    """Maps at the size of a cell."""
    return torch.nn.functional.interpolate(values, [CELL, CELL], mode="bilinear")


def checkerboard() -> Tensor:
    """Grey squares, `1 1 height width` in [0, 1]."""
    squares = torch.arange(CELL) // 8 % 2
    return (0.55 + 0.25 * (squares[:, None] ^ squares).float())[None, None]


def picture(image: Tensor) -> str:
    """An image tag that holds the picture `3 height width` itself."""
    stream = io.BytesIO()
    Image.fromarray((image * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()).save(stream, "PNG")
    return f"<img alt='scenes' src='data:image/png;base64,{base64.b64encode(stream.getvalue()).decode()}'>"


def protocol(card: Card) -> str:
    """Where the numbers come from, in small print."""
    rows = ["<h2>Protocol</h2><table class=facts>"]
    for record in card.records:
        values = ", ".join(f"{name} {value:.6g}" for name, value in record["results"].items()) or record["metric"]
        facts = {
            key: record["protocol"][key]
            for key in ("generated", "real", "detector", "conditioning", "seed")
            if key in record["protocol"]
        }
        rows.append(f"<tr><td>{html.escape(values)}<td>{html.escape(str(facts))}<td>{record['total_time_str']}</tr>")
    snapshot = card.records[0]["snapshot"]
    return "\n".join(rows) + f"</table><p class=facts>Snapshot: {html.escape(str(snapshot))}</p>"
