"""The mapping network against its formula; running average and truncation."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from training.mapping import MappingConfig, MappingNetwork


def normalized(x: Tensor) -> Tensor:
    return x / (x.square().mean(dim=1, keepdim=True) + 1e-8).sqrt()


def dense(layer, x: Tensor, lr: float, activate: bool) -> Tensor:
    y = x @ layer.weight.t() * (lr / math.sqrt(x.shape[1])) + layer.bias * lr
    return torch.where(y > 0, y, 0.2 * y) * math.sqrt(2) if activate else y


def randomized(network: MappingNetwork) -> MappingNetwork:
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter)
    return network


@pytest.mark.parametrize(("z_dim", "c_dim"), [(6, 0), (6, 5), (0, 5)])
def test_mapping_is_its_formula(z_dim, c_dim):
    torch.manual_seed(0)
    network = randomized(MappingNetwork(z_dim, c_dim, 7, 3, layer_features=9, embed_features=4, lr_multiplier=0.1))
    z = torch.randn(2, z_dim) if z_dim else None
    c = torch.randn(2, c_dim) if c_dim else None
    inputs = [] if z is None else [normalized(z)]
    if c is not None:
        inputs.append(normalized(dense(network.embed, c, 1.0, False)))
    x = torch.cat(inputs, dim=1)
    for layer in (network.fc0, network.fc1, network.fc2):
        x = dense(layer, x, 0.1, True)
    torch.testing.assert_close(network(z, c), x)
    assert x.shape == (2, 7)


def test_names_and_widths_of_layers():
    shapes = {name: tuple(value.shape) for name, value in MappingNetwork(6, 25, 7, 2).state_dict().items()}
    assert shapes == {
        "w_avg": (7,),
        "embed.weight": (7, 25),
        "embed.bias": (7,),
        "fc0.weight": (7, 13),
        "fc0.bias": (7,),
        "fc1.weight": (7, 7),
        "fc1.bias": (7,),
    }
    shapes = {
        name: tuple(value.shape) for name, value in MappingNetwork(6, 0, 7, 2, layer_features=3).state_dict().items()
    }
    assert shapes["fc0.weight"] == (3, 6)
    assert shapes["fc1.weight"] == (7, 3)
    assert "embed.weight" not in shapes
    assert "w_avg" not in MappingNetwork(0, 25, 7, 8, keep_average=False).state_dict()


def test_the_length_of_the_latent_plays_no_part():
    network = randomized(MappingNetwork(6, 0, 7, 2))
    z = torch.randn(3, 6)
    torch.testing.assert_close(network(z * 20, None), network(z, None), rtol=1e-3, atol=1e-4)


def test_running_average_moves_by_two_thousandths():
    network = randomized(MappingNetwork(6, 0, 7, 2))
    before = torch.randn(7)
    network.w_avg.copy_(before)
    z = torch.randn(8, 6)
    w = network(z, None)
    assert torch.equal(network.w_avg, before), "only on demand"
    network(z, None, update_average=True)
    torch.testing.assert_close(network.w_avg, 0.998 * before + 0.002 * w.mean(dim=0))
    assert not network.w_avg.requires_grad


@pytest.mark.parametrize("cutoff", [None, 0, 2, 5, 14])
@pytest.mark.parametrize("psi", [0.0, 0.7, 1.3])
def test_truncation_pulls_the_first_rows_towards_the_average(psi, cutoff):
    network = MappingNetwork(6, 0, 7, 2)
    network.w_avg.copy_(torch.randn(7))
    w = torch.randn(3, 7)
    rows = network.rows(w, 5, psi, cutoff)
    assert rows.shape == (3, 5, 7)
    for index in range(5):
        pulled = cutoff is None or index < cutoff
        torch.testing.assert_close(rows[:, index], network.w_avg + psi * (w - network.w_avg) if pulled else w)


def test_rows_without_truncation_are_copies_and_pass_gradients():
    network = MappingNetwork(6, 0, 7, 2)
    network.w_avg.fill_(float("nan"))
    w = torch.randn(3, 7, requires_grad=True)
    assert torch.equal(network.rows(w, 4), w[:, None].expand(3, 4, 7))
    network.w_avg.zero_()
    gradient = torch.autograd.grad(network.rows(w, 4, 0.5, 3).sum(), w)[0]
    torch.testing.assert_close(gradient, torch.full([3, 7], 3 * 0.5 + 1))


def test_no_layers_are_refused():
    with pytest.raises(ValueError, match=r"at least one layer \(--map-depth\)"):
        MappingConfig(num_layers=0)
