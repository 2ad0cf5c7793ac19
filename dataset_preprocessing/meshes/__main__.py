"""Command line of the mesh renderer."""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np

from dataset_preprocessing.cameras import focal_from_fov
from dataset_preprocessing.commands import dest_option, plain_errors, workers_option
from dataset_preprocessing.meshes.fetch import fetch_panoramas, fetch_torcs
from dataset_preprocessing.meshes.make import Options, find_models, find_panoramas, make_set, usable_models
from dataset_preprocessing.meshes.traced import need_mitsuba

_path = click.Path(path_type=Path)
_folder = click.Path(path_type=Path, exists=True, file_okay=False)


@click.group()
def main() -> None:
    """Render textured meshes in front of panoramas into a posed training set with exact mask and depth.

    Bring a folder of models (glb, gltf, obj, ply, AC3D; upright in y, facing +z) and one of panoramas (EXR, JPEG or
    PNG, twice as wide as high). Or let `fetch-torcs` get 17 racing cars with 59 liveries from Debian's package
    torcs-data, and `fetch-panoramas` 18 CC0 panoramas from the npm package @pmndrs/assets. The licences of the
    cars differ (GPL-2+, Free Art): look at their readme.txt before you pass renders on.
    """


@main.command("fetch-torcs")
@click.option("--dest", required=True, type=_path, help="Folder for the models.")
@click.option(
    "--package", type=click.Path(path_type=Path, exists=True), help="torcs-data_*.deb, if you have it already."
)
@plain_errors
def torcs(dest: Path, package: Path | None) -> None:
    """Get the cars of TORCS (needs apt-get and dpkg-deb, or --package)."""
    click.echo(f"{fetch_torcs(dest.expanduser(), package)} cars in {dest}")


@main.command("fetch-panoramas")
@click.option("--dest", required=True, type=_path, help="Folder for the panoramas.")
@click.option("--package", type=click.Path(path_type=Path, exists=True), help="pmndrs-assets-*.tgz, if you have it.")
@plain_errors
def panoramas_(dest: Path, package: Path | None) -> None:
    """Get CC0 panoramas (needs npm, or --package)."""
    click.echo(f"{fetch_panoramas(dest.expanduser(), package)} panoramas in {dest}")


@main.command()
@click.option("--models", required=True, type=_folder, help="Folder of models, searched in depth.")
@click.option("--panoramas", type=_folder, help="Folder of panoramas; without it the background is white.")
@dest_option
@click.option("--count", default=2000, show_default=True, type=click.IntRange(min=1), help="Number of pictures.")
@click.option(
    "--resolution", default=128, show_default=True, type=click.IntRange(8, 1024), help="Picture size, pixels."
)
@click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0))
@click.option("--views", default=1, show_default=True, type=click.IntRange(min=1), help="Pictures of each scene.")
@click.option("--radius", default=1.7, show_default=True, help="Distance of the cameras.")
@click.option("--fov-deg", default=32.64, show_default=True, help="Horizontal field of view.")
@click.option("--azimuth", nargs=2, default=(-180.0, 180.0), show_default=True, help="Range of azimuths, degrees.")
@click.option("--elevation", nargs=2, default=(-3.0, 35.0), show_default=True, help="Range of elevations, degrees.")
@click.option(
    "--supersampling", default="3", show_default=True, type=click.Choice(["1", "3", "5"]), help="Rays per side."
)
@click.option(
    "--light-samples",
    default=0,
    show_default=True,
    type=click.IntRange(0, 4096),
    help="Paths a pixel that Mitsuba traces for the light on the models; 0: fast light without Mitsuba.",
)
@workers_option
@plain_errors
def render(
    models: Path,
    panoramas: Path | None,
    dest: Path,
    count: int,
    resolution: int,
    seed: int,
    views: int,
    radius: float,
    fov_deg: float,
    azimuth: tuple[float, float],
    elevation: tuple[float, float],
    supersampling: str,
    light_samples: int,
    workers: int,
) -> None:
    """Render a set: pictures and labels in DEST, masks, depths and foregrounds in a second archive (`-truth`)."""
    if light_samples:
        need_mitsuba()
    good, faults = usable_models(find_models(models))
    for fault in faults:
        click.echo(f"left out: {fault}", err=True)
    if not good:
        raise click.ClickException(f"{models}: none of the models can be read")
    options = Options(
        models=good,
        panoramas=find_panoramas(panoramas) if panoramas else (),
        resolution=resolution,
        seed=seed,
        views=views,
        focal=focal_from_fov(fov_deg),
        radius=radius,
        azimuth=(float(np.radians(azimuth[0])), float(np.radians(azimuth[1]))),
        elevation=(float(np.radians(elevation[0])), float(np.radians(elevation[1]))),
        supersampling=int(supersampling),
        light_samples=light_samples,
    )
    truth = make_set(dest.expanduser(), options, count, workers)
    click.echo(f"{count} pictures of {len(good)} models in {dest}, ground truth in {truth}")


if __name__ == "__main__":
    main()
