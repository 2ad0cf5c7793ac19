"""The configuration of a training run: a tree of frozen dataclasses, its JSON form and dotted overrides.

Every part keeps its own config beside it. Where a field admits several parts, its type is a union and the
`kind` tag of each config says which one it is. No torch logic here.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from training.augment import AugmentConfig
from training.dataset import DataConfig
from training.discriminators import DiscriminatorConfig
from training.discriminators.dual import DualDiscriminatorConfig
from training.ema import EmaConfig
from training.generator import GeneratorConfig
from training.losses import LossConfig
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
    """Where and how long a run trains. Lengths in kimg (thousands of real images shown)."""

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
    resume: str | None = None
    cudnn_benchmark: bool = True
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
    if isinstance(config, dict):
        return {key: to_dict(value) for key, value in config.items()}
    if isinstance(config, (list, tuple)):
        return [to_dict(value) for value in config]
    return config


def from_dict(cls: type[T], values: dict[str, Any]) -> T:
    """The config of class `cls` with these values; the inverse of `to_dict`.

    Raises ConfigError for a name that the class does not have, or a value that does not fit its field.
    """
    return _convert(cls, values, cls.__name__)


def override(config: T, path: str, value: Any) -> T:
    """A copy of the config in which the field at the dotted path has another value.

    The value may be text, as it comes from `--set part.field=value`. Setting a part by the text of its
    `kind` replaces the part by that kind with its defaults.
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
    changed = _override(current, rest, value, path) if rest else _convert(hints[name], _parse(value), path)
    return dataclasses.replace(config, **{name: changed})


def _parse(value: Any) -> Any:
    """A Python value of text such as `12`, `0.5`, `true`, `none`, `[0,0,0.2]` or `a,b`; other values unchanged."""
    if not isinstance(value, str):
        return value
    words = {"true": True, "false": False, "none": None, "null": None}
    text = value.strip()
    if text.lower() in words:
        return words[text.lower()]
    for number in (int, float):
        try:
            return number(text)
        except ValueError:
            pass
    if text.startswith(("[", "(")) or "," in text:
        return [_parse(part) for part in text.strip("[]()").split(",") if part.strip()]
    return text


def _convert(hint: Any, value: Any, path: str) -> Any:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return _convert_union(args, value, path)
    if origin is Literal:
        if value in args:
            return value
        raise ConfigError(f"{path}={value!r}: choose one of {', '.join(map(str, args))}")
    if dataclasses.is_dataclass(hint):
        return _convert_part(hint, value, path)
    if origin is tuple and isinstance(value, (list, tuple, str, int, float)):
        return _convert_tuple(args, value, path)
    if origin is dict and isinstance(value, dict):
        return {key: _convert(args[1], item, f"{path}.{key}") for key, item in value.items()}
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint is int and isinstance(value, float) and value.is_integer():
        return int(value)
    if hint is str and isinstance(value, (int, float)) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, hint) and not (isinstance(value, bool) and hint is not bool):
        return value
    raise ConfigError(f"{path}={value!r}: expected {getattr(hint, '__name__', hint)}")


def _convert_union(args: tuple, value: Any, path: str) -> Any:
    if value is None and type(None) in args:
        return None
    parts = {part.kind: part for part in args if dataclasses.is_dataclass(part)}
    if parts:
        if type(value) in parts.values():
            return value
        kind = value if isinstance(value, str) else value.get("kind") if isinstance(value, dict) else None
        if kind in parts:
            return _convert_part(parts[kind], {} if isinstance(value, str) else value, path)
        raise ConfigError(f"{path}={value!r}: choose one of {', '.join(sorted(parts))}")
    errors = []
    for option in args:
        if option is not type(None):
            try:
                return _convert(option, value, path)
            except ConfigError as error:
                errors.append(str(error))
    raise ConfigError("; ".join(errors))


def _convert_part(cls: Any, value: Any, path: str) -> Any:
    if isinstance(value, cls):
        return value
    if not isinstance(value, dict):
        raise ConfigError(f"{path}={value!r}: expected the fields of {cls.__name__}")
    hints = typing.get_type_hints(cls)
    wrong = sorted(set(value) - set(hints))
    if wrong:
        raise ConfigError(f"{path} has no field {wrong[0]!r}; it has: {', '.join(sorted(hints))}")
    return cls(**{name: _convert(hints[name], item, f"{path}.{name}") for name, item in value.items()})


def _convert_tuple(args: tuple, value: Any, path: str) -> tuple:
    items = [value] if isinstance(value, (str, int, float)) else list(value)
    if len(args) == 2 and args[1] is Ellipsis:
        return tuple(_convert(args[0], item, path) for item in items)
    if len(items) != len(args):
        raise ConfigError(f"{path}={value!r}: expected {len(args)} values")
    return tuple(_convert(arg, item, path) for arg, item in zip(args, items, strict=True))
