"""Snapshots: networks in one file, and beside it all that an exact restart needs.

`network-snapshot-<kimg>.pkl` is a pickle of the dictionary that the field is used to: G, D, G_ema, augment_pipe,
training_set_kwargs; and `facts`, plain values about the run. A network is stored as a recipe and weights, never as
code: `pickle.load` works where this package can be imported, and `load` reads the file without trusting it.
`load` takes published snapshots of EG3D and BallGAN just the same.

From the command line: `python -m training.snapshot inspect FILE` and `convert IN OUT --to=official-state`.
"""

from __future__ import annotations

import os
import pickle
import re
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, overload

import torch
from torch import Tensor

from dnnlib.files import atomic_path, fetch, is_url, sha256_of
from training import official
from training.augment import AugmentConfig
from training.checkpoint_file import StoredNetwork, plain_tensor, read, tensor_of_plain
from training.generator import GeneratorConfig
from training.recipe import DiscriminatorRecipe, Network, Recipe, build_with, describe, from_stored, to_stored
from training.unpickle import Record, SnapshotError

NETWORKS: dict[str, type] = {
    "G": GeneratorConfig,
    "D": DiscriminatorRecipe,
    "G_ema": GeneratorConfig,
    "augment_pipe": AugmentConfig,
}
"""The networks of a snapshot, and the kind of recipe each of them has."""
SNAPSHOT_NAME = re.compile(r"network-snapshot-(\d+)\.pkl")
PICKLE_PROTOCOL = 4


def save(
    path: str | os.PathLike,
    *,
    G: Network,
    D: Network | None,
    G_ema: Network,
    augment_pipe: Network | None = None,
    training_set_kwargs: dict[str, Any] | None = None,
    facts: dict[str, Any] | None = None,
) -> None:
    """Writes a snapshot; the file appears whole or not at all.

    training_set_kwargs describe the data set, facts the run (`kimg`, `system`); both hold plain values only.
    Raises TypeError, with the entry's name, for a value that is not plain.
    """
    networks = {"G": G, "D": D, "G_ema": G_ema, "augment_pipe": augment_pipe}
    values = {"training_set_kwargs": training_set_kwargs, "facts": facts or {}}
    check_plain(values, "snapshot")
    contents = {name: None if network is None else _Stored(network) for name, network in networks.items()} | values
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        pickle.dump(contents, file, protocol=PICKLE_PROTOCOL)


class _Stored:
    """A network on its way into a pickle: the call that rebuilds it."""

    def __init__(self, network: Network):
        self.network = network

    def __reduce__(self):
        state = {name: plain_tensor(tensor) for name, tensor in self.network.state_dict().items()}
        return rebuild_network, (*to_stored(describe(self.network)), state)


def rebuild_network(tag: str, config: dict, state: dict) -> Network:
    """The network of a recipe's tag and values and of weights given by type, shape and bytes.

    In eval mode, without gradients. This is what `pickle.load` calls for the networks of our snapshots.
    """
    tensors = {name: tensor_of_plain(entry) for name, entry in state.items()}
    return build_with(from_stored(tag, config), tensors)


def load(source: str | os.PathLike, device: torch.device | str = "cpu") -> Snapshot:
    """The snapshot in a file or at an address, ours or a published one, or the last of a run's folder.

    Its networks come on `device`. Addresses are downloaded once into the cache folder. Nothing in the file is imported
    or run.
    Raises SnapshotError, in one sentence, for anything that is not a usable snapshot.
    """
    path = fetch(source) if is_url(os.fspath(source)) else Path(source).expanduser()
    path = snapshots_in(path)[-1] if path.is_dir() else path
    snapshot = Snapshot(read(path), path, torch.device(device))
    if is_url(os.fspath(source)):
        print(f"{source} is kept as {path} (SHA-256 {snapshot.sha256})")
    return snapshot


