"""What a training step is made from: real pictures, and the latents and cameras of generated ones.

The inputs of generated pictures are drawn for the whole batch, as a function of a name, and then cut into shares. So
they do not depend on the number of processes or micro-batches, and a restart needs no generator states.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from torch_utils import random
from torch_utils.misc import to_device
from training.cameras.prior import CameraPrior
from training.generator import Generator
from training.types import Camera


@dataclass(frozen=True)
class StyleMix:
    """A second latent whose styles replace those of the first, from row `cut` of the scene on."""

    z: Float[Tensor, "n z_dim"]
    cut: int


@dataclass(frozen=True)
class Fakes:
    """What generated pictures are made from.

    camera renders and is told to the discriminator; mapping_camera conditions the mapping network. keys name each
    sample's random streams (None: torch's own generator).
    """

    z: Float[Tensor, "n z_dim"]
    camera: Camera
    mapping_camera: Camera
    mix: StyleMix | None = None
    keys: Int[Tensor, " n"] | None = None

    def __getitem__(self, rows: slice) -> Fakes:
        return Fakes(
            self.z[rows],
            self.camera[rows],
            self.mapping_camera[rows],
            None if self.mix is None else replace(self.mix, z=self.mix.z[rows]),
            None if self.keys is None else self.keys[rows],
        )

    def to(self, device: torch.device) -> Fakes:
        """The same inputs on another device."""
        return Fakes(
            to_device(self.z, device),
            self.camera.to(device),
            self.mapping_camera.to(device),
            None if self.mix is None else replace(self.mix, z=to_device(self.mix.z, device)),
            None if self.keys is None else to_device(self.keys, device),
        )


@dataclass(frozen=True)
class Reals:
    """Real pictures in [-1, 1] and their cameras; keys as in `Fakes`."""

    images: Float[Tensor, "n 3 height width"]
    camera: Camera
    keys: Int[Tensor, " n"] | None = None

    def __getitem__(self, rows: slice) -> Reals:
        return Reals(self.images[rows], self.camera[rows], None if self.keys is None else self.keys[rows])


@dataclass(frozen=True)
class Draw:
    """How the inputs of generated pictures are drawn.

    background_pairs: samples i and i + n/2 share their scene latent, in front of different backgrounds.
    style_mixing_prob: chance that a batch mixes the styles of two latents.
    """

    cameras: CameraPrior
    background_pairs: bool = False
    style_mixing_prob: float = 0.0

    def fakes(self, G: Generator, n: int, swap_probability: float | None, name: tuple) -> Fakes:
        """Inputs of n generated pictures on the CPU, fixed by `name`.

        With the swap probability (None: never) a sample's mapping network is told the camera of the sample before it.
        """
        keys = random.sample_keys(name, torch.arange(n))
        generator = torch.Generator().manual_seed(random.seed_of((*name, "inputs")))
        z = torch.randn(n, G.z_dim, generator=generator)
        if self.background_pairs:
            z[n // 2 :, : G.scene_z_dim] = z[: n // 2, : G.scene_z_dim]
        camera = self.cameras.sample(n, generator)
        swapped = torch.rand(n, generator=generator) < (swap_probability or 0)
        mix = None
        if self.style_mixing_prob > 0 and float(torch.rand([], generator=generator)) < self.style_mixing_prob:
            cut = int(torch.randint(1, G.scene.num_ws, [], generator=generator))
            mix = StyleMix(torch.randn(n, G.z_dim, generator=generator), cut)
        return Fakes(z, camera, swap_with_previous(camera, swapped), mix, keys)


def swap_with_previous(camera: Camera, swapped: Bool[Tensor, " n"]) -> Camera:
    """The cameras, where `swapped` is true those of the sample before in the batch."""

    def choose(values: Tensor) -> Tensor:
        return torch.where(swapped[:, None, None], values.roll(1, dims=0), values)

    return Camera(choose(camera.cam2world), choose(camera.intrinsics))


def share(processes: int, rank: int, micro_batches: int, micro_batch: int) -> slice:
    """Rows of the whole batch that one micro-batch of one process gets.

    Every process, and every micro-batch of it, takes strided rows, as the groups of the minibatch statistics do: so
    the groups are the same however the batch is cut. A process's own pictures are every `processes`-th of the batch.
    """
    return slice(micro_batch * processes + rank, None, processes * micro_batches)
