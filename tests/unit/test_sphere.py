"""The background sphere: closed forms, angles and their encodings, textures against their formulas."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from training.background.solid import SolidConfig
from training.background.sphere import (
    PlainTextureConfig,
    SphereBackground,
    SphereConfig,
    StyledDense,
    StyledTextureConfig,
    encode_angles,
    encoded_size,
    intersect_sphere,
    sphere_angles,
)
from training.types import Rays

ENCODINGS = ["seamless", "normal", "gauss", "raw"]
TAU = 2 * math.pi
TINY = SphereConfig(texture=StyledTextureConfig(w_dim=6, mapping_layers=2), z_dim=5, hidden=8, num_layers=3)


def random_rays(n: int = 2, count: int = 50, reach: float = 1.0, seed: int = 0) -> Rays:
    draw = torch.Generator().manual_seed(seed)
    origins = torch.randn(n, count, 3, generator=draw, dtype=torch.float64)
    origins = origins / origins.norm(dim=-1, keepdim=True) * torch.rand(n, count, 1, generator=draw).double() * reach
    directions = torch.randn(n, count, 3, generator=draw, dtype=torch.float64)
    return Rays(origins, directions / directions.norm(dim=-1, keepdim=True))


def single_ray(origin: list[float], direction: list[float]) -> Rays:
    towards = torch.tensor([[direction]], dtype=torch.float64)
    return Rays(torch.tensor([[origin]], dtype=torch.float64), towards / towards.norm())


# The hit point


@given(radius=st.floats(1.01, 10), seed=st.integers(0, 1000))
@settings(max_examples=30, deadline=None)
def test_rays_from_inside_leave_where_the_quadratic_says(radius, seed):
    rays = random_rays(seed=seed)
    points, distance = intersect_sphere(rays, radius)
    torch.testing.assert_close(points.norm(dim=-1), torch.full([2, 50], radius).double())
    torch.testing.assert_close(points, rays.origins + distance * rays.directions)
    assert (distance > 0).all()
    for origin, direction, found in zip(rays.origins[0][:5], rays.directions[0][:5], distance[0][:5, 0], strict=True):
        roots = np.roots([1.0, 2 * float(origin @ direction), float(origin @ origin) - radius**2])
        assert found.item() == pytest.approx(max(roots))


def test_hand_worked_hits():
    points, distance = intersect_sphere(single_ray([0, 0, 2], [0, 0, -1]), 3)
    assert points.flatten().tolist() == pytest.approx([0, 0, -3])
    assert distance.item() == pytest.approx(5)
    points, distance = intersect_sphere(single_ray([0, 3, 0], [1, 0, 0]), 5)
    assert points.flatten().tolist() == pytest.approx([4, 3, 0])
    assert distance.item() == pytest.approx(4)


def test_a_camera_outside_sees_the_far_side_or_the_closest_point():
    points, distance = intersect_sphere(single_ray([0, 0, 5], [0, 0, -1]), 3)
    assert points.flatten().tolist() == pytest.approx([0, 0, -3])
    assert distance.item() == pytest.approx(8)
    points, distance = intersect_sphere(single_ray([0, 4, 5], [0, 0, -1]), 3)
    assert points.flatten().tolist() == pytest.approx([0, 4, 0])
    assert distance.item() == pytest.approx(5)
    assert sphere_angles(points, 3).isfinite().all()


# Angles


def test_hand_worked_angles():
    points = torch.tensor([[0, 3.0, 0], [0, -3, 0], [0, 0, 3], [3, 0, 0], [0, 0, -3], [-3, 0, 0]])
    expected = [[0, 0], [math.pi, 0], [math.pi / 2, 0], [math.pi / 2, math.pi / 2], [math.pi / 2, math.pi]]
    angles = sphere_angles(points, 3)
    torch.testing.assert_close(angles[:5], torch.tensor(expected))
    torch.testing.assert_close(angles[5], torch.tensor([math.pi / 2, 1.5 * math.pi]))


@given(polar=st.floats(0.01, math.pi - 0.01), azimuth=st.floats(0, TAU - 1e-6), radius=st.floats(0.5, 9))
@settings(max_examples=50, deadline=None)
def test_angles_give_the_point_back(polar, azimuth, radius):
    side = math.sin(polar)
    point = torch.tensor([side * math.sin(azimuth), math.cos(polar), side * math.cos(azimuth)], dtype=torch.float64)
    angles = sphere_angles(point * radius, radius)
    assert angles[0].item() == pytest.approx(polar)
    assert math.cos(angles[1].item() - azimuth) == pytest.approx(1)
    assert 0 <= angles[1].item() <= TAU


def test_rounding_beyond_the_poles_is_no_number_lost():
    assert sphere_angles(torch.tensor([0.0, 3.0000002, 0]), 3)[0] == 0
    assert sphere_angles(torch.tensor([0.0, -3.0000002, 0]), 3)[0].item() == pytest.approx(math.pi)


# Encodings


def test_published_encoding_is_frequency_by_frequency():
    angles = torch.tensor([[0.7, 2.1]], dtype=torch.float64)
    encoded = encode_angles(angles, "normal", TAU)[0].tolist()
    expected = []
    for i in range(10):
        phases = [2**i * math.pi * v / TAU for v in (0.7, 2.1)]
        expected += [math.sin(p) for p in phases] + [math.cos(p) for p in phases]
    assert encoded == pytest.approx(expected)


def test_seamless_encoding_shares_the_polar_part_and_takes_whole_multiples_of_the_azimuth():
    angles = torch.tensor([[0.7, 2.1]], dtype=torch.float64)
    seamless, normal = (encode_angles(angles, encoding, TAU)[0] for encoding in ("seamless", "normal"))
    torch.testing.assert_close(seamless[0::2], normal[0::2])
    expected = [value for k in range(1, 11) for value in (math.sin(2.1 * k), math.cos(2.1 * k))]
    assert seamless[1::2].tolist() == pytest.approx(expected)


def test_gaussian_encoding_and_its_fixed_matrix():
    background = SphereBackground(SphereConfig(encoding="gauss", hidden=4), 3)
    draws = np.random.RandomState(2021).randn(2, 40) * 10
    assert background.gaussian is not None
    np.testing.assert_allclose(background.gaussian.numpy(), draws.astype(np.float32))
    assert "gaussian" not in background.state_dict()
    angles = torch.tensor([[0.7, 2.1]])
    encoded = encode_angles(angles, "gauss", 3.0, background.gaussian)[0]
    phases = math.pi * np.array([0.7, 2.1]) / 3 @ draws
    np.testing.assert_allclose(encoded.numpy(), np.concatenate([np.sin(phases), np.cos(phases)]), atol=1e-4)
    with pytest.raises(ValueError, match='encoding "gauss" needs its matrix'):
        encode_angles(angles, "gauss", 3.0)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_sizes_of_encodings(encoding):
    encoded = encode_angles(torch.rand(2, 5, 2), encoding, TAU, torch.randn(2, 40))
    assert encoded.shape == (2, 5, encoded_size(encoding))
    if encoding == "raw":
        torch.testing.assert_close(encode_angles(torch.tensor([1.0, 3]), "raw", 2.0), torch.tensor([0.5, 1.5]))


def ring(azimuth: Tensor, height: float = 0.3) -> Rays:
    """Rays from the origin towards a circle of constant height."""
    directions = torch.stack([azimuth.sin(), torch.full_like(azimuth, height), azimuth.cos()], dim=-1)[None]
    directions = directions / directions.norm(dim=-1, keepdim=True)
    return Rays(torch.zeros_like(directions), directions)


@pytest.mark.parametrize(("encoding", "jumps"), [("seamless", False), ("normal", True)])
@pytest.mark.parametrize("texture", [TINY.texture, PlainTextureConfig()])
def test_only_the_published_encoding_jumps_at_azimuth_zero(encoding, jumps, texture):
    torch.manual_seed(0)
    background = SphereConfig(texture=texture, z_dim=5, hidden=8, encoding=encoding).build(3).double()
    latent = torch.randn(1, background.num_ws, background.w_dim, dtype=torch.float64)
    step = 1e-8

    def change_at(azimuth: float) -> float:
        rays = ring(torch.tensor([azimuth - step, azimuth + step], dtype=torch.float64))
        before, after = background(latent, rays).features[0]
        return (before - after).abs().max().item()

    assert (change_at(0) > 1e-3) == jumps
    assert (change_at(0) < 1e-5) != jumps
    assert change_at(1) < 1e-5


# Textures


def lrelu(x: Tensor) -> Tensor:
    return torch.where(x > 0, x, 0.2 * x) * math.sqrt(2)


def test_styled_dense_layer_is_a_demodulated_matrix_per_sample():
    torch.manual_seed(0)
    layer = StyledDense(4, 3, 6)
    nn.init.normal_(layer.bias)
    x, w = torch.randn(2, 5, 4), torch.randn(2, 6)
    for i in range(2):
        styles = layer.affine(w)[i]
        matrix = layer.weight * styles
        matrix = matrix / (matrix.square().sum(dim=1, keepdim=True) + 1e-8).sqrt()
        torch.testing.assert_close(layer(x, w)[i], lrelu(x[i] @ matrix.t() + layer.bias))


def test_styled_output_layer_is_modulated_alone():
    torch.manual_seed(0)
    layer = StyledDense(4, 3, 6, output=True)
    assert layer.weight.abs().max() <= 0.5
    assert layer.bias.abs().max() <= 0.5
    x, w = torch.randn(2, 5, 4), torch.randn(2, 6)
    for i in range(2):
        matrix = layer.weight * layer.affine(w)[i] / 2
        torch.testing.assert_close(layer(x, w)[i], x[i] @ matrix.t() + layer.bias)


@pytest.mark.parametrize("num_layers", [1, 2, 4])
def test_each_styled_layer_reads_its_row(num_layers):
    background = SphereConfig(texture=TINY.texture, hidden=8, num_layers=num_layers).build(3)
    ws = torch.arange(background.num_ws).float()[None, :, None].expand(1, -1, 6)
    read: list[tuple[str, int]] = []

    def remember(name: str):
        return lambda module, inputs: read.append((name, int(inputs[1][0, 0])))

    for name, module in background.texture.named_modules():
        if isinstance(module, StyledDense):
            module.register_forward_pre_hook(remember(name))
    background(ws, random_float_rays())
    names = ["fc_in", *(f"blocks.{i}" for i in range(num_layers - 1)), "feat_out"]
    assert read == [(name, row) for row, name in enumerate(names)]
    assert background.num_ws == num_layers + 1


def random_float_rays(n: int = 1, count: int = 7) -> Rays:
    rays = random_rays(n, count)
    return Rays(rays.origins.float(), rays.directions.float())


@pytest.mark.parametrize("num_layers", [1, 3])
def test_plain_texture_reads_the_latent_beside_the_angles(num_layers):
    torch.manual_seed(0)
    config = SphereConfig(texture=PlainTextureConfig(), z_dim=5, hidden=8, num_layers=num_layers)
    background = config.build(3)
    rays, latent = random_float_rays(2), torch.randn(2, 1, 5)
    points, _ = intersect_sphere(rays, 3)
    encoded = encode_angles(sphere_angles(points, 3), "seamless", TAU)
    x = torch.cat([encoded, latent.expand(-1, 7, -1)], dim=-1)
    linears = [module for module in background.texture.modules() if isinstance(module, nn.Linear)]
    assert len(linears) == num_layers + 1
    first, *blocks, last = [background.texture.fc_in, *background.texture.blocks, background.texture.feat_out]
    x = torch.relu(first(x))
    for block in blocks:
        x = torch.relu(block(x))
    out = background(latent, rays)
    torch.testing.assert_close(out.features, torch.sigmoid(last(x)) * 1.002 - 0.001)
    assert (background.num_ws, background.w_dim, background.mapping_layers) == (1, 5, 0)


@pytest.mark.parametrize("texture", [TINY.texture, PlainTextureConfig()])
@pytest.mark.parametrize("count", [1, 7, 12, 16])
def test_any_number_of_rays(texture, count):
    background = SphereConfig(texture=texture, z_dim=5, hidden=8).build(3)
    latent = torch.randn(2, background.num_ws, background.w_dim)
    rays = random_float_rays(2, count)
    out = background(latent, rays)
    assert out.features.shape == (2, count, 3)
    assert out.features.min() >= -0.001
    assert out.features.max() <= 1.001
    assert out.depth is not None
    torch.testing.assert_close((rays.origins + out.depth * rays.directions).norm(dim=-1), torch.full([2, count], 3.0))
    last = background(latent, Rays(rays.origins[:, -1:], rays.directions[:, -1:]))
    torch.testing.assert_close(last.features[:, 0], out.features[:, -1], msg="rays do not see each other")


def test_the_surroundings_are_fixed_in_the_world():
    """What is seen depends on the hit point alone: from other places, towards the same point, it is the same."""
    background = TINY.build(3)
    ws = torch.randn(1, background.num_ws, 6)
    target = torch.tensor([1.0, 2.0, 2.0])
    origins = torch.randn(1, 20, 3) * 0.5
    towards = target - origins
    rays = Rays(origins, towards / towards.norm(dim=-1, keepdim=True))
    features = background(ws, rays).features[0]
    torch.testing.assert_close(features, features[:1].expand_as(features), atol=1e-4, rtol=0)


def test_shifting_the_azimuth_turns_the_surroundings():
    """With the seamless encoding a turn about y is a turn of the encoded azimuth, for every frequency."""
    azimuth = torch.rand(9, dtype=torch.float64) * TAU
    polar = torch.full_like(azimuth, 1.0)
    encoded = encode_angles(torch.stack([polar, azimuth], -1), "seamless", TAU)
    turned = encode_angles(torch.stack([polar, (azimuth + 0.5).remainder(TAU)], -1), "seamless", TAU)
    for k in range(10):
        sine, cosine = encoded[:, 4 * k + 1], encoded[:, 4 * k + 3]
        angle = 0.5 * (k + 1)
        torch.testing.assert_close(turned[:, 4 * k + 1], sine * math.cos(angle) + cosine * math.sin(angle))
        torch.testing.assert_close(turned[:, 4 * k + 0], encoded[:, 4 * k + 0])


def test_styles_change_the_surroundings_sample_by_sample():
    background = TINY.build(3)
    ws = torch.randn(2, background.num_ws, 6)
    rays = random_float_rays(2, 7)
    same = Rays(rays.origins[:1].expand(2, -1, -1), rays.directions[:1].expand(2, -1, -1))
    features = background(ws, same).features
    assert (features[0] - features[1]).abs().max() > 1e-3
    torch.testing.assert_close(background(ws[1:], Rays(same.origins[:1], same.directions[:1])).features, features[1:])


def test_state_has_the_published_names():
    names = set(TINY.build(3).texture.state_dict())
    layers = ["fc_in", "blocks.0", "blocks.1", "feat_out"]
    assert names == {
        f"{layer}.{name}" for layer in layers for name in ("affine.weight", "affine.bias", "weight", "bias")
    }


def test_settings_that_cannot_work_are_refused():
    for wrong in ({"radius": 0.0}, {"num_layers": 0}):
        with pytest.raises(ValueError, match=r"positive radius \(--radius\) and at least one layer \(--n_blocks\)"):
            SphereConfig(**wrong)
    with pytest.raises(ValueError, match=r"at least one layer \(--bg_mapping\)"):
        StyledTextureConfig(mapping_layers=0)


# No background


@pytest.mark.parametrize(("white", "value"), [(False, 0.0), (True, 1.0)])
def test_solid_background_is_one_colour_without_latent(white, value):
    background = SolidConfig(white_back=white).build(4)
    out = background(torch.zeros(2, 0, 0), random_float_rays(2, 7))
    assert torch.equal(out.features, torch.full([2, 7, 4], value))
    assert out.depth is None
    assert (background.z_dim, background.num_ws, background.w_dim, background.mapping_layers) == (0, 0, 0, 0)
    assert background.backdrop == value
    assert not background.state_dict()
