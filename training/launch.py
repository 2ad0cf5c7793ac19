"""Starting the processes of a run, and ending them well."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType

import torch

from dnnlib.util import Logger
from torch_utils import distributed
from training.loop import Plan, Run
from training.run_folder import LOG_FILE, create_run_folder, held, run_name

SAME_REQUEST_SECONDS = 2.0
"""Signals within this time are one request: `timeout` and some schedulers send theirs more than once."""

Handler = Callable[[int, FrameType | None], None]


def launch(plan: Plan) -> None:
    """Trains, in as many processes as the configuration says; those that torchrun has started join each other."""
    processes = plan.config.run.gpus
    rank = int(os.environ["RANK"]) if distributed.started_by_torchrun() else 0
    with ExitStack() as stack:
        folder = stack.enter_context(_run_folder(plan)) if rank == 0 else None
        if distributed.started_by_torchrun():
            run_process(rank, processes, None, plan, folder)
            distributed.end_process()
        elif processes == 1:
            run_process(0, 1, None, plan, folder)
        else:
            with _handling(_pass_on):
                distributed.run_processes(run_process, processes, plan, folder)


@contextmanager
def _run_folder(plan: Plan) -> Iterator[Path]:
    """The folder of the run, a new one or that of the run that goes on, and nobody else's until the end."""
    folder = plan.start.folder or create_run_folder(plan.config.run.outdir, run_name(plan.cfg, plan.config))
    with held(folder):
        yield folder


def run_process(rank: int, processes: int, address: str | None, plan: Plan, folder: Path | None) -> None:
    """One process of a run, from joining the others to leaving them; the first knows the folder."""
    asked: list[float] = []

    def remember(number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if asked and now - asked[0] > SAME_REQUEST_SECONDS:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        if not asked:
            distributed.print_main("\nEnding after this step, with a snapshot; once more to end at once.", flush=True)
        asked.append(now)

    with _handling(remember), ExitStack() as stack:
        if address is not None:
            # The process that started this one passes requests on; the terminal's own would come twice.
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        device = distributed.join(rank, processes, plan.config.run.device, address)
        stack.callback(distributed.leave)
        if device.type == "cpu":
            torch.set_num_threads(max(torch.get_num_threads() // processes, 1))
        shared: Path = distributed.broadcast_object(folder)
        if distributed.is_main():
            stack.enter_context(Logger(shared / LOG_FILE))
        Run(plan, shared, device, lambda: bool(asked)).train()


def _pass_on(number: int, frame: FrameType | None) -> None:
    """Passes a request to stop on to the processes of the run."""
    for process in multiprocessing.active_children():
        process.terminate()


@contextmanager
def _handling(handler: Handler) -> Iterator[None]:
    """Sends interrupts and requests to terminate to a handler."""
    before = {number: signal.signal(number, handler) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)
