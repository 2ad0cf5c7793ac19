"""A training run: set-up, steps, and at every tick what a person wants to see and keep of them."""

from __future__ import annotations

import copy
import math
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import torch
from torch import nn

from dnnlib.util import format_bytes, format_seconds
from metrics import registry, results
from torch_utils import distributed
from torch_utils.misc import count_parameters, to_device
from torch_utils.training_stats import Collector, Moments
from training import ema, pictures, precision, resume, snapshot
from training.augment import AugmentPipe
from training.batches import Batches
from training.cameras.prior import LabelPrior
from training.config import TrainConfig, to_dict
from training.dataset import ImageDataset
from training.generator import Generator
from training.inputs import Draw, Reals
from training.resume import Start
from training.run_folder import StatisticsWriter, write_options
from training.schedule import Schedule
from training.step import Networks, Trainer, adam, build_phases
from training.types import Camera

HEARTBEAT_SECONDS = 30.0
"""Longest silence within a tick."""
PICTURE_BATCH = 16
SHOWN = {"G": "Loss/G/loss", "D": "Loss/D/loss", "R1": "Loss/r1_penalty"}
"""Statistics on the progress line."""


@dataclass(frozen=True)
class Plan:
    """A run as the command line asks for it.

    model and cfg name its presets; detectors are the sources of the feature networks of metrics, by name.
    """

    model: str
    cfg: str
    config: TrainConfig
    start: Start = field(default_factory=Start)
    detectors: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Progress:
    """How far a run is, over all its restarts. Images are real ones shown; seconds include everything.

    images_before: what the networks had been shown in runs before this one.
    """

    images: int = 0
    iteration: int = 0
    tick: int = 0
    seconds: float = 0.0
    images_before: int = 0

    @property
    def kimg(self) -> float:
        """Thousands of images."""
        return self.images / 1000


