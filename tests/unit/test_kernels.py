"""The kernels against plain torch in float64: on a GPU where there is one, and compiled for this processor anywhere."""

from __future__ import annotations

import itertools
import re
import shutil
import subprocess

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from tests import tiny
from tests.cuda_on_cpu import compile_for_processor
from torch_utils.ops import agreement, fused_bias_act, kernels
from torch_utils.ops.activations import ACTIVATIONS
from torch_utils.ops.agreement import TOLERANCE, grid_table, sample_plainly
from torch_utils.ops.bias_act import bias_act
from torch_utils.ops.binding import Kernels
from torch_utils.ops.building import FLAGS, SOURCES
from torch_utils.ops.conv2d_resample import conv2d_resample
from torch_utils.ops.sample_grids import can_sample_grids, sample_grids
from torch_utils.ops.upfirdn2d import reference as plain_upfirdn2d
from torch_utils.ops.upfirdn2d import setup_filter, upfirdn2d
from training.cameras.prior import AnglePrior
from training.discriminators.blocks import TrunkConfig
from training.discriminators.dual import DualDiscriminatorConfig
from training.scene.lookup import PLANE_AXES, plane_table, sample_planes
from training.types import RenderSettings, Views

FORMATS = [torch.float32, torch.float16, torch.bfloat16]
LAYOUTS = [torch.contiguous_format, torch.channels_last]
PUBLISHED_AXES = PLANE_AXES["legacy"]
EIGHT_TAPS = [1.0, 2.0, 3.0, 4.0, 4.0, 3.0, 2.0, 2.0]


@pytest.fixture(scope="module", params=["processor", pytest.param("gpu", marks=pytest.mark.gpu)])
def compiled(request, tmp_path_factory) -> tuple[Kernels, torch.device]:
    """The kernels and where they run."""
    if request.param == "gpu":
        if not torch.cuda.is_available():
            pytest.skip("needs a CUDA GPU")
        device = torch.device("cuda", 0)
        return kernels.checked(device), device
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("needs g++")
    return compile_for_processor(compiler, tmp_path_factory.mktemp("kernels")), torch.device("cpu")


@pytest.fixture
def serving(compiled, monkeypatch) -> torch.device:
    """Where the operations run on the kernels."""
    found, device = compiled
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    monkeypatch.setattr(kernels, "loaded", lambda device: found)
    if device.type == "cpu":
        monkeypatch.setattr(kernels, "serve", lambda *tensors: all(t is None or t.dtype in FORMATS for t in tensors))
    return device


def randn(*shape: int, seed: int = 0, scale: float = 2) -> Tensor:
    return scale * torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def assert_near(actual: Tensor, expected: Tensor, dtype: torch.dtype, slack: float = 1) -> None:
    """Equal but for the rounding of a format, as a share of the largest number."""
    assert actual.shape == expected.shape
    largest = expected.abs().max().clamp(min=1).item() if expected.numel() else 1.0
    tolerance = slack * TOLERANCE[dtype] * largest
    torch.testing.assert_close(actual.double().cpu(), expected.double().cpu(), atol=tolerance, rtol=0)


def test_kernels_agree_with_plain_torch(compiled):
    assert agreement.disagreement(*compiled) is None


def test_kernels_that_differ_are_found(compiled, monkeypatch):
    found, device = compiled
    for name in ("bias_act", "upfirdn2d", "sample_grids"):
        true = getattr(found, name)
        with monkeypatch.context() as patch:
            patch.setattr(found, name, lambda *args, true=true: true(*args) * 1.01)
            assert re.fullmatch(
                rf"{name} .*in float32 differs from plain torch by \d\.\de-0\d",
                str(agreement.disagreement(found, device)),
            )


# ---- bias_act


