"""ShapeNet cars in the renders of the Scene Representation Networks, as EG3D trains on them."""

from __future__ import annotations

from pathlib import Path

import click

from dataset_preprocessing.building import build
from dataset_preprocessing.commands import dest_option, plain_errors, source_option, tell, workers_option
from dataset_preprocessing.conventions import UP_AXES, Fix
from dataset_preprocessing.importing import ImportOptions, plan_import
from dataset_preprocessing.pictures import PictureOptions
from dataset_preprocessing.sources import open_source


@click.command()
@source_option
@dest_option
@click.option("--resolution", default=128, show_default=True, type=click.IntRange(16, 512), help="Picture size.")
@click.option("--up", type=click.Choice(UP_AXES), default="z", show_default=True, help="The source's axis that is up.")
@click.option("--radius", type=click.FloatRange(min=0, min_open=True), help="Scale the world to this camera distance.")
@workers_option
@plain_errors
def main(source: Path, dest: Path, resolution: int, up: str, radius: float | None, workers: int) -> None:
    """Make the ShapeNet cars set of EG3D and BallGAN.

    Download by hand: the cars of the Scene Representation Networks (their authors' drive, `cars_train.zip`; ShapeNet's
    terms of use hold). SOURCE is the unpacked folder or the zip: for each car rgb/, pose/ and intrinsics.txt. Two sets
    go round: about 2,400 cars with 50 views, which the EG3D paper used, and 2,100 with 250. What was found is printed.
    Pictures are put on white; intrinsics are divided by the picture size.
    """
    opened = open_source(source)
    options = ImportOptions(format="srn", fix=Fix(up=up), scale_to_radius=radius)
    items, warning = plan_import(opened, options)
    cars = {item.source.split("/rgb/")[0] for item in items}
    click.echo(f"{len(cars)} cars with {len(items) / len(cars):.0f} views each")
    size = PictureOptions((resolution, resolution), "center-crop", "white")
    tell(build(dest.expanduser(), opened, items, size, workers=workers))
    if warning:
        click.echo(f"warning: {warning}", err=True)


if __name__ == "__main__":
    main()
