"""What changes while training goes on, as a function of the images shown so far."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from training.losses import MONOTONIC_STRENGTH, LossConfig, MarchConfig
from training.types import RenderSettings, StepSettings

WARM_UP_IMAGES = 15_000


@dataclass(frozen=True)
class ScheduleConfig:
    """Fades of a training run. Lengths in kimg (thousands of real images shown); a length of 0 means already over.

    blur_sigma: standard-deviation-like width in pixels of the blur that early pictures get before the discriminator.
    swap_probability: chance, after its fade from 1, that the mapping network is told another camera than renders.
    resolution: rays per side of the raw picture, at first and (None: the same) after its fade.
    """

    blur_sigma: float = 10.0
    blur_fade_kimg: float = 200.0
    swap_probability: float = 0.5
    swap_fade_kimg: float = 1000.0
    resolution: int = 64
    resolution_final: int | None = None
    resolution_fade_kimg: float = 1000.0


@dataclass(frozen=True)
class Schedule:
    """The settings of every step of a run.

    images_before: images that the networks had been shown before this run began; the regularizers count them.
    """

    config: ScheduleConfig = field(default_factory=ScheduleConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    images_before: int = 0

    def at(self, images: int) -> StepSettings:
        """Settings of the step that begins after this many images of the run."""
        config = self.config
        swap = _progress(images, config.swap_fade_kimg)
        return StepSettings(
            render=RenderSettings(resolution=self.resolution(images)),
            blur_sigma=blur_sigma(images, config.blur_fade_kimg, config.blur_sigma),
            swap_probability=(1 - swap) * 1 + swap * config.swap_probability,
            r1_gamma=self.loss.r1_gamma,
            regularizer_scale=self.regularizer_scale(images + self.images_before),
        )

    def resolution(self, images: int) -> int:
        """Rays per side of the raw picture."""
        config = self.config
        if config.resolution_final is None:
            return config.resolution
        done = _progress(images, config.resolution_fade_kimg)
        return round(config.resolution * (1 - done) + config.resolution_final * done)

    def regularizer_scale(self, images: int) -> dict[str, float]:
        """Strengths of the regularizers that act, by name."""
        density = self.loss.density
        scale = {"density": density.strength} if density.strength > 0 else {}
        if density.strength > 0 and density.is_monotonic:
            scale["density_monotonic"] = MONOTONIC_STRENGTH
        march = {name: march_scale(config, images) for name, config in self.loss.march.items()}
        return scale | {name: value for name, value in march.items() if value > 0}


def blur_sigma(images: int, fade_kimg: float, initial: float) -> float:
    """Width of the blur in pixels, falling in a straight line to 0.

    The order of the operations is that of the published code: the blur's radius is the floor of three times this, so
    that rounding shows.
    """
    return max(1 - images / (fade_kimg * 1000), 0) * initial if fade_kimg > 0 else 0.0


def march_scale(config: MarchConfig, images: int) -> float:
    """Strength of a regularizer along rays: 0 before its start, exp(n / 5000) / 20 of all of it while it warms up."""
    if images < config.start:
        return 0.0
    warming = config.warm_up and images < WARM_UP_IMAGES
    return config.strength * (math.exp(images / 5000) / 20 if warming else 1.0)


def _progress(images: int, fade_kimg: float) -> float:
    return min(images / (fade_kimg * 1000), 1) if fade_kimg > 0 else 1.0
