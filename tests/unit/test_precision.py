"""The precision policy: which formats blocks get, and that networks still compute nearly the same."""

from __future__ import annotations

import pytest
import torch

from training import precision
from training.discriminators import PlainDiscriminatorConfig
from training.discriminators.blocks import TrunkConfig
from training.losses.adversarial import gradient_penalty
from training.precision import enter_block, field_dtype, using
from training.scene.triplane import TriplaneConfig
from training.synthesis import BackboneConfig, SynthesisNetwork
from training.types import Views


@pytest.mark.parametrize(
    ("policy", "resolution", "expected"),
    [
        ("mixed", 64, torch.float32),
        ("float32", 64, torch.float32),
        ("bfloat16", 64, torch.bfloat16),
        ("bfloat16", 8, torch.float32),
    ],
)
def test_formats_on_processors(policy, resolution, expected):
    with using(policy):
        x = enter_block(torch.zeros(1, 3, 4, 4), torch.float32, resolution, uses_fp16=True)
    assert x.dtype == expected
    assert x.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_formats_on_gpus():
    x = torch.zeros(1, 3, 4, 4, device="cuda")
    assert enter_block(x, torch.float32, 64, uses_fp16=True).dtype == torch.float16
    assert enter_block(x, torch.float32, 64, uses_fp16=False).dtype == torch.float32
    with using("float32"):
        assert enter_block(x, torch.float32, 64, uses_fp16=True).dtype == torch.float32


def test_fields_are_rounded_only_where_no_derivatives_are_wanted():
    with using("bfloat16"):
        assert field_dtype(torch.float32) == torch.float32
        with torch.no_grad():
            assert field_dtype(torch.float32) == torch.bfloat16
    with torch.no_grad():
        assert field_dtype(torch.float64) == torch.float64


def test_tf32_is_off_unless_asked_for():
    precision.use("mixed", tf32=True)
    assert torch.backends.cuda.matmul.allow_tf32
    precision.use("mixed")
    assert not torch.backends.cuda.matmul.allow_tf32


def test_points_of_rounded_planes_give_nearly_the_same_in_full_precision():
    torch.manual_seed(0)
    scene = TriplaneConfig(backbone=BackboneConfig(32, channel_base=256, channel_max=16)).build(8)
    planes, points = torch.randn(1, 3, 32, 32, 32), torch.rand(1, 500, 3) - 0.5
    with torch.no_grad():
        exact = scene.field(planes)(points)
        with using("bfloat16"):
            field = scene.field(planes)
            rounded, density = field(points), field.density(points)
    assert field.table.dtype == torch.bfloat16
    assert torch.equal(density, rounded.density)
    for ours, theirs in ((rounded.density, exact.density), (rounded.features, exact.features)):
        assert ours.dtype == torch.float32
        assert (ours - theirs).norm() < 0.02 * theirs.norm()


def test_networks_in_bfloat16_stay_near_float32():
    torch.manual_seed(0)
    G = SynthesisNetwork(BackboneConfig(32, channel_base=256, channel_max=16), 8, 6)
    D = PlainDiscriminatorConfig(trunk=TrunkConfig(channel_base=256, channel_max=16)).build(32, c_dim=0)
    ws, images = torch.randn(4, G.num_ws, 8), torch.randn(4, 3, 32, 32).requires_grad_()

    def outputs() -> tuple[torch.Tensor, ...]:
        logits = D(Views(images), torch.zeros(4, 0))
        penalty = gradient_penalty(logits, [images])
        gradient = torch.autograd.grad(penalty.sum(), D.trunk.get_parameter("b32.conv0.weight"))[0]
        return G(ws, "const"), logits, penalty, gradient

    exact = outputs()
    with using("bfloat16"):
        rounded = outputs()
    for ours, theirs in zip(rounded, exact, strict=True):
        assert ours.dtype == torch.float32
        assert not torch.equal(ours, theirs), "nothing was rounded"
        assert (ours - theirs).norm() < 0.03 * theirs.norm()
