"""SHHQ (whole people) with cameras from the root rotation of fitted body models, as OrthoPlanes trains on it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import numpy as np
from scipy.spatial.transform import Rotation

from dataset_preprocessing.building import Item, build, numbered_names
from dataset_preprocessing.cameras import EG3D_FOCAL, EG3D_RADIUS, Floats, intrinsics, make_label
from dataset_preprocessing.commands import dest_option, plain_errors, tell, workers_option
from dataset_preprocessing.extras import need
from dataset_preprocessing.pictures import PictureOptions
from dataset_preprocessing.sources import image_names, open_source
from training.archive import MAX_ENTRY_BYTES, ArchiveError, parse_json

_ADMITTED = {
    ("numpy", "dtype"),
    ("numpy", "ndarray"),
    ("numpy._core.multiarray", "scalar"),
    ("numpy.core.multiarray", "scalar"),
    ("collections", "OrderedDict"),
    ("builtins", "dict"),
}


def camera_label(root_rotation: Floats, focal: float, radius: float) -> list[float]:
    """The label for a root rotation [3, 3] (from the body to the camera): the person stays, the camera moves."""
    world_to_camera = np.eye(4)
    world_to_camera[:3, :3], world_to_camera[2, 3] = root_rotation, radius
    return [float(value) for value in make_label(np.linalg.inv(world_to_camera), intrinsics(focal))]


def read_root_rotation(path: Path) -> Floats:
    """Rotation [3, 3] of the root joint: from the first three axis-angle numbers of `pose` (JSON, NPZ or PARE's file).

    PARE writes joblib pickles: only plain numbers, containers and arrays are read from them, and nothing is run.
    Raises ArchiveError for files that hold anything else.
    """
    if path.stat().st_size > MAX_ENTRY_BYTES:
        raise ArchiveError(f"{path}: larger than {MAX_ENTRY_BYTES:,} bytes; refused")
    try:
        if path.suffix == ".json":
            content = parse_json(path.read_bytes(), str(path))
        elif path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as arrays:
                content = {"pose": arrays["pose"]}
        else:
            content = _read_joblib(path)
        while isinstance(content, dict) and "pose" not in content:
            content = next(iter(content.values()))
        pose = np.array(content["pose"], dtype=np.float64).ravel()
        if pose.size < 3 or not np.isfinite(pose[:3]).all():
            raise ValueError(f"pose has {pose.size} numbers")
    except ArchiveError:
        raise
    except Exception as error:  # files of unknown origin fail in many ways
        raise ArchiveError(f"{path}: holds no `pose` ({error})") from None
    return np.asarray(Rotation.from_rotvec(pose[:3]).as_matrix(), dtype=np.float64)


def _read_joblib(path: Path) -> Any:
    joblib = need("joblib.numpy_pickle", "reading PARE's files")

    class Wrapper(joblib.NumpyArrayWrapper):
        """An array inside the file; one of objects would be unpickled without checks."""

        def read(self, *arguments: Any) -> Any:
            if self.dtype.hasobject:
                raise ArchiveError(f"{path}: holds an array of objects; refused")
            return super().read(*arguments)

    class Reader(joblib.NumpyUnpickler):
        def find_class(self, module: str, name: str) -> Any:
            if (module, name) == ("joblib.numpy_pickle", "NumpyArrayWrapper"):
                return Wrapper
            if (module, name) not in _ADMITTED:
                raise ArchiveError(f"{path}: refers to {module}.{name}; refused")
            return super().find_class(module, name)

    with open(path, "rb") as file:
        arguments = (str(path), file, False) if "ensure_native_byte_order" in _parameters(joblib) else (str(path), file)
        return Reader(*arguments).load()


def _parameters(joblib: Any) -> tuple[str, ...]:
    code = joblib.NumpyUnpickler.__init__.__code__
    return tuple(code.co_varnames[: code.co_argcount])


@click.command()
@click.option("--image-folder", "--image_folder", required=True, type=click.Path(path_type=Path), help="The pictures.")
@click.option(
    "--smpl-folder", "--smpl_folder", required=True, type=click.Path(path_type=Path), help="One file a picture."
)
@dest_option
@click.option("--n-images", "--n_images", type=click.IntRange(min=1), help="Take only the first so many.")
@click.option("--focal-length", "--focal_length", default=EG3D_FOCAL, show_default=True, help="In image widths.")
@click.option("--camera-radius", "--camera_radius", default=EG3D_RADIUS, show_default=True)
@click.option("--resolution", default=512, show_default=True, type=click.IntRange(16, 1024))
@workers_option
@plain_errors
def main(
    image_folder: Path,
    smpl_folder: Path,
    dest: Path,
    n_images: int | None,
    focal_length: float,
    camera_radius: float,
    resolution: int,
    workers: int,
) -> None:
    """Make the SHHQ set of OrthoPlanes.

    Ask for by hand: SHHQ-1.0 (repository "StyleGAN-Human"; research only), and run the body estimator PARE (research
    only too) on its pictures. SMPL-FOLDER holds one result for each picture under the same stem (.pkl by joblib, or
    .json or .npz with `pose`: the axis-angle numbers of the joints, root first).
    """
    source = open_source(image_folder)
    pictures = image_names(source)[:n_images]
    results = {file.stem: file for file in sorted(smpl_folder.expanduser().glob("*")) if file.is_file()}
    missing = [name for name in pictures if Path(name).stem not in results]
    if missing:
        raise ArchiveError(f"{smpl_folder}: no result for {missing[0]} and {len(missing) - 1} others")
    rotations = [read_root_rotation(results[Path(name).stem]) for name in pictures]
    labels = [camera_label(rotation, focal_length, camera_radius) for rotation in rotations]
    items = [
        Item(name, new, label, finished_label=True)
        for name, new, label in zip(pictures, numbered_names(len(pictures)), labels, strict=True)
    ]
    options = PictureOptions((resolution, resolution), "center-crop", "white")
    tell(build(dest.expanduser(), source, items, options, workers=workers))


if __name__ == "__main__":
    main()
