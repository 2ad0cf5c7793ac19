"""Films of seeds: camera paths, ways through latents, grids, layers side by side, turntables of meshes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import numpy as np

from dnnlib.files import atomic_path, write_text
from dnnlib.refusals import refusals_in_words
from training import shapes
from training.cameras.camera import diagonal_fov
from training.cameras.paths import PATHS, path_cameras
from training.cameras.prior import ViewConfig
from training.commands import (
    FACTOR,
    VIEW_ANGLE,
    GridSize,
    IntList,
    NameList,
    Truncation,
    conditioning_camera,
    label_list,
    load_snapshot,
    pick_device,
    read_cameras,
)
from training.film import ENCODINGS, FrameFolder, write_film
from training.interpolation import CURVES
from training.latents import seeds_to_z
from training.reel import FILM_LAYERS, Motion, Reel, key_cells
from training.types import Camera, Latents, RenderSettings
from training.views import ShapeSettings, scene_density, scene_mesh

FOCAL_LENGTHS = {"FFHQ": 4.2647, "AFHQ": 4.2647, "Shapenet": 1.7074}
PUBLISHED_LAYERS = {"image_depth": "depth", "image_raw": "raw"}


class FilmLayers(NameList):
    """A list of layers; also takes the names that the published command has for them."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> list[str]:
        if isinstance(value, str):
            value = ",".join(PUBLISHED_LAYERS.get(part.strip(), part) for part in value.split(","))
        return super().convert(value, param, ctx)


def film_cameras(
    view: ViewConfig, path: str, frames: int, yaw: float | None, pitch: float | None, fov_deg: float | None
) -> Camera:
    """The cameras of a named path, or of a JSON file of labels. Raises ClickException where it is neither."""
    if path in PATHS:
        return path_cameras(PATHS[path], frames, view, yaw=yaw, pitch=pitch, fov_deg=fov_deg)
    try:
        return read_cameras(Path(path))
    except ValueError as error:
        names = ", ".join(PATHS)
        raise click.ClickException(f"--path={path}: not one of {names}, and no camera file: {error}") from error


def save_frame_shapes(folder: Path, reel: Reel, settings: ShapeSettings) -> None:
    """Saves the surface of the first cell at every frame, and skips those that are there."""
    folder.mkdir(parents=True, exist_ok=True)
    cell = reel.cells[0]
    for frame in range(len(reel)):
        path = folder / f"{frame:04d}_shape.ply"
        if not path.exists():
            scene = cell.scene(reel.time(frame, cell))
            shapes.save_mesh(path, scene_mesh(scene, scene_density(scene, settings), settings))


def save_trajectory(film: Path, cameras: Camera) -> None:
    """Saves the camera-to-world matrices of the frames as NumPy array [frames, 4, 4]."""
    with atomic_path(film.with_name(f"{film.name}_trajectory.npy")) as temporary, open(temporary, "wb") as file:
        np.save(file, cameras.cam2world.cpu().numpy())


def seed_pairs(
    seeds: Sequence[int], background_seeds: Sequence[int] | None, shuffle_seed: int | None
) -> list[tuple[int, int]]:
    """Seeds of scenes and of their surroundings; the shorter list repeats."""
    behind = seeds if background_seeds is None else background_seeds
    pairs = [(seeds[index % len(seeds)], behind[index % len(behind)]) for index in range(max(len(seeds), len(behind)))]
    if shuffle_seed is not None:
        np.random.RandomState(shuffle_seed).shuffle(pairs)
    return [(int(seed), int(surroundings)) for seed, surroundings in pairs]


def take_name(seed: int, behind: int, background_seeds: Sequence[int] | None) -> str:
    """Name of the film of one seed: the published one, unless its surroundings were chosen apart."""
    return str(seed) if background_seeds is None else f"{seed}-on{behind}"


