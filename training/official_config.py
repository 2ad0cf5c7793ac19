"""Constructor arguments of published networks as configurations of ours.

Each argument becomes a field, or is known to have no effect on the network, or the file is refused by the
argument's name: none is overlooked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

from training.augment import AugmentConfig
from training.recipe import Recipe, from_stored
from training.types import LABEL_SIZE
from training.unpickle import SnapshotError

SR_MODULES = {
    "SuperresolutionHybrid2X": "2X",
    "SuperresolutionHybrid4X": "4X",
    "SuperresolutionHybrid8X": "8X",
    "SuperresolutionHybrid8XDC": "8XDC",
    "SuperresolutionHybridDeepfp32": "deep",
}
GENERATOR_WITHOUT_EFFECT = ("fused_modconv_default", "sr_kwargs", "only_fg", "only_bg")
"""`sr_kwargs` repeat the backbone's channels, which no super-resolution module reads."""
RENDERING_WITHOUT_EFFECT = (
    "bg_density_reg_scheduler",
    "bg_transmittance_reg",
    "bg_transmittance_reg_start",
    "density_noise",
    "density_reg",
    "density_reg_p_dist",
    "fg_density_reg",
    "fg_density_reg_scheduler",
    "fg_density_spatial_reg",
    "gpc_reg_fade_kimg",
    "gpc_reg_prob",
    "image_resolution",
    "reg_type",
)
"""Options of the training loss, kept among those of the renderer; a repeated size; what we choose for each call."""
SPHERE_WITHOUT_EFFECT = (
    "bgpts_sphere",
    "inverse_sphere",
    "no_sigma",
    "skips",
    "use_style",
    "use_viewdirs",
    "using_ws",
    "w_dim",
    "z_dim",
)
"""Constants that nothing reads, and sizes that the generator's own arguments give."""
AUGMENTATION_RULE = ("mode", "p", "target", "kimg", "interval")
"""Fields of our config that are no arguments of the published augmentation, whose transforms are off by default."""


class Arguments:
    """Constructor arguments, taken one by one."""

    def __init__(self, values: Any, owner: str):
        if not isinstance(values, Mapping):
            raise SnapshotError(f"the arguments of {owner} are no dictionary")
        self.values, self.owner = dict(values), owner

    def take(self, name: str, *default: Any) -> Any:
        """The value of an argument; the default, if given, where it is absent."""
        if name in self.values:
            return self.values.pop(name)
        if not default:
            raise SnapshotError(f"the arguments of {self.owner} lack {name!r}")
        return default[0]

    def part(self, name: str) -> Arguments:
        """The arguments within an argument; none where it is absent."""
        return Arguments(self.take(name, {}), f"{self.owner} {name}")

    def expect(self, name: str, value: Any) -> None:
        """Take an argument for which only one value is known, its default."""
        found = self.take(name, value)
        if found != value:
            raise SnapshotError(f"{self.owner} has {name} = {str(found)[:40]!r}; only {value!r} is supported")

    def ignore(self, *names: str) -> None:
        """Take arguments that do not change the network."""
        for name in names:
            self.values.pop(name, None)

    def finish(self) -> None:
        """Raise SnapshotError if there is an argument that nobody took."""
        for name in self.values:
            raise SnapshotError(f"{self.owner} has an argument {str(name)[:80]!r} that is not known here")


def config_from_official(class_name: str, kwargs: Mapping[str, Any]) -> Recipe:
    """Our recipe for a published class and its constructor arguments, with the published plane axes.

    Raises SnapshotError for a class, an argument or a value that is not known, by its name.
    """
    if class_name not in CLASSES:
        raise SnapshotError(f"the class {class_name[:80]!r} is not known; {', '.join(CLASSES)} are")
    tag, convert = CLASSES[class_name]
    arguments = Arguments(kwargs, class_name)
    values = convert(arguments)
    arguments.finish()
    return from_stored(tag, values)


def _generator(arguments: Arguments) -> dict[str, Any]:
    layered = "BG_kwargs" in arguments.values
    output_init = "kaiming" if layered else "normal"
    rendering = arguments.part("rendering_kwargs")
    rendering.expect("clamp_mode", "softplus")
    rendering.ignore(*RENDERING_WITHOUT_EFFECT)
    arguments.expect("img_channels", 3)
    arguments.ignore(*GENERATOR_WITHOUT_EFFECT)
    white_back = rendering.take("white_back", False)
    values = {
        "img_resolution": arguments.take("img_resolution"),
        "z_dim": arguments.take("z_dim"),
        "w_dim": arguments.take("w_dim"),
        "c_dim": arguments.take("c_dim"),
        "mapping": _mapping(arguments.part("mapping_kwargs"), rendering),
        "scene": {
            "kind": "triplane",
            "axes": "legacy",
            "box_warp": rendering.take("box_warp"),
            "decoder": _decoder(rendering, layered),
            "backbone": {
                "channel_base": arguments.take("channel_base", 32768),
                "channel_max": arguments.take("channel_max", 512),
                "num_fp16_res": arguments.take("num_fp16_res", 0),
                "conv_clamp": arguments.take("conv_clamp", None),
                "output_init": output_init,
            },
        },
        "background": _sphere(arguments, white_back) if layered else {"kind": "solid", "white_back": white_back},
        "renderer": {
            "depth_resolution": rendering.take("depth_resolution"),
            "depth_resolution_importance": rendering.take("depth_resolution_importance"),
            "ray_start": rendering.take("ray_start"),
            "ray_end": rendering.take("ray_end"),
            "disparity": rendering.take("disparity_space_sampling", False),
            "depth_limits": "batch",
        },
        "upsampler": _superresolution(arguments, rendering, output_init),
        "view": {
            "radius": rendering.take("avg_camera_radius", 2.7),
            "pivot": rendering.take("avg_camera_pivot", (0, 0, 0)),
        },
    }
    rendering.finish()
    return values


