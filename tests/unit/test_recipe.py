"""Recipes: plain values and back, networks with given weights, and what does not fit."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from tests.unit import training_parts as tiny
from training.augment import AugmentConfig, AugmentPipe
from training.discriminators import PlainDiscriminatorConfig
from training.recipe import (
    DiscriminatorRecipe,
    build,
    build_with,
    copy_weights,
    describe,
    from_stored,
    listing,
    mismatches,
    to_stored,
)
from training.unpickle import SnapshotError

G, D = tiny.networks()
NETWORKS: list[Any] = [G, D, PlainDiscriminatorConfig().build(16, c_dim=0), AugmentPipe(AugmentConfig(mode="ada"))]


@pytest.mark.parametrize("network", NETWORKS, ids=lambda network: type(network).__name__)
def test_a_recipe_and_weights_are_the_network(network):
    recipe = describe(network)
    stored = to_stored(recipe)
    assert from_stored(*stored) == recipe
    again = build_with(recipe, network.state_dict())
    assert type(again) is type(network)
    assert not again.training
    assert not any(parameter.requires_grad for parameter in again.parameters())
    for name, tensor in network.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor)


def test_a_recipe_knows_the_resolution_of_now():
    network, _ = tiny.networks()
    network.raw_resolution = 16
    again: Any = build_with(describe(network), network.state_dict())
    assert again.raw_resolution == 16
    assert network.config.raw_resolution == 8


def test_building_leaves_the_random_generator_as_it_was():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    build_with(describe(D), D.state_dict())
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize(
    ("tag", "changes", "message"),
    [
        ("scene", {}, "it holds a 'scene', which this version does not know"),
        ("generator", {"colour": 1}, "no field 'colour'"),
        ("generator", {"z_dim": "many"}, "z_dim='many'"),
        ("generator", {"z_dim": 2**21}, r"its configuration says z_dim = 2\.097e\+06"),
        ("generator", {"w_dim": -(2**21)}, "w_dim"),
        ("generator", {"mapping": {"num_layers": 65}}, "num_layers = 65"),
        ("generator", {"view": {"pivot": [0.0, 0.0, 1e30]}}, "pivot"),
        ("discriminator", {"discriminator": {"kind": "triple"}}, "discriminator"),
    ],
)
def test_stored_values_are_checked(tag, changes, message):
    _, values = to_stored(describe(G if tag != "discriminator" else D))
    with pytest.raises(SnapshotError, match=message):
        from_stored(tag, values | changes)


def test_configurations_without_network():
    recipe = replace(tiny.GENERATOR, w_dim=0)
    with pytest.raises(SnapshotError, match="gives no network"):
        build_with(recipe, G.state_dict())


def test_sizes_are_compared_before_anything_is_allocated():
    huge = replace(tiny.GENERATOR, z_dim=2**20, w_dim=2**20)
    with pytest.raises(SnapshotError, match="its weights do not fit its configuration"):
        build_with(huge, G.state_dict())


def test_optional_weights():
    weights = {name: tensor for name, tensor in G.state_dict().items() if name != "dataset_label_std"}
    with pytest.raises(SnapshotError, match=r"dataset_label_std \[25\] is missing"):
        build_with(describe(G), weights)
    build_with(describe(G), weights, ("dataset_label_std", "no_such_name"))


def test_mismatches():
    expected = {"a": (1,), "b": (2, 3), "c": ()}
    found = {"b": (3, 2), "c": (), "d": (4,)}
    assert mismatches(expected, found) == ["a [1] is missing", "b is [3, 2] instead of [2, 3]", "d [4] is left over"]
    assert mismatches(expected, expected) == []


def test_long_listings_are_cut():
    assert listing(["a", "b"]) == "a; b"
    assert listing([str(i) for i in range(20)]).endswith("; 11; and 8 more")


def test_copy_weights_lists_what_it_leaves():
    source: Any = tiny.networks(1)[0]
    same: Any = build(tiny.GENERATOR)
    assert copy_weights(source, same) == []
    assert all(torch.equal(a, b) for a, b in zip(source.state_dict().values(), same.state_dict().values(), strict=True))
    other: Any = build(replace(tiny.GENERATOR, z_dim=13))
    before = other.mapping.scene.fc0.weight.clone()
    assert copy_weights(source, other) == ["mapping.scene.fc0.weight is [16, 28] instead of [16, 29]"]
    assert torch.equal(other.mapping.scene.fc0.weight, before)
    assert torch.equal(other.scene.backbone.b4.const, source.scene.backbone.b4.const)


def test_default_recipe_is_the_full_size_discriminator():
    assert DiscriminatorRecipe() == DiscriminatorRecipe(tiny.DualDiscriminatorConfig(), 512, 25)
