"""The configuration of a training run: a tree of frozen dataclasses, its JSON form and dotted overrides.

Every part keeps its own config beside it. Where a field admits several parts, its type is a union and the
`kind` tag of each config says which one it is. No torch logic here.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from training.augment import AugmentConfig
from training.dataset import DataConfig
from training.discriminators import DiscriminatorConfig
from training.discriminators.dual import DualDiscriminatorConfig
from training.ema import EmaConfig
from training.generator import GeneratorConfig
from training.losses import LossConfig
from training.precision import Precision
from training.schedule import ScheduleConfig

T = TypeVar("T")


class ConfigError(ValueError):
    """A setting that names nothing, or has a value of the wrong kind; the message names it and the mend."""


@dataclass(frozen=True)
class OptimConfig:
    """Adam for both networks; an optimizer with a lazy phase gets the corrected rate and betas."""

    generator_lr: float = 0.0025
    discriminator_lr: float = 0.002
    betas: tuple[float, float] = (0.0, 0.99)
    eps: float = 1e-8
    generator_reg_interval: int = 4
    discriminator_reg_interval: int = 16


@dataclass(frozen=True)
class RunConfig:
    """Where and how long a run trains. Lengths in kimg (thousands of real images shown).

    keep_best: of the snapshots, keep the newest and the best by the first metric only.
    """

    outdir: str = "training-runs"
    desc: str = ""
    batch: int = 32
    batch_gpu: int | None = None
    gpus: int = 1
    device: Literal["cuda", "cpu"] = "cuda"
    kimg: float = 25000
    tick: float = 4
    snap: int = 50
    seed: int = 0
    metrics: tuple[str, ...] = ("fid50k_full",)
    keep_best: bool = False
    resume: str | None = None
    cudnn_benchmark: bool = True
    precision: Precision = "mixed"
    tf32: bool = False


@dataclass(frozen=True)
class TrainConfig:
    """Everything a run depends on; `to_dict` of it is what `training_options.json` holds."""

    generator: GeneratorConfig = field(default_factory=GeneratorConfig)
    discriminator: DiscriminatorConfig = field(default_factory=DualDiscriminatorConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    ema: EmaConfig = field(default_factory=EmaConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    data: DataConfig = field(default_factory=DataConfig)
    run: RunConfig = field(default_factory=RunConfig)


def to_dict(config: Any) -> Any:
    """Plain containers of a config, ready for JSON."""
    if dataclasses.is_dataclass(config):
        return {f.name: to_dict(getattr(config, f.name)) for f in dataclasses.fields(config)}
    if isinstance(config, tuple):
        return [to_dict(value) for value in config]
    return config


def from_dict(cls: type[T], values: dict[str, Any]) -> T:
    """The config of class `cls` with these values; the inverse of `to_dict`. A field that is missing has its default.

    Raises ConfigError for a name that the class does not have, or a value that does not fit its field.
    """
    return _convert(cls, values, cls.__name__)


def override(config: T, path: str, value: Any) -> T:
    """A copy of the config in which the field at the dotted path has another value.

    The value may be text, as it comes from `--set part.field=value`: `12`, `0.5`, `true`, `none`, `0,0,0.2`. Setting
    a part by the text of its `kind` replaces the part by that kind with its defaults.
    Raises ConfigError, with the list of the right names, where the path leads nowhere.
    """
    return _override(config, path.split("."), value, path)


def _override(config: Any, names: list[str], value: Any, path: str) -> Any:
    hints = typing.get_type_hints(type(config))
    name, rest = names[0], names[1:]
    if name not in hints:
        at = ".".join(path.split(".")[: -len(names)]) or "the configuration"
        raise ConfigError(f"{path}: {at} has no field {name!r}; it has: {', '.join(sorted(hints))}")
    current = getattr(config, name)
    if rest and not dataclasses.is_dataclass(current):
        raise ConfigError(f"{path}: {name} is a value, not a part, so it has no field {rest[0]!r}")
    changed = _override(current, rest, value, path) if rest else _convert(hints[name], value, path)
    with _naming(path):
        return dataclasses.replace(config, **{name: changed})


@contextmanager
def _naming(path: str) -> Iterator[None]:
    """Puts the path before what a config itself says against its values."""
    try:
        yield
    except ConfigError:
        raise
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from error


def _convert(hint: Any, value: Any, path: str) -> Any:
    """The value as a field of type `hint` holds it."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return _convert_union(hint, value, path)
    if origin is tuple:
        return _convert_tuple(hint, value, path)
    if dataclasses.is_dataclass(hint):
        return _convert_part(hint, value, path)
    if origin is Literal:
        if value in args:
            return value
        raise _misfit(hint, value, path)
    read = _read(hint, value)
    if not isinstance(read, hint) or (isinstance(read, bool) and hint is not bool):
        raise _misfit(hint, value, path)
    return read