def save_film(path: Path, reel: Reel, fps: int, plan: dict, keep_frames: bool) -> None:
    """Draws the frames that an earlier call has not drawn yet, then writes the film."""
    folder = FrameFolder.open(path.with_name(f"{path.stem}.frames"), plan)
    folder.fill(len(reel), reel.painter(), path.name)
    if path.suffix in ENCODINGS:
        write_film(path, folder.frames(len(reel)), fps)
        if not keep_frames:
            folder.remove()


@click.command(context_settings={"show_default": True})
@click.option("--network", metavar="PKL|URL|RUN", required=True, help="Snapshot, or folder of a run.")
@click.option("--seeds", type=IntList(), required=True, help="Seeds such as 0,1,4-6, the key frames of the cells.")
@click.option("--outdir", type=click.Path(file_okay=False, path_type=Path), required=True, help="Folder for the files.")
@click.option("--bg-seeds", type=IntList(), help="Seeds of the surroundings; default: those of the scenes.")
@click.option("--shuffle-seed", type=int, help="Shuffle the seeds, by this seed.")
@click.option("--grid", type=GridSize(), default="1x1", help="Columns and rows of cells.")
@click.option("--num-keyframes", type=click.IntRange(1), help="Seeds a cell; default: as many as there are.")
@click.option("--w-frames", type=click.IntRange(1), default=120, help="Frames from one seed to the next.")
@click.option("--trunc", type=float, default=1.0, help="Truncation psi.")
@click.option("--trunc-cutoff", type=click.IntRange(min=0), default=14, help="Number of style rows that are truncated.")
@click.option("--bg-trunc", type=float, help="Truncation psi of the surroundings; default: --trunc.")
@click.option("--interpolate", type=bool, default=True, help="One film through all seeds; false: a film of each.")
@click.option("--curve", type=click.Choice(list(CURVES)), default="cubic", help="Way from seed to seed, in W.")
@click.option(
    "--move",
    type=click.Choice(["both", "foreground", "background"]),
    default="both",
    help="What changes from seed to seed.",
)
@click.option(
    "--path", "path_name", metavar="NAME|FILE", default="wobble", help=f"One of {', '.join(PATHS)}; or labels."
)
@click.option("--yaw", type=float, help="Amplitude of the path in radians.")
@click.option("--pitch", type=float, help="Amplitude of the path in radians.")
@click.option("--fov-deg", type=VIEW_ANGLE, help="Diagonal field of view in degrees; default: the network's.")
@click.option("--cfg", type=click.Choice(list(FOCAL_LENGTHS)), help="Field of view of a published configuration.")
@click.option(
    "--image_mode",
    "--layers",
    "layers",
    type=FilmLayers(FILM_LAYERS),
    default="image",
    help=f"Layers beside each other, from {', '.join(FILM_LAYERS)}.",
)
@click.option("--sample_mult", "--sample-mult", type=FACTOR, default=2.0, help="Factor on the samples along a ray.")
@click.option("--nrr", type=click.IntRange(1), help="Rays per side; default: the network's.")
@click.option(
    "--format",
    "suffix",
    type=click.Choice([*(suffix[1:] for suffix in ENCODINGS), "png"]),
    default="mp4",
    help="webm keeps transparency; png leaves the frames alone.",
)
@click.option("--fps", type=click.IntRange(1), default=60, help="Frames a second.")
@click.option("--keep-frames", is_flag=True, help="Leave the PNG frames beside the film.")
@click.option("--shapes", "with_shapes", type=bool, default=False, help="Also the surface at every frame, as .ply.")
@click.option("--shape-res", type=click.IntRange(2, 1024), default=256, help="Grid points per side of surfaces.")
@click.option("--shape-level", type=float, help="Raw density of surfaces; default: fits the silhouettes.")
@click.option("--device", type=click.Choice(["auto", "cuda", "cpu"]), default="auto", help="Where to compute.")
@click.option("--reload_modules", hidden=True, expose_value=False, type=bool)
@refusals_in_words()
def main(
    network: str,
    seeds: list[int],
    outdir: Path,
    bg_seeds: list[int] | None,
    shuffle_seed: int | None,
    grid: tuple[int, int],
    num_keyframes: int | None,
    w_frames: int,
    trunc: float,
    trunc_cutoff: int,
    bg_trunc: float | None,
    interpolate: bool,
    curve: str,
    move: str,
    path_name: str,
    yaw: float | None,
    pitch: float | None,
    fov_deg: float | None,
    cfg: str | None,
    layers: list[str],
    sample_mult: float,
    nrr: int | None,
    suffix: str,
    fps: int,
    keep_frames: bool,
    with_shapes: bool,
    shape_res: int,
    shape_level: float | None,
    device: str,
) -> None:
    """Makes films of seeds.

    The film goes once along the camera path and once through all seeds of each cell; it ends where it began. A
    call that was cut off continues where it stopped. The same command gives the same frames.

    \b
    python gen_videos.py --network=network-snapshot-000100.pkl --seeds=0-3 --grid=2x2 --outdir=out
    python gen_videos.py --network=network-snapshot-000100.pkl --seeds=0 --layers=image,depth,mesh --outdir=out
    """  # noqa: D301
    cells, motion = grid[0] * grid[1], Motion(CURVES[curve], move != "background", move != "foreground")
    pairs = seed_pairs(seeds, bg_seeds, shuffle_seed)
    if interpolate and num_keyframes is None and len(pairs) % cells:
        raise click.ClickException(f"--seeds: {len(pairs)} seeds do not fill {cells} cells; give --num-keyframes")
    if "alpha" in layers and suffix == "mp4" and len(layers) == 1:
        raise click.ClickException("--format=mp4 has no transparency; use --format=webm or --format=png")
    generator, file = load_snapshot(network, pick_device(device))
    source = {"network": network, "network_sha256": file.sha256}
    fov = diagonal_fov(FOCAL_LENGTHS[cfg]) if cfg and fov_deg is None else fov_deg
    truncation = Truncation(trunc, trunc_cutoff, bg_trunc)
    conditioning = conditioning_camera(generator.config.view, fov)
    settings = RenderSettings(nrr or generator.raw_resolution, None, "center", 0.0, sample_mult)
    shape = ShapeSettings(shape_res, shape_level)

    def styles(pairs: Sequence[tuple[int, int]]) -> Latents:
        z = seeds_to_z(generator, [a for a, _ in pairs], [b for _, b in pairs])
        return truncation.styles(generator, z, conditioning)

    takes = [("interpolation", pairs)] if interpolate else [(take_name(*pair, bg_seeds), [pair]) for pair in pairs]
    outdir.mkdir(parents=True, exist_ok=True)
    for name, chosen in takes:
        keys = (num_keyframes or len(chosen) // cells) if interpolate else 1
        cameras = film_cameras(generator.config.view, path_name, keys * w_frames, yaw, pitch, fov)
        members = key_cells(styles, generator, chosen, cells if interpolate else 1, keys, motion)
        try:
            reel = Reel(members, grid[0] if interpolate else 1, cameras, layers, settings, shape)
        except ValueError as error:
            raise click.ClickException(f"--layers: {error}") from error
        film = outdir / f"{name}.{suffix}"
        plan = source | {
            "seeds": chosen,
            "keys": keys,
            "grid": grid,
            "curve": curve,
            "move": move,
            "truncation": asdict(truncation),
            "layers": layers,
            "settings": asdict(settings),
            "shape": asdict(shape),
            "cameras": label_list(cameras),
        }
        try:
            save_film(film, reel, fps, plan, keep_frames)
            write_text(film.with_suffix(".json"), json.dumps(plan | {"fps": fps, "file": film.name}, indent=1) + "\n")
            if with_shapes:
                save_frame_shapes(outdir / f"{name}_{chosen[0][0]}_{chosen[-1][0]}", reel, shape)
                save_trajectory(film, cameras)
        except ValueError as error:
            raise click.ClickException(f"{film.name}: {error}") from error
        click.echo(f"{len(reel)} frames: {film}")


if __name__ == "__main__":
    main()
