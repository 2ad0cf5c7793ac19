"""One optimization step: the phases that are due, each with its gradients and its optimizer. No logging, no files."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from torch_utils import distributed, random
from torch_utils.misc import Clock, to_device
from torch_utils.training_stats import Collector
from training import phases
from training.augment import AugmentPipe, adapted_probability
from training.discriminators import Discriminator
from training.generator import Generator
from training.inputs import Draw, Fakes, Reals, share
from training.losses import LossConfig
from training.phases import Loss
from training.types import StepSettings

REAL_SIGNS = "Loss/signs/real"
"""What adaptive augmentation looks at."""


@dataclass(frozen=True)
class Networks:
    """What trains, and the augmentation between them."""

    G: Generator
    D: Discriminator
    augment: AugmentPipe | None = None


@dataclass(frozen=True)
class Phase:
    """A part of a step that ends with a step of one optimizer.

    interval: steps from one run to the next. The loss counts that many times, so that it weighs the same as if it
    ran always (lazy regularization, Karras et al. 2020).
    """

    name: str
    network: Literal["G", "D"]
    interval: int
    losses: Callable[[Networks, Fakes, Reals, StepSettings], Iterator[Loss]]

    def is_due(self, iteration: int) -> bool:
        """Whether the phase runs in this iteration, counted from 0."""
        return iteration % self.interval == 0


def build_phases(loss: LossConfig, generator_interval: int, discriminator_interval: int) -> list[Phase]:
    """The phases in the order in which they run."""

    def regularizers(networks: Networks, fakes: Fakes, reals: Reals, settings: StepSettings) -> Iterator[Loss]:
        if settings.regularizer_scale:
            yield from phases.generator_regularizers(networks.G, fakes, settings, loss)

    found = [Phase("Gmain", "G", 1, _generator_main)]
    if loss.regularizes:
        found.append(Phase("Greg", "G", generator_interval, regularizers))
    found.append(Phase("Dmain", "D", 1, _discriminator_main))
    if loss.r1_gamma > 0:
        found.append(Phase("Dreg", "D", discriminator_interval, _discriminator_r1))
    return found


def _generator_main(networks: Networks, fakes: Fakes, reals: Reals, settings: StepSettings) -> Iterator[Loss]:
    return phases.generator_main(networks.G, networks.D, fakes, settings, networks.augment)


def _discriminator_main(networks: Networks, fakes: Fakes, reals: Reals, settings: StepSettings) -> Iterator[Loss]:
    return phases.discriminator_main(networks.G, networks.D, fakes, reals, settings, networks.augment)


def _discriminator_r1(networks: Networks, fakes: Fakes, reals: Reals, settings: StepSettings) -> Iterator[Loss]:
    return phases.discriminator_r1(networks.D, reals, settings, networks.augment)


def adam(
    parameters: Iterable[nn.Parameter],
    lr: float,
    betas: tuple[float, float],
    eps: float,
    lazy_interval: int | None,
) -> torch.optim.Adam:
    """Adam for a network; with a lazy phase every `lazy_interval` steps, rate and decays make up for its extra steps.

    Of k + 1 optimizer steps in k iterations each is k / (k + 1) as long and forgets as much less (Karras et al. 2020,
    appendix B).
    """
    ratio = 1.0 if lazy_interval is None else lazy_interval / (lazy_interval + 1)
    corrected = (float(betas[0]) ** ratio, float(betas[1]) ** ratio)
    return torch.optim.Adam(list(parameters), lr=lr * ratio, betas=corrected, eps=eps, fused=True)


@dataclass
class Trainer:
    """Runs steps. `batch` pictures a step over all processes, in `micro_batches` portions on each of them."""

    networks: Networks
    optimizers: Mapping[str, torch.optim.Optimizer]
    phases: list[Phase]
    draw: Draw
    statistics: Collector
    device: torch.device
    batch: int
    micro_batches: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        self.clock = Clock(self.device)
        self.signs = Collector(self.device)

    def step(self, reals: Reals, settings: StepSettings, iteration: int) -> None:
        """Runs the phases that are due; `reals` is this process's share of the batch."""
        for phase in self.phases:
            if phase.is_due(iteration):
                with self.clock(phase.name):
                    self._run(phase, reals, settings, iteration)

    def _run(self, phase: Phase, reals: Reals, settings: StepSettings, iteration: int) -> None:
        networks = self.networks
        name = (self.seed, iteration, phase.name)
        fakes = self.draw.fakes(networks.G, self.batch, settings.swap_probability, name)
        real_keys = random.sample_keys((*name, "reals"), torch.arange(self.batch))
        trained = networks.G if phase.network == "G" else networks.D
        for network in (networks.G, networks.D):
            network.requires_grad_(network is trained)
        for micro_batch in range(self.micro_batches):
            rows = share(distributed.world_size(), distributed.rank(), self.micro_batches, micro_batch)
            own = reals[micro_batch :: self.micro_batches]
            own = Reals(own.images, own.camera, to_device(real_keys[rows], self.device))
            for loss in phase.losses(networks, fakes[rows].to(self.device), own, settings):
                (loss.values.mean() * (phase.interval / self.micro_batches)).backward()
                self._report(loss)
        parameters = list(trained.parameters())
        distributed.average_gradients(parameters)
        self.optimizers[phase.network].step()
        for parameter in parameters:
            parameter.grad = None

    def _report(self, loss: Loss) -> None:
        for name, values in loss.statistics.items():
            self.statistics.report(name, values)
            if name == REAL_SIGNS and self.adapts:
                self.signs.report(name, values)

    @property
    def adapts(self) -> bool:
        """Whether the augmentation follows the discriminator."""
        return self.networks.augment is not None and self.networks.augment.config.mode == "ada"

    def adapt(self) -> None:
        """Moves the augmentation probability by what the discriminator said of real pictures since the last time."""
        augment, signs = self.networks.augment, self.signs.read()
        if augment is None or REAL_SIGNS not in signs:
            return
        config = augment.config
        mean = signs[REAL_SIGNS].mean
        augment.p.fill_(
            adapted_probability(float(augment.p), mean, config.target, self.batch, config.interval, config.kimg)
        )