def _read(hint: type, value: Any) -> Any:
    """A number or truth value of text, and an int for a whole float or the other way round; otherwise unchanged."""
    if isinstance(value, str) and hint is bool:
        return {"true": True, "false": False}.get(value.strip().lower(), value)
    if isinstance(value, str) and hint in (int, float):
        try:
            value = int(value) if value.strip().lstrip("+-").isdecimal() else float(value)
        except ValueError:
            return value
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint is int and isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def _convert_union(hint: Any, value: Any, path: str) -> Any:
    args = typing.get_args(hint)
    if type(None) in args and (value is None or (isinstance(value, str) and value.lower() in ("none", "null"))):
        return None
    parts = {option.kind: option for option in args if hasattr(option, "kind")}
    if parts:
        named = value.get("kind") if isinstance(value, dict) else getattr(value, "kind", value)
        if not isinstance(named, str) or named not in parts:
            raise _misfit(hint, value, path)
        return _convert_part(parts[named], value, path)
    for option in args:
        try:
            return _convert(option, value, path)
        except ConfigError:
            continue
    raise _misfit(hint, value, path)


def _convert_part(cls: Any, value: Any, path: str) -> Any:
    if isinstance(value, cls):
        return value
    if isinstance(value, str) and value == getattr(cls, "kind", None):
        return cls()
    if not isinstance(value, dict):
        raise _misfit(cls, value, path)
    hints = typing.get_type_hints(cls)
    wrong = sorted(set(value) - set(hints))
    if wrong:
        raise ConfigError(f"{path} has no field {wrong[0]!r}; it has: {', '.join(sorted(hints))}")
    fields = {name: _convert(hints[name], item, f"{path}.{name}") for name, item in value.items()}
    with _naming(path):
        return cls(**fields)


def _convert_tuple(hint: Any, value: Any, path: str) -> tuple:
    args = typing.get_args(hint)
    if isinstance(value, str):
        items = [part.strip() for part in value.strip(" []()").split(",") if part.strip()]
    else:
        items = list(value) if isinstance(value, (list, tuple)) else [value]
    if args[-1] is Ellipsis:
        args = args[:1] * len(items)
    if len(items) != len(args):
        raise _misfit(hint, value, path)
    return tuple(_convert(arg, item, path) for arg, item in zip(args, items, strict=True))


def _misfit(hint: Any, value: Any, path: str) -> ConfigError:
    return ConfigError(f"{path}={value!r}: expected {_describe(hint)}")


def _describe(hint: Any) -> str:
    """A type in words that a user of the command line understands."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_describe(option) for option in args)
    if origin is Literal:
        return " or ".join(map(str, args))
    if origin is tuple:
        return "a list" if args[-1] is Ellipsis else f"{len(args)} values"
    if dataclasses.is_dataclass(hint):
        return getattr(hint, "kind", f"the fields of {getattr(hint, '__name__', hint)}")
    words = {int: "a whole number", float: "a number", bool: "true or false", str: "text", type(None): "none"}
    return words[hint]