class Run:
    """A run in one process. All processes do the same at the same time; the main one also writes."""

    def __init__(self, plan: Plan, folder: Path, device: torch.device, stop_asked: Callable[[], bool]):
        self.plan, self.config, self.folder, self.device = plan, plan.config, folder, device
        self.stop_asked = stop_asked
        config, run = plan.config, plan.config.run
        torch.backends.cudnn.benchmark = run.cudnn_benchmark
        precision.use(run.precision, run.tf32)
        torch.manual_seed(run.seed)

        self.dataset = ImageDataset(config.data)
        G = Generator(config.generator).to(device).train()
        D = config.discriminator.build(config.generator.img_resolution, config.generator.c_dim).to(device).train()
        G.get_buffer("dataset_label_std").copy_(self.dataset.labels.std(dim=0, correction=0))
        augment = None if config.augment.mode == "noaug" else AugmentPipe(config.augment).to(device).train()
        self.networks = Networks(G, D, augment)
        self.G_ema = copy.deepcopy(G).eval().requires_grad_(False)

        local_batch = run.batch // distributed.world_size()
        self.batch_gpu = run.batch_gpu or local_batch
        self.trainer = Trainer(
            networks=self.networks,
            optimizers=build_optimizers(config, self.networks),
            phases=build_phases(
                config.loss, config.optim.generator_reg_interval, config.optim.discriminator_reg_interval
            ),
            draw=Draw(LabelPrior(self.dataset.labels), config.loss.background_pairs, config.loss.style_mixing_prob),
            statistics=Collector(device),
            device=device,
            batch=run.batch,
            micro_batches=local_batch // self.batch_gpu,
            seed=run.seed,
        )
        self.batches = Batches(
            self.dataset,
            local_batch,
            seed=run.seed,
            rank=distributed.rank(),
            world_size=distributed.world_size(),
            pin_memory=device.type == "cuda",
        )
        self.progress = Progress(images_before=plan.start.images_before)
        if plan.start.source is not None:
            self._load(plan.start, plan.start.source)
        self.schedule = Schedule(config.schedule, config.loss, self.progress.images_before)
        for network in self._networks().values():
            distributed.broadcast_module(network)

    def _networks(self) -> dict[str, nn.Module]:
        """What a snapshot holds, by its names there."""
        found = {"G": self.networks.G, "D": self.networks.D, "G_ema": self.G_ema, "augment_pipe": self.networks.augment}
        return {name: network for name, network in found.items() if network is not None}

    def _load(self, start: Start, source: str) -> None:
        """Takes over the networks of a snapshot; where the run goes on, everything else too."""
        goes_on = start.kind == "continue"
        networks = self._networks()
        if not (goes_on and self.trainer.adapts):  # a fixed probability is what the configuration says
            networks.pop("augment_pipe", None)
        for text in resume.copy_networks(resume.load_trained(source), networks, exact=goes_on):
            distributed.print_main(f"Not taken from {source}: {text}")
        if goes_on:
            state = resume.load_state(start.state_path, {"G": self.networks.G, "D": self.networks.D})
            for name, optimizer in self.trainer.optimizers.items():
                moments = state["optimizers"][name]["state"]  # rates and betas may have changed
                optimizer.load_state_dict(optimizer.state_dict() | {"state": moments})
            self.batches.load_state_dict(state["batches"])
            if distributed.is_main():
                self.trainer.signs.add_totals(state["signs"])
            self.progress = Progress(**state["progress"])

    # Training

    def train(self) -> None:
        """Trains to the end, or until asked to stop; both leave a snapshot."""
        with ExitStack() as stack:
            stack.enter_context(self.batches)
            self._begin(stack)
            span = Span(self.progress)
            done = stopped = self.progress.images >= self.config.run.kimg * 1000
            while not (done or stopped):
                self._step()
                done = self.progress.images >= self.config.run.kimg * 1000
                stopped = distributed.any_process(self.stop_asked())
                due = self.progress.images >= span.images + self.config.run.tick * 1000
                if due or done or stopped or self.progress.iteration == 1:
                    self._tick(span.end(self.progress), final=done or stopped, measures=not stopped)
                    span = span.following(self.progress)
                elif span.is_silent():
                    self._show_life(span)
            self._end(finished=done)

    def _step(self) -> None:
        progress, run = self.progress, self.config.run
        settings = self.schedule.at(progress.images)
        images, labels = next(self.batches)
        pixels = to_device(images, self.device).float() / 127.5 - 1
        self.trainer.step(
            Reals(pixels, Camera.from_label(to_device(labels, self.device))), settings, progress.iteration
        )
        ema.update(self.G_ema, self.networks.G, ema.decay(self.config.ema, run.batch, progress.images))
        self.networks.G.raw_resolution = self.G_ema.raw_resolution = settings.render.resolution
        progress.images += run.batch
        progress.iteration += 1
        if self.trainer.adapts and progress.iteration % self.config.augment.interval == 0:
            self.trainer.adapt()

    def _begin(self, stack: ExitStack) -> None:
        """What is said and written before the first step."""
        if not distributed.is_main():
            return
        write_options(self.folder, self.plan.model, self.plan.cfg, self.config)
        self.writer = StatisticsWriter(self.folder, self.progress.images)
        stack.callback(self.writer.close)
        self.grid = pictures.Grid.choose(self.dataset, self.networks.G.z_dim, self.device)
        pictures.save_reals(self.folder / "reals.png", self.dataset, self.grid)
        sizes = ", ".join(f"{name} {count_parameters(getattr(self.networks, name)) / 1e6:.2f}M" for name in ("G", "D"))
        processes = distributed.world_size()
        print(f"Folder:     {self.folder}")
        print(f"Data:       {len(self.dataset)} pictures of {self.dataset.resolution} from {self.config.data.path}")
        print(f"Networks:   {sizes} parameters")
        print(
            f"Batch:      {self.config.run.batch} on {processes} {self.device.type} process{'es' * (processes > 1)}, "
            f"{self.batch_gpu} at a time"
        )
        if self.progress.images:
            print(f"Goes on at: {self.progress.kimg:g} kimg, from {self.plan.start.source}")
        elif self.plan.start.source is not None:
            print(f"Starts from the networks of {self.plan.start.source}")
        print(f"Training to {self.config.run.kimg:g} kimg; Ctrl-C ends with a snapshot.")

    def _end(self, finished: bool) -> None:
        if distributed.is_main() and finished:
            print(f"Done: {self.progress.kimg:g} kimg in {self.folder}")
        elif distributed.is_main():
            print(f"Stopped at {self.progress.kimg:g} kimg; --resume=latest goes on from there.")

    # Ticks

    def _tick(self, span: Span, final: bool, measures: bool) -> None:
        """Shows and writes statistics; every `snap` ticks and at the end pictures, a snapshot and metrics."""
        progress = self.progress
        statistics, phases = self.trainer.statistics.read(), self.trainer.clock.read()
        values = {**self._values(span), **{f"Timing/{name}": seconds for name, seconds in phases.items()}}
        if distributed.is_main():
            print(tick_line(progress, statistics, values, self.config.run.kimg))
        if final or progress.tick % self.config.run.snap == 0:
            self._share_averages()
            if distributed.is_main():
                values |= pictures.save_fakes(
                    self.folder, int(progress.kimg), self.G_ema, self.grid, min(self.batch_gpu, PICTURE_BATCH)
                )
            path = self._save()
            if measures and progress.iteration > 1:
                self._measure(path)
        if distributed.is_main():
            self.writer.write(statistics, values, progress.images)
        progress.tick += 1

    def _values(self, span: Span) -> dict[str, float]:
        """Single numbers of a tick, by their published names."""
        progress, augment = self.progress, self.networks.augment
        values = {
            "Progress/tick": progress.tick,
            "Progress/kimg": progress.kimg,
            "Progress/augment": 0.0 if augment is None else float(augment.p),
            "Progress/raw_resolution": self.networks.G.raw_resolution,
            "Timing/total_sec": progress.seconds,
            "Timing/total_hours": progress.seconds / 3600,
            "Timing/total_days": progress.seconds / 86400,
            "Timing/sec_per_tick": span.seconds,
            "Timing/sec_per_kimg": span.seconds / (progress.images - span.images) * 1000,
            "Timing/maintenance_sec": span.maintenance,
            "Resources/cpu_mem_gb": psutil.Process().memory_info().rss / 2**30,
        }
        if self.device.type == "cuda":
            values["Resources/peak_gpu_mem_gb"] = torch.cuda.max_memory_allocated(self.device) / 2**30
            values["Resources/peak_gpu_mem_reserved_gb"] = torch.cuda.max_memory_reserved(self.device) / 2**30
            torch.cuda.reset_peak_memory_stats(self.device)
        return values

    def _share_averages(self) -> None:
        """Averages what the processes average by themselves: the mean styles, which only snapshots look at.

        Their updates are linear, so that this is the same as if they had been averaged at every step.
        """
        for network in (self.networks.G, self.G_ema):
            distributed.average_in_place(value for name, value in network.named_buffers() if name.endswith("w_avg"))

    def _save(self) -> Path:
        """Writes networks and training state; every process takes part."""
        path = self.folder / snapshot.snapshot_name(int(self.progress.kimg))
        signs = self.trainer.signs.totals()
        if distributed.is_main():
            progress = self.progress
            facts = {"kimg": progress.kimg, "images": progress.images, "images_before": progress.images_before}
            state = {
                "progress": asdict(progress) | {"tick": progress.tick + 1},
                "optimizers": {name: optimizer.state_dict() for name, optimizer in self.trainer.optimizers.items()},
                "batches": self.batches.state_dict(),
                "signs": signs,
            }
            # In this order, so that a run which is killed in between has no last snapshot that it cannot go on from.
            snapshot.save_training_state(snapshot.training_state_path(path), state)
            snapshot.save(
                path,
                G=self.networks.G,
                D=self.networks.D,
                G_ema=self.G_ema,
                augment_pipe=self.networks.augment,
                training_set_kwargs=to_dict(self.config.data),
                facts={**facts, "system": self.plan.model, "cfg": self.plan.cfg},
            )
            print(f"Saved {path.name} ({format_bytes(path.stat().st_size)})")
        return path

    def _measure(self, path: Path) -> None:
        """Scores the averaged generator; a metric that fails is reported as such, and the run goes on."""
        if not self.config.run.metrics:
            return
        evaluation = registry.open_evaluation(
            self.G_ema, self.dataset, device=self.device, detectors=self.plan.detectors
        )
        file = path if distributed.is_main() else None
        with evaluation.generator_at_rest():
            records = [registry.attempt(evaluation, *registry.find(name), file) for name in self.config.run.metrics]
        if distributed.is_main():
            for record in records:
                results.append(record, self.folder, path)
                print(results.summary(record))
                self.writer.write_scalars(
                    {f"Metrics/{name}": value for name, value in record["results"].items()}, self.progress.images
                )
            if self.config.run.keep_best:
                results.keep_best(self.folder, self.config.run.metrics[0])

    def _show_life(self, span: Span) -> None:
        span.last_sign = time.perf_counter()
        if distributed.is_main():
            progress = self.progress
            rate = (progress.images - span.images) / (span.last_sign - span.start)
            left = format_seconds((self.config.run.kimg * 1000 - progress.images) / rate)
            end = "\r" if sys.stdout.isatty() else "\n"
            print(f"    kimg {progress.kimg:<9.3f} {rate:.2f} img/s  ETA {left}", end=end, flush=True)


