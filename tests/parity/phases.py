"""Losses and gradient norms of the training phases, computed by the functions that train."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn

from tests.parity.networks import gradient_norms
from training import phases
from training.generator import Generator
from training.inputs import Fakes, Reals
from training.losses import LossConfig
from training.losses.regularizers import PointPairs
from training.types import Camera, RenderSettings, StepSettings


@dataclass(frozen=True)
class Outcome:
    """What a phase reported, and its networks with the gradients and averages that it left in them."""

    statistics: dict[str, Tensor]
    trained: nn.Module
    G: Any

    def statistic(self, name: str) -> Tensor:
        """Values by sample of a statistic with an official name such as `Loss.scores.fake`."""
        return self.statistics[name.replace(".", "/")].detach().flatten()

    def norms(self, names: list[str]) -> Tensor:
        """Gradient norms of parameters with official names."""
        return gradient_norms(self.trained, names)


@dataclass(frozen=True)
class Batch:
    """The inputs of all phases; generated pictures have the labels in reverse."""

    fakes: Fakes
    reals: Reals
    settings: StepSettings

    @staticmethod
    def of(
        z: Tensor,
        labels: Tensor,
        images: Tensor,
        resolution: int,
        gamma: float,
        blur: float = 0.0,
        swap: bool = True,
    ) -> Batch:
        """Latents, real pictures and their labels; with `swap` the mapping is told the label of the sample before."""
        settings = StepSettings(
            render=RenderSettings(resolution, jitter="center"), blur_sigma=blur, swap_probability=1.0, r1_gamma=gamma
        )
        backwards = labels.flip(0)
        told = backwards.roll(1, dims=0) if swap else backwards
        fakes = Fakes(z, Camera.from_label(backwards), Camera.from_label(told))
        return Batch(fakes, Reals(images, Camera.from_label(labels)), settings)


def run(phase: str, G: Any, D: Any, batch: Batch, gain: float = 1.0) -> Outcome:
    """A phase in train mode, without the noise of the backbone."""
    fakes, reals, settings = batch.fakes, batch.reals, batch.settings
    losses: dict[str, Callable[[], Iterator[phases.Loss]]] = {
        "Gmain": lambda: phases.generator_main(G, D, fakes, settings, noise_mode="none"),
        "Dmain": lambda: phases.discriminator_main(G, D, fakes, reals, settings, noise_mode="none"),
        "Dreg": lambda: phases.discriminator_r1(D, reals, settings),
    }
    if phase not in losses:
        raise ValueError(f"no phase {phase!r}")
    trained = G if phase.startswith("G") else D
    for network in (G, D):
        if network is not None:
            network.train().requires_grad_(network is trained)
    return Outcome(differentiate(losses[phase](), gain), trained, G)


def regularize(
    G: Generator,
    batch: Batch,
    scale: dict[str, float],
    config: LossConfig,
    gain: float = 1.0,
    pairs: dict[str, PointPairs] | None = None,
) -> Outcome:
    """The regularizers of the generator with these strengths, likewise."""
    G.train().requires_grad_(True)
    settings = replace(batch.settings, regularizer_scale=scale)
    losses = phases.generator_regularizers(G, batch.fakes, settings, config, noise_mode="none", pairs=pairs)
    return Outcome(differentiate(losses, gain), G, G)


def differentiate(losses: Iterator[phases.Loss], gain: float) -> dict[str, Tensor]:
    """Gradients of the mean of each loss times the gain, added to those there are; the statistics of all."""
    statistics: dict[str, Tensor] = {}
    for loss in losses:
        (loss.values.mean() * gain).backward()
        statistics |= loss.statistics
    return statistics
