"""One snapshot under evaluation: which pictures are drawn, seen by which network, compared with which real ones."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import cached_property
from threading import RLock
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from metrics.cameras import Surround
from metrics.estimators.recipe import Recipe
from metrics.features import Detector, Detectors
from metrics.names import Request
from metrics.statistics import Moments
from metrics.store import Store
from metrics.types import MISHAPS, Draw, GeneratorLike, MetricError, Sampling, in_words
from metrics.workers import batches_of, gather_batches, joined, share, together
from torch_utils import distributed
from training.archive import is_image
from training.cameras.prior import CameraPrior
from training.dataset import ImageDataset
from training.types import Latents, Layer, NoiseMode, RenderOutput, RenderSettings

T = TypeVar("T")
# A bar belongs to one process; tqdm's own lock between processes would outlive one that ends without clean-up.
tqdm.set_lock(RLock())
REAL_BATCH = 32
KEPT_PICTURES = 10_000
"""Features of that many pictures are kept, so that metrics of the same count share them; of more, only moments."""


@dataclass
class Evaluation:
    """A generator, a data set and the means to compare them; every metric is a function of this and its name.

    `cameras` replaces the labels of a data set that has none. `recipe`: how estimators are trained. `resamples`: how
    often each value is computed again from pictures drawn with replacement (bootstrap), for intervals; the values go to
    `draws`. `rows` are what each value was computed from, a row a picture, by the name of the first value.
    """

    generator: GeneratorLike
    dataset: ImageDataset
    detectors: Detectors
    store: Store
    sampling: Sampling = field(default_factory=Sampling)
    cameras: CameraPrior | None = None
    device: torch.device | str = "cpu"
    progress: bool = True
    resamples: int = 0
    recipe: Recipe = field(default_factory=Recipe)
    draws: dict[str, list[float]] = field(default_factory=dict)
    rows: dict[str, np.ndarray] = field(default_factory=dict, repr=False)
    seconds: dict[str, float] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    used: dict[str, Any] = field(default_factory=dict)
    _kept: dict[tuple, np.ndarray] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        size, wanted = self.dataset.resolution, self.generator.img_resolution
        if size != wanted:
            raise MetricError(
                f"the generator makes pictures of {wanted}x{wanted} but the data set {self.dataset.archive.path} holds "
                f"{size}x{size}; give the data that it was trained on, or convert it with dataset_tool.py"
            )
        if not self.dataset.has_labels and self.cameras is None:
            raise MetricError(
                f"{self.dataset.archive.path} has no camera labels, and pictures are generated from the cameras of the "
                "data set; give a labelled one, or train with a camera prior"
            )

    @contextmanager
    def generator_at_rest(self) -> Iterator[None]:
        """Switches the generator to evaluation for the block, and back to what it was."""
        was_training = self.generator.training
        self.generator.train(False)
        try:
            yield
        finally:
            self.generator.train(was_training)

    # What was used and what it cost

    def begin(self) -> None:
        """Forgets cost, warnings and record of the metric before, not what metrics share."""
        self.seconds, self.warnings, self.used, self.draws = {}, [], {}, {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Adds the time of the block to the named stage; a GPU's work counts where it is asked for."""
        start = time.perf_counter()
        try:
            yield
        finally:
            if torch.device(self.device).type == "cuda":
                torch.cuda.synchronize(self.device)
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start

    def warn(self, text: str) -> None:
        """Keeps a sentence for the result line and prints it."""
        if distributed.is_main() and text not in self.warnings:
            self.warnings.append(text)
            tqdm.write(f"Note: {text}.", file=sys.stderr)

    def lead(self, compute: Callable[[], T], stage: str = "distance") -> T:
        """A value that the leading process computes, on all; what goes wrong there is raised everywhere."""
        value, error = None, None
        if distributed.is_main():
            try:
                with self.stage(stage):
                    value = compute()
            except MISHAPS as caught:
                error = in_words(caught)
        value, error = distributed.broadcast_object((value, error))
        if error is not None:
            raise MetricError(error)
        return value

    def summarize(self, rows: np.ndarray, summary: Callable[[np.ndarray], dict[str, float]]) -> dict[str, float]:
        """The values of all rows, one of which belongs to each picture; resampled where intervals are asked for."""
        values = self.lead(lambda: summary(rows))
        self.rows |= {next(iter(values)): rows}
        if self.resamples:
            rng = np.random.default_rng(self.sampling.seed)
            chosen = [rng.integers(len(rows), size=len(rows)) for _ in range(self.resamples)]
            again = self.lead(lambda: [summary(rows[some]) for some in chosen], "resample")
            self.draws |= {name: [draw[name] for draw in again] for name in values}
        return values

    def detector(self, name: str) -> Detector:
        """The feature network of that name; its identity goes into the result.

        Raises MetricError, in all processes, where one of them cannot have it.
        """
        with together(), self.stage("load detector"):
            detector = self.detectors.get(name)
        self.used["detector"] = detector.describe()
        return detector

    # Real pictures

    def real_dataset(self, full: bool) -> ImageDataset:
        """The data set as configured, or all of its pictures without mirrored copies."""
        return self.dataset.whole if full else self.dataset

    def real_moments(self, detector: Detector, count: int | None, full: bool) -> Moments:
        """Moments of the features of real pictures: `count` of them, or all (None)."""
        dataset, chosen = self._choose(count, full)
        if len(chosen) <= KEPT_PICTURES:
            return moments_of(self.real_features(detector, count, full))

        def compute() -> dict[str, np.ndarray]:
            own = [Moments.of(rows) for rows in self._look(dataset, chosen, detector)]
            parts = distributed.gather_objects(Moments.merge(own) if own else None)
            total = Moments.merge([part for part in parts if part is not None])
            return {"count": np.array(total.count), "mean": total.mean, "scatter": total.scatter}

        kept = self._keep("moments", dataset, chosen, detector, compute)
        return Moments(int(kept["count"]), kept["mean"], kept["scatter"])

    def real_features(self, detector: Detector, count: int | None, full: bool) -> np.ndarray:
        """Features of real pictures `n d`; the leading process maps them from disk once they are kept."""
        dataset, chosen = self._choose(count, full)

        def compute() -> dict[str, np.ndarray]:
            batches = batches_of(len(chosen), REAL_BATCH)
            own = joined(self._look(dataset, chosen, detector), sum(map(len, share(batches))))
            return {"features": gather_batches(own, batches)}

        return self._keep("features", dataset, chosen, detector, compute)["features"]

    def _choose(self, count: int | None, full: bool) -> tuple[ImageDataset, np.ndarray]:
        """The data set and the numbers of its pictures to compare with: all, or a fixed random choice."""
        dataset = self.real_dataset(full)
        chosen = np.arange(len(dataset))
        if count is not None and count < len(dataset):
            chosen = np.sort(np.random.default_rng(0).permutation(len(dataset))[:count])
        self.used["real"] = {"count": len(chosen), "of": len(dataset), "mirrored": dataset.config.mirror}
        return dataset, chosen

    def _look(self, dataset: ImageDataset, chosen: np.ndarray, detector: Detector) -> Iterator[np.ndarray]:
        """Features of this process's batches of real pictures."""
        batches = share(batches_of(len(chosen), REAL_BATCH))
        with together(), self._bar("real pictures", len(chosen)) as bar:
            for batch in batches:
                with self.stage("real features"), torch.no_grad():
                    images, _ = dataset.gather(chosen[batch.start : batch.stop])
                    rows = detector.features(images.to(self.device)).cpu().numpy()
                yield rows
                bar.update(len(batch) * distributed.world_size())

    def _keep(
        self,
        kind: str,
        dataset: ImageDataset,
        chosen: np.ndarray,
        detector: Detector,
        compute: Callable[[], dict[str, np.ndarray]],
    ) -> dict[str, np.ndarray]:
        """The arrays of the store, or else computed by all processes and kept by the leading one."""
        key = {
            "kind": kind,
            "data": dataset.content_hash,
            "pictures": len(chosen),
            "detector": detector.describe(),
            "format": 1,
        }
        kept = self.lead(lambda: self.store.load(key), "store")
        if kept is None:
            kept = compute()
            self.lead(lambda: self.store.save(key, kept), "store")
        return kept

    # Generated pictures

    @cached_property
    def surround(self) -> Surround:
        """Where cameras stand, from the labels or from a thousand draws of the prior."""
        if self.cameras is None:
            return Surround.of(self.real_dataset(full=True).labels)
        return Surround.of(self.cameras.sample(1000, torch.Generator().manual_seed(0)).to_label())

    def frontal_latents(self, draw: Draw) -> Latents:
        """Latents of a draw when the mapping is told that the camera is the frontal one, wherever it is."""
        self.used["conditioning"] = "the frontal camera"
        return self.latents(draw, self.surround.front(len(draw)).to(self.device))

    def draw(self, numbers: range, full: bool = True, stream: int = 0) -> Draw:
        """Latents and cameras of the pictures with these numbers; another stream draws others for the same numbers."""
        labels = self.real_dataset(full).labels
        rngs = [np.random.default_rng([self.sampling.seed, number, stream]) for number in numbers]
        z = np.stack([rng.standard_normal(self.generator.z_dim, dtype=np.float32) for rng in rngs])
        if self.cameras is None:
            chosen = labels[[int(rng.integers(len(labels))) for rng in rngs]]
        else:
            seeds = [torch.Generator().manual_seed(int(rng.integers(2**62))) for rng in rngs]
            chosen = torch.cat([self.cameras.sample(1, generator).to_label() for generator in seeds])
        return Draw(numbers, torch.from_numpy(z).to(self.device), chosen.to(self.device))

    def each_batch(
        self, count: int, compute: Callable[[Draw], np.ndarray], title: str, full: bool = True
    ) -> Iterator[np.ndarray]:
        """What `compute` gives for this process's batches of `count` pictures, with noise that repeats."""
        self.used["generated"] = {"count": count}
        batches = share(batches_of(count, self.sampling.batch))
        cuda = [torch.device(self.device)] if torch.device(self.device).type == "cuda" else []
        with together(), self._bar(title, count) as bar:
            for numbers in batches:
                with torch.random.fork_rng(devices=cuda), torch.no_grad():
                    torch.manual_seed(self.sampling.seed * 2**32 + numbers.start)
                    rows = compute(self.draw(numbers, full))
                yield rows
                bar.update(len(numbers) * distributed.world_size())

    def collect(self, count: int, compute: Callable[[Draw], np.ndarray], title: str, full: bool = True) -> np.ndarray:
        """One row a picture, in order of their numbers, from `compute` applied to batches shared by the processes."""
        batches = batches_of(count, self.sampling.batch)
        own = joined(self.each_batch(count, compute, title, full), sum(map(len, share(batches))))
        return gather_batches(own, batches)

    def latents(self, draw: Draw, conditioning: Tensor) -> Latents:
        """Style rows of a draw under mapping labels `n 25`, truncated as the sampling says."""
        psi, cutoff = self.sampling.truncation_psi, self.sampling.truncation_cutoff
        return self.generator.mapping(draw.z, conditioning, truncation_psi=psi, truncation_cutoff=cutoff)

    def view(
        self,
        latents: Latents,
        cameras: Tensor,
        layer: Layer = "full",
        noise_mode: NoiseMode | None = None,
        samples_multiplier: float = 1.0,
    ) -> RenderOutput:
        """Latents seen by cameras `n 25`; noise_mode None: that of the sampling."""
        settings = RenderSettings(
            self.generator.raw_resolution, jitter=self.sampling.jitter, samples_multiplier=samples_multiplier
        )
        noise_mode = noise_mode or self.sampling.noise_mode
        return self.generator.synthesis(latents, cameras, settings, layer=layer, noise_mode=noise_mode)

    def fake_features(
        self,
        detector: Detector,
        count: int,
        full: bool,
        output: Literal["features", "probabilities"] = "features",
        make: Pictures | None = None,
    ) -> np.ndarray:
        """Features of generated pictures `n d` on every process, shared by metrics that want the same ones.

        `make` gives the pictures of a draw; None: seen from the draw's cameras, which also condition the mapping.
        """
        make = make or as_drawn
        key = (detector.sha256, count, full, output, make.__name__)
        if key in self._kept:
            self.used["generated"] = {"count": count}
            return self._kept[key]
        features = self.collect(count, self._seen_by(detector, output, make), "generated pictures", full)
        if count <= KEPT_PICTURES:
            self._kept[key] = features
        return features

    def fake_moments(self, detector: Detector, count: int, full: bool, make: Pictures | None = None) -> Moments:
        """Moments of the features of generated pictures; beyond a bounded number they are not kept in memory."""
        if count <= KEPT_PICTURES:
            features = self.fake_features(detector, count, full, make=make)
            return moments_of(features)
        look = self._seen_by(detector, "features", make or as_drawn)
        own = [Moments.of(rows) for rows in self.each_batch(count, look, "generated pictures", full)]
        parts = distributed.gather_objects(Moments.merge(own) if own else None)
        return Moments.merge([part for part in parts if part is not None])

    def _seen_by(self, detector: Detector, output: str, make: Pictures) -> Callable[[Draw], np.ndarray]:
        look = getattr(detector, output)

        def compute(draw: Draw) -> np.ndarray:
            with self.stage("generate"):
                images = to_uint8(make(self, draw))
            with self.stage("generated features"):
                return look(images).cpu().numpy()

        return compute

    def _bar(self, title: str, total: int) -> tqdm:
        quiet = not (self.progress and distributed.is_main())
        return tqdm(total=total, desc=title, unit="img", disable=quiet, leave=False)

    # The record

    def protocol(self) -> dict[str, Any]:
        """All that another person needs to repeat the number, but for the snapshot."""
        drawn = "labels of the data set, drawn uniformly with replacement"
        return {
            **self.used,
            "data": {
                "name": self.dataset.name,
                "content_hash": self.dataset.content_hash,
                "resolution": self.dataset.resolution,
            },
            "pictures": "uint8, clip(x * 127.5 + 128, 0, 255)",
            "cameras": drawn if self.cameras is None else repr(self.cameras),
            "conditioning": self.used.get("conditioning", "the rendering camera"),
            "raw_resolution": self.generator.raw_resolution,
            **asdict(self.sampling),
        }


