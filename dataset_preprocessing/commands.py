"""What the command lines of the data tools have in common."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from dataset_preprocessing.building import Summary
from dataset_preprocessing.converting import parse_resolution
from dataset_preprocessing.parallel import default_workers
from dataset_preprocessing.storage import StorageError
from dnnlib.refusals import refusals_in_words
from training.archive import ArchiveError

Command = Callable[..., Any]

source_option = click.option(
    "--source", required=True, type=click.Path(path_type=Path), help="Folder, zip, tar, LMDB folder or file list."
)
dest_option = click.option(
    "--dest", required=True, type=click.Path(path_type=Path), help="Zip (name ends in .zip) or folder to make."
)
workers_option = click.option(
    "--workers", default=default_workers, type=click.IntRange(min=1), help="Cores to work on [default: all]."
)


class Resolution(click.ParamType):
    """A size such as 256x256."""

    name = "WxH"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int] | None:
        """Width and height of the text."""
        try:
            return value if isinstance(value, tuple) else parse_resolution(value)
        except ValueError as error:
            return self.fail(str(error), param, ctx)


def options(*decorators: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """Several options as one decorator, in the order of the help."""
    return lambda command: functools.reduce(lambda made, decorate: decorate(made), reversed(decorators), command)


picture_options = options(
    click.option(
        "--transform",
        type=click.Choice(["none", "center-crop", "center-crop-wide"]),
        default="none",
        help="center-crop: to a square. center-crop-wide: to the aspect of --resolution, with black bars.",
    ),
    click.option("--resolution", type=Resolution(), help="Size of the result, such as 256x256."),
    click.option(
        "--alpha",
        type=click.Choice(["drop", "white", "black", "mask"]),
        default="drop",
        show_default=True,
        help="Transparent pictures: drop alpha, put them on a colour, or on black with a second archive of masks.",
    ),
    click.option("--skip-broken", is_flag=True, help="Leave out pictures that cannot be read, and list them."),
    workers_option,
)


def plain_errors(command: Command) -> Command:
    """The command with the data tools' kinds of error, and the system's, turned into one message and exit status 1."""

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> Any:
        try:
            with refusals_in_words():
                return command(*args, **kwargs)
        except (ArchiveError, StorageError) as error:
            text = str(error).encode("utf-8", "backslashreplace").decode()
            raise click.ClickException(text) from None

    return run


def tell(summary: Summary) -> None:
    """Print the facts of a finished set."""
    for fault in summary.left_out:
        click.echo(f"left out: {fault}", err=True)
    size = f"{summary.resolution}x{summary.resolution}"
    click.echo(
        f"{summary.path}: {summary.images} pictures of {size}, {summary.images - summary.unlabelled} with labels"
    )