class Snapshot(Mapping[str, Any]):
    """What a snapshot file holds, like a dictionary: G, D, G_ema, augment_pipe, training_set_kwargs, facts.

    Networks are built when they are first asked for, in eval mode and without gradients; those that the file lacks
    are None.
    """

    def __init__(self, contents: Any, path: Path, device: torch.device):
        problem = _problem_of(contents)
        if problem:
            raise SnapshotError(f"{path}: not a usable snapshot: {problem}")
        self.path, self.device = path, device
        self._contents = contents
        self._built: dict[str, Network] = {}

    @property
    def is_official(self) -> bool:
        """Whether the file was written by the published code."""
        return not isinstance(self._contents["G_ema"], StoredNetwork)

    @property
    def facts(self) -> dict[str, Any]:
        """Plain values about the run; of published files, the system's name."""
        if self.is_official:
            return {"system": official.read_network(self._contents["G_ema"]).system}
        return self._contents.get("facts") or {}

    @property
    def stored(self) -> list[str]:
        """Names of the networks that the file has."""
        return [name for name in NETWORKS if self._contents.get(name) is not None]

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of the file."""
        return sha256_of(self.path)

    @overload
    def recipe(self, name: Literal["G", "G_ema"] = "G_ema") -> GeneratorConfig: ...
    @overload
    def recipe(self, name: str) -> Recipe: ...
    def recipe(self, name: str = "G_ema") -> Recipe:
        """What a network is built from, without building it."""
        return self._parts(name)[0]

    def weights(self, name: str = "G_ema") -> dict[str, Tensor]:
        """The tensors of a network by our names, without building it."""
        return self._parts(name)[1]

    def _parts(self, name: str) -> tuple[Recipe, dict[str, Tensor]]:
        record = self._contents.get(name)
        try:
            if record is None:
                raise SnapshotError("it is not in the file")
            if isinstance(record, StoredNetwork):
                recipe, weights = from_stored(record.class_name, record.state["config"]), record.state["state"]
            else:
                network = official.read_network(record)
                recipe = network.recipe()
                weights = official.official_to_ours(network.state, recipe)
            if not isinstance(recipe, NETWORKS[name]):
                raise SnapshotError("it is a network of another kind")
            return recipe, weights
        except SnapshotError as error:
            raise SnapshotError(f"{self.path}: {name}: {error}") from error

    def __getitem__(self, name: str) -> Any:
        if name == "facts":
            return self.facts
        if name not in self:
            raise KeyError(f"{name!r}; a snapshot has {', '.join(self)}")
        if name not in NETWORKS or self._contents.get(name) is None:
            return self._contents.get(name)
        if name not in self._built:
            recipe, weights = self._parts(name)
            try:
                network = build_with(recipe, weights, official.OPTIONAL)
            except SnapshotError as error:
                raise SnapshotError(f"{self.path}: {name}: {error}") from error
            self._built[name] = network.to(self.device)
        return self._built[name]

    def __iter__(self) -> Iterator[str]:
        return iter((*NETWORKS, "training_set_kwargs", "facts"))

    def __len__(self) -> int:
        return len(tuple(iter(self)))

    def __contains__(self, name: object) -> bool:
        return name in tuple(iter(self))


def _problem_of(contents: Any) -> str | None:
    """What keeps the contents of a file from being a snapshot."""
    if not isinstance(contents, dict) or not isinstance(contents.get("G_ema"), Record):
        return "it holds no network named G_ema"
    for names, kind in ((NETWORKS, Record), (("training_set_kwargs", "facts"), dict)):
        for name in names:
            if not isinstance(contents.get(name), kind | None):
                return f"its {name} is a {type(contents[name]).__name__}"
    kimg = (contents.get("facts") or {}).get("kimg", 0)
    return None if isinstance(kimg, int | float) else "its kimg is no number"


def check_plain(value: Any, name: str) -> None:
    """Returns if a value is made of containers, numbers, text, bytes and tensors only, as our loader admits.

    Raises TypeError with the name of the entry that is something else.
    """
    if isinstance(value, dict):
        for key, item in value.items():
            if type(key) not in (str, int):
                raise TypeError(f"{name} has a key {key!r}; keys must be text or whole numbers")
            check_plain(item, f"{name}.{key}")
    elif type(value) in (list, tuple):
        for index, item in enumerate(value):
            check_plain(item, f"{name}[{index}]")
    elif type(value) not in (type(None), bool, int, float, str, bytes, Tensor):
        raise TypeError(f"{name} is a {type(value).__name__}; only plain values and tensors can be saved")


def save_training_state(path: str | os.PathLike, state: dict[str, Any]) -> None:
    """Writes what an exact restart needs beside the networks; the file appears whole or not at all.

    Raises TypeError, with the entry's name, for values other than plain ones and tensors, OSError where the disk is
    full.
    """
    check_plain(state, "training state")
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        try:
            torch.save(state, file)
        except RuntimeError as error:
            # After a failed write torch ends its archive all the same, and complains of that instead.
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise


def load_training_state(path: str | os.PathLike) -> dict[str, Any]:
    """The contents of a training state, its tensors on the CPU; read under the same rule as snapshots.

    Raises SnapshotError for anything else.
    """
    state = read(Path(path))
    if not isinstance(state, dict):
        raise SnapshotError(f"{path}: not a usable training state: it holds a {type(state).__name__}")
    return state


def snapshot_name(kimg: int) -> str:
    """File name of the snapshot after so many thousand images."""
    return f"network-snapshot-{kimg:06d}.pkl"


def snapshots_in(folder: Path) -> list[Path]:
    """The snapshots of a run's folder, oldest first. Raises SnapshotError where there is none."""
    found = sorted(path for path in folder.iterdir() if SNAPSHOT_NAME.fullmatch(path.name))
    if not found:
        raise SnapshotError(f"{folder}: there are no snapshots (network-snapshot-*.pkl) in this folder")
    return found


def training_state_path(snapshot: str | os.PathLike) -> Path:
    """Where the training state of a snapshot file lies; an address or a file of another name has none there."""
    path = Path(snapshot)
    match = SNAPSHOT_NAME.fullmatch(path.name)
    return path.with_name(f"training-state-{match[1] if match else path.stem}.pt")


def resolve_resume(resume: str, outdir: str | os.PathLike) -> str:
    """The file or address that `--resume` means: for "latest", the last snapshot of the newest run in `outdir`.

    For the folder of a run it is the last snapshot there. Runs without a snapshot are passed over. Raises SnapshotError
    where there is no snapshot at all.
    """
    if resume != "latest":
        folder = Path(resume).expanduser()
        return str(snapshots_in(folder)[-1]) if folder.is_dir() else resume
    found = []
    for path in Path(outdir).expanduser().glob("*/network-snapshot-*.pkl"):
        run, kimg = re.match(r"\d+", path.parent.name), SNAPSHOT_NAME.fullmatch(path.name)
        if run and kimg:
            found.append((int(run[0]), int(kimg[1]), str(path)))
    if not found:
        raise SnapshotError(f"--resume=latest: there is no snapshot in the runs of {outdir}")
    return max(found)[2]


if __name__ == "__main__":
    from training.snapshot_commands import main

    main()
