"""The folder of a run: its name, its options, its statistics."""

from __future__ import annotations

import fcntl
import json
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dnnlib.files import write_text
from torch_utils.training_stats import Moments
from training.config import ConfigError, TrainConfig, from_dict, to_dict

OPTIONS_FILE = "training_options.json"
STATISTICS_FILE = "stats.jsonl"
LOG_FILE = "log.txt"


def run_name(cfg: str, config: TrainConfig) -> str:
    """What a run folder is called behind its number."""
    run, data = config.run, Path(config.data.path).expanduser().resolve().stem
    name = f"{cfg}-{data}-gpus{run.gpus}-batch{run.batch}-gamma{config.loss.r1_gamma:g}"
    return f"{name}-{run.desc}" if run.desc else name


def create_run_folder(outdir: str, name: str) -> Path:
    """A new folder in `outdir`, numbered after those that are there."""
    parent = Path(outdir).expanduser()
    parent.mkdir(parents=True, exist_ok=True)
    while True:
        numbers = [int(match[0]) for path in parent.iterdir() if (match := re.match(r"\d+", path.name))]
        folder = parent / f"{max(numbers, default=-1) + 1:05d}-{name}"
        try:
            folder.mkdir()
        except FileExistsError:  # another run has just taken the number
            continue
        return folder


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Keeps other processes from going on with the run in a folder.

    Raises ConfigError where another process holds it.
    """
    with open(folder / LOG_FILE, "ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(f"{folder}: this run is going on in another process; end that one first") from None
        except OSError:
            print(f"Warning: {folder} lies where files cannot be locked; do not go on with this run twice at once.")
        yield


def write_options(folder: Path, model: str, cfg: str, config: TrainConfig) -> None:
    """Writes the run's whole configuration, in place of an older one."""
    content = {"model": model, "cfg": cfg, "run_dir": str(folder), **to_dict(config)}
    write_text(folder / OPTIONS_FILE, json.dumps(content, indent=2) + "\n")


def read_options(folder: Path) -> tuple[str, str, TrainConfig]:
    """Model, data set preset and configuration of the run in a folder.

    Raises ConfigError where the file is missing or does not fit this version.
    """
    path = folder / OPTIONS_FILE
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        model, cfg = content.pop("model"), content.pop("cfg")
        content.pop("run_dir", None)
        return model, cfg, from_dict(TrainConfig, content)
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise ConfigError(f"{path}: not the options of a run of this version ({error})") from error


class StatisticsWriter:
    """Writes a line to `stats.jsonl`, and scalars to TensorBoard where it is installed, at every tick."""

    def __init__(self, folder: Path, images: int):
        """Begins after this many images: what a run has written beyond them, before it was cut off, is dropped."""
        self._path = folder / STATISTICS_FILE
        _keep_lines(self._path, images / 1000)
        self._board: Any = None
        try:
            from torch.utils.tensorboard import SummaryWriter

            self._board = SummaryWriter(str(folder), purge_step=images or None)
        except ImportError:
            print("TensorBoard is not installed (pip install tensorboard): statistics go to stats.jsonl alone.")

    def write(self, statistics: Mapping[str, Moments], values: Mapping[str, float], images: int) -> None:
        """Adds what was collected since the last tick, and single values, at a number of images shown."""
        moments = dict(statistics) | {name: Moments(1, float(value), 0.0) for name, value in values.items()}
        record: dict[str, Any] = {name: moments[name].to_dict() for name in sorted(moments)}
        with open(self._path, "a", encoding="utf-8") as file:
            file.write(json.dumps(record | {"timestamp": time.time()}) + "\n")
        self.write_scalars({name: moment.mean for name, moment in moments.items()}, images)

    def write_scalars(self, values: Mapping[str, float], images: int) -> None:
        """Adds scalars to TensorBoard alone."""
        if self._board is not None:
            for name, value in values.items():
                self._board.add_scalar(name, value, global_step=images)
            self._board.flush()

    def close(self) -> None:
        """Ends the TensorBoard file."""
        if self._board is not None:
            self._board.close()


def _keep_lines(path: Path, kimg: float) -> None:
    if not path.is_file():
        return
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    kept = [line for line in lines if json.loads(line)["Progress/kimg"]["mean"] <= kimg]
    if len(kept) < len(lines):
        write_text(path, "".join(kept))
