"""The values that travel between the parts of a 3D GAN.

All are frozen dataclasses. Dimensions in shape annotations: n batch, rays, samples, points, channels,
height, width, layers. Units: scene units, radians, pixels, kimg (thousands of images shown).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from torch_utils.misc import to_device

LABEL_SIZE = 25
"""Numbers of a camera label: row-major 4x4 camera-to-world, then row-major 3x3 intrinsics."""

Jitter = Literal["uniform", "center"]
Layer = Literal["full", "foreground", "background", "hole"]
NoiseMode = Literal["random", "const", "none"]


@dataclass(frozen=True)
class Camera:
    """A batch of pinhole cameras in OpenCV axes: +x right, +y down, +z forward.

    `intrinsics` are normalized by the image size: the principal point of a centred camera is (0.5, 0.5).
    """

    cam2world: Float[Tensor, "n 4 4"]
    intrinsics: Float[Tensor, "n 3 3"]

    @staticmethod
    def from_label(label: Float[Tensor, "n 25"]) -> Camera:
        """Cameras of a batch of 25-number labels."""
        return Camera(label[:, :16].reshape(-1, 4, 4), label[:, 16:LABEL_SIZE].reshape(-1, 3, 3))

    def to_label(self) -> Float[Tensor, "n 25"]:
        """The 25-number labels of these cameras; the inverse of `from_label`."""
        return torch.cat([self.cam2world.flatten(1), self.intrinsics.flatten(1)], dim=1)

    @property
    def position(self) -> Float[Tensor, "n 3"]:
        """Camera centres in scene units."""
        return self.cam2world[:, :3, 3]

    def to(self, device: torch.device | str) -> Camera:
        """The same cameras on another device."""
        device = torch.device(device)
        return Camera(to_device(self.cam2world, device), to_device(self.intrinsics, device))

    def __len__(self) -> int:
        return len(self.cam2world)

    def __getitem__(self, rows: slice | Tensor) -> Camera:
        return Camera(self.cam2world[rows], self.intrinsics[rows])


@dataclass(frozen=True)
class Patch:
    """A square part of the image plane, in image fractions; offset is measured from the left and the bottom."""

    scale: Float[Tensor, "n 2"]
    offset: Float[Tensor, "n 2"]


@dataclass(frozen=True)
class RenderSettings:
    """What one rendering call may choose; never stored on a module.

    resolution: rays per side. patch: part of the image plane (None: all of it).
    jitter: "uniform" draws depths at random, "center" makes the render deterministic
    (samples at bin centres, importance draws at (i+0.5)/N).
    density_noise: standard deviation of the noise added to raw densities.
    samples_multiplier: factor on the numbers of samples along a ray.
    """

    resolution: int
    patch: Patch | None = None
    jitter: Jitter = "uniform"
    density_noise: float = 0.0
    samples_multiplier: float = 1.0


@dataclass(frozen=True)
class Rays:
    """Rays in world space; directions have unit length, so depths are distances in scene units."""

    origins: Float[Tensor, "n rays 3"]
    directions: Float[Tensor, "n rays 3"]


@dataclass(frozen=True)
class Latents:
    """Style rows for each part: what `Generator.mapping` returns and `Generator.synthesis` takes.

    `background` has no rows where the background has no latent; a background that reads its latent
    without a mapping network gets it as one row.
    """

    scene: Float[Tensor, "n scene_layers w"]
    background: Float[Tensor, "n background_layers w_background"]
    upsampler: Float[Tensor, "n upsampler_layers w_upsampler"]

    def __len__(self) -> int:
        return len(self.scene)

    def __getitem__(self, rows: slice | Tensor) -> Latents:
        return self._map(lambda rows_of_part: rows_of_part[rows])

    def to(self, device: torch.device | str) -> Latents:
        """The same latents on another device."""
        return self._map(lambda rows_of_part: rows_of_part.to(device))

    def lerp(self, end: Latents, weight: float) -> Latents:
        """Straight interpolation: self at weight 0, `end` at weight 1."""
        pairs = {f.name: torch.lerp(getattr(self, f.name), getattr(end, f.name), weight) for f in fields(self)}
        return Latents(**pairs)

    def expand(self, count: int) -> Latents:
        """One latent seen `count` times, without copying."""
        return self._map(lambda rows_of_part: rows_of_part.expand(count, -1, -1))

    def _map(self, change: Callable[[Tensor], Tensor]) -> Latents:
        return Latents(**{f.name: change(getattr(self, f.name)) for f in fields(self)})


@dataclass(frozen=True)
class FieldSamples:
    """A field at points: raw density (before its activation) and features."""

    density: Float[Tensor, "n points 1"]
    features: Float[Tensor, "n points channels"]


@dataclass(frozen=True)
class RayMarch:
    """The light gathered along rays in front of the background: all that a regularizer may need.

    `features` and `depth` are sums over the samples; `depth` is normalized by the opacity.
    `weights` belong to the segments between neighbouring samples, `depths` and `density` to the merged
    samples in order of depth, `fine_depths` and `fine_density` to the importance samples alone.
    """

    features: Float[Tensor, "n rays channels"]
    depth: Float[Tensor, "n rays 1"]
    weights: Float[Tensor, "n rays segments"]
    transmittance: Float[Tensor, "n rays 1"]
    depths: Float[Tensor, "n rays samples"]
    density: Float[Tensor, "n rays samples"]
    fine_depths: Float[Tensor, "n rays fine"]
    fine_density: Float[Tensor, "n rays fine"]

    @property
    def opacity(self) -> Float[Tensor, "n rays 1"]:
        """Share of a ray's light that comes from the foreground, in [0, 1]."""
        return self.weights.sum(dim=2, keepdim=True)


