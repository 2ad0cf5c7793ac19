"""Published snapshots of EG3D and BallGAN: their networks as recipes and weights of ours, and the way back.

The published files name a class, its constructor arguments (`training.official_config`) and its tensors. The table
`KEYS` says where each tensor lives on both sides. Files read so render with the published (legacy) plane axes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from torch_utils.ops.upfirdn2d import setup_filter
from training.augment import AugmentConfig
from training.background.sphere import GAUSSIAN_FEATURES, SphereConfig, StyledTextureConfig
from training.generator import GeneratorConfig
from training.layers import RESAMPLE_TAPS
from training.official_config import config_from_official
from training.recipe import DiscriminatorRecipe, Network, Recipe, describe
from training.scene.lookup import PLANE_AXES
from training.unpickle import Record, SnapshotError
from training.upsampling.superresolution import SuperresolutionConfig

__all__ = ["OfficialNetwork", "config_from_official", "official_to_ours", "our_key", "ours_to_official", "read_network"]

KEYS = (
    ("backbone.mapping.", "mapping.scene."),
    ("backbone.synthesis.", "scene.backbone."),
    ("decoder.net.0.", "scene.decoder.hidden."),
    ("decoder.net.2.", "scene.decoder.out."),
    ("decoder.rgb_out.", "scene.decoder.color."),
    ("decoder.sigma_out.", "scene.decoder.density."),
    ("BG_mapping.", "mapping.background."),
    ("BG_Net.", "background.texture."),
    ("superresolution.", "upsampler."),
    ("dataset_label_std", "dataset_label_std"),
    ("", "trunk."),
)
"""Beginnings of names, official and ours; the first that fits counts. The last is that of the discriminators."""

OPTIONAL = ("dataset_label_std",)
"""What published training adds to a generator, and other files lack."""
CONSTANTS = ("resample_filter", "B_pos", "B_view")
"""Last parts of names that hold no weights but the same numbers in every file."""
FILTERED = re.compile(r"(.*\b(?:conv|conv0|conv1|skip|fromrgb|BG_Net\.fc_in|BG_Net\.blocks\.\d+))\.weight")
FILTERED_BLOCK = re.compile(r"(.*)\.torgb\.weight|(b\d+)\.skip\.weight")
"""Official names of weights whose layer, and whose block, has a buffer `resample_filter` beside it."""


@dataclass(frozen=True)
class OfficialNetwork:
    """A network as a published file holds it: class, constructor arguments, tensors by official name, attributes."""

    class_name: str
    kwargs: dict[str, Any]
    state: dict[str, Tensor]
    raw_resolution: int | None = None
    plane_axes: Tensor | None = None

    @property
    def system(self) -> str:
        """The published system that a generator belongs to."""
        return "ballgan" if "BG_kwargs" in self.kwargs else "eg3d"

    def recipe(self) -> Recipe:
        """Our recipe of the network, with what training changed after its construction."""
        recipe = config_from_official(self.class_name, self.kwargs)
        if not isinstance(recipe, GeneratorConfig):
            return recipe
        scene = replace(recipe.scene, axes=_axes_name(self.plane_axes))
        return replace(recipe, scene=scene, raw_resolution=self.raw_resolution or recipe.raw_resolution)


def read_network(record: Record) -> OfficialNetwork:
    """The network in the inert record of an object of a published class.

    Raises SnapshotError where the record is no network.
    """
    attributes = record.state
    kwargs, rendering = attributes.get("_init_kwargs"), attributes.get("rendering_kwargs")
    raw_resolution = attributes.get("neural_rendering_resolution")
    if not isinstance(kwargs, dict) or attributes.get("_init_args") not in ((), None):
        raise SnapshotError(f"{record.class_name[:80]} comes without its constructor arguments")
    if raw_resolution is not None and not (isinstance(raw_resolution, int) and 0 < raw_resolution <= 4096):
        raise SnapshotError(f"{record.class_name[:80]} has no sensible neural_rendering_resolution")
    if rendering is not None:
        kwargs = kwargs | {"rendering_kwargs": rendering}
    renderer = _dictionary(record, "_modules").get("renderer")
    axes = renderer.state.get("plane_axes") if isinstance(renderer, Record) else None
    axes = axes if isinstance(axes, Tensor) else None
    return OfficialNetwork(record.class_name, kwargs, dict(_tensors(record, "")), raw_resolution, axes)


def _tensors(record: Record, prefix: str) -> Iterator[tuple[str, Tensor]]:
    for kind in ("_parameters", "_buffers"):
        for name, value in _dictionary(record, kind).items():
            if isinstance(value, Tensor):
                yield f"{prefix}{name}", value
            elif value is not None:
                raise SnapshotError(f"{prefix}{name} is a {type(value).__name__} instead of a tensor")
    for name, part in _dictionary(record, "_modules").items():
        if isinstance(part, Record):
            yield from _tensors(part, f"{prefix}{name}.")


def _dictionary(record: Record, name: str) -> dict:
    value = record.state.get(name, {})
    if not isinstance(value, dict):
        raise SnapshotError(f"{record.class_name[:80]} is no network: its {name} are no dictionary")
    return value


def _axes_name(plane_axes: Tensor | None) -> Literal["corrected", "legacy"]:
    """Our name for the axes of the planes that a file states; a file without them has the published ones."""
    if plane_axes is None:
        return "legacy"
    if plane_axes.shape == (3, 3, 3):
        spans = tuple((int(plane[0].argmax()), int(plane[1].argmax())) for plane in plane_axes)
        if spans == PLANE_AXES["legacy"]:
            return "legacy"
        if spans == PLANE_AXES["corrected"]:
            return "corrected"
    raise SnapshotError("its planes span axes that are neither the published nor the corrected ones")


def our_key(official_key: str) -> str | None:
    """Our name of a tensor with an official name; None for constants, which we do not store."""
    if official_key.rpartition(".")[2] in CONSTANTS:
        return None
    official, ours = next(pair for pair in KEYS if official_key.startswith(pair[0]))
    return ours + official_key[len(official) :]


def official_key(our_key: str) -> str:
    """The official name of a tensor with our name; the inverse of `our_key`.

    Raises KeyError for names that the published networks have no place for.
    """
    for official, ours in KEYS:
        if our_key.startswith(ours):
            return official + our_key[len(ours) :]
    raise KeyError(our_key)


def official_to_ours(state: Mapping[str, Tensor], recipe: Recipe) -> dict[str, Tensor]:
    """Weights by our names, from tensors by official names. The constants among them are checked and left out.

    Raises SnapshotError for a constant with other numbers than the published ones.
    """
    if isinstance(recipe, AugmentConfig):
        return dict(state)
    squeezed = _has_styled_sphere(recipe)
    weights = {}
    for name, tensor in state.items():
        key = our_key(name)
        if key is None:
            _check_constant(name, tensor)
        elif squeezed and name.startswith("BG_Net.") and tensor.ndim == 4 and tensor.shape[2:] == (1, 1):
            weights[key] = tensor[:, :, 0, 0]
        else:
            weights[key] = tensor
    return weights


def ours_to_official(network: Network) -> dict[str, Tensor]:
    """Tensors by official names, constants included, from a network of ours; on the CPU.

    Raises SnapshotError for parts that the published networks do not have.
    """
    recipe = describe(network)
    if isinstance(recipe, AugmentConfig):
        return dict(network.state_dict())
    state = {}
    for name, tensor in network.state_dict().items():
        try:
            key = official_key(name)
        except KeyError:
            raise SnapshotError(f"{name} has no place in the published networks") from None
        unsqueeze = key.startswith("BG_Net.") and tensor.ndim == 2 and ".affine." not in key
        styled = unsqueeze and _has_styled_sphere(recipe)
        state[key] = (tensor[:, :, None, None] if styled else tensor).detach().cpu().contiguous()
    return state | {name: _constant(name) for name in _constant_names(list(state), recipe)}


def _has_styled_sphere(recipe: Recipe) -> bool:
    """Whether the background's layers are stored as 1x1 convolutions by the published code, as matrices by ours."""
    background = recipe.background if isinstance(recipe, GeneratorConfig) else None
    return isinstance(background, SphereConfig) and isinstance(background.texture, StyledTextureConfig)