class Span:
    """The time and the images of one tick."""

    def __init__(self, progress: Progress, maintenance: float = 0.0):
        self.images, self.maintenance, self.seconds = progress.images, maintenance, 0.0
        self.start = self.last_sign = time.perf_counter()

    def end(self, progress: Progress) -> Span:
        """Itself, after its time has been added to that of the run."""
        self.seconds = time.perf_counter() - self.start
        progress.seconds += self.seconds + self.maintenance
        return self

    def following(self, progress: Progress) -> Span:
        """The next one; what happened since the end of this one is its maintenance."""
        return Span(progress, time.perf_counter() - self.start - self.seconds)

    def is_silent(self) -> bool:
        """Whether nothing has been shown for long."""
        return time.perf_counter() - self.last_sign > HEARTBEAT_SECONDS


def build_optimizers(config: TrainConfig, networks: Networks) -> dict[str, torch.optim.Optimizer]:
    """Adam for each network, corrected where the network has a lazy phase."""
    optim, loss = config.optim, config.loss
    generator_interval = optim.generator_reg_interval if loss.regularizes else None
    discriminator_interval = optim.discriminator_reg_interval if loss.r1_gamma > 0 else None
    G, D = networks.G.parameters(), networks.D.parameters()
    return {
        "G": adam(G, optim.generator_lr, optim.betas, optim.eps, generator_interval),
        "D": adam(D, optim.discriminator_lr, optim.betas, optim.eps, discriminator_interval),
    }


