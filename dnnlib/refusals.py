"""What the operating system refuses, in one sentence."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

import click


@contextmanager
def refusals_in_words() -> Iterator[None]:
    """Ends a command with one sentence where a file cannot be read or written; also a decorator of its function.

    Disks are full, folders belong to others, and names are those of other things: no traceback says that better.
    """
    try:
        yield
    except OSError as error:
        # A closed pipe is the end of the reader, which click meets in silence; without a text it is no system's error.
        if error.strerror is None or error.errno == errno.EPIPE:
            raise
        where = f"{error.filename}: " if error.filename is not None else ""
        raise click.ClickException(f"{where}{error.strerror}") from error
