"""One optimization step: optimizers, order of phases, portions of a batch, adaptation of the augmentation."""

from __future__ import annotations

import pytest
import torch

from tests.unit.training_parts import networks, prior, reals
from torch_utils.training_stats import Collector
from training.augment import AugmentConfig, AugmentPipe
from training.inputs import Draw
from training.losses import DensityConfig, LossConfig, MarchConfig
from training.schedule import Schedule, ScheduleConfig
from training.step import REAL_SIGNS, Networks, Trainer, adam, build_phases

GRADIENTS = [[0.3, -2.0, 0.001, 0.0], [-0.1, 1.0, 0.002, 5.0], [0.7, 0.5, -0.004, -0.0001]]
PUBLISHED_STEPS = [
    (0.0025, 4, [0.49574753642082214, -1.0000245571136475, 1.9984883069992065, -0.002822689712047577]),
    (0.002, 16, [0.4959993362426758, -1.0000237226486206, 1.998576283454895, -0.002655711257830262]),
    (0.0025, None, [0.494687557220459, -1.00003182888031, 1.9981087446212769, -0.003526597283780575]),
]


@pytest.mark.parametrize(("lr", "interval", "expected"), PUBLISHED_STEPS)
def test_adam_with_the_published_correction(lr, interval, expected):
    parameter = torch.nn.Parameter(torch.tensor([0.5, -1.0, 2.0, 0.0]))
    optimizer = adam([parameter], lr, (0.0, 0.99), 1e-8, interval)
    for gradient in GRADIENTS:
        parameter.grad = torch.tensor(gradient)
        optimizer.step()
    torch.testing.assert_close(parameter.detach(), torch.tensor(expected), rtol=0, atol=2e-7)


REGULARIZED = LossConfig(density=DensityConfig(strength=0.25), fg_density=MarchConfig(strength=0.1))


def test_phases_run_in_the_published_order():
    phases = build_phases(REGULARIZED, 4, 16)
    due = [[phase.name for phase in phases if phase.is_due(iteration)] for iteration in range(17)]
    assert due[0] == due[16] == ["Gmain", "Greg", "Dmain", "Dreg"]
    assert due[4] == due[8] == ["Gmain", "Greg", "Dmain"]
    assert due[1] == due[15] == ["Gmain", "Dmain"]
    assert [phase.interval for phase in phases] == [1, 4, 1, 16]
    assert [phase.name for phase in build_phases(LossConfig(r1_gamma=0), 4, 16)] == ["Gmain", "Dmain"]


def trained(micro_batches: int, augment: AugmentPipe | None = None, steps: int = 2) -> tuple[Networks, Collector]:
    G, D = networks()
    nets = Networks(G, D, augment)
    optimizers = {
        "G": adam(G.parameters(), 0.002, (0, 0.99), 1e-8, 4),
        "D": adam(D.parameters(), 0.002, (0, 0.99), 1e-8, 16),
    }
    draw = Draw(prior(), style_mixing_prob=0.5)
    trainer = Trainer(
        nets, optimizers, build_phases(REGULARIZED, 4, 16), draw, Collector(), torch.device("cpu"), 8, micro_batches
    )
    schedule = Schedule(ScheduleConfig(resolution=8), REGULARIZED)
    for iteration in range(steps):
        trainer.step(reals(8, iteration), schedule.at(iteration * 8), iteration)
    return nets, trainer.statistics


def test_portions_of_a_batch_add_up():
    pipe = AugmentPipe(AugmentConfig(mode="fixed", p=0.5))
    (whole, statistics), (cut, portions) = trained(1, pipe), trained(2, pipe)
    a, b = statistics.read(), portions.read()
    assert a.keys() == b.keys()
    for name in a:
        assert a[name].num == b[name].num
        assert a[name].mean == pytest.approx(b[name].mean, rel=1e-4, abs=1e-6), name
    for one, two in ((whole.G, cut.G), (whole.D, cut.D)):
        moved = torch.cat([parameter.detach().flatten() for parameter in one.parameters()])
        other = torch.cat([parameter.detach().flatten() for parameter in two.parameters()])
        # Adam divides by the size of a gradient, so that those which vanish up to rounding take steps of any sign.
        assert float(((moved - other).abs() < 1e-5).float().mean()) > 0.98


def test_a_step_trains_both_networks_and_leaves_no_gradients():
    G, D = networks()
    before = [parameter.detach().clone() for parameter in [*G.parameters(), *D.parameters()]]
    nets, statistics = trained(1, steps=1)
    after = [*nets.G.parameters(), *nets.D.parameters()]
    changed = [not torch.equal(a, b) for a, b in zip(before, after, strict=True)]
    assert sum(changed) > 0.9 * len(changed)
    assert all(parameter.grad is None for parameter in after)
    names = statistics.read()
    assert {"Loss/G/loss", "Loss/D/loss", "Loss/r1_penalty", "Loss/reg_density", "Loss/reg_fgdensity"} <= set(names)
    assert REAL_SIGNS in names


def test_augmentation_follows_the_signs():
    pipe = AugmentPipe(AugmentConfig(mode="ada", kimg=0.1))
    G, D = networks()
    trainer = Trainer(Networks(G, D, pipe), {}, [], Draw(prior()), Collector(), torch.device("cpu"), 32)
    found = []
    for sign in (1.0, 1.0, 0.25, 1.0, -1.0, 0.5):
        trainer.signs.report(REAL_SIGNS, torch.tensor([sign]))
        trainer.adapt()
        found.append(float(pipe.p))
    published = [1.2799999713897705, 2.559999942779541, 1.2799999713897705, 2.559999942779541, 1.2799999713897705, 0.0]
    assert found == published
    trainer.adapt()
    assert float(pipe.p) == 0
