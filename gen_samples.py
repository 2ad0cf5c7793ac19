"""Pictures, transparent foregrounds, depth and shapes of seeds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from tqdm import tqdm

from dnnlib.refusals import refusals_in_words
from training.background import SolidConfig
from training.cameras.prior import FRONT, ViewConfig, orbit_camera
from training.commands import (
    FACTOR,
    VIEW_ANGLE,
    FloatList,
    IntList,
    NameList,
    Truncation,
    conditioning_camera,
    load_snapshot,
    pick_device,
    read_cameras,
    real_pictures,
)
from training.exports import SHAPE_FORMATS, Job, Made, Shooting, save_sheet
from training.page import save_page
from training.types import Camera, RenderSettings
from training.views import LAYERS, ShapeSettings


def strip_angles(count: int, yaw: tuple[float, ...] | None, has_surroundings: bool) -> list[float]:
    """Yaws of the views of a strip, in radians from the frontal view.

    The published ranges: 0.4 to -0.4 for scenes alone, -0.3 to 0.3 for scenes with surroundings.
    """
    first, last = yaw or ((-0.3, 0.3) if has_surroundings else (0.4, -0.4))
    return np.linspace(first, last, count).tolist() if count > 1 else [(first + last) / 2]


def view_cameras(view: ViewConfig, yaws: Sequence[float], pitch: float, fov_deg: float | None) -> Camera:
    """Cameras at yaws and one pitch, radians from the frontal view."""
    azimuth = FRONT + torch.tensor(yaws, dtype=torch.float32)
    return orbit_camera(azimuth, torch.full_like(azimuth, FRONT + pitch), view, fov_deg)


def seed_pairs(seeds: Sequence[int], background_seeds: Sequence[int] | None) -> list[tuple[str, int, int]]:
    """Name, seed and background seed of every scene; the shorter list repeats."""
    if background_seeds is None:
        return [(f"seed{seed:04d}", seed, seed) for seed in seeds]
    pairs = [
        (seeds[i % len(seeds)], background_seeds[i % len(background_seeds)])
        for i in range(max(len(seeds), len(background_seeds)))
    ]
    return [(f"seed{seed:04d}-on{behind:04d}", seed, behind) for seed, behind in pairs]


class ShapeFormats(NameList):
    """A list of file formats, or yes or no for the default one."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> list[str]:
        words = {"true": [".mrc"], "yes": [".mrc"], "1": [".mrc"], "false": [], "no": [], "0": []}
        if isinstance(value, str) and value.lower() in words:
            return words[value.lower()]
        return super().convert(value, param, ctx)


def labelled_cameras(path: Path) -> Camera:
    """The cameras of a label file. Raises ClickException for one that cannot be read."""
    try:
        return read_cameras(path)
    except ValueError as error:
        raise click.ClickException(f"--cameras: {error}") from error


def report(job: Job, made: Sequence[Made]) -> None:
    """Prints what was made. Raises ClickException where shapes are missing."""
    for one in made:
        click.echo(f"{one.name}: {one.separation}")
    click.echo(f"{len(made)} seeds, layers {', '.join(job.layers)}: {job.folder}")
    missing = job.missing_shapes(one.name for one in made)
    if missing:
        raise click.ClickException(f"no surface for {', '.join(missing)}; the reasons stand above")


def refuse(reason: str) -> Callable[[click.Context, click.Parameter, Any], None]:
    """A callback for an option of published commands that has no meaning here: any use of it fails with the reason."""

    def callback(ctx: click.Context, param: click.Parameter, value: Any) -> None:
        if value is not None:
            raise click.BadParameter(reason, ctx, param)

    return callback


