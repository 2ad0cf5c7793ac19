"""Published snapshots: every name and argument has its place, both ways, and the networks give the same numbers."""

from __future__ import annotations

import json
import types
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file

from tests.official_files import (
    PUBLISHED,
    Module,
    OfficialPickler,
    axes_matrices,
    module_tree,
    parameters,
    tiny_snapshot,
    write_official,
)
from training import official, snapshot
from training import recipe as recipe_module
from training.background import SphereConfig
from training.discriminators import DualDiscriminatorConfig, PlainDiscriminatorConfig
from training.official import (
    KEYS,
    official_key,
    official_to_ours,
    our_key,
    ours_to_official,
)
from training.recipe import DiscriminatorRecipe, build_with
from training.scene.lookup import PLANE_AXES
from training.snapshot_commands import commands
from training.types import RenderSettings, Views
from training.unpickle import SnapshotError

SYSTEMS = ("eg3d", "ballgan")


def config_from_official(class_name: str, kwargs: dict) -> Any:
    return official.config_from_official(class_name, kwargs)


def build(recipe: Any) -> Any:
    return recipe_module.build(recipe)


def spec(system: str, size: str = "tiny") -> dict:
    return json.loads((PUBLISHED / f"{system}_{size}.json").read_text())


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("published")
    return {system: tiny_snapshot(folder / f"{system}.pkl", system) for system in SYSTEMS}


@pytest.mark.parametrize("name", ["G", "G_ema"])
@pytest.mark.parametrize("system", SYSTEMS)
def test_same_numbers_as_the_published_code(files, system, name):
    loaded = snapshot.load(files[system])
    golden = {key: torch.from_numpy(array) for key, array in np.load(PUBLISHED / f"{system}_tiny.npz").items()}
    z = torch.cat([golden[key] for key in ("in_z", "in_z_bg") if key in golden], dim=1)
    G, D, c = loaded[name], loaded["D"], golden["in_c"]
    assert G.raw_resolution == 16
    with torch.no_grad():
        latents = G.mapping(z, c, truncation_psi=0.8)
        out = G.synthesis(latents, c, RenderSettings(G.raw_resolution, jitter="center"), noise_mode="const")
        logits = D(Views(out.image, out.image_raw), c)
    ours = {"image": out.image[:, :, ::8, ::8], "image_raw": out.image_raw, "image_depth": out.image_depth}
    ours |= {"ws_psi08": latents.scene[:, 0], "D_logits": logits, "fg_weights": out.opacity.flatten(1)}
    for key in golden.keys() & ours.keys():
        torch.testing.assert_close(ours[key], golden[key], atol=5e-5, rtol=1e-4)


@pytest.mark.parametrize("system", SYSTEMS)
def test_names_are_translated_one_to_one(system):
    for table in (spec(system), spec(system, "ffhq512")):
        for network in "GD":
            names = [row[0] for row in table[network]]
            ours = {name: our_key(name) for name in names}
            weights = {name: key for name, key in ours.items() if key is not None}
            assert {name.rpartition(".")[2] for name in ours if ours[name] is None} == {"resample_filter"}
            assert len(set(weights.values())) == len(weights)
            assert all(official_key(key) == name for name, key in weights.items())


def test_key_table_is_one_to_one():
    assert len({official for official, _ in KEYS}) == len({ours for _, ours in KEYS}) == len(KEYS)
    with pytest.raises(KeyError):
        official_key("something.else")


@pytest.mark.parametrize("system", SYSTEMS)
def test_full_size_names_shapes_and_sizes(system):
    table = spec(system, "ffhq512")
    G_recipe = config_from_official("TriPlaneGenerator", table["G_kwargs"])
    with torch.device("meta"):
        networks = {"G": build(G_recipe), "D": build(DiscriminatorRecipe())}
    for name, network in networks.items():
        assert sum(parameter.numel() for parameter in network.parameters()) == table[f"{name}_parameters"]
        trained = {our_key(row[0]) for row in table[name] if row[3] == "parameter"}
        assert {key for key, _ in network.named_parameters()} == trained
    version0 = table.get("BG_ver0")
    if version0:
        background = table["G_kwargs"]["BG_kwargs"] | {"bg_ver": "ver0", "z_dim": 512, "w_dim": 0, "mapping_kwargs": {}}
        recipe = config_from_official("TriPlaneGenerator", table["G_kwargs"] | {"BG_kwargs": background})
        with torch.device("meta"):
            shapes = {key: list(tensor.shape) for key, tensor in build(recipe).background.state_dict().items()}
        ours = {our_key(row[0]): row[1] for row in version0}
        assert {f"background.{key}": shape for key, shape in shapes.items()} | {None: [4, 4]} == ours


