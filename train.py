"""Training: `python train.py --outdir=~/training-runs --cfg=ffhq --data=FFHQ_512.zip --gpus=8 --batch=32 --gamma=1`."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import torch

from dnnlib.files import is_url
from dnnlib.refusals import refusals_in_words
from metrics import registry
from metrics.evaluation import MetricError
from metrics.features import DetectorError, Detectors, parse_source
from torch_utils import distributed
from training import resume
from training.checks import check, check_devices, view_advice
from training.config import ConfigError, TrainConfig, override, to_dict
from training.dataset import DatasetError, ImageDataset
from training.launch import launch
from training.loop import Plan
from training.options import OPTIONS, apply_options, data_options, options_without_effect
from training.presets import GEOMETRIES, SYSTEMS, preset
from training.resume import Start
from training.run_folder import read_options, run_name
from training.snapshot import resolve_resume
from training.unpickle import SnapshotError

REQUIRED = ("outdir", "cfg", "data", "gpus", "batch", "gamma")

Given = Mapping[str, Any]
"""Options of the command line that were given, by the name of their parameter."""


def with_table_options(command: Callable) -> Callable:
    """The command with all options of the table."""
    for option in reversed(OPTIONS):
        shown = "" if option.default is None else f" [{option.default}]"
        command = click.option(option.name, option.key, type=option.type, help=option.help + shown)(command)
    return command


@click.command()
@click.option("--model", type=click.Choice(list(SYSTEMS)), help=f"System. [{next(iter(SYSTEMS))}]")
@click.option("--cfg", type=click.Choice(list(GEOMETRIES)), help="Sampling and cameras for a kind of data set.")
@with_table_options
@click.option("--detector", "detectors", multiple=True, metavar="NAME=FILE|URL", help="Feature network of a metric.")
@click.option("--resume", help="Snapshot (file, address or run) to start from, or `latest`: go on with the newest run.")
@click.option(
    "--resume-mode",
    type=click.Choice(["auto", "continue", "stage"]),
    default="auto",
    help="continue: the exact state of the snapshot's run; stage: its networks alone, for a new run; auto: continue "
    "if nothing changes that decides what is learned, else a new stage. [auto]",
)
@click.option("--resume_blur", type=bool, default=False, help="Blur and pose-swap fade in a new stage too. [False]")
@click.option("--resume-kimg", type=float, help="What the networks had been shown before. [as the snapshot says, or 0]")
@click.option("--set", "sets", multiple=True, metavar="PART.FIELD=VALUE", help="Any field of the configuration.")
@click.option("-n", "--dry-run", is_flag=True, help="Print the configuration and stop.")
@refusals_in_words()
def main(
    model: str | None,
    cfg: str | None,
    resume: str | None,
    resume_mode: str,
    resume_blur: bool,
    resume_kimg: float | None,
    sets: tuple[str, ...],
    detectors: tuple[str, ...],
    dry_run: bool,
    **options: Any,
) -> None:
    """Train a 3D GAN on posed pictures.

    A new run needs --outdir, --cfg, --data, --gpus, --batch and --gamma; one that goes on (--resume=latest), --outdir
    alone. All else has the value in brackets.

    \b
    python train.py --outdir=training-runs --cfg=ffhq --data=DATA.zip --gpus=1 --batch=32 --gamma=1
    python train.py --outdir=training-runs --resume=latest
    """  # noqa: D301
    given = {name: value for name, value in options.items() if value is not None}
    given |= {"resume_blur": resume_blur, "resume_kimg": resume_kimg}
    names = {name: value for name, value in (("model", model), ("cfg", cfg)) if value is not None}
    try:
        for option in options_without_effect(given):
            say(f"Warning: {option} has no effect, as in the published code.")
        plan = make_plan(given, names, sets, resume, resume_mode, dry_run)
        if dry_run:
            say(describe(plan))
            return
        check_devices(plan.config)
        launch(with_usable_metrics(replace(plan, detectors=detector_sources(detectors)), "metrics" in given))
    except (ConfigError, DatasetError, DetectorError, MetricError, SnapshotError) as error:
        raise click.ClickException(str(error)) from error


def make_plan(
    given: Given, names: Mapping[str, str], sets: Sequence[str], source: str | None, mode: str, dry_run: bool
) -> Plan:
    """The run that a command line asks for, checked; nothing has been written yet."""
    outdir = given.get("outdir")
    if source == "latest" and outdir is None:
        raise click.UsageError("--resume=latest needs --outdir, the folder of the runs.")
    if source is not None and not is_url(source):
        found = resolve_resume(source, outdir or ".")
        plan = continued(given, names, sets, os.path.expanduser(found), "continue" if source == "latest" else mode)
        if plan is not None:
            return plan
        source = os.path.expanduser(found)
    if mode == "continue":
        what = "needs --resume" if source is None else f"{source} has no training state of a run beside it"
        raise ConfigError(f"--resume-mode=continue: {what}")
    for name in REQUIRED:
        if name not in given and name not in names:
            raise click.UsageError(f"Missing option '--{name}'.")
    return begun(given, names, sets, source, dry_run)


def continued(given: Given, names: Mapping[str, str], sets: Sequence[str], source: str, mode: str) -> Plan | None:
    """The plan to go on with the run of a snapshot, or None where it is to be a new stage."""
    if mode == "stage" or not resume.has_state(source):
        return None
    model, cfg, stored = read_options(Path(source).parent)
    config = with_sets(apply_options(stored, given), sets)
    if stored.run.resume is not None:
        config = resume.stage_config(config, given["resume_blur"])
    changes = resume.changes(stored, config)
    for name, before in (("model", model), ("cfg", cfg)):
        if names.get(name, before) != before:
            changes[name] = (before, names[name])
    if changes and mode == "auto":
        return None
    if changes.keys() & {"model", "cfg"}:
        raise ConfigError(f"--resume: {source} is of --model={model} --cfg={cfg}; it cannot go on as another")
    for path, (before, after) in changes.items():
        say(f"Changed for the rest of the run: {path} from {before} to {after}")
    dataset = ImageDataset(config.data)
    check(config, dataset)
    resume.load_trained(source)
    return Plan(model, cfg, config, Start("continue", source))


def begun(given: Given, names: Mapping[str, str], sets: Sequence[str], source: str | None, dry_run: bool) -> Plan:
    """The plan of a new run, from nothing or from the networks of a snapshot."""
    model, cfg = names.get("model", next(iter(SYSTEMS))), names["cfg"]
    data_sets = [text for text in sets if text.startswith("data.")]
    dataset = ImageDataset(with_sets(apply_options(TrainConfig(), data_options(given)), data_sets).data)
    config = apply_options(preset(model, cfg, dataset.resolution), given)
    if "device" not in given:
        config = override(config, "run.device", "cuda" if torch.cuda.is_available() else "cpu")
    start = Start()
    if source is not None:
        config = override(resume.stage_config(config, given["resume_blur"]), "run.resume", source)
        if dry_run and not is_url(source) and not Path(source).is_file():
            say(f"Warning: --resume={source}: there is no such file.")
        else:
            snapshot = resume.load_trained(source)
            config = resume.adopt_meaning(config, snapshot.recipe("G_ema"), given)
            start = Start("stage", source, images_before(snapshot.facts, given["resume_kimg"]))
    config = with_sets(config, sets)
    check(config, dataset)
    if advice := view_advice(config, dataset):
        say(advice)
    return Plan(model, cfg, config, start)


def images_before(facts: Mapping[str, Any], kimg: float | None) -> int:
    """What the networks of a snapshot have been shown: as the command line says, or the snapshot's facts, or 0."""
    if kimg is not None:
        return round(kimg * 1000)
    return round(facts.get("kimg", 0) * 1000) + facts.get("images_before", 0)


