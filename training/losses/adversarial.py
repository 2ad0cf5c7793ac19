"""The adversarial game: logistic losses and the gradient penalty. One value a sample, to be averaged."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import softplus


def generator_logistic(fake_logits: Float[Tensor, "n 1"]) -> Float[Tensor, " n"]:
    """-log sigmoid(D(fake)): large where D sees through a generated picture (Goodfellow et al. 2014)."""
    return softplus(-fake_logits).squeeze(1)


def fake_logistic(fake_logits: Float[Tensor, "n 1"]) -> Float[Tensor, " n"]:
    """-log(1 - sigmoid(D(fake))): the discriminator's loss on generated pictures."""
    return softplus(fake_logits).squeeze(1)


def real_logistic(real_logits: Float[Tensor, "n 1"]) -> Float[Tensor, " n"]:
    """-log sigmoid(D(real)): the discriminator's loss on real pictures."""
    return softplus(-real_logits).squeeze(1)


def gradient_penalty(real_logits: Float[Tensor, "n 1"], pictures: Sequence[Tensor]) -> Float[Tensor, " n"]:
    """Squared gradient of the logits with respect to all pictures a sample consists of, summed (R1, Mescheder 2018).

    `pictures` [n, ...] must have been leaves with gradient when the logits were computed from them. The result can be
    differentiated again. A sample's logit depends on others of its batch through the minibatch statistics; as
    published, the gradient of the sum of all logits is taken.
    """
    gradients = torch.autograd.grad(real_logits.sum(), pictures, create_graph=True)
    return torch.stack([gradient.float().square().flatten(1).sum(dim=1) for gradient in gradients]).sum(dim=0)