@pytest.mark.slow
@pytest.mark.parametrize("system", SYSTEMS)
def test_full_size_networks_load_strictly_both_ways(system):
    table = spec(system, "ffhq512")
    recipes = {"G": config_from_official("TriPlaneGenerator", table["G_kwargs"]), "D": DiscriminatorRecipe()}
    generator = torch.Generator().manual_seed(0)
    for name, recipe in recipes.items():
        constants = ours_to_official(build(recipe))
        official = {
            key: constants[key] if our_key(key) is None else torch.randn(shape, generator=generator)
            for key, shape, _, _ in table[name]
        }
        network = build_with(recipe, official_to_ours(official, recipe), ("dataset_label_std",))
        back = ours_to_official(network)
        back.pop("dataset_label_std", None)
        assert back.keys() == official.keys()
        assert all(torch.equal(back[key], official[key]) for key in official)


def generator_kwargs(system: str = "ballgan", **changes) -> dict:
    kwargs = spec(system)["G_kwargs"]
    for name, value in changes.items():
        part, _, field = name.rpartition("__")
        (kwargs[part] if part else kwargs)[field] = value
    return kwargs


OPTIONS = [
    ({"img_resolution": 64}, "img_resolution", 64),
    ({"num_fp16_res": 3}, "scene.backbone.num_fp16_res", 3),
    ({"conv_clamp": 256}, "scene.backbone.conv_clamp", 256.0),
    ({"channel_base": 2048}, "scene.backbone.channel_base", 2048),
    ({"sr_num_fp16_res": 0}, "upsampler.num_fp16_res", 0),
    ({"mapping_kwargs__num_layers": 5}, "mapping.num_layers", 5),
    ({"rendering_kwargs__c_gen_conditioning_zero": True}, "mapping.pose_conditioning", False),
    ({"rendering_kwargs__c_scale": 0.5}, "mapping.label_scale", 0.5),
    (
        {"rendering_kwargs__superresolution_module": "training.superresolution.SuperresolutionHybrid8X"},
        "upsampler.module",
        "8X",
    ),
    ({"rendering_kwargs__superresolution_module": "x.SuperresolutionHybridDeepfp32"}, "upsampler.module", "deep"),
    ({"rendering_kwargs__superresolution_noise_mode": "random"}, "upsampler.noise_mode", "random"),
    ({"rendering_kwargs__sr_antialias": False}, "upsampler.antialias", False),
    ({"rendering_kwargs__disparity_space_sampling": True}, "renderer.disparity", True),
    ({"rendering_kwargs__depth_resolution": 64}, "renderer.depth_resolution", 64),
    ({"rendering_kwargs__depth_resolution_importance": 0}, "renderer.depth_resolution_importance", 0),
    ({"rendering_kwargs__ray_start": "auto", "rendering_kwargs__ray_end": "auto"}, "renderer.ray_end", "auto"),
    ({"rendering_kwargs__ray_start": 0.1}, "renderer.ray_start", 0.1),
    ({"rendering_kwargs__box_warp": 1.6}, "scene.box_warp", 1.6),
    ({"rendering_kwargs__white_back": True}, "background.white_back", True),
    ({"rendering_kwargs__avg_camera_radius": 1.7}, "view.radius", 1.7),
    ({"rendering_kwargs__avg_camera_pivot": [0, 0, -0.06]}, "view.pivot", (0.0, 0.0, -0.06)),
    ({"rendering_kwargs__sigma_act": "lrelu"}, "scene.decoder.density_activation", "lrelu"),
    ({"z_bg_dim": 24}, "background.z_dim", 24),
    ({"w_bg_dim": 40}, "background.texture.w_dim", 40),
    ({"BG_kwargs__R": 5.0}, "background.radius", 5.0),
    ({"BG_kwargs__n_blocks": 6}, "background.num_layers", 6),
    ({"BG_kwargs__hidden_size": 32}, "background.hidden", 32),
    ({"BG_kwargs__downscale_p_by": 3.0}, "background.angle_divisor", 3.0),
    ({"BG_kwargs__positional_encoding": "gauss"}, "background.encoding", "gauss"),
    ({"BG_kwargs__positional_encoding": "none"}, "background.encoding", "raw"),
    ({"BG_kwargs__bg_ver": "ver0"}, "background.texture.kind", "plain"),
    (
        {"BG_kwargs__mapping_kwargs": {"z_dim": 16, "w_dim": 16, "num_layers": 5}},
        "background.texture.mapping_layers",
        5,
    ),
]