def real_count(request: Request, dataset: ImageDataset) -> int:
    """How many real pictures a metric compares with: as many as generated ones, or all of the data set's."""
    if request.full:
        return sum(map(is_image, dataset.archive.names))
    return min(request.count, len(dataset))


def moments_of(rows: np.ndarray) -> Moments:
    """Moments of a matrix too long to be copied in double precision as a whole."""
    return Moments.merge(Moments.of(rows[part.start : part.stop]) for part in batches_of(len(rows), 1024))


Pictures = Callable[[Evaluation, Draw], Tensor]
"""A way to make pictures `n 3 height width` in [-1, 1] of a draw."""


def as_drawn(evaluation: Evaluation, draw: Draw) -> Tensor:
    """Pictures seen from the cameras of the draw, which also condition the mapping: the published protocol."""
    return evaluation.view(evaluation.latents(draw, draw.labels), draw.labels).image


def to_uint8(images: Tensor) -> Tensor:
    """Pictures `n 3 height width` in 0..255 of pictures in [-1, 1], as a detector gets them; grey becomes RGB.

    Raises MetricError for values that are not finite.
    """
    if not images.isfinite().all():
        raise MetricError("the generator makes pictures that are not finite; this snapshot cannot be scored")
    pixels = (images * 127.5 + 128).clamp(0, 255).to(torch.uint8)
    return pixels.repeat(1, 3, 1, 1) if pixels.shape[1] == 1 else pixels