def tick_line(
    progress: Progress, statistics: Mapping[str, Moments], values: Mapping[str, float], total_kimg: float
) -> str:
    """One line about a tick: progress, losses, rate, time left, memory; and a warning if a loss is not finite."""
    per_kimg = values["Timing/sec_per_kimg"]
    parts = [
        f"tick {progress.tick:<4d} kimg {progress.kimg:<9.3f}",
        *(f"{label} {statistics[name].mean:<7.3f}" for label, name in SHOWN.items() if name in statistics),
        f"{1000 / per_kimg:.2f} img/s",
        f"time {format_seconds(progress.seconds)}",
        f"ETA {format_seconds((total_kimg - progress.kimg) * per_kimg)}",
        f"cpu {format_bytes(values['Resources/cpu_mem_gb'] * 2**30)}",
    ]
    if "Resources/peak_gpu_mem_gb" in values:
        parts.append(f"gpu {format_bytes(values['Resources/peak_gpu_mem_gb'] * 2**30)}")
    if values["Progress/augment"] > 0:
        parts.append(f"augment {values['Progress/augment']:.3f}")
    broken = [name for name, moments in statistics.items() if not math.isfinite(moments.mean)]
    if broken:
        parts.append(f"WARNING: not finite: {', '.join(broken)}")
    return "  ".join(parts)