def with_sets(config: TrainConfig, sets: Sequence[str]) -> TrainConfig:
    """The configuration after the `--set` options."""
    for text in sets:
        path, equals, value = text.partition("=")
        if not equals:
            raise ConfigError(f"--set {text}: expected PART.FIELD=VALUE")
        config = override(config, path.strip(), value)
    return config


def detector_sources(texts: Sequence[str]) -> dict[str, str]:
    """Sources of feature networks by name."""
    try:
        return dict(parse_source(text) for text in texts)
    except ValueError as error:
        raise ConfigError(str(error)) from error


def with_usable_metrics(plan: Plan, asked_for: bool) -> Plan:
    """The plan; without the default metric where its feature network cannot be had, which is an error if asked for."""
    try:
        registry.require(plan.config.run.metrics, Detectors(plan.detectors), plan.config.generator.img_resolution)
        return plan
    except DetectorError as error:
        if asked_for or plan.config.run.keep_best:
            raise
        say(f"Training without metrics: {error}.")
        return replace(plan, config=override(plan.config, "run.metrics", ()))


def describe(plan: Plan) -> str:
    """The whole plan as text."""
    start = {"kind": plan.start.kind, "source": plan.start.source, "images_before": plan.start.images_before}
    content = {"model": plan.model, "cfg": plan.cfg, "start": start, **to_dict(plan.config)}
    name = plan.start.folder or Path(plan.config.run.outdir).expanduser() / f"NNNNN-{run_name(plan.cfg, plan.config)}"
    return f"{json.dumps(content, indent=2)}\n\nFolder: {name}\nDry run: nothing has been written."


def say(text: str) -> None:
    """Prints in the first of the processes that torchrun may have started."""
    if not distributed.started_by_torchrun() or os.environ["RANK"] == "0":
        click.echo(text)


if __name__ == "__main__":
    main()