def published_background_options(command: Callable[..., None]) -> Callable[..., None]:
    """Adds the options with which the published BallGAN command repeats the training's settings; all are refused."""
    reason = "the snapshot knows its own background; leave this option out"
    for name in ("bg_ver", "n_blocks", "radius", "bg_pe", "hidden_size", "z_bg_dim", "w_bg_dim", "bg_mapping"):
        command = click.option(f"--{name}", hidden=True, expose_value=False, callback=refuse(reason))(command)
    return command


@click.command(context_settings={"show_default": True})
@click.option("--network", metavar="PKL|URL|RUN", required=True, help="Snapshot, or folder of a run.")
@click.option("--seeds", type=IntList(), required=True, help="Seeds such as 0,1,4-6.")
@click.option("--outdir", type=click.Path(file_okay=False, path_type=Path), required=True, help="Folder for the files.")
@click.option("--bg-seeds", type=IntList(), help="Seeds of the surroundings; default: those of the scenes.")
@click.option("--trunc", type=float, default=1.0, help="Truncation psi: 1 for full variety, 0 for the average.")
@click.option("--trunc-cutoff", type=click.IntRange(min=0), default=14, help="Number of style rows that are truncated.")
@click.option("--bg-trunc", type=float, help="Truncation psi of the surroundings; default: --trunc.")
@click.option("--layers", type=NameList(LAYERS), help=f"Pictures of each seed, from {', '.join(LAYERS)}.")
@click.option("--view", type=click.IntRange(1), default=3, help="Number of views in a strip.")
@click.option("--yaw", type=FloatList(2), help="Yaw of the first and the last view, radians from the front.")
@click.option("--pitch", type=float, default=-0.2, help="Pitch of all views, radians from the front.")
@click.option(
    "--cameras",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="JSON file of camera labels, or a dataset.json; the first --view of them are used.",
)
@click.option("--fov-deg", type=VIEW_ANGLE, help="Diagonal field of view in degrees; default: the network's.")
@click.option("--bg-angles", type=FloatList(2), help="Yaw,pitch of another camera for the surroundings.")
@click.option("--backdrop", metavar="COLOR|FILE", help="Also lay the foreground over a colour or a picture.")
@click.option("--trunc-sweep", type=FloatList(), help="Also a picture with a row for each of these psi.")
@click.option("--mix-seeds", type=IntList(), help="Also a picture with a row for each seed mixed in.")
@click.option("--mix-rows", type=IntList(), default="7-13", help="Style rows that --mix-seeds replaces.")
@click.option("--grid", is_flag=True, help="Also one picture of all seeds, a row each.")
@click.option("--sheet", is_flag=True, help="Also a labelled sheet.png of all seeds: views, layers, meshes.")
@click.option("--page", is_flag=True, help="Also page.html, one file of all pictures: a row a seed, a column a view.")
@click.option("--nrr", type=click.IntRange(1), help="Rays per side; default: the network's.")
@click.option("--sample-mult", type=FACTOR, default=1.0, help="Factor on the samples along a ray.")
@click.option(
    "--shapes",
    "shape_formats",
    type=ShapeFormats(SHAPE_FORMATS),
    is_flag=False,
    flag_value="true",
    default="false",
    help=f"Also shapes: yes, or formats from {', '.join(SHAPE_FORMATS)}.",
)
@click.option("--shape-format", type=click.Choice(SHAPE_FORMATS), help="Format where --shapes names none.")
@click.option("--shape-res", type=click.IntRange(2, 1024), default=512, help="Grid points per side.")
@click.option("--shape-level", type=float, help="Raw density of the surface; default: fits the silhouettes.")
@click.option("--shape-faces", type=click.IntRange(4), help="Simplify meshes to this many triangles.")
@click.option("--shape-texture", type=click.IntRange(64, 16384), help="Texels a side of a texture for .glb and .obj.")
@click.option(
    "--shape-axes",
    type=click.Choice(["auto", "scene", "published"]),
    default="auto",
    help="Axes of shapes; auto: published for .mrc, scene for meshes.",
)
@click.option("--device", type=click.Choice(["auto", "cuda", "cpu"]), default="auto", help="Where to compute.")
@click.option(
    "--class",
    "class_index",
    hidden=True,
    expose_value=False,
    callback=refuse("3D generators here have no classes; seeds choose the scene (--seeds)"),
)
@click.option("--reload_modules", hidden=True, expose_value=False, type=bool)
@published_background_options
@refusals_in_words()
def main(
    network: str,
    seeds: list[int],
    outdir: Path,
    bg_seeds: list[int] | None,
    trunc: float,
    trunc_cutoff: int,
    bg_trunc: float | None,
    layers: list[str] | None,
    view: int,
    yaw: tuple[float, ...] | None,
    pitch: float,
    cameras: Path | None,
    fov_deg: float | None,
    bg_angles: tuple[float, ...] | None,
    backdrop: str | None,
    trunc_sweep: tuple[float, ...] | None,
    mix_seeds: list[int] | None,
    mix_rows: list[int],
    grid: bool,
    sheet: bool,
    page: bool,
    nrr: int | None,
    sample_mult: float,
    shape_formats: list[str],
    shape_format: str | None,
    shape_res: int,
    shape_level: float | None,
    shape_faces: int | None,
    shape_texture: int | None,
    shape_axes: str,
    device: str,
) -> None:
    """Saves pictures, transparent foregrounds, depth and shapes of seeds.

    Each seed gives seedNNNN.png, its views side by side, other layers as seedNNNN_LAYER.png, and seedNNNN.json,
    which says what made them. The same command writes the same bytes.

    \b
    python gen_samples.py --network=network-snapshot-000100.pkl --seeds=0-3 --outdir=out
    python gen_samples.py --network=network-snapshot-000100.pkl --seeds=2 --shapes=.ply,.glb --outdir=out
    """  # noqa: D301
    generator, file = load_snapshot(network, pick_device(device))
    source = {"network": network, "network_sha256": file.sha256}
    config = generator.config
    has_surroundings = not isinstance(config.background, SolidConfig)
    yaws = strip_angles(view, yaw, has_surroundings)
    views = view_cameras(config.view, yaws, pitch, fov_deg) if cameras is None else labelled_cameras(cameras)[:view]
    behind = None
    if bg_angles is not None:
        behind = view_cameras(config.view, [bg_angles[0]] * len(views), bg_angles[1], fov_deg)
    if shape_formats == [".mrc"] and shape_format is not None:
        shape_formats = [shape_format]
    job = Job(
        generator,
        source,
        outdir,
        Truncation(trunc, trunc_cutoff, bg_trunc),
        conditioning_camera(config.view, fov_deg),
        Shooting(views, behind, RenderSettings(nrr or generator.raw_resolution, None, "center", 0.0, sample_mult)),
        layers or ["image", "alpha", *(["fg", "bg"] if has_surroundings else []), "depth"],
        backdrop,
        shape_formats,
        ShapeSettings(shape_res, shape_level, faces=shape_faces, texture=shape_texture),
        shape_axes,
    )
    outdir.mkdir(parents=True, exist_ok=True)
    made: list[Made] = []
    pairs = seed_pairs(seeds, bg_seeds)
    for name, seed, background_seed in tqdm(pairs, desc="seeds", unit="seed"):
        made.append(job.run(name, seed, background_seed, sheet))
        if trunc_sweep:
            job.sweep(name, seed, background_seed, trunc_sweep)
        if mix_seeds:
            job.mix(name, seed, background_seed, mix_seeds, mix_rows)
    if grid:
        job.save_grid("grid", [one.strip for one in made], seeds=seeds, background_seeds=bg_seeds)
    if sheet:
        save_sheet(outdir / "sheet.png", made, real_pictures(file, len(made)))
    if page:
        save_page(outdir / "page.html", Path(network).stem, made, views)
    report(job, made)


if __name__ == "__main__":
    main()