def field_at(config, path: str):
    for name in path.split("."):
        config = getattr(config, name)
    return config


@pytest.mark.parametrize(("changes", "path", "value"), OPTIONS, ids=[option[1] for option in OPTIONS])
def test_every_option_reaches_its_field(changes, path, value):
    assert field_at(config_from_official("TriPlaneGenerator", generator_kwargs()), path) != value
    config = config_from_official("TriPlaneGenerator", generator_kwargs(**changes))
    found = field_at(config, path)
    assert found == value
    assert type(found) is type(value)


def test_a_missing_label_scale_means_zero():
    kwargs = generator_kwargs("eg3d")
    del kwargs["rendering_kwargs"]["c_scale"]
    assert config_from_official("TriPlaneGenerator", kwargs).mapping.label_scale == 0


@pytest.mark.parametrize("system", ["eg3d", "ballgan"])
def test_the_rate_of_the_decoder(system):
    config = config_from_official("TriPlaneGenerator", generator_kwargs(system, rendering_kwargs__decoder_lr_mul=0.5))
    assert config.scene.decoder.lr_multiplier == 0.5


def test_options_of_one_system():
    eg3d = config_from_official("TriPlaneGenerator", generator_kwargs("eg3d"))
    assert eg3d.background.kind == "solid"
    assert eg3d.scene.axes == "legacy"
    ballgan = config_from_official("TriPlaneGenerator", generator_kwargs("ballgan"))
    assert isinstance(ballgan.background, SphereConfig)
    assert ballgan.scene.backbone.output_init == ballgan.upsampler.output_init == "kaiming"


@pytest.mark.parametrize(
    "changes",
    [
        {f"BG_kwargs__{name}": "anything"}
        for name in ("skips", "use_style", "bgpts_sphere", "no_sigma", "inverse_sphere", "using_ws", "use_viewdirs")
    ]
    + [{"only_fg": True}, {"only_bg": True}, {"sr_kwargs": {}}, {"fused_modconv_default": True}]
    + [{f"rendering_kwargs__{name}": 7} for name in ("density_reg", "reg_type", "fg_density_reg", "gpc_reg_prob")],
    ids=lambda changes: next(iter(changes)),
)
def test_options_without_effect(changes):
    assert config_from_official("TriPlaneGenerator", generator_kwargs(**changes)) == config_from_official(
        "TriPlaneGenerator", generator_kwargs()
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"unheard_of": 1}, "TriPlaneGenerator has an argument 'unheard_of' that is not known"),
        ({"rendering_kwargs__unheard_of": 1}, "TriPlaneGenerator rendering_kwargs has an argument 'unheard_of'"),
        ({"BG_kwargs__unheard_of": 1}, "BG_kwargs has an argument 'unheard_of'"),
        ({"mapping_kwargs__unheard_of": 1}, "mapping_kwargs has an argument 'unheard_of'"),
        ({"rendering_kwargs__clamp_mode": "relu"}, "clamp_mode = 'relu'; only 'softplus'"),
        ({"rendering_kwargs__superresolution_module": "a.b.Mine"}, "super-resolution 'Mine' is not known"),
        ({"rendering_kwargs__sigma_act": "tanh"}, r"density_activation='tanh': expected linear or relu or lrelu"),
        ({"rendering_kwargs__box_warp": "wide"}, "box_warp='wide': expected a number"),
        ({"rendering_kwargs": [1]}, "rendering_kwargs are no dictionary"),
        ({"BG_kwargs__bg_ver": "ver2"}, "background version 'ver2' is not known; ver0 and ver1 are"),
        ({"BG_kwargs__input_dim": 3}, "input_dim"),
        ({"BG_kwargs__n_freq_posenc": 12}, "n_freq_posenc"),
        ({"img_channels": 4}, "img_channels = '4'; only 3"),
        ({"z_dim": 2**40}, "z_dim = 1.1e\\+12"),
        ({"mapping_kwargs__num_layers": 10**6}, "num_layers = 1e\\+06"),
    ],
)
def test_arguments_that_are_refused(changes, message):
    with pytest.raises(SnapshotError, match=message):
        config_from_official("TriPlaneGenerator", generator_kwargs(**changes))


