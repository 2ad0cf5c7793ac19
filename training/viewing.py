"""What an interactive viewer shows: pictures of remembered scenes, quick while the camera moves."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from jaxtyping import Float, UInt8
from numpy import ndarray
from torch import Tensor

from training import media, snapshot
from training.cameras.prior import FRONT, orbit_camera
from training.commands import Truncation
from training.exports import mixed
from training.generator import Generator
from training.latents import seeds_to_z
from training.types import Camera, Latents, RenderSettings
from training.views import LAYERS, BuiltScene, depth_layer

REMEMBERED_NETWORKS = 3
REMEMBERED_SCENES = 16
ACTIVATIONS_SHOWN = 16
MINIMUM_RAYS = 8

T = TypeVar("T")


@dataclass(frozen=True)
class SceneChoice:
    """All that decides what a scene is; equal choices are the same scene.

    seed and background_seed may lie between two whole numbers: then the latents do, too. mix_seed: a seed that
    gives the style rows from mix_row on (None: none). yaw, pitch: the camera that conditions the mapping, radians.
    """

    network: str
    seed: float = 0.0
    background_seed: float = 0.0
    truncation: float = 1.0
    background_truncation: float = 1.0
    mix_seed: int | None = None
    mix_row: int = 7
    yaw: float = 0.0
    pitch: float = 0.0


@dataclass(frozen=True)
class ViewChoice:
    """How a scene is shown: a layer, rays per side (None: the network's), and a factor on the samples of a ray.

    coarseness divides the rays per side.
    """

    layer: str = "image"
    rays: int | None = None
    samples: float = 1.0
    coarseness: int = 1


class Memory:
    """The most recently used results of a function, by key."""

    def __init__(self, size: int):
        self.size, self.made = size, 0
        self._items: OrderedDict[Hashable, Any] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """What was made for the key, now or before."""
        if key not in self._items:
            self._items[key] = make()
            self.made += 1
            while len(self._items) > self.size:
                self._items.popitem(last=False)
        self._items.move_to_end(key)
        return self._items[key]


class Viewer:
    """Networks and scenes that are remembered, and pictures of them.

    Several windows may share it, each in a thread: whoever calls holds the `lock`.
    """

    def __init__(self, device: torch.device):
        self.device = device
        self.lock = threading.Lock()
        self._networks, self._scenes = Memory(REMEMBERED_NETWORKS), Memory(REMEMBERED_SCENES)

    @property
    def scenes_built(self) -> int:
        """How often a backbone has run."""
        return self._scenes.made

    def generator(self, network: str) -> Generator:
        """The averaged generator of a snapshot. Raises OSError or SnapshotError where there is none."""
        return self._networks.get(network, lambda: snapshot.load(network, self.device)["G_ema"])

    def scene(self, choice: SceneChoice) -> BuiltScene:
        """The scene of a choice; its backbone runs only when it was forgotten."""
        generator = self.generator(choice.network)
        return self._scenes.get(choice, lambda: BuiltScene.build(generator, self.latents(choice)))

    def latents(self, choice: SceneChoice) -> Latents:
        """The styles of a choice."""
        generator = self.generator(choice.network)
        z = _between_seeds(generator, choice.seed, choice.background_seed)
        angles = (torch.tensor([FRONT + choice.yaw]), torch.tensor([FRONT + choice.pitch]))
        camera = orbit_camera(*angles, generator.config.view)
        truncation = Truncation(choice.truncation, None, choice.background_truncation)
        latents = truncation.styles(generator, z, camera)
        if choice.mix_seed is None or choice.mix_row >= latents.scene.shape[1]:
            return latents
        other = truncation.styles(generator, seeds_to_z(generator, [choice.mix_seed]), camera)
        return mixed(latents, other, range(choice.mix_row, latents.scene.shape[1]))

    def picture(self, scene: BuiltScene, camera: Camera, view: ViewChoice) -> UInt8[ndarray, "high wide 3"]:
        """A square picture of one layer from one camera."""
        rays = max((view.rays or scene.generator.raw_resolution) // view.coarseness, MINIMUM_RAYS)
        settings = RenderSettings(rays, None, "center", 0.0, view.samples)
        layers = LAYERS | {"depth": depth_layer(_depth_range(scene, camera))}
        picture = layers[view.layer]([scene.shoot(camera, settings)])[0]
        if picture.shape[2] == 4:
            return media.over(picture[None], media.checkerboard(*picture.shape[:2]))[0]
        return picture.repeat(3, axis=2) if picture.shape[2] == 1 else picture

    def activations(self, choice: SceneChoice, layer: str) -> UInt8[ndarray, "high wide 3"]:
        """The first channels that a layer of the scene's backbone gives for a choice, in colours, as a grid."""
        generator = self.generator(choice.network)
        seen: list[Tensor] = []
        module = dict(generator.scene.named_modules())[layer]
        hook = module.register_forward_hook(lambda _module, _inputs, out: seen.append(_first_tensor(out)))
        try:
            BuiltScene.build(generator, self.latents(choice))
        finally:
            hook.remove()
        channels = seen[-1][0, :ACTIVATIONS_SHOWN, None].float()
        spread = channels.abs().amax(dim=(1, 2, 3), keepdim=True).clamp(min=1e-8)
        return media.tile(media.colorize(channels / spread), columns=4)


def activation_layers(generator: Generator) -> list[str]:
    """Names of the backbone's layers whose activations can be shown."""
    blocks = [name for name, module in generator.scene.named_modules() if hasattr(module, "conv1")]
    return [f"{name}.conv1" for name in blocks]


def recent_snapshots(folder: Path, count: int = 30) -> list[str]:
    """The newest snapshots of the runs in a folder, newest first."""
    found = folder.glob("**/network-snapshot-*.pkl") if folder.is_dir() else []
    return [str(path) for path in sorted(found, key=lambda path: path.stat().st_mtime, reverse=True)[:count]]


def viewer_camera(
    position: Float[ndarray, " 3"], rotation: Float[ndarray, "3 3"], vertical_fov: float, aspect: float
) -> Camera:
    """The camera of a square picture that fits into a window; rotation is camera to world in OpenCV axes.

    vertical_fov: radians, of the window. aspect: the window's width over its height.
    """
    pose = torch.eye(4)[None]
    pose[0, :3, :3] = torch.from_numpy(np.asarray(rotation, dtype=np.float32))
    pose[0, :3, 3] = torch.from_numpy(np.asarray(position, dtype=np.float32))
    focal = 0.5 / np.tan(vertical_fov / 2) / min(aspect, 1.0)
    intrinsics = torch.tensor([[[focal, 0, 0.5], [0, focal, 0.5], [0, 0, 1]]], dtype=torch.float32)
    return Camera(pose, intrinsics)


def fit_window(picture: UInt8[ndarray, "side side 3"], aspect: float, grey: int = 40) -> UInt8[ndarray, "high wide 3"]:
    """The picture in the middle of a frame of the window's aspect."""
    side = picture.shape[0]
    extra_wide, extra_high = (max(round(side * (ratio - 1)), 0) // 2 for ratio in (aspect, 1 / aspect))
    margins = ((extra_high, extra_high), (extra_wide, extra_wide), (0, 0))
    return np.pad(picture, margins, constant_values=grey)


def _between_seeds(generator: Generator, seed: float, background_seed: float) -> Float[Tensor, "1 z_dim"]:
    def part(value: float) -> Tensor:
        first, share = int(value // 1), value % 1
        z = seeds_to_z(generator, [first, first + 1])
        if share == 0:
            return z[:1]
        # Spherical weights keep the length that the mapping network knows.
        angle = torch.tensor(share * torch.pi / 2)
        return z[:1] * angle.cos() + z[1:] * angle.sin()

    split = generator.scene_z_dim
    return torch.cat([part(seed)[:, :split], part(background_seed)[:, split:]], dim=1)


def _depth_range(scene: BuiltScene, camera: Camera) -> tuple[float, float]:
    """Depths between which colours change: the scene's box as this camera sees it."""
    distance, reach = float(camera.position.norm()), scene.box_side / 2
    return max(distance - reach, 0.0), distance + reach


def _first_tensor(out: Any) -> Tensor:
    return out if isinstance(out, Tensor) else _first_tensor(out[0])