@pytest.mark.parametrize("dtype", FORMATS)
@pytest.mark.parametrize("act", list(ACTIVATIONS))
def test_bias_act_of_all_shapes(compiled, act, dtype):
    """Sizes that packs fit and do not fit, biases along every dimension, both layouts, tensors that begin anywhere."""
    found, device = compiled
    shapes: list[tuple[tuple[int, ...], int | None]] = [
        ((7,), 0), ((5, 16), 1), ((5, 3), 1), ((4, 6, 8), 2), ((2, 8, 3, 4), 1), ((2, 5, 3, 3), 1), ((1, 1, 1, 1), 1),
        ((2, 3, 4, 8), 3), ((3, 2, 4, 4), 0), ((2, 8, 4, 4), None), ((0, 4), 1), ((60, 70), 1),
    ]  # fmt: skip
    for (shape, dim), layout, offset in itertools.product(shapes, LAYOUTS, (0, 1)):
        if layout == torch.channels_last and len(shape) != 4:
            continue
        x, first, second = [place(randn(*shape, seed=seed).to(device, dtype), layout, offset) for seed in range(3)]
        b = None if dim is None else randn(shape[dim], seed=3).to(device, dtype)
        for numbers in ((0.2, 1.5, 2.0), (0.1, 1.0, None)):
            settings = (dim or 0, act, *numbers)
            for _, actual, expected in agreement.bias_act_of_all_orders(found, x, b, first, second, settings):
                assert actual.stride() == x.stride()
                assert_near(actual, expected, dtype)


def place(x: Tensor, layout: torch.memory_format, offset: int) -> Tensor:
    """x in a layout, `offset` elements into its memory."""
    x = x.contiguous(memory_format=layout)
    memory = x.new_zeros(x.numel() + offset)
    return memory[offset:].as_strided(x.shape, x.stride()).copy_(x)


def test_bias_act_far_out(compiled):
    """Infinite, tiny and missing numbers give what torch gives."""
    found, device = compiled
    x = torch.tensor([0.0, -0.0, 1e-30, -1e-30, 15, -15, 25, -25, 90, -90, 1e4, -1e4, torch.inf, -torch.inf, torch.nan])
    for act, activation in ACTIVATIONS.items():
        actual = found.bias_act(0, x.to(device), None, None, None, 0, act, 0.2, 1.0, None)
        torch.testing.assert_close(actual.cpu(), activation.function(x, 0.2), equal_nan=True, msg=act)
        for order, derivative in ((1, activation.slope), (2, activation.curvature)):
            if derivative is None:
                continue
            ones = torch.ones_like(x).to(device)
            actual = found.bias_act(
                order, x.to(device), None, ones, ones if order == 2 else None, 0, act, 0.2, 1.0, None
            )
            finite = x.abs() < 1e3
            torch.testing.assert_close(actual.cpu()[finite], derivative(x, 0.2)[finite], msg=f"{act} {order}")


@pytest.mark.parametrize("act", list(ACTIVATIONS))
@pytest.mark.parametrize("clamp", [None, 0.8])
def test_fused_bias_act_is_bias_act_with_its_derivatives(act, clamp):
    """In plain torch, by finite differences; with a bias alone as well."""
    gain, alpha = 1.3, 0.3
    x, b = randn(2, 3, 3).requires_grad_(), randn(3, seed=1).requires_grad_()
    function = lambda x, b: fused_bias_act.fused_bias_act(x, b, 1, act, alpha, gain, clamp)  # noqa: E731
    torch.testing.assert_close(function(x, b), bias_act(x, b, 1, act, alpha, gain, clamp))
    assert gradcheck(function, (x, b))
    assert gradgradcheck(function, (x, b))
    assert gradgradcheck(lambda b: function(x.detach(), b), (b,))
    assert gradgradcheck(lambda x: fused_bias_act.fused_bias_act(x, None, 0, act, alpha, gain, clamp), (x,))


@pytest.mark.parametrize("act", list(ACTIVATIONS))
@pytest.mark.parametrize("settings", [(None, None), (0.7, 1.1), (-1.0, 2.0)])
def test_bias_act_on_kernels_has_the_derivatives_of_plain_torch(serving, act, settings):
    """Of first and second order against float64; with a negative gain as well, where rectifiers are not fused."""
    gain, clamp = settings
    inputs = (randn(2, 4, 3, 5), randn(4, seed=1))

    def derivatives(dtype: torch.dtype, device: torch.device) -> list[Tensor]:
        x, b = [t.to(device, dtype).requires_grad_() for t in inputs]
        y = bias_act(x, b, act=act, gain=gain, clamp=clamp)
        first = torch.autograd.grad(y.sin().sum(), (x, b), create_graph=True)
        return [y, *first, *torch.autograd.grad(first[0].square().sum() + first[1].square().sum(), (x, b))]

    for actual, expected in zip(
        derivatives(torch.float32, serving), derivatives(torch.float64, torch.device("cpu")), strict=True
    ):
        assert_near(actual, expected, torch.float32, slack=10)