def test_missing_arguments_and_unknown_classes():
    kwargs = generator_kwargs()
    del kwargs["z_dim"]
    with pytest.raises(SnapshotError, match="TriPlaneGenerator lack 'z_dim'"):
        config_from_official("TriPlaneGenerator", kwargs)
    with pytest.raises(SnapshotError, match="'StyleGAN3' is not known; TriPlaneGenerator, DualDiscriminator"):
        config_from_official("StyleGAN3", {})


def test_discriminators():
    kwargs = spec("eg3d")["D_kwargs"]
    kwargs |= {"disc_c_noise": 0.1, "num_fp16_res": 0, "conv_clamp": None, "c_dim": 0}
    kwargs |= {"block_kwargs": {"freeze_layers": 3}, "epilogue_kwargs": {"mbstd_group_size": None}}
    recipe = config_from_official("DualDiscriminator", kwargs)
    trunk = recipe.discriminator.trunk
    assert isinstance(recipe.discriminator, DualDiscriminatorConfig)
    assert (recipe.img_resolution, recipe.c_dim, recipe.discriminator.label_noise) == (128, 0, 0.1)
    assert (trunk.channel_base, trunk.channel_max, trunk.num_fp16_res, trunk.conv_clamp) == (256, 8, 0, None)
    assert (trunk.freeze_layers, trunk.mbstd_group_size) == (3, None)
    single = config_from_official("SingleDiscriminator", {"img_resolution": 32, "img_channels": 3})
    assert isinstance(single.discriminator, PlainDiscriminatorConfig)
    names = ours_to_official(build(single))
    assert "resample_filter" not in names
    assert "b32.fromrgb.resample_filter" in names
    with pytest.raises(SnapshotError, match="mapping_kwargs"):
        config_from_official("DualDiscriminator", kwargs | {"mapping_kwargs": {"num_layers": 4}})


def test_augmentation():
    kwargs = {"xflip": 1, "scale": 1, "scale_std": 0.3, "brightness": 0.5}
    recipe = config_from_official("AugmentPipe", kwargs)
    assert (recipe.xflip, recipe.scale, recipe.scale_std, recipe.brightness, recipe.hue) == (1, 1, 0.3, 0.5, 0)
    pipe = build(recipe)
    pipe.p.fill_(0.25)
    again: Any = build_with(recipe, official_to_ours(ours_to_official(pipe), recipe))
    assert float(again.p) == 0.25


def test_gaussian_encoding_is_checked_and_written():
    kwargs = generator_kwargs(BG_kwargs__positional_encoding="gauss", BG_kwargs__n_blocks=1)
    recipe = config_from_official("TriPlaneGenerator", kwargs)
    state = ours_to_official(build(recipe))
    assert state["BG_Net.B_pos"].shape == (2, 40)
    assert state["BG_Net.B_view"].shape == (3, 12)
    assert not any(name.startswith("BG_Net.blocks") for name in state)
    build_with(recipe, official_to_ours(state, recipe))
    with pytest.raises(SnapshotError, match=r"the constant BG_Net\.B_pos holds other numbers"):
        official_to_ours(state | {"BG_Net.B_pos": torch.zeros(2, 40)}, recipe)