def _mapping(mapping: Arguments, rendering: Arguments) -> dict[str, Any]:
    values = {
        "num_layers": mapping.take("num_layers", 8),
        "pose_conditioning": not rendering.take("c_gen_conditioning_zero", False),
        "label_scale": rendering.take("c_scale", 0),
        "layer_features": mapping.take("layer_features", None),
        "embed_features": mapping.take("embed_features", None),
        "lr_multiplier": mapping.take("lr_multiplier", 0.01),
    }
    mapping.finish()
    return values


def _decoder(rendering: Arguments, layered: bool) -> dict[str, Any]:
    values = {"kind": "split" if layered else "joint", "lr_multiplier": rendering.take("decoder_lr_mul", 1)}
    return values | {"density_activation": rendering.take("sigma_act", "linear")} if layered else values


def _superresolution(arguments: Arguments, rendering: Arguments, output_init: str) -> dict[str, Any]:
    module = str(rendering.take("superresolution_module")).rpartition(".")[2]
    if module not in SR_MODULES:
        raise SnapshotError(f"the super-resolution {module[:80]!r} is not known; {', '.join(SR_MODULES)} are")
    return {
        "kind": "superresolution",
        "module": SR_MODULES[module],
        "num_fp16_res": arguments.take("sr_num_fp16_res", 0),
        "noise_mode": rendering.take("superresolution_noise_mode", "none"),
        "antialias": rendering.take("sr_antialias", True),
        "output_init": output_init,
    }


def _sphere(arguments: Arguments, white_back: bool) -> dict[str, Any]:
    sphere = arguments.part("BG_kwargs")
    sphere.ignore(*SPHERE_WITHOUT_EFFECT)
    sphere.expect("input_dim", 2)
    sphere.expect("n_freq_posenc", 10)
    mapping = sphere.part("mapping_kwargs")
    mapping.ignore("z_dim", "w_dim")
    version, encoding = sphere.take("bg_ver"), sphere.take("positional_encoding")
    if version not in ("ver0", "ver1"):
        raise SnapshotError(f"the background version {str(version)[:40]!r} is not known; ver0 and ver1 are")
    layers, w_dim = mapping.take("num_layers", 8), arguments.take("w_bg_dim", None)
    styled = {"kind": "styled", "w_dim": w_dim, "mapping_layers": layers}
    values = {
        "kind": "sphere",
        "texture": styled if version == "ver1" else {"kind": "plain"},
        "radius": sphere.take("R"),
        "z_dim": arguments.take("z_bg_dim"),
        "num_layers": sphere.take("n_blocks"),
        "hidden": sphere.take("hidden_size"),
        "encoding": encoding if encoding in ("normal", "gauss") else "raw",
        "angle_divisor": sphere.take("downscale_p_by"),
        "white_back": white_back,
    }
    mapping.finish()
    sphere.finish()
    return values


def _discriminator(arguments: Arguments, kind: str) -> dict[str, Any]:
    blocks, epilogue = arguments.part("block_kwargs"), arguments.part("epilogue_kwargs")
    arguments.expect("img_channels", 3)
    arguments.expect("mapping_kwargs", {})
    label_noise = {"label_noise": arguments.take("disc_c_noise", 0)} if kind == "dual" else {}
    trunk = {
        "channel_base": arguments.take("channel_base", 32768),
        "channel_max": arguments.take("channel_max", 512),
        "num_fp16_res": arguments.take("num_fp16_res", 4),
        "conv_clamp": arguments.take("conv_clamp", 256),
        "freeze_layers": blocks.take("freeze_layers", 0),
        "mbstd_group_size": epilogue.take("mbstd_group_size", 4),
    }
    blocks.finish()
    epilogue.finish()
    return {
        "discriminator": {"kind": kind, "trunk": trunk} | label_noise,
        "img_resolution": arguments.take("img_resolution"),
        "c_dim": arguments.take("c_dim", LABEL_SIZE),
    }


def _augmentation(arguments: Arguments) -> dict[str, Any]:
    arguments.expect("noise", 0)
    arguments.expect("imgfilter_bands", [1, 1, 1, 1])
    arguments.ignore("noise_std")
    transforms = [field.name for field in fields(AugmentConfig) if field.name not in AUGMENTATION_RULE]
    published = {name: arguments.take(name) for name in transforms if name in arguments.values}
    return {"mode": "ada"} | {name: 0 for name in transforms if "_" not in name} | published


CLASSES: dict[str, tuple[str, Callable[[Arguments], dict[str, Any]]]] = {
    "TriPlaneGenerator": ("generator", _generator),
    "DualDiscriminator": ("discriminator", lambda arguments: _discriminator(arguments, "dual")),
    "SingleDiscriminator": ("discriminator", lambda arguments: _discriminator(arguments, "plain")),
    "AugmentPipe": ("augment", _augmentation),
}
"""Published classes that can be read: the tag of the recipe, and what gives its values."""
