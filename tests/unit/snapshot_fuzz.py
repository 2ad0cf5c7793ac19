"""Reads mutated snapshots by the thousand: `python -m tests.unit.snapshot_fuzz COUNT SEED` in a process of its own.

Every file must be refused in one line or load; meanwhile nothing may be run, imported or written, no file may take
long, and the memory of the process may not grow much. Ends with exit status 0 and one line of counts if so.
"""

from __future__ import annotations

import codecs
import functools
import os
import random
import resource
import sys
import tempfile
import time
import typing
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import torch

from tests.official_files import tiny_snapshot
from tests.unit import training_parts as tiny
from training import snapshot
from training.augment import AugmentConfig, AugmentPipe
from training.unpickle import SnapshotError

SECONDS_PER_FILE = 5.0
"""Of the processor: others at work on the machine do not count."""
MEMORY_GROWTH_BYTES = 400 * 2**20
FORBIDDEN_EVENTS = {"compile", "ctypes.dlopen", "exec", "import", "os.fork", "os.mkdir", "os.posix_spawn", "os.remove"}
FORBIDDEN_EVENTS |= {"os.rename", "os.system", "pickle.find_class", "socket.connect", "subprocess.Popen"}
HOSTILE_CALLS = (
    b"cos\nsystem\n(X\x0b\x00\x00\x00touch fuzzedtR",
    b"cbuiltins\neval\n(X\x04\x00\x00\x001+1 tR",
    b"ctorch\nload\n)R",
    b"\x8c\x13torch.serialization\x8c\x09os.system\x93)R",
    b"c__main__\n<lambda>\n)R",
)
OTHER_GLOBALS = (b"cos\nsystem\n", b"cnumpy\nload\n", b"ctorch.storage\n_load_from_bytes\n", b"cbuiltins\nset\n")
HUGE = (b"\xff" * 4, b"\xff" * 8, (2**40).to_bytes(8, "little"), (2**31 - 1).to_bytes(4, "little"), bytes(8))


