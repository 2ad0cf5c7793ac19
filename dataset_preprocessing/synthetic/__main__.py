"""Command line of the synthetic data sets."""

from __future__ import annotations

from pathlib import Path

import click

from dataset_preprocessing.commands import plain_errors
from dataset_preprocessing.parallel import default_workers
from dataset_preprocessing.synthetic.make import RANGES, Options, Range, make_set


@click.command()
@click.option("--dest", required=True, type=click.Path(path_type=Path), help="Zip or folder to make.")
@click.option("--resolution", default=64, show_default=True, type=click.IntRange(8, 1024), help="Picture size, pixels.")
@click.option("--count", default=2000, show_default=True, type=click.IntRange(min=1), help="Number of pictures.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0), help="Another seed, another set.")
@click.option(
    "--background",
    default="surroundings",
    show_default=True,
    type=click.Choice(["surroundings", "white"]),
    help="What is behind the object, at infinity.",
)
@click.option(
    "--range",
    "camera_range",
    default="frontal",
    show_default=True,
    type=click.Choice(list(RANGES)),
    help="Where cameras stand: frontal (34 degrees to each side), narrow (10 degrees) or all around.",
)
@click.option("--views", default=1, show_default=True, type=click.IntRange(min=1), help="Pictures of each object.")
@click.option(
    "--supersampling",
    default=3,
    show_default=True,
    type=click.Choice(["1", "3", "5", "7"]),
    help="Rays per pixel and side.",
)
@click.option("--workers", default=default_workers, type=click.IntRange(min=1), help="Processes [default: all cores].")
@plain_errors
def main(
    dest: Path,
    resolution: int,
    count: int,
    seed: int,
    background: str,
    camera_range: Range,
    views: int,
    supersampling: str,
    workers: int,
) -> None:
    """Render a posed training set of toy animals, with its ground truth beside it.

    DEST gets pictures and camera labels (dataset.json) and can be trained on as it is. A second archive with `-truth`
    in its name gets, for every picture, the foreground with alpha, the mask, the depth (distance along the ray,
    infinite off the object) and parameters.json with everything that was drawn. Cameras stand 2.7 units from the
    origin and look at it, with EG3D's focal length; objects fit the cube from -0.5 to 0.5. The same options give
    the same bytes, and an interrupted run is finished by the same command.
    """
    options = Options(resolution, seed, background == "white", camera_range, views, int(supersampling))
    truth_dest = make_set(dest.expanduser(), options, count, workers)
    click.echo(f"{count} pictures of {resolution}x{resolution} in {dest}, ground truth in {truth_dest}")


if __name__ == "__main__":
    main()
