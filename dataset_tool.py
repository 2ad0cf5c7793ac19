"""Make, check, convert and inspect data sets. `python dataset_tool.py --help` lists the commands.

Without a command, `--source` and `--dest` convert, as in the published tools.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from dataset_preprocessing.building import Item, build
from dataset_preprocessing.checking import as_json, full_check, quick_check, summarize
from dataset_preprocessing.commands import (
    dest_option,
    picture_options,
    plain_errors,
    source_option,
    tell,
    workers_option,
)
from dataset_preprocessing.conventions import CONVENTIONS, UP_AXES, Fix
from dataset_preprocessing.converting import plan_conversion
from dataset_preprocessing.editing import (
    Choice,
    PosePrior,
    density_table,
    draw_poses,
    mirror,
    rebalance,
    statistics,
    subset,
)
from dataset_preprocessing.importing import ImportOptions, export_cameras, plan_import
from dataset_preprocessing.pictures import PictureOptions
from dataset_preprocessing.report_page import write_page
from dataset_preprocessing.sources import open_source
from dataset_preprocessing.storage import write_atomically
from training.archive import Source

_path = click.Path(path_type=Path)


def make(
    dest: Path, source: Source, items: list[Item], pictures: PictureOptions, workers: int, skip_broken: bool = False
) -> None:
    """Build a set and tell what came of it."""
    tell(build(dest.expanduser(), source, items, pictures, workers=workers, skip_broken=skip_broken))


@click.group(invoke_without_command=True)
@click.option("--source", type=_path, help="As for the command convert.")
@click.option("--dest", type=_path, help="As for the command convert.")
@click.option("--max-images", type=click.IntRange(min=1), help="As for the command convert.")
@picture_options
@click.pass_context
def main(ctx: click.Context, source: Path | None, dest: Path | None, max_images: int | None, **pictures: Any) -> None:
    """Make, check, convert and inspect data sets.

    Without a command, --source and --dest convert. Work that was interrupted is finished by the same command.
    """
    if ctx.invoked_subcommand is None:
        if source is None or dest is None:
            raise click.UsageError("give a command (see --help), or --source and --dest to convert")
        ctx.invoke(convert, source=source, dest=dest, max_images=max_images, **pictures)


@main.command()
@source_option
@dest_option
@click.option("--max-images", type=click.IntRange(min=1), help="Take only the first so many.")
@click.option("--keep-names", is_flag=True, help="Keep the names (as .png) instead of numbering.")
@picture_options
@plain_errors
def convert(
    source: Path,
    dest: Path,
    max_images: int | None,
    transform: Any,
    resolution: tuple[int, int] | None,
    alpha: Any,
    skip_broken: bool,
    workers: int,
    keep_names: bool = False,
) -> None:
    """Turn any pictures into a set: a stored zip (or folder) of PNGs of one size.

    Sources: folders (searched in depth), zips, tars, LMDB folders, lists of files (.txt, .csv, .json), and archives of
    StyleGAN2-ADA and VolumeGAN. Labels of dataset.json or annotation.json are carried along by name, and the cameras
    among them follow a crop.
    """
    opened = open_source(source)
    items = plan_conversion(opened, max_images=max_images, keep_names=keep_names)
    make(dest, opened, items, PictureOptions(resolution, transform, alpha), workers, skip_broken)


@main.command()
@click.argument("data", type=_path)
@click.option("--quick", is_flag=True, help="Headers and labels only; decode no picture.")
@click.option("--no-labels", is_flag=True, help="The set is meant to have no cameras.")
@click.option("--html", "page", type=_path, help="Write a page: findings, 3-D plot of the cameras, pictures with axes.")
@click.option("--json", "as_lines", is_flag=True, help="Print the findings as JSON.")
@workers_option
@plain_errors
def check(data: Path, quick: bool, no_labels: bool, page: Path | None, as_lines: bool, workers: int) -> None:
    """Look for everything that can be wrong with a set, and say what mends it. Exit status 1 if there are errors."""
    use_labels = not no_labels
    if quick:
        report = quick_check(str(data), use_labels=use_labels)
    else:
        report = full_check(str(data), use_labels=use_labels, workers=workers)
    click.echo(as_json(report) if as_lines else summarize(report))
    if page is not None:
        write_atomically(page, write_page(report).encode())
        click.echo(f"page written to {page}", err=as_lines)
    if report.errors:
        raise click.exceptions.Exit(1)


@main.command("import")
@source_option
@dest_option
@click.option(
    "--format",
    "kind",
    type=click.Choice(["auto", "labels", "colmap", "transforms", "srn", "epigraf"]),
    default="auto",
    show_default=True,
    help="Where the cameras are; labels: in dataset.json, perhaps in another convention.",
)
@click.option(
    "--camera-convention",
    type=click.Choice(list(CONVENTIONS)),
    default="opencv",
    show_default=True,
    help="Axes of the cameras, where the format leaves it open.",
)
@click.option("--world-to-camera", is_flag=True, help="The poses are inverses.")
@click.option("--transpose", is_flag=True, help="The poses are column-major.")
@click.option("--flip-axes", default="", metavar="xyz", help="Camera axes to reverse, for left-handed poses.")
@click.option(
    "--up", type=click.Choice(["auto", *UP_AXES]), default="y", show_default=True, help="World axis that is up."
)
@click.option("--pixel-intrinsics", is_flag=True, help="The labels' intrinsics are in pixels.")
@click.option("--orthonormalize", is_flag=True, help="Replace rotations by the nearest proper ones.")
@click.option(
    "--recenter",
    type=click.Choice(["none", "focus", "mean"]),
    default="none",
    show_default=True,
    help="Origin: as it is, the point that the cameras look at, or their mean position.",
)
@click.option("--turn", default=0.0, show_default=True, help="Azimuth, in degrees, that becomes the front.")
@click.option(
    "--scale-to-radius", type=click.FloatRange(min=0, min_open=True), help="Mean camera distance, 2.7 in EG3D."
)
@click.option("--same-radius", is_flag=True, help="With --scale-to-radius: push every camera to that distance.")
@click.option("--fov-deg", type=click.FloatRange(0, 180, min_open=True, max_open=True), help="Field of view (epigraf).")
@click.option("--radius", default=1.0, show_default=True, help="Camera distance (epigraf).")
@click.option("--camera-angles", is_flag=True, help="Write EpiGRAF's camera_angles beside the labels.")
@picture_options
@plain_errors
def import_(
    source: Path,
    dest: Path,
    kind: Any,
    camera_convention: str,
    world_to_camera: bool,
    transpose: bool,
    flip_axes: str,
    up: str,
    pixel_intrinsics: bool,
    orthonormalize: bool,
    recenter: Any,
    turn: float,
    scale_to_radius: float | None,
    same_radius: bool,
    fov_deg: float | None,
    radius: float,
    camera_angles: bool,
    transform: Any,
    resolution: tuple[int, int] | None,
    alpha: Any,
    skip_broken: bool,
    workers: int,
) -> None:
    """Make a posed set of pictures whose cameras another program found.

    Read are COLMAP models (text or binary, undistorted), transforms.json (NeRF-synthetic, instant-ngp, nerfstudio), SRN
    folders (ShapeNet), EpiGRAF's camera_angles, and labels of dataset.json that follow another convention. Cameras end
    up camera-to-world, in OpenCV axes, with y up and intrinsics divided by the image size.
    """
    if set(flip_axes) - set("xyz"):
        raise click.BadParameter("use the letters x, y and z", param_hint="--flip-axes")
    flips = "".join(axis for axis in "xyz" if (axis in CONVENTIONS[camera_convention]) != (axis in flip_axes))
    settings = ImportOptions(
        format=kind,
        fix=Fix(transpose, world_to_camera, flips, "y" if up == "auto" else up),
        up_auto=up == "auto",
        recenter=recenter,
        turn_degrees=turn,
        scale_to_radius=scale_to_radius,
        same_radius=same_radius,
        pixel_intrinsics=pixel_intrinsics,
        orthonormalize=orthonormalize,
        fov_degrees=fov_deg,
        radius=radius,
        camera_angles=camera_angles,
    )
    opened = open_source(source)
    items, warning = plan_import(opened, settings)
    make(dest, opened, items, PictureOptions(resolution, transform, alpha), workers, skip_broken)
    if warning:
        click.echo(f"warning: {warning}", err=True)


@main.command()
@source_option
@dest_option
@click.option("--format", "kind", required=True, type=click.Choice(["colmap", "transforms"]), help="What to write.")
@click.option("--binary", is_flag=True, help="COLMAP's binary files instead of text.")
@plain_errors
def export(source: Path, dest: Path, kind: Any, binary: bool) -> None:
    """Write pictures and cameras of a set for COLMAP or for programs that read transforms.json."""
    count = export_cameras(open_source(source), dest.expanduser(), kind, binary)
    click.echo(f"{count} pictures and cameras in {dest}")


@main.command("mirror")
@source_option
@dest_option
@click.option("--replace", "replace_all", is_flag=True, help="Only the mirrored pictures, not both.")
@workers_option
@plain_errors
def mirror_(source: Path, dest: Path, replace_all: bool, workers: int) -> None:
    """Add a mirrored copy of every picture, its camera mirrored with it."""
    opened = open_source(source)
    make(dest, opened, mirror(plan_conversion(opened, keep_names=True), replace_all), PictureOptions(), workers)


@main.command("rebalance")
@source_option
@dest_option
@click.option("--bins", default=9, show_default=True, type=click.IntRange(min=1), help="Equal ranges of azimuth.")
@click.option("--strength", default=1.0, show_default=True, type=click.FloatRange(0, 1), help="0: as it is, 1: even.")
@click.option("--max-repeat", default=16, show_default=True, type=click.IntRange(min=1), help="Copies of one picture.")
@workers_option
@plain_errors
def rebalance_(source: Path, dest: Path, bins: int, strength: float, max_repeat: int, workers: int) -> None:
    """Repeat the pictures with rare azimuths, so that a network sees all sides as often."""
    opened = open_source(source)
    items = rebalance(plan_conversion(opened, keep_names=True), bins, strength, max_repeat)
    make(dest, opened, items, PictureOptions(), workers)


@main.command("subset")
@source_option
@dest_option
@click.option(
    "--match", "patterns", multiple=True, help="Keep names that fit a shell pattern; may be given repeatedly."
)
@click.option("--drop", "drop_file", type=click.File(), help="Text file of names to drop, one a line.")
@click.option("--labelled", is_flag=True, help="Keep only pictures with a label.")
@click.option("--distinct", is_flag=True, help="Keep one of several equal files.")
@click.option("--max-images", type=click.IntRange(min=1), help="Keep so many, chosen by --seed.")
@click.option("--seed", default=0, show_default=True)
@click.option("--skip-broken", is_flag=True, help="Drop pictures that cannot be read.")
@workers_option
@plain_errors
def subset_(
    source: Path,
    dest: Path,
    patterns: tuple[str, ...],
    drop_file: Any,
    labelled: bool,
    distinct: bool,
    max_images: int | None,
    seed: int,
    skip_broken: bool,
    workers: int,
) -> None:
    """Keep a part of a set, with its labels and names."""
    drop = frozenset(line.strip() for line in drop_file) if drop_file else frozenset()
    opened = open_source(source)
    items = subset(opened, Choice(patterns, drop, labelled, distinct, max_images, seed))
    make(dest, opened, items, PictureOptions(), workers, skip_broken)


@main.command()
@click.argument("data", type=_path)
@click.option("--out", type=_path, help="Write the numbers as JSON here.")
@plain_errors
def stats(data: Path, out: Path | None) -> None:
    """Print where the cameras of a set stand: ranges and a map of the pose density."""
    facts = statistics(plan_conversion(open_source(data), keep_names=True))
    density = facts["density"]
    for name, value in facts.items():
        if name != "density":
            click.echo(f"{name}: {json.dumps(value)}")
    click.echo("elevation against azimuth, darkest where most cameras stand:")
    click.echo(density_table(density))
    if out is not None:
        write_atomically(out, json.dumps(facts, indent=1).encode())


@main.command()
@source_option
@dest_option
@click.option("--prior", type=click.Choice(["gaussian", "uniform", "sphere"]), default="gaussian", show_default=True)
@click.option("--azimuth", default=0.3, show_default=True, help="Deviation or half-width of the azimuth, radians.")
@click.option("--elevation", default=0.155, show_default=True, help="The same for the elevation.")
@click.option("--mean-elevation", default=0.0, show_default=True, help="Radians.")
@click.option("--radius", default=2.7, show_default=True, type=click.FloatRange(min=0, min_open=True))
@click.option("--fov-deg", default=13.373, show_default=True, help="Horizontal field of view; 13.373 is EG3D's.")
@click.option("--pivot", nargs=3, type=float, default=(0.0, 0.0, 0.0), show_default=True, help="Point looked at.")
@click.option("--seed", default=0, show_default=True)
@picture_options
@plain_errors
def poses(
    source: Path,
    dest: Path,
    prior: Any,
    azimuth: float,
    elevation: float,
    mean_elevation: float,
    radius: float,
    fov_deg: float,
    pivot: tuple[float, float, float],
    seed: int,
    transform: Any,
    resolution: tuple[int, int] | None,
    alpha: Any,
    skip_broken: bool,
    workers: int,
) -> None:
    """Give pictures without cameras labels that are drawn from a distribution.

    The labels do not fit the single pictures: use them with a discriminator that does not see poses, or to try things.
    """
    opened = open_source(source)
    distribution = PosePrior(prior, azimuth, elevation, mean_elevation, radius, fov_deg, pivot)
    items = draw_poses(plan_conversion(opened), distribution, seed)
    make(dest, opened, items, PictureOptions(resolution, transform, alpha), workers, skip_broken)


if __name__ == "__main__":
    main()
