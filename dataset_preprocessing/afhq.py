"""AFHQ cats as EG3D trains on them: pictures with estimated rotations, and their mirrored copies."""

from __future__ import annotations

from pathlib import Path

import click

from dataset_preprocessing.commands import dest_option, plain_errors, source_option, workers_option
from dataset_preprocessing.pictures import PictureOptions
from dataset_preprocessing.published import back_off_along_view, build_faces, read_camera_file


@click.command()
@source_option
@click.option(
    "--cameras", required=True, type=click.Path(path_type=Path), help="JSON file with a pose for each picture."
)
@dest_option
@click.option("--resolution", default=512, show_default=True, type=click.IntRange(16, 1024), help="Picture size.")
@click.option("--species", default="cat", show_default=True, help="Folder of the pictures to take; `all` for all.")
@click.option("--mirror/--no-mirror", default=True, show_default=True, help="Add mirrored copies, as EG3D does.")
@workers_option
@plain_errors
def main(source: Path, cameras: Path, dest: Path, resolution: int, species: str, mirror: bool, workers: int) -> None:
    """Make the AFHQ set of EG3D and BallGAN.

    Download by hand: AFHQv2 (repository "stargan-v2", CC BY-NC 4.0; a zip with folders train/cat and so on), and the
    camera file of the EG3D repository. Of each pose the rotation is taken; the camera stands 2.7 units away.
    """
    labels = {name: back_off_along_view(pose) for name, pose in read_camera_file(cameras.expanduser()).items()}
    options = PictureOptions((resolution, resolution), "center-crop")
    build_faces(source, dest, labels, None if species == "all" else species, options, mirror, workers)


if __name__ == "__main__":
    main()
