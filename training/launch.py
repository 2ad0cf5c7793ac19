"""Starting the processes of a run, and ending them well."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType

import torch

from dnnlib.util import Logger
from torch_utils import distributed
from training.loop import Plan, Run
from training.run_folder import create_run_folder, run_name

SAME_REQUEST_SECONDS = 2.0
"""Signals within this time are one request: `timeout` and some schedulers send theirs more than once."""

Handler = Callable[[int, FrameType | None], None]


def launch(plan: Plan) -> None:
    """Trains, in as many processes as the configuration says; those that torchrun has started join each other."""
    processes = plan.config.run.gpus
    if distributed.started_by_torchrun():
        run_process(int(os.environ["RANK"]), processes, None, plan)
        distributed.end_process()
    elif processes == 1:
        run_process(0, 1, None, plan)
    else:
        with _handling(_pass_on):
            distributed.run_processes(run_process, processes, plan)


def run_process(rank: int, processes: int, address: str | None, plan: Plan) -> None:
    """One process of a run, from joining the others to leaving them."""
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
        folder = plan.start.folder
        if folder is None and distributed.is_main():
            folder = create_run_folder(plan.config.run.outdir, run_name(plan.cfg, plan.config))
        folder = distributed.broadcast_object(folder)
        if distributed.is_main():
            stack.enter_context(Logger(folder / "log.txt"))
        Run(plan, folder, device, lambda: bool(asked)).train()


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
