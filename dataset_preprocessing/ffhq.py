"""FFHQ as EG3D trains on it: recropped faces with corrected cameras, and their mirrored copies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from dataset_preprocessing.commands import dest_option, plain_errors, source_option, workers_option
from dataset_preprocessing.pictures import PictureOptions
from dataset_preprocessing.published import build_faces, push_to_radius, read_camera_file


@click.command()
@source_option
@click.option(
    "--cameras", required=True, type=click.Path(path_type=Path), help="JSON file with a pose for each picture."
)
@dest_option
@click.option("--resolution", default=512, show_default=True, type=click.IntRange(16, 1024), help="Picture size.")
@click.option("--crop", type=click.IntRange(min=16), help="Keep only so many pixels in the middle (700 of 1024).")
@click.option(
    "--mode",
    type=click.Choice(["orig", "cor", "simplify"]),
    default="cor",
    show_default=True,
    help="Pivot that cameras are moved to 2.7 units from: the origin (orig), or (0, 0, 0.175).",
)
@click.option("--mirror/--no-mirror", default=True, show_default=True, help="Add mirrored copies, as EG3D does.")
@workers_option
@plain_errors
def main(
    source: Path, cameras: Path, dest: Path, resolution: int, crop: int | None, mode: Any, mirror: bool, workers: int
) -> None:
    """Make the FFHQ set of EG3D and BallGAN.

    Download by hand: the FFHQ pictures (NVIDIA's repository "ffhq-dataset"), re-aligned as the EG3D repository
    describes, or its prepared crops, and the camera file of that repository (dataset.json or cameras.json). SOURCE is
    the zip or folder of pictures. Pictures of 1024 pixels that were aligned but not yet cropped need --crop=700.
    FFHQ is under CC BY-NC-SA 4.0. Own photographs: see `python -m dataset_preprocessing.portraits`.
    """
    labels = {name: push_to_radius(pose, mode) for name, pose in read_camera_file(cameras.expanduser()).items()}
    options = PictureOptions((resolution, resolution), "center-crop", keep=crop)
    build_faces(source, dest, labels, None, options, mirror, workers)


if __name__ == "__main__":
    main()
