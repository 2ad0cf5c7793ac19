"""`python -m training.snapshot`: look into a snapshot, or write its weights under the published names."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from torch import Tensor

from dnnlib.files import atomic_path
from dnnlib.refusals import refusals_in_words
from dnnlib.util import format_bytes
from training.checkpoint_file import plain_tensor
from training.config import to_dict
from training.generator import GeneratorConfig
from training.official import ours_to_official
from training.recipe import DiscriminatorRecipe, Recipe
from training.snapshot import Snapshot, load
from training.unpickle import SnapshotError, printable

MAX_LINE = 1000
PUBLISHED_SIZES = (128, 256, 512)
SAFETENSORS_TYPES = {torch.float32: "F32", torch.float16: "F16", torch.float64: "F64", torch.int64: "I64"}


@click.group(context_settings={"show_default": True})
def commands() -> None:
    """Look into snapshots, ours and published ones, and convert them."""


@commands.command()
@click.argument("file", metavar="FILE")
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON, configurations included.")
def inspect(file: str, as_json: bool) -> None:
    """Print what FILE (a path or an address) holds, without building a network."""
    try:
        summary = summarize(load(file))
    except (OSError, ValueError) as error:
        raise click.ClickException(str(error)) from error
    if as_json:
        click.echo(json.dumps(summary, indent=2))
        return
    for name, value in summary.items():
        if name != "networks":
            click.echo(printable(f"{name:<14} {value}", MAX_LINE))
    for name, network in summary["networks"].items():
        facts = ", ".join(f"{key} {value}" for key, value in network.items() if key != "config")
        click.echo(printable(f"{name:<14} {facts}", MAX_LINE))


@commands.command()
@click.argument("source", metavar="IN")
@click.argument("target", metavar="OUT", type=click.Path(path_type=Path))
@click.option("--to", "form", type=click.Choice(["official-state"]), default="official-state", help="What to write.")
@click.option("--network", type=click.Choice(["G_ema", "G", "D"]), default="G_ema", help="Whose weights.")
@refusals_in_words()
def convert(source: str, target: Path, form: str, network: str) -> None:
    """Write the weights of one network of the snapshot IN under their published names to OUT (.npz, .safetensors)."""
    if target.suffix not in (".npz", ".safetensors"):
        raise click.ClickException(f"{target}: name the file .npz or .safetensors")
    if not target.parent.is_dir():
        raise click.ClickException(f"{target.parent}: there is no such folder")
    try:
        snapshot = load(source)
        if network not in snapshot.stored:
            raise SnapshotError(f"{source} holds no {network}")
        state = ours_to_official(snapshot[network])
    except (OSError, ValueError) as error:
        raise click.ClickException(str(error)) from error
    write_state(target, state)
    click.echo(f"{target}: {len(state)} tensors of {network}")
    for text in peculiarities(snapshot.recipe(network)):
        click.echo(f"Note: the published code gives other pictures with them, as {text}.")


def main() -> None:
    """Runs the command line of `python -m training.snapshot`."""
    commands(prog_name="python -m training.snapshot")


def peculiarities(recipe: Recipe) -> list[str]:
    """What a generator does that the published code does not, whatever its weights."""
    if not isinstance(recipe, GeneratorConfig):
        return []
    found = {
        "this network's planes span three different pairs of axes (see `fixed_triplanes` there)": (
            recipe.scene.axes == "corrected"
        ),
        "this background's azimuth has no seam": getattr(recipe.background, "encoding", "") == "seamless",
        "it knows no pictures of this size": recipe.img_resolution not in PUBLISHED_SIZES,
    }
    return [text for text, is_so in found.items() if is_so]


def summarize(snapshot: Snapshot) -> dict[str, Any]:
    """Plain facts about a snapshot: file, run, cameras, and of each network its size, resolutions and hash."""
    recipe = snapshot.recipe("G_ema")
    view = recipe.view
    return {
        "file": str(snapshot.path),
        "size": format_bytes(snapshot.path.stat().st_size),
        "sha256": snapshot.sha256,
        "written by": "the published code" if snapshot.is_official else "this project",
        **snapshot.facts,
        "planes": recipe.scene.axes,
        "cameras": f"radius {view.radius:g}, pivot {list(view.pivot)}, field of view {view.fov_deg:g} degrees",
        "training set": snapshot["training_set_kwargs"],
        "networks": {name: _describe(snapshot, name) for name in snapshot.stored},
    }


def _describe(snapshot: Snapshot, name: str) -> dict[str, Any]:
    recipe, weights = snapshot.recipe(name), snapshot.weights(name)
    numbers = sum(tensor.numel() for tensor in weights.values())
    facts = {"numbers": numbers, **_resolutions(recipe), "weights": _hash(weights)[:16]}
    return facts | {"config": to_dict(recipe)}


def _resolutions(recipe: Recipe) -> dict[str, Any]:
    if isinstance(recipe, GeneratorConfig):
        return {"picture": recipe.img_resolution, "rendered": recipe.raw_resolution, "label": recipe.c_dim}
    if isinstance(recipe, DiscriminatorRecipe):
        return {"picture": recipe.img_resolution, "label": recipe.c_dim}
    return {}


def _hash(weights: dict[str, Tensor]) -> str:
    """SHA-256 of names and numbers, the same whatever file they come from."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        digest.update(name.encode() + plain_tensor(weights[name])[2])
    return digest.hexdigest()


def write_state(path: Path, state: dict[str, Tensor]) -> None:
    """Writes tensors by name, as .npz or .safetensors."""
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        if path.suffix == ".npz":
            arrays: dict[str, Any] = {name: tensor.numpy() for name, tensor in state.items()}
            np.savez(file, **arrays)
            return
        header, offset = {}, 0
        for name, tensor in state.items():
            end = offset + tensor.numel() * tensor.itemsize
            dtype = SAFETENSORS_TYPES[tensor.dtype]
            header[name] = {"dtype": dtype, "shape": list(tensor.shape), "data_offsets": [offset, end]}
            offset = end
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        file.write(len(text).to_bytes(8, "little") + text)
        for tensor in state.values():
            file.write(tensor.numpy().tobytes())