def test_bias_act_names_the_way_to_third_derivatives():
    x = randn(3).requires_grad_()
    y = fused_bias_act.fused_bias_act(x, None, 0, "tanh", 0, 1, None)
    (first,) = torch.autograd.grad(y.sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match=r"no third derivatives; .*kernels\.use\(False\)"):
        second.sum().backward()


@pytest.mark.parametrize("act", ["lrelu", "swish"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_bias_act_operators_are_proper(act, layout):
    x = randn(2, 3, 4, 5).contiguous(memory_format=layout).requires_grad_()
    b, first = randn(3, seed=1).requires_grad_(), randn(2, 3, 4, 5).requires_grad_()
    settings = (1, act, 0.2, 1.4, 2.0)
    torch.library.opcheck(torch.ops.gan3d.bias_act.default, (x, b, *settings))
    torch.library.opcheck(torch.ops.gan3d.bias_act_derivative.default, (x, b, first, None, *settings))


@pytest.mark.slow
def test_operators_on_kernels_are_proper(serving):
    x, f = randn(2, 3, 4, 5).to(serving, torch.float32).requires_grad_(), setup_filter([1, 3, 3, 1]).to(serving)
    torch.library.opcheck(torch.ops.gan3d.bias_act.default, (x, None, 1, "elu", 0.0, 1.0, 1.0))
    torch.library.opcheck(torch.ops.gan3d.upfirdn2d.default, (x, f, (2, 2), (1, 1), (2, 1, 2, 1), False, 4.0))
    table, points, *_ = random_grids(PUBLISHED_AXES, (4, 4), serving)
    arguments = (table.requires_grad_(), points.requires_grad_(), [0, 1, 0, 2, 2, 0], [4, 4])
    torch.library.opcheck(torch.ops.gan3d.sample_grids.default, arguments)


def test_bias_act_of_rectifiers_keeps_the_result_alone():
    """The result is what the next layer keeps anyway."""
    kept: list[Tensor] = []
    x = randn(2, 3).requires_grad_()

    def keep(t: Tensor) -> Tensor:
        kept.append(t)
        return t

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        y = fused_bias_act.fused_bias_act(x * 1, randn(3), 1, "lrelu", 0.2, 1.4, 1.0)
    pointers = {t.data_ptr() for t in kept}
    assert pointers == {y.data_ptr()}


# ---- upfirdn2d


@pytest.mark.parametrize("dtype", FORMATS)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("channels", [8, 3])
def test_upfirdn2d_of_all_kinds(compiled, channels, layout, dtype):
    found, device = compiled
    x = randn(2, channels, 9, 8).to(device, dtype)
    filters = [setup_filter([1, 3, 3, 1]), torch.rand(2, 3), torch.rand(1, 1), torch.rand(5, 1), torch.rand(1, 33)]
    factors = [
        ((1, 1), (1, 1)),
        ((2, 2), (1, 1)),
        ((1, 1), (2, 2)),
        ((2, 1), (1, 2)),
        ((3, 2), (2, 3)),
        ((5, 5), (1, 1)),
    ]
    paddings = [(0, 0, 0, 0), (2, 1, 2, 1), (-1, 3, 4, -2), (30, 31, 9, 8)]
    for f, (up, down), padding, flip, offset in itertools.product(filters, factors, paddings, (False, True), (0, 1)):
        if 8 * up[0] + sum(padding[:2]) < f.shape[1] or 9 * up[1] + sum(padding[2:]) < f.shape[0]:
            continue
        expected = plain_upfirdn2d(x.double().cpu(), f.double(), up, down, padding, flip, 3.0)
        placed = place(x, layout, offset)
        actual = found.upfirdn2d(placed, f.to(device), up, down, padding, flip, 3.0, expected.shape[2:])
        assert actual.is_contiguous(memory_format=layout)
        assert_near(actual, expected, dtype)


@pytest.mark.parametrize("taps", [[1, 3, 3, 1], EIGHT_TAPS])
@pytest.mark.parametrize(("up", "down"), [(1, 1), (2, 1), (1, 2), (2, 3)])
def test_upfirdn2d_on_kernels_has_the_derivatives_of_plain_torch(serving, taps, up, down):
    inputs = (randn(2, 3, 6, 5), randn(2, 3, 6, 5, seed=1))

    def derivatives(dtype: torch.dtype, device: torch.device) -> list[Tensor]:
        x, other = [t.to(device, dtype) for t in inputs]
        f = setup_filter(taps).to(device)
        x.requires_grad_()
        y = upfirdn2d(x, f, up, down, padding=(4, 3, 5, 4), gain=2)
        (first,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
        return [y, first, *torch.autograd.grad((first * other).sum(), x)]

    plain = derivatives(torch.float64, torch.device("cpu"))
    for actual, expected in zip(derivatives(torch.float32, serving), plain, strict=True):
        assert_near(actual, expected, torch.float32)


@pytest.mark.parametrize("dtype", FORMATS)
@pytest.mark.parametrize(("kernel", "up", "down"), [(1, 1, 2), (1, 2, 1), (3, 1, 2), (3, 2, 1), (3, 2, 2)])
def test_resampling_convolution_on_kernels(serving, kernel, up, down, dtype):
    inputs = (randn(2, 4, 8, 8, scale=1), randn(6, 4, kernel, kernel, seed=1, scale=0.2))

    def derivatives(dtype: torch.dtype, device: torch.device) -> list[Tensor]:
        x, w = [t.to(device, dtype).requires_grad_() for t in inputs]
        f = setup_filter([1, 3, 3, 1]).to(device)
        y = conv2d_resample(x, w, f, up, down, kernel // 2)
        first = torch.autograd.grad(y.square().sum(), (x, w), create_graph=True)
        return [y, *first, *torch.autograd.grad(first[0].sum() + first[1].sum(), (x, w))]

    plain = derivatives(torch.float64, torch.device("cpu"))
    for actual, expected in zip(derivatives(dtype, serving), plain, strict=True):
        assert_near(actual, expected, dtype, slack=10)


def test_filters_that_do_not_fit_are_named(serving):
    for dtype in (torch.float32, torch.float64):
        with pytest.raises(ValueError, match=r"a filter of 4 x 4 does not fit an image of 3 x 2 pixels: up=\(1, 1\)"):
            upfirdn2d(torch.zeros(1, 1, 3, 2, dtype=dtype, device=serving), setup_filter([1, 3, 3, 1]).to(serving))


# ---- sample_grids


def random_grids(axes, sizes, device, dtype=torch.float32, channels: int = 8, count: int = 60, coordinates: int = 3):
    """A table of grids [columns, rows, (layers)] and points in and around them."""
    table = grid_table(randn(len(axes), channels, *sizes[::-1]))
    points = torch.rand(count, coordinates, generator=torch.Generator().manual_seed(1)) * 3 - 1.5
    return table.to(device, dtype), points.to(device), axes, sizes


def grids_of_table(table: Tensor, axes, sizes) -> Tensor:
    """The grids [grids, channels, (layers,) rows, columns] of a table."""
    columns, rows, *layers = [size + 2 for size in sizes]
    inner = table.double().view(rows, columns, len(axes), *layers, -1)[1:-1, 1:-1]
    return inner[:, :, :, 1:-1].permute(2, 4, 3, 0, 1) if layers else inner.permute(2, 3, 0, 1)


GRIDS = {
    "three planes": (PUBLISHED_AXES, (6, 6)),
    "one long plane": (((2, 0),), (7, 1)),
    "five planes": (((0, 1), (1, 2), (2, 0), (1, 0), (2, 2)), (3, 4)),
    "stacks of planes": (((0, 1, 2), (0, 2, 1), (2, 1, 0)), (5, 5, 3)),
    "a volume": (((0, 1, 2),), (4, 3, 5)),
}


@pytest.mark.parametrize("kind", list(GRIDS))
@pytest.mark.parametrize("dtype", FORMATS)
@pytest.mark.parametrize("channels", [8, 32, 3])
def test_sampled_grids_are_those_of_grid_sample(serving, kind, dtype, channels):
    """Forward and gradients, together and each alone, with tables that begin anywhere."""
    table, points, axes, sizes = random_grids(*GRIDS[kind], serving, dtype, channels)
    exact_grids, exact_points = grids_of_table(table.cpu(), axes, sizes), points.double().cpu()
    expected = sample_plainly(exact_grids.requires_grad_(), exact_points.requires_grad_(), axes)
    upstream = randn(*expected.shape, seed=5).to(dtype)
    to_grids, to_points = torch.autograd.grad(expected, (exact_grids, exact_points), upstream.double())
    for offset, with_table, with_points in ((0, True, True), (1, True, False), (0, False, True)):
        ours = place(table, torch.contiguous_format, offset).requires_grad_(with_table)
        places = points.clone().requires_grad_(with_points)
        actual = sample_grids(ours, places, axes, sizes)
        assert actual.dtype == dtype
        assert_near(actual, expected, dtype)
        actual.backward(upstream.to(serving))
        for gradient, exact, wanted in (
            (ours.grad, grid_table(to_grids), with_table),
            (places.grad, to_points, with_points),
        ):
            assert (gradient is not None) == wanted
            if gradient is not None:
                assert_near(gradient, exact, dtype)


@pytest.mark.parametrize("axes", list(PLANE_AXES))
def test_look_up_of_planes_takes_the_kernel(serving, axes, monkeypatch):
    """Borders, centres, points far away and no numbers: as the look-up in plain torch has them."""
    table = plane_table(randn(1, 3, 4, 4, 4).float())[0].to(serving)
    ticks = torch.tensor([-1e30, -9, -1.25, -1, -0.75, -0.5, 0, 0.25, 0.75, 1, 1.25, 2, 1e30, torch.nan])
    points = torch.cartesian_prod(ticks, ticks, ticks).to(serving)
    results = []
    for served in (True, False):
        if not served:
            monkeypatch.setattr(kernels, "serve", lambda *tensors: False)
        ours, places = table.clone().requires_grad_(), points.clone().requires_grad_()
        assert can_sample_grids(ours, places) == served
        features = sample_planes(ours, places, PLANE_AXES[axes], 4)
        known = features.isfinite().all(dim=1)
        to_table, to_points = torch.autograd.grad(features[known].sum(), (ours, places))
        results.append((features.detach(), to_points[known], to_table.view(6, 6, 3, 4)[1:-1, 1:-1]))
    for actual, expected in zip(*results, strict=True):
        torch.testing.assert_close(actual, expected, equal_nan=True, atol=1e-4, rtol=1e-5)
    assert not table.isnan().any()


def test_points_may_have_coordinates_of_their_own_for_each_grid(serving):
    axes = ((0, 1), (4, 3), (2, 5))
    table, points, *layout = random_grids(axes, (3, 5), serving, coordinates=6)
    expected = sample_plainly(grids_of_table(table.cpu(), *layout), points.double().cpu(), axes)
    assert_near(sample_grids(table, points, *layout), expected, torch.float32)


def test_no_points_have_no_features(serving):
    table, points, *layout = random_grids(PUBLISHED_AXES, (4, 4), serving, count=0)
    features = sample_grids(table.requires_grad_(), points, *layout)
    assert features.shape == (0, 8)
    features.sum().backward()
    assert not table.grad.any()


def test_look_ups_refuse_second_derivatives(serving):
    table, points, *layout = random_grids(PUBLISHED_AXES, (4, 4), serving)
    features = sample_grids(table.requires_grad_(), points.requires_grad_(), *layout)
    (slope,) = torch.autograd.grad(features.square().sum(), points, create_graph=True)
    with pytest.raises(RuntimeError, match=r"second derivatives of feature look-ups do not exist: .* on pictures"):
        slope.sum().backward()


def test_look_ups_name_what_does_not_fit():
    table, points = torch.zeros(108, 2), torch.zeros(5, 3)
    for axes, sizes, message in (
        (PUBLISHED_AXES, (4, 5), r"3 grids of \(4, 5\) with their borders have 126 rows, the table 108"),
        (PUBLISHED_AXES, (4, 4, 4), "grids have 2 or 3 sizes and as many axes each"),
        (((0, 3),), (4, 4), "1 to 16 grids along 3 coordinates are possible"),
        (((0, 1),) * 17, (4, 4), "1 to 16 grids along 3 coordinates are possible"),
    ):
        with pytest.raises(ValueError, match=message):
            sample_grids(table, points, axes, sizes)


def test_look_ups_are_plain_where_they_must_be_deterministic(serving):
    table, points, *_ = random_grids(PUBLISHED_AXES, (4, 4), serving)
    assert can_sample_grids(table, points)
    assert not can_sample_grids(table, points.double())
    torch.use_deterministic_algorithms(True)
    try:
        assert not can_sample_grids(table, points)
    finally:
        torch.use_deterministic_algorithms(False)


# ---- networks


def test_networks_on_kernels_are_those_in_plain_torch(serving, monkeypatch):
    """Pictures and gradients of a whole generator; and of a discriminator with its gradient penalty."""
    G = tiny.generator().requires_grad_(True).to(serving)
    torch.manual_seed(0)
    D = DualDiscriminatorConfig(trunk=TrunkConfig(channel_base=256, channel_max=16)).build(32).to(serving)
    z = torch.randn(2, G.z_dim).to(serving)
    label = AnglePrior(G.config.view, 0.3, 0.15).sample(2).to_label().to(serving)

    def results() -> list[Tensor]:
        out = G(z, label, settings=RenderSettings(G.raw_resolution, jitter="center"), noise_mode="const")
        views = Views(out.image, out.image_raw)
        leaves = [out.image, out.image_raw]
        logits = D(views, label)
        penalty = sum(t.square().sum() for t in torch.autograd.grad(logits.sum(), leaves, create_graph=True))
        gradients = torch.autograd.grad(
            logits.sum() + penalty, [*D.parameters(), *G.scene.parameters()], allow_unused=True
        )
        return [out.image, logits, penalty, *[t for t in gradients if t is not None]]

    found = kernels.loaded(serving)
    assert found is not None
    calls: dict[str, list[int]] = {
        name: [] for name in ("bias_act", "upfirdn2d", "sample_grids", "sample_grids_backward")
    }
    for name, count in calls.items():
        monkeypatch.setattr(found, name, tiny.counted(count, getattr(found, name)))
    ours = results()
    assert all(calls.values())
    monkeypatch.setattr(kernels, "serve", lambda *tensors: False)
    plain = results()
    assert len(ours) == len(plain)
    for actual, expected in zip(ours, plain, strict=True):
        scale = expected.abs().max().item()
        torch.testing.assert_close(actual, expected, atol=2e-3 * scale + 1e-6, rtol=0)


@pytest.mark.parametrize("served", [True, False])
def test_operations_compile_whole(served, compiled, monkeypatch):
    """No break in the graph, on kernels or in plain torch."""
    found, device = compiled
    if served:
        monkeypatch.setattr(kernels, "loaded", lambda device: found)
        if device.type == "cpu":
            monkeypatch.setattr(kernels, "serve", lambda *tensors: True)
    f = setup_filter([1, 3, 3, 1]).to(device)

    def block(x: Tensor, b: Tensor) -> Tensor:
        x = bias_act(upfirdn2d(x, f, up=2, padding=(2, 1, 2, 1)), b, act="lrelu", clamp=3)
        return bias_act(x, b, act="swish")

    inputs = [randn(2, 8, 4, 4).float().to(device).requires_grad_(), randn(8).float().to(device).requires_grad_()]
    expected = block(*inputs)
    actual = torch.compile(block, fullgraph=True, backend="aot_eager")(*inputs)
    torch.testing.assert_close(actual, expected)
    for ours, theirs in zip(
        torch.autograd.grad(actual.square().sum(), inputs),
        torch.autograd.grad(expected.square().sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs)


# ---- the compiler for GPUs


@pytest.mark.slow
def test_sources_compile_for_gpus_and_stay_in_registers(tmp_path):
    nvcc = shutil.which("nvcc")
    if nvcc is None:
        pytest.skip("needs nvcc")
    targets = [f"-gencode=arch=compute_{n},code=sm_{n}" for n in (80, 90)]
    sources = [str(source) for source in sorted(SOURCES.glob("*.cu"))]
    command = [nvcc, *FLAGS, *targets, "-Werror", "all-warnings", "-Xptxas", "-v", "-c", *sources]
    report = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stderr
    frames = re.findall(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", report)
    assert set(frames) == {("0", "0", "0")}
