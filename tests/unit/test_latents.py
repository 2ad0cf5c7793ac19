"""From seeds to latents."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.tiny import generator_config
from training.background import SolidConfig, SphereConfig
from training.background.sphere import StyledTextureConfig
from training.generator import Generator
from training.latents import seeds_to_z

CONFIG = generator_config(SphereConfig(texture=StyledTextureConfig(w_dim=8, mapping_layers=2), z_dim=12, hidden=8))


def published(seed: int, size: int) -> torch.Tensor:
    return torch.from_numpy(np.random.RandomState(seed).randn(1, size)).float()[0]


def test_seeds_give_the_published_numbers():
    G = Generator(CONFIG)
    z = seeds_to_z(G, [0, 3, 85])
    assert z.shape == (3, G.z_dim)
    assert z.dtype == torch.float32
    for row, seed in zip(z, (0, 3, 85), strict=True):
        assert torch.equal(row[:16], published(seed, 16))
        assert torch.equal(row[16:], published(seed, 12))
    assert torch.equal(z[:, :12], z[:, 16:]), "the same numbers for both, as published"


def test_background_seeds_are_chosen_apart_and_repeat():
    G = Generator(CONFIG)
    z = seeds_to_z(G, [0, 1, 2], background_seeds=[7, 8])
    for row, (seed, behind) in zip(z, ((0, 7), (1, 8), (2, 7)), strict=True):
        assert torch.equal(row[:16], published(seed, 16))
        assert torch.equal(row[16:], published(behind, 12))


def test_a_generator_without_background_latent():
    G = Generator(generator_config(SolidConfig()))
    assert torch.equal(seeds_to_z(G, [5], background_seeds=[1])[0], published(5, 16))


@pytest.mark.parametrize(("seeds", "behind", "name"), [([], None, "seeds"), ([1], [], "background_seeds")])
def test_an_empty_list_of_seeds_is_refused(seeds, behind, name):
    with pytest.raises(ValueError, match=f"^{name}: expected at least one seed"):
        seeds_to_z(Generator(CONFIG), seeds, behind)