@dataclass(frozen=True)
class BackgroundSamples:
    """What lies behind the scene along each ray; depth in scene units, None where nothing is at a finite distance."""

    features: Float[Tensor, "n rays channels"]
    depth: Float[Tensor, "n rays 1"] | None = None


@dataclass(frozen=True, eq=False)
class RenderOutput(Mapping):
    """One synthesis: pictures in [-1, 1], depth in scene units, opacity in [0, 1].

    Fields can also be read as items, as users of the published code do: `out["image"]`.
    """

    image: Float[Tensor, "n channels height width"]
    image_raw: Float[Tensor, "n 3 raw_height raw_width"]
    image_depth: Float[Tensor, "n 1 raw_height raw_width"]
    opacity: Float[Tensor, "n 1 raw_height raw_width"]
    march: RayMarch
    patch: Patch | None = None

    def __getitem__(self, name: str) -> Any:
        if name not in self:
            raise KeyError(f"{name!r}; a RenderOutput has {', '.join(self)}")
        return getattr(self, name)

    def __contains__(self, name: object) -> bool:
        return name in tuple(self)

    def __iter__(self) -> Iterator[str]:
        return (f.name for f in fields(self))

    def __len__(self) -> int:
        return len(fields(self))


@dataclass(frozen=True)
class Views:
    """What a discriminator sees of a real or a generated picture; `raw` and `patch` where it asks for them."""

    image: Float[Tensor, "n channels height width"]
    raw: Float[Tensor, "n channels raw_height raw_width"] | None = None
    patch: Patch | None = None

    def tensors(self) -> list[Tensor]:
        """The pictures, for gradients with respect to all of them."""
        return [self.image] if self.raw is None else [self.image, self.raw]

    def with_image(self, image: Tensor) -> Views:
        """The same views with another picture."""
        return replace(self, image=image)


@dataclass(frozen=True)
class StepSettings:
    """The numbers of one training step, computed by `training.schedule` from the images shown so far."""

    render: RenderSettings
    blur_sigma: float = 0.0
    swap_probability: float | None = None
    r1_gamma: float = 1.0
    regularizer_scale: Mapping[str, float] = field(default_factory=dict)