class Watch:
    """Notes what the process does while it watches, by Python's audit events."""

    def __init__(self) -> None:
        self.active, self.seen = False, list[str]()
        sys.addaudithook(self.note)

    def note(self, event: str, arguments: tuple) -> None:
        if not self.active:
            return
        writes = event == "open" and (arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        if event in FORBIDDEN_EVENTS or writes:
            self.seen.append(f"{event} {str(arguments)[:200]}")


def originals(folder: Path) -> dict[str, bytes]:
    """Good files of each kind: published, ours, and a training state."""
    G, D = tiny.networks()
    snapshot.save(folder / "ours.pkl", G=G, D=D, G_ema=G, augment_pipe=AugmentPipe(AugmentConfig()), facts={"kimg": 1})
    optimizer = torch.optim.Adam(D.parameters())
    snapshot.save_training_state(folder / "state.pt", {"optimizer": optimizer.state_dict(), "random": [torch.ones(9)]})
    for system in ("eg3d", "ballgan"):
        tiny_snapshot(folder / f"{system}.pkl", system)
    contents = {path.name: path.read_bytes() for path in folder.iterdir()}
    for path in folder.iterdir():
        path.unlink()
    return contents


def place(draw: random.Random, data: bytes) -> int:
    """A position; mostly one in the structure between the numbers."""
    if draw.random() < 0.3:
        return draw.randrange(len(data))
    marker = draw.choice([b"torch", b"_parameters", b"state", b"class_name", b"kind", b"weight", b"storage", b"q\x01"])
    start = data.find(marker, draw.randrange(len(data)))
    return min(max(start, 0) + draw.randrange(64), len(data) - 1)


def replaced(data: bytes, start: int, length: int, piece: bytes) -> bytes:
    return data[:start] + piece + data[start + length :]


def cut(draw: random.Random, data: bytes) -> bytes:
    return data[: draw.randrange(1, len(data))]


def flip(draw: random.Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(draw.randrange(1, 9)):
        changed[place(draw, data)] ^= 1 << draw.randrange(8)
    return bytes(changed)


def overwrite(draw: random.Random, data: bytes) -> bytes:
    piece = draw.choice([draw.randbytes(draw.randrange(1, 40)), *HUGE])
    return replaced(data, place(draw, data), len(piece), piece)


def insert(draw: random.Random, data: bytes) -> bytes:
    nests = [b"]" * draw.randrange(1, 2000), b"(" * draw.randrange(1, 2000), b"}\x94" * draw.randrange(1, 2000)]
    return replaced(data, place(draw, data), 0, draw.choice([draw.randbytes(9), *nests, *HOSTILE_CALLS]))


def remove(draw: random.Random, data: bytes) -> bytes:
    return replaced(data, place(draw, data), draw.randrange(1, 200), b"")


def repeat(draw: random.Random, data: bytes) -> bytes:
    source, length = place(draw, data), draw.randrange(1, 500)
    return replaced(data, place(draw, data), 0, data[source : source + length])


def other_global(draw: random.Random, data: bytes) -> bytes:
    starts = [start for name in (b"ctorch", b"ccoll", b"ctrain") if (start := data.find(name, place(draw, data))) >= 0]
    if not starts:
        return overwrite(draw, data)
    start = draw.choice(starts)
    end = data.index(b"\n", data.index(b"\n", start) + 1) + 1
    return replaced(data, start, end - start, draw.choice(OTHER_GLOBALS))


MUTATIONS: tuple[Callable[[random.Random, bytes], bytes], ...] = (
    cut,
    flip,
    overwrite,
    insert,
    remove,
    repeat,
    other_global,
)


def use(path: Path) -> None:
    """Reads a file as far as the commands do."""
    if path.suffix == ".pt":
        snapshot.load_training_state(path)
        return
    loaded = snapshot.load(path)
    for name in loaded.stored:
        loaded.recipe(name)
        loaded.weights(name)
    loaded["D"]


def attempt(path: Path, watch: Watch) -> str:
    """How a file fared: "loaded" or "refused"; raises AssertionError where it did harm."""
    start, outcome = time.process_time(), "loaded"
    watch.active = True
    try:
        use(path)
    except SnapshotError as error:
        outcome, text = "refused", str(error)
        assert len(text.splitlines()) == 1, f"not one line: {text[:3000]}"
        assert len(text) < 3000, f"no short line: {text[:3000]}"
    finally:
        watch.active = False
    seconds = time.process_time() - start
    assert seconds < SECONDS_PER_FILE, f"took {seconds:.1f} s"
    assert not watch.seen, f"did {watch.seen[:5]}"
    assert [entry.name for entry in path.parent.iterdir()] == [path.name], "wrote a file"
    return outcome


def main(count: int, seed: int) -> None:
    """Tries `count` mutated files."""
    torch.set_num_threads(1)
    # What Python itself imports or runs once: a code page of zip files, annotations of our own configs.
    codecs.lookup("cp437")
    typing.get_type_hints = functools.cache(typing.get_type_hints)  # type: ignore[assignment]
    counts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = originals(folder)
        os.chdir(folder)
        watch = Watch()
        for name, data in files.items():
            (folder / name).write_bytes(data)
            use(folder / name)
            (folder / name).unlink()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        for index in range(count):
            draw = random.Random(seed * 1_000_000 + index)
            name, mutation = draw.choice(sorted(files)), draw.choice(MUTATIONS)
            path = folder / name
            path.write_bytes(mutation(draw, files[name]))
            try:
                counts[attempt(path, watch)] += 1
            except Exception as error:
                raise AssertionError(
                    f"file {index} of seed {seed}: {name} after {mutation.__name__}: {error}"
                ) from error
            path.unlink()
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
        assert grown < MEMORY_GROWTH_BYTES, f"memory grew by {grown / 2**20:.0f} MiB"
    print(f"{dict(sorted(counts.items()))}, memory grew by {grown / 2**20:.0f} MiB")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
