"""Films: video files of 8-bit pictures, and frames that are kept so that a film can be continued."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from numpy import ndarray
from PIL import Image
from tqdm import tqdm

from dnnlib.files import atomic_path, write_text
from training.media import save_png


@dataclass(frozen=True)
class Encoding:
    """How pictures become a video stream."""

    codec: str
    pixel_format: str
    container: str
    options: dict[str, str]
    container_options: dict[str, str]


# Equal frames give equal bytes: x264's macroblock tree reads what it has not written in pictures narrower than 128
# pixels, and webm files carry a random number unless they are to be exact.
X264_OPTIONS = {"crf": "12", "preset": "slow", "x264-params": "mbtree=0"}

ENCODINGS: dict[str, Encoding] = {
    ".mp4": Encoding("libx264", "yuv420p", "mp4", X264_OPTIONS, {"movflags": "+faststart"}),
    ".webm": Encoding("libvpx-vp9", "yuva420p", "webm", {"crf": "16", "b": "0"}, {"fflags": "+bitexact"}),
}
""".mp4: H.264 that every player opens. .webm: VP9 that keeps transparency."""


def even(frame: UInt8[ndarray, "height width channels"]) -> UInt8[ndarray, "even_height even_width channels"]:
    """The frame with its last row or column repeated where needed: video streams have even sizes."""
    height, width, _ = frame.shape
    return np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")


def write_film(path: Path, frames: Iterable[UInt8[ndarray, "height width channels"]], fps: int) -> Path:
    """The path, after a film of frames with 3 or 4 channels was written there whole or not at all.

    Raises ValueError for a suffix that is no film, or where there is no frame.
    """
    import av

    if path.suffix not in ENCODINGS:
        raise ValueError(f"{path.name}: choose one of {', '.join(ENCODINGS)}")
    encoding = ENCODINGS[path.suffix]
    with (
        atomic_path(path) as temporary,
        av.open(str(temporary), "w", format=encoding.container, container_options=encoding.container_options) as file,
    ):
        stream = file.add_stream(encoding.codec, rate=Fraction(fps), options=encoding.options)
        assert isinstance(stream, av.VideoStream)
        stream.pix_fmt = encoding.pixel_format
        # One thread: the same frames give the same bytes on any machine.
        stream.thread_count = 1
        count = 0
        for count, frame in enumerate(map(even, frames), start=1):
            if count == 1:
                stream.height, stream.width = frame.shape[:2]
            picture = av.VideoFrame.from_ndarray(frame, format="rgb24" if frame.shape[2] == 3 else "rgba")
            file.mux(stream.encode(picture))
        if count == 0:
            raise ValueError(f"{path.name}: a film needs at least one frame")
        file.mux(stream.encode(None))
    return path


@dataclass(frozen=True)
class FrameFolder:
    """Frames of a film as PNG files; those of an interrupted call with the same plan are used again."""

    path: Path

    @staticmethod
    def open(path: Path, plan: dict[str, Any]) -> FrameFolder:
        """The folder, emptied where its frames belong to another plan.

        Raises ValueError for a folder that has files and was not made here.
        """
        text = json.dumps(plan, sort_keys=True)
        digest = hashlib.sha256(text.encode()).hexdigest()
        marker = path / "plan.sha256"
        if path.exists() and any(path.iterdir()):
            if not marker.exists():
                raise ValueError(f"{path} is no folder of frames; move it away")
            if marker.read_text() != digest:
                shutil.rmtree(path)
        path.mkdir(parents=True, exist_ok=True)
        write_text(marker, digest)
        return FrameFolder(path)

    def file(self, index: int) -> Path:
        """Where a frame is kept."""
        return self.path / f"{index:06d}.png"

    def fill(self, count: int, draw: Callable[[int], UInt8[ndarray, "height width channels"]], name: str) -> None:
        """Draws the frames that are not there yet."""
        missing = [index for index in range(count) if not self.file(index).exists()]
        with tqdm(total=count, initial=count - len(missing), desc=name, unit="frame") as bar:
            for index in missing:
                save_png(self.file(index), draw(index))
                bar.update()

    def frames(self, count: int) -> Iterator[UInt8[ndarray, "height width channels"]]:
        """The frames in order."""
        for index in range(count):
            with Image.open(self.file(index)) as picture:
                yield np.asarray(picture)

    def remove(self) -> None:
        """Deletes the folder and its frames."""
        shutil.rmtree(self.path)
