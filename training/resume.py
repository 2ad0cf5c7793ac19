"""Where a run starts from: nothing, the networks of a snapshot (a new stage), or the exact state of another run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from torch import nn

from dnnlib.files import is_url
from training import snapshot
from training.background import SphereConfig
from training.config import TrainConfig, to_dict
from training.generator import GeneratorConfig
from training.recipe import Recipe, copy_weights, listing
from training.run_folder import OPTIONS_FILE
from training.snapshot import Snapshot
from training.unpickle import SnapshotError

FREE_FIELDS = ("run.", "data.path", "data.workers", "data.cache_gib")
"""Beginnings of fields that may change when a run goes on, as they do not change what is learned; see KEPT_FIELDS."""
KEPT_FIELDS = ("run.batch", "run.seed")

STAGE_ADA_KIMG = 100.0


@dataclass(frozen=True)
class Start:
    """What a run starts from.

    kind: "scratch"; "stage", networks of the snapshot `source` and all else anew; or "continue", its training state
    too. images_before: what the networks had been shown before a stage began.
    """

    kind: Literal["scratch", "stage", "continue"] = "scratch"
    source: str | None = None
    images_before: int = 0

    @property
    def state_path(self) -> Path:
        """The training state of a run that goes on."""
        return snapshot.training_state_path(self.source or "")

    @property
    def folder(self) -> Path | None:
        """The folder in which a run goes on: its own, if it starts from the last snapshot there."""
        if self.kind != "continue" or self.source is None:
            return None
        path = Path(self.source)
        return path.parent if path == snapshot.snapshots_in(path.parent)[-1] else None


def has_state(source: str) -> bool:
    """Whether a snapshot lies in the folder of a run beside its training state."""
    if is_url(source) or not Path(source).is_file():
        return False
    return snapshot.training_state_path(source).is_file() and (Path(source).parent / OPTIONS_FILE).is_file()


def changes(before: TrainConfig, after: TrainConfig) -> dict[str, tuple[Any, Any]]:
    """Fields, by dotted path, that decide what a run learns and differ between two configurations."""
    old, new = _flat(to_dict(before)), _flat(to_dict(after))
    return {
        path: (old.get(path), new.get(path))
        for path in sorted(old.keys() | new.keys())
        if old.get(path) != new.get(path) and (path in KEPT_FIELDS or not path.startswith(FREE_FIELDS))
    }


def _flat(values: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(values, dict):
        return {prefix: values}
    parts = [_flat(value, f"{prefix}.{name}" if prefix else name) for name, value in values.items()]
    return {path: value for part in parts for path, value in part.items()}


def stage_config(config: TrainConfig, keep_fades: bool) -> TrainConfig:
    """The configuration of a stage that starts from trained networks.

    Augmentation adapts faster and the average has no ramp-up; unless `keep_fades`, the blur and the fade of the pose
    swap are over.
    """
    config = replace(
        config, augment=replace(config.augment, kimg=STAGE_ADA_KIMG), ema=replace(config.ema, ramp_up=None)
    )
    if keep_fades:
        return config
    return replace(config, schedule=replace(config.schedule, blur_sigma=0.0, swap_fade_kimg=0.0))


def adopt_meaning(config: TrainConfig, trained: Recipe, given: Mapping[str, Any]) -> TrainConfig:
    """The configuration with what gives trained weights their meaning, unless an option says otherwise.

    That is which axes the planes span, and how the background's angles are encoded.
    """
    generator = config.generator
    if not isinstance(trained, GeneratorConfig):
        return config
    if given.get("plane_axes") is None:
        generator = replace(generator, scene=replace(generator.scene, axes=trained.scene.axes))
    behind, before = generator.background, trained.background
    if given.get("bg_seamless") is None and isinstance(behind, SphereConfig) and isinstance(before, SphereConfig):
        generator = replace(generator, background=replace(behind, encoding=before.encoding))
    return replace(config, generator=generator)


def load_trained(source: str) -> Snapshot:
    """The snapshot to start from.

    Raises SnapshotError where it is none, or lacks a network that training needs.
    """
    try:
        loaded = snapshot.load(source)
    except OSError as error:
        raise SnapshotError(f"--resume={source}: {error}") from error
    for name in ("G", "D", "G_ema"):
        if name not in loaded.stored:
            raise SnapshotError(f"--resume={source}: it holds no {name}, so nothing can be trained from it")
    return loaded


def copy_networks(loaded: Snapshot, networks: Mapping[str, nn.Module | None], exact: bool) -> list[str]:
    """Copies weights into networks by name; texts about what does not match, for a person to read.

    Raises SnapshotError where `exact` and anything does not match.
    """
    texts = []
    for name, network in networks.items():
        if network is None or name not in loaded.stored:
            continue
        wrong = copy_weights(loaded[name], network)
        if wrong and exact:
            raise SnapshotError(f"{loaded.path}: its {name} is not the network of this configuration: {listing(wrong)}")
        texts += [f"{name}: {text}" for text in wrong]
    return texts


def load_state(path: Path, networks: Mapping[str, nn.Module]) -> dict[str, Any]:
    """The training state of a run.

    Raises SnapshotError unless it is one, of this version, with optimizers of networks of these sizes.
    """
    state = snapshot.load_training_state(path)
    missing = {"progress", "optimizers", "batches", "signs"} - state.keys()
    if missing:
        raise SnapshotError(f"{path}: not a training state of this version: it lacks {', '.join(sorted(missing))}")
    for name, network in networks.items():
        saved = state["optimizers"][name]
        shapes = [tuple(parameter.shape) for parameter in network.parameters()]
        numbers = saved["param_groups"][0]["params"]
        moments = {number: tuple(entry["exp_avg"].shape) for number, entry in saved["state"].items()}
        if len(numbers) != len(shapes) or any(shapes[number] != shape for number, shape in moments.items()):
            raise SnapshotError(f"{path}: its optimizer of {name} belongs to other networks (is --freezed the same?)")
    return state