@pytest.mark.parametrize("module", ["2X", "4X", "8X", "8XDC"])
def test_module_filter_of_superresolutions(module):
    kwargs = generator_kwargs("eg3d", rendering_kwargs__superresolution_module=f"x.SuperresolutionHybrid{module}")
    state = ours_to_official(build(config_from_official("TriPlaneGenerator", kwargs)))
    assert ("superresolution.resample_filter" in state) == (module != "8XDC")


def changed(system: str, path, **replacements):
    """A snapshot with some of the generator's tensors replaced, or removed where None."""
    table = spec(system)
    state = {key: torch.zeros(shape) for key, shape, kind, _ in table["G"] if kind != "constant"}
    state = {key: tensor for key, tensor in (state | replacements).items() if tensor is not None}
    return write_official(path, G_ema=module_tree("TriPlaneGenerator", table["G_kwargs"], state))


def test_mismatches_are_listed_by_name_and_shape(tmp_path):
    replacements = {
        "decoder.net.0.weight": torch.zeros(64, 31),
        "decoder.net.2.bias": None,
        "backbone.synthesis.b4.more": torch.zeros(2, 3),
    }
    path = changed("eg3d", tmp_path / "net.pkl", **replacements)
    with pytest.raises(SnapshotError) as caught:
        snapshot.load(path)["G_ema"]
    for text in (
        "net.pkl: G_ema: its weights do not fit its configuration",
        "scene.decoder.hidden.weight is [64, 31] instead of [64, 32]",
        "scene.decoder.out.bias [33] is missing",
        "scene.backbone.b4.more [2, 3] is left over",
    ):
        assert text in str(caught.value)


def test_only_the_label_spread_may_be_missing(tmp_path):
    path = changed("eg3d", tmp_path / "net.pkl", dataset_label_std=None)
    assert snapshot.load(path)["G_ema"].dataset_label_std.abs().sum() == 0
    path = changed("eg3d", tmp_path / "net.pkl", **{"backbone.mapping.w_avg": None})
    with pytest.raises(SnapshotError, match=r"mapping\.scene\.w_avg \[512\] is missing"):
        snapshot.load(path)["G_ema"]


def test_attributes_count_more_than_constructor_arguments(tmp_path):
    options = spec("eg3d")["G_kwargs"]["rendering_kwargs"] | {"depth_resolution": 9}
    path = tiny_snapshot(tmp_path / "net.pkl", "eg3d", rendering_kwargs=options, neural_rendering_resolution=128)
    recipe: Any = snapshot.load(path).recipe()
    assert recipe.renderer.depth_resolution == 9
    assert recipe.raw_resolution == 128


def test_published_networks_in_a_torch_file(tmp_path):
    writer: Any = types.ModuleType("writer")
    writer.Pickler = OfficialPickler
    table = spec("eg3d")
    network = module_tree("TriPlaneGenerator", table["G_kwargs"], parameters(table["G"]))
    torch.save({"G_ema": network}, tmp_path / "net.pt", pickle_module=writer)
    loaded = snapshot.load(tmp_path / "net.pt")
    assert loaded.stored == ["G_ema"]
    assert torch.equal(loaded["G_ema"].scene.decoder.out.weight, parameters(table["G"])["decoder.net.2.weight"])


@pytest.mark.parametrize("axes", ["legacy", "corrected"])
def test_plane_axes_of_the_file(axes, tmp_path):
    network = module_tree("TriPlaneGenerator", generator_kwargs("eg3d"), {})
    network.parts["renderer"] = Module("ImportanceRenderer", {"plane_axes": axes_matrices(PLANE_AXES[axes])})
    path = write_official(tmp_path / "net.pkl", G_ema=network)
    recipe: Any = snapshot.load(path).recipe()
    assert recipe.scene.axes == axes
    network.parts["renderer"].attributes["plane_axes"] = torch.zeros(3, 3, 3)
    write_official(path, G_ema=network)
    with pytest.raises(SnapshotError, match="axes that are neither"):
        snapshot.load(path).recipe()


