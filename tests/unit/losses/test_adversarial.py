"""Logistic losses and the gradient penalty."""

from __future__ import annotations

import torch

from training.losses.adversarial import fake_logistic, generator_logistic, gradient_penalty, real_logistic


def test_logistic_losses_are_log_likelihoods():
    logits = torch.linspace(-4, 4, 9)[:, None]
    probability = logits.sigmoid().squeeze(1)
    torch.testing.assert_close(generator_logistic(logits), -probability.log())
    torch.testing.assert_close(real_logistic(logits), -probability.log())
    torch.testing.assert_close(fake_logistic(logits), -(1 - probability).log())


def test_gradient_penalty_of_a_quadratic():
    image, raw = torch.randn(3, 2, 4, 4, requires_grad=True), torch.randn(3, 2, 2, 2, requires_grad=True)
    scale = torch.tensor(2.0, requires_grad=True)
    logits = scale * image.square().flatten(1).sum(1, keepdim=True) + raw.flatten(1).sum(1, keepdim=True)
    penalty = gradient_penalty(logits, [image, raw])
    torch.testing.assert_close(penalty, 16 * image.square().flatten(1).sum(1) + 8)
    (second,) = torch.autograd.grad(penalty.sum(), scale)
    torch.testing.assert_close(second, 16 * image.square().sum(), rtol=1e-5, atol=1e-5)


def test_gradient_penalty_by_finite_differences():
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Linear(6, 5), torch.nn.Softplus(), torch.nn.Linear(5, 1)).double()
    image = torch.randn(2, 6, dtype=torch.float64, requires_grad=True)
    penalty = gradient_penalty(network(image), [image])
    step = 1e-5
    numeric = torch.zeros(2, dtype=torch.float64)
    with torch.no_grad():
        for entry in range(6):
            shift = torch.zeros(6, dtype=torch.float64)
            shift[entry] = step
            numeric += ((network(image + shift) - network(image - shift)).squeeze(1) / (2 * step)) ** 2
    torch.testing.assert_close(penalty.double(), numeric, rtol=1e-5, atol=1e-8)
