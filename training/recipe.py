"""What a network is built from, and building it with given weights.

A recipe is a tree of configs with a tag; recipe and weights together are a network, in a file and after it is read.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from training.augment import AugmentConfig, AugmentPipe
from training.config import from_dict, to_dict
from training.discriminators import Discriminator, DiscriminatorConfig
from training.discriminators.dual import DualDiscriminatorConfig
from training.generator import Generator, GeneratorConfig
from training.types import LABEL_SIZE
from training.unpickle import SnapshotError

MAX_SIZE = 2**20
"""No number of a recipe that a file holds may be larger."""
MAX_LAYERS = 64
LISTED = 12
"""Mismatches that a message spells out."""


@dataclass(frozen=True)
class DiscriminatorRecipe:
    """A discriminator's config, with what the run decided: picture size, numbers of a label."""

    discriminator: DiscriminatorConfig = field(default_factory=DualDiscriminatorConfig)
    img_resolution: int = 512
    c_dim: int = LABEL_SIZE


Recipe = GeneratorConfig | DiscriminatorRecipe | AugmentConfig
Network = Generator | Discriminator | AugmentPipe

TAGS: dict[str, type] = {
    "generator": GeneratorConfig,
    "discriminator": DiscriminatorRecipe,
    "augment": AugmentConfig,
}


def describe(network: Network) -> Recipe:
    """The recipe of a network as it is now."""
    if isinstance(network, Generator):
        return dataclasses.replace(network.config, raw_resolution=network.raw_resolution)
    if isinstance(network, AugmentPipe):
        return network.config
    return DiscriminatorRecipe(network.config, network.img_resolution, network.c_dim)


def to_stored(recipe: Recipe) -> tuple[str, dict]:
    """Tag and plain values of a recipe, as files hold them."""
    tag = next(tag for tag, kind in TAGS.items() if isinstance(recipe, kind))
    return tag, to_dict(recipe)


def from_stored(tag: str, values: Any) -> Recipe:
    """The recipe of tag and plain values.

    Raises SnapshotError for an unknown tag or config, and for sizes that no network has.
    """
    if tag not in TAGS:
        raise SnapshotError(f"it holds a {tag[:40]!r}, which this version does not know")
    _check_sizes(values, tag)
    try:
        return from_dict(TAGS[tag], values)
    except (AttributeError, TypeError, ValueError) as error:
        raise SnapshotError(f"its {tag} has a configuration that does not fit this version: {error}") from error


def _check_sizes(values: object, name: str) -> None:
    if isinstance(values, Mapping):
        for key, value in values.items():
            _check_sizes(value, str(key))
    elif isinstance(values, (list, tuple)):
        for value in values:
            _check_sizes(value, name)
    elif isinstance(values, (int, float)) and abs(values) > (MAX_LAYERS if "layers" in name else MAX_SIZE):
        raise SnapshotError(f"its configuration says {name} = {values:.4g}")


def build(recipe: Recipe) -> Network:
    """A network with fresh weights."""
    if isinstance(recipe, GeneratorConfig):
        return Generator(recipe)
    if isinstance(recipe, AugmentConfig):
        return AugmentPipe(recipe)
    return recipe.discriminator.build(recipe.img_resolution, recipe.c_dim)


def build_with(recipe: Recipe, state: Mapping[str, Tensor], optional: tuple[str, ...] = ()) -> Network:
    """A network with the weights of `state`, for use: in eval mode, without gradients, on the CPU.

    Weights named in `optional` may be missing. Nothing is allocated before names and shapes agree; torch's random
    generator stays as it is. Raises SnapshotError with a list of what does not agree.
    """
    try:
        with torch.device("meta"):
            shapes = {name: tuple(tensor.shape) for name, tensor in build(recipe).state_dict().items()}
    except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise SnapshotError(f"its configuration gives no network: {error}") from error
    found = {name: tuple(tensor.shape) for name, tensor in state.items()}
    wrong = mismatches(shapes, {name: shapes[name] for name in optional if name in shapes} | found)
    if wrong:
        raise SnapshotError(f"its weights do not fit its configuration: {listing(wrong)}")
    with torch.random.fork_rng(devices=[]):
        network = build(recipe)
    network.load_state_dict(dict(state), strict=False)
    return network.eval().requires_grad_(False)


def mismatches(expected: Mapping[str, tuple[int, ...]], found: Mapping[str, tuple[int, ...]]) -> list[str]:
    """One text for each name that is missing, left over or of another shape; in the order of the names expected."""
    texts = []
    for name, shape in expected.items():
        if name not in found:
            texts.append(f"{name} {list(shape)} is missing")
        elif found[name] != shape:
            texts.append(f"{name} is {list(found[name])} instead of {list(shape)}")
    return texts + [f"{name} {list(shape)} is left over" for name, shape in found.items() if name not in expected]


def listing(texts: list[str]) -> str:
    """The first of many texts, and how many more there are."""
    more = f"; and {len(texts) - LISTED} more" if len(texts) > LISTED else ""
    return "; ".join(texts[:LISTED]) + more


@torch.no_grad()
def copy_weights(source: nn.Module, target: nn.Module) -> list[str]:
    """Copies the weights that both networks have by name and shape; texts about those that they do not share."""
    have, want = source.state_dict(), target.state_dict()
    for name, tensor in want.items():
        if name in have and have[name].shape == tensor.shape:
            tensor.copy_(have[name])
    return mismatches(
        {name: tuple(tensor.shape) for name, tensor in want.items()},
        {name: tuple(tensor.shape) for name, tensor in have.items()},
    )