def broken(**attributes) -> Module:
    network = module_tree("TriPlaneGenerator", generator_kwargs("eg3d"), {"w": torch.ones(1)})
    network.attributes |= attributes
    return network


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (broken(_init_kwargs=None), "without its constructor arguments"),
        (broken(_init_args=(1, 2)), "without its constructor arguments"),
        (broken(neural_rendering_resolution=10**9), "no sensible neural_rendering_resolution"),
        (broken(neural_rendering_resolution="64"), "no sensible neural_rendering_resolution"),
        (broken(_parameters=[1]), "its _parameters are no dictionary"),
        (broken(_modules=[1]), "its _modules are no dictionary"),
        (broken(_buffers={"x": 3}), "x is a int instead of a tensor"),
    ],
)
def test_records_that_are_no_networks(network, message, tmp_path):
    path = write_official(tmp_path / "net.pkl", G_ema=network)
    with pytest.raises(SnapshotError, match=message):
        snapshot.load(path)["G_ema"]


@pytest.mark.parametrize(("system", "network", "suffix"), [("eg3d", "D", ".npz"), ("ballgan", "G_ema", ".safetensors")])
def test_convert_writes_official_names(files, system, network, suffix, tmp_path):
    target = tmp_path / f"out{suffix}"
    arguments = ["convert", str(files[system]), str(target), "--to=official-state", f"--network={network}"]
    result = CliRunner().invoke(commands, arguments)
    assert result.exit_code == 0, result.output
    assert "Note" not in result.output
    if suffix == ".npz":
        written = {key: torch.from_numpy(array) for key, array in np.load(target).items()}
    else:
        written = load_file(target)
    table = spec(system)[network[0]]
    assert {key: list(tensor.shape) for key, tensor in written.items()} == {row[0]: row[1] for row in table}
    weights = snapshot.load(files[system]).weights(network)
    for key, tensor in written.items():
        ours = our_key(key)
        assert ours is None or torch.equal(tensor.flatten(), weights[ours].flatten())
    assert [path.name for path in tmp_path.iterdir()] == [target.name]


def test_convert_refuses(files, tmp_path):
    def message(*arguments: str) -> str:
        result = CliRunner().invoke(commands, ["convert", *arguments])
        assert result.exit_code == 1
        return result.output

    assert "name the file .npz or .safetensors" in message(str(files["eg3d"]), str(tmp_path / "out.pth"))
    assert "there is no such folder" in message(str(files["eg3d"]), str(tmp_path / "no" / "out.npz"))
    assert "there is no such file" in message(str(tmp_path / "no.pkl"), str(tmp_path / "out.npz"))
    path = changed("eg3d", tmp_path / "net.pkl")
    assert "holds no D" in message(str(path), str(tmp_path / "out.npz"), "--network=D")
    assert [entry.name for entry in tmp_path.iterdir()] == ["net.pkl"]


def test_inspect(files):
    result = CliRunner().invoke(commands, ["inspect", str(files["ballgan"])])
    assert result.exit_code == 0, result.output
    for text in (
        "the published code",
        "ballgan",
        "legacy",
        "radius 2.7",
        "picture 128, rendered 16, label 25",
        "tiny.zip",
    ):
        assert text in result.output
    summary = json.loads(CliRunner().invoke(commands, ["inspect", "--json", str(files["eg3d"])]).output)
    assert summary["system"] == "eg3d"
    assert summary["sha256"] == snapshot.load(files["eg3d"]).sha256
    assert summary["networks"]["G"]["weights"] == summary["networks"]["G_ema"]["weights"]
    assert summary["networks"]["G_ema"]["config"]["scene"]["axes"] == "legacy"


def test_ours_without_an_official_place():
    network = torch.nn.Linear(1, 1)
    config = config_from_official("SingleDiscriminator", {"img_resolution": 16, "img_channels": 3, "channel_max": 8})
    built = build(config)
    built.extra = network
    with pytest.raises(SnapshotError, match=r"extra\.weight has no place in the published networks"):
        ours_to_official(built)
