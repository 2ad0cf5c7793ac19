from __future__ import annotations

import av
import numpy as np
import pytest

from training.film import ENCODINGS, FrameFolder, even, write_film


def moving_square(count: int = 12, size: int = 48, channels: int = 3) -> list[np.ndarray]:
    frames = np.full([count, size, size, channels], 30, dtype=np.uint8)
    for index, frame in enumerate(frames):
        frame[8:24, index : index + 16] = 220
        if channels == 4:
            frame[..., 3] = 0
            frame[8:24, index : index + 16, 3] = 255
    return list(frames)


def test_mp4_decodes_to_the_frames_that_went_in(tmp_path):
    frames = moving_square()
    path = write_film(tmp_path / "a.mp4", frames, fps=25)
    with av.open(str(path)) as file:
        stream = file.streams.video[0]
        decoded = [frame.to_ndarray(format="rgb24") for frame in file.decode(stream)]
        assert stream.codec_context.name == "h264"
        assert stream.codec_context.pix_fmt == "yuv420p"
        assert stream.average_rate == 25
        assert (stream.width, stream.height) == (48, 48)
    assert len(decoded) == len(frames)
    assert np.mean([np.abs(a.astype(int) - b).mean() for a, b in zip(decoded, frames, strict=True)]) < 6


def test_webm_keeps_transparency(tmp_path):
    path = write_film(tmp_path / "a.webm", moving_square(channels=4), fps=10)
    with av.open(str(path)) as file:
        decoder = av.codec.CodecContext.create("libvpx-vp9", "r")
        pictures = [frame for packet in file.demux(video=0) for frame in decoder.decode(packet)]
    alpha = [picture.to_ndarray(format="rgba")[..., 3] for picture in pictures]
    assert len(alpha) == 12
    assert (alpha[0] > 200).mean() == pytest.approx(16 * 16 / 48**2, abs=0.03)


def test_the_same_frames_give_the_same_bytes(tmp_path):
    paths = [write_film(tmp_path / name, moving_square(), fps=30) for name in ("a.mp4", "b.mp4")]
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_odd_sizes_are_made_even(tmp_path):
    assert even(np.zeros([5, 7, 3], dtype=np.uint8)).shape == (6, 8, 3)
    write_film(tmp_path / "a.mp4", [np.zeros([35, 33, 3], dtype=np.uint8)], fps=5)


def test_wrong_films_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"a\.avi: choose one of \.mp4, \.webm"):
        write_film(tmp_path / "a.avi", moving_square(1), fps=5)
    with pytest.raises(ValueError, match="at least one frame"):
        write_film(tmp_path / "a.mp4", [], fps=5)
    assert list(tmp_path.iterdir()) == []


def test_frames_of_the_same_plan_are_drawn_once(tmp_path):
    drawn: list[int] = []

    def draw(index: int) -> np.ndarray:
        drawn.append(index)
        if drawn == [0, 1, 2]:
            raise KeyboardInterrupt
        return np.full([4, 4, 3], index, dtype=np.uint8)

    with pytest.raises(KeyboardInterrupt):
        FrameFolder.open(tmp_path / "f", {"seed": 1}).fill(4, draw, "film")
    folder = FrameFolder.open(tmp_path / "f", {"seed": 1})
    folder.fill(4, draw, "film")
    assert drawn == [0, 1, 2, 2, 3]
    assert [int(frame[0, 0, 0]) for frame in folder.frames(4)] == [0, 1, 2, 3]
    FrameFolder.open(tmp_path / "f", {"seed": 2}).fill(1, draw, "film")
    assert drawn[5:] == [0]
    folder.remove()
    assert not (tmp_path / "f").exists()


@pytest.mark.parametrize("suffix", sorted(ENCODINGS))
def test_equal_frames_give_equal_bytes(tmp_path, suffix):
    """Smooth small pictures that turn slowly, between other uses of memory: where encoders have been seen to vary."""
    phase = np.linspace(0, 3, 32)[:, None, None] + np.linspace(0, 2, 32)[None, :, None] + np.arange(3)
    frames = [(np.sin(phase + shift / 6) * 100 + 120).astype(np.uint8) for shift in range(18)]
    random, films = np.random.default_rng(0), set()
    for _ in range(12):
        used = [np.full(size, size % 256, np.uint8) for size in random.integers(1, 90000, 5)]
        del used
        films.add(write_film(tmp_path / f"film{suffix}", frames, fps=30).read_bytes())
    assert len(films) == 1
