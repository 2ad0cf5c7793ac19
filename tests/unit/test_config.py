"""The configuration: JSON there and back, dotted overrides, and what they say about mistakes."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.background import SolidConfig, SphereConfig
from training.background.sphere import PlainTextureConfig
from training.config import ConfigError, TrainConfig, from_dict, override, to_dict
from training.discriminators import DualDiscriminatorConfig, PlainDiscriminatorConfig
from training.scene.decoders import SplitDecoderConfig
from training.upsampling import IdentityConfig, SuperresolutionConfig


@dataclass(frozen=True)
class Wheel:
    kind: Literal["wheel"] = "wheel"
    spokes: int = 32
    rim: float = 26.0


@dataclass(frozen=True)
class Ski:
    kind: Literal["ski"] = "ski"
    waxed: bool = False


@dataclass(frozen=True)
class Frame:
    """A part without kinds, with a check of its own."""

    size: int = 54

    def __post_init__(self) -> None:
        if self.size < 10:
            raise ValueError("a frame needs a size of 10 or more")


@dataclass(frozen=True)
class Bike:
    """A field of every type that configs use."""

    front: Wheel | Ski = field(default_factory=Wheel)
    rear: Wheel = field(default_factory=Wheel)
    frame: Frame = field(default_factory=Frame)
    gears: int | None = None
    start: float | Literal["auto"] = 1.0
    colour: Literal["none", "red", "blue"] = "red"
    name: str = ""
    owner: str | None = None
    seat: tuple[float, float] = (0.0, 1.0)
    bags: tuple[str, ...] = ()
    brakes: bool = True


wheels = st.builds(Wheel, spokes=st.integers(), rim=st.floats(allow_nan=False))
bikes = st.builds(
    Bike,
    front=wheels | st.builds(Ski, waxed=st.booleans()),
    rear=wheels,
    frame=st.builds(Frame, size=st.integers(10, 10**6)),
    gears=st.none() | st.integers(),
    start=st.just("auto") | st.floats(allow_nan=False),
    colour=st.sampled_from(["none", "red", "blue"]),
    name=st.text(),
    owner=st.none() | st.text().filter(lambda text: text.lower() not in ("none", "null")),
    seat=st.tuples(st.floats(-1, 1), st.floats(-1, 1)),
    bags=st.lists(st.text()).map(tuple),
    brakes=st.booleans(),
)


@given(bikes)
def test_json_there_and_back(bike):
    assert from_dict(Bike, json.loads(json.dumps(to_dict(bike)))) == bike


@given(bikes, bikes)
def test_override_of_every_field_is_replace(bike, other):
    for f in dataclasses.fields(Bike):
        value = getattr(other, f.name)
        assert override(bike, f.name, value) == dataclasses.replace(bike, **{f.name: value})


@pytest.mark.parametrize(
    ("path", "text", "expected"),
    [
        ("gears", "21", 21),
        ("gears", "2e1", 20),
        ("gears", "-3", -3),
        ("gears", "12345678901234567890", 12345678901234567890),
        ("gears", "none", None),
        ("gears", "Null", None),
        ("start", "3", 3.0),
        ("start", "1e-3", 0.001),
        ("start", "auto", "auto"),
        ("colour", "none", "none"),
        ("name", "12", "12"),
        ("name", "1e3", "1e3"),
        ("name", "true", "true"),
        ("name", "a,b", "a,b"),
        ("name", "", ""),
        ("owner", "none", None),
        ("owner", "~/x,y", "~/x,y"),
        ("seat", "1,2", (1.0, 2.0)),
        ("seat", "[1, 2.5]", (1.0, 2.5)),
        ("seat", "(-1,0)", (-1.0, 0.0)),
        ("bags", "left", ("left",)),
        ("bags", "left, 12", ("left", "12")),
        ("bags", "", ()),
        ("brakes", "false", False),
        ("brakes", "True", True),
        ("frame.size", "60", 60),
        ("rear.rim", "27", 27.0),
    ],
)
def test_override_reads_text_as_the_type_of_its_field(path, text, expected):
    value = override(Bike(), path, text)
    for name in path.split("."):
        value = getattr(value, name)
    assert value == expected
    assert type(value) is type(expected)


def test_override_leaves_the_rest_and_the_original():
    bike = Bike()
    changed = override(bike, "rear.spokes", 36)
    assert bike == Bike()
    assert changed.rear == Wheel(spokes=36)
    assert dataclasses.replace(changed, rear=Wheel()) == bike


def test_a_part_is_chosen_by_its_kind():
    assert override(Bike(front=Wheel(spokes=8)), "front", "ski").front == Ski()
    assert override(Bike(rear=Wheel(spokes=8)), "rear", "wheel").rear == Wheel()
    assert override(Bike(), "front", {"kind": "ski", "waxed": True}).front == Ski(waxed=True)
    assert override(Bike(), "front", Ski(waxed=True)).front == Ski(waxed=True)
    assert from_dict(Bike, {"front": {"kind": "ski"}}).front == Ski()


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (
            "wheel",
            1,
            "wheel: the configuration has no field 'wheel'; it has: bags, brakes, colour, frame, front",
        ),
        ("rear.spoke", 1, "rear.spoke: rear has no field 'spoke'; it has: kind, rim, spokes"),
        ("front.waxed", "true", "front.waxed: front has no field 'waxed'; it has: kind, rim, spokes"),
        ("", 1, ": the configuration has no field ''; it has: bags,"),
        ("gears.low", 1, "gears.low: gears is a value, not a part, so it has no field 'low'"),
        ("name.first", 1, "name.first: name is a value, not a part, so it has no field 'first'"),
        ("gears", "many", "gears='many': expected a whole number or none"),
        ("gears", "1.5", "gears='1.5': expected a whole number or none"),
        ("gears", True, "gears=True: expected a whole number or none"),
        ("start", "never", "start='never': expected a number or auto"),
        ("colour", "green", "colour='green': expected none or red or blue"),
        ("colour", None, "colour=None: expected none or red or blue"),
        ("name", 3, "name=3: expected text"),
        ("brakes", "yes", "brakes='yes': expected true or false"),
        ("brakes", 1, "brakes=1: expected true or false"),
        ("rear.spokes", "1.5", "rear.spokes='1.5': expected a whole number"),
        ("seat", "1,2,3", "seat='1,2,3': expected 2 values"),
        ("seat", [1], r"seat=\[1\]: expected 2 values"),
        ("seat", "1,x", "seat='x': expected a number"),
        ("bags", 3, "bags=3: expected text"),
        ("front", "rocket", "front='rocket': expected wheel or ski"),
        ("front", 3, "front=3: expected wheel or ski"),
        ("front", {"spokes": 3}, r"front=\{'spokes': 3\}: expected wheel or ski"),
        ("front", {"kind": ["ski"]}, r"front=\{'kind': \['ski'\]\}: expected wheel or ski"),
        ("front.kind", "ski", "front.kind='ski': expected wheel"),
        ("rear", "ski", "rear='ski': expected wheel"),
        ("frame", "large", "frame='large': expected the fields of Frame"),
        ("frame", {"height": 3}, "frame has no field 'height'; it has: size"),
        ("frame.size", 3, "frame.size: a frame needs a size of 10 or more"),
        ("frame", {"size": 3}, "frame: a frame needs a size of 10 or more"),
    ],
)
def test_mistakes_name_the_field_and_the_choice(path, value, message):
    with pytest.raises(ConfigError, match=f"^({message})"):
        override(Bike(), path, value)


def test_mistakes_in_a_file_name_their_place():
    with pytest.raises(ConfigError, match=r"^Bike\.rear has no field 'tyre'; it has: kind, rim, spokes"):
        from_dict(Bike, {"rear": {"tyre": 1}})
    with pytest.raises(ConfigError, match=r"^Bike\.rear\.spokes='x': expected a whole number"):
        from_dict(Bike, {"rear": {"spokes": "x"}})
    with pytest.raises(ConfigError, match=r"^Bike\.frame: a frame needs"):
        from_dict(Bike, {"frame": {"size": 1}})


def test_train_config_there_and_back():
    config = TrainConfig()
    for path, value in {
        "generator.background": "sphere",
        "generator.background.texture": "plain",
        "generator.scene.decoder": "split",
        "generator.upsampler": "identity",
        "generator.renderer.ray_start": "auto",
        "generator.view.pivot": "0,0,-0.06",
        "discriminator": "plain",
        "discriminator.trunk.freeze_layers": "3",
        "run.metrics": "fid2k_full,kid2k_full",
        "optim.betas": "0,0.9",
    }.items():
        config = override(config, path, value)
    assert config.generator.background == SphereConfig(texture=PlainTextureConfig())
    assert config.generator.scene.decoder == SplitDecoderConfig()
    assert config.generator.upsampler == IdentityConfig()
    assert config.generator.renderer.ray_start == "auto"
    assert config.discriminator.trunk.freeze_layers == 3
    assert isinstance(config.discriminator, PlainDiscriminatorConfig)
    assert config.run.metrics == ("fid2k_full", "kid2k_full")
    assert from_dict(TrainConfig, json.loads(json.dumps(to_dict(config)))) == config
    assert from_dict(TrainConfig, {}) == TrainConfig()
    assert override(config, "generator.background", "solid").generator.background == SolidConfig()


def test_values_that_are_called_none_can_be_set():
    upsampler = override(SuperresolutionConfig(noise_mode="random"), "noise_mode", "none")
    assert upsampler.noise_mode == "none"
    discriminator = override(DualDiscriminatorConfig(), "resize", "none")
    assert discriminator.resize == "none"
    assert override(discriminator, "resize", "0.5").resize == 0.5
    assert override(discriminator, "trunk.mbstd_group_size", "none").trunk.mbstd_group_size is None