def _constant_names(names: list[str], recipe: Recipe) -> Iterator[str]:
    """Official names of the constants of a network whose other tensors have these official names."""
    if isinstance(recipe, DiscriminatorRecipe) and recipe.discriminator.kind == "dual":
        yield "resample_filter"
    if isinstance(recipe, GeneratorConfig):
        if isinstance(recipe.upsampler, SuperresolutionConfig) and recipe.upsampler.module != "8XDC":
            yield "superresolution.resample_filter"
        if isinstance(recipe.background, SphereConfig) and recipe.background.encoding == "gauss":
            yield from ("BG_Net.B_pos", "BG_Net.B_view")
    for name in names:
        for pattern in (FILTERED, FILTERED_BLOCK):
            if match := pattern.fullmatch(name):
                yield f"{match[1] or match[2]}.resample_filter"


def _constant(name: str) -> Tensor:
    """The constant of an official name: the resampling filter, or one of the two matrices of Gaussian frequencies."""
    kind = name.rpartition(".")[2]
    if kind == "resample_filter":
        return setup_filter(RESAMPLE_TAPS)
    draws = np.random.RandomState(2021)
    positions = 10 * draws.randn(2, GAUSSIAN_FEATURES)
    views = 10 * draws.randn(3, 12)
    return torch.from_numpy(positions if kind == "B_pos" else views).float()


def _check_constant(name: str, tensor: Tensor) -> None:
    constant = _constant(name)
    if tensor.shape != constant.shape or not torch.allclose(tensor.float(), constant, rtol=1e-5, atol=1e-6):
        raise SnapshotError(f"the constant {name} holds other numbers than in the published networks")
