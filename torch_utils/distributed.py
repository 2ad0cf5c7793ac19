"""Several processes as one: start-up, what they tell each other, and gradients averaged between them."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NoReturn

import torch
import torch.distributed as dist
from torch import Tensor

BUCKET_ELEMENTS = 2**20
"""Gradients smaller than this travel together; larger ones are reduced where they lie, without a copy."""

LARGEST_GRADIENT = 1e5
"""What an infinite entry of a gradient is replaced by."""


def rank() -> int:
    """Number of this process, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """Number of processes."""
    return dist.get_world_size() if dist.is_initialized() else 1


def is_main() -> bool:
    """Whether this process is the one that prints and writes files."""
    return rank() == 0


def print_main(*values: Any, **options: Any) -> None:
    """Prints in the main process alone."""
    if is_main():
        print(*values, **options)


def started_by_torchrun() -> bool:
    """Whether a launcher has set the number of this process and its peers in the environment."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ


def join(process_rank: int, processes: int, device: str, address: str | None = None) -> torch.device:
    """Joins the group of processes and returns the device of this one; a process alone needs no group.

    address: "host:port" of the store where they meet; None reads it from the environment, as torchrun sets it.
    Uses NCCL between GPUs and gloo between CPUs.
    """
    local_rank = int(os.environ.get("LOCAL_RANK", process_rank))
    target = torch.device("cuda", local_rank) if device == "cuda" else torch.device(device)
    if target.type == "cuda":
        torch.cuda.set_device(target)
    if processes > 1:
        store = None
        if address is not None:
            host, _, port = address.rpartition(":")
            store = dist.TCPStore(host, int(port), is_master=False)
        backend = "cuda:nccl,cpu:gloo" if target.type == "cuda" else "gloo"
        dist.init_process_group(backend, store=store, rank=process_rank, world_size=processes)
    return target


def leave() -> None:
    """Leaves the group of processes."""
    if dist.is_initialized():
        dist.destroy_process_group()


def run_processes(function: Callable[..., None], processes: int, *args: Any) -> None:
    """Runs `function(rank, processes, address, *args)` in new processes until all of them have ended.

    They meet at a store of this process, which has its port before they start: one that was free then could be taken
    when they are up. Raises torch's ProcessException where one fails; the others are ended.
    """
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    arguments = (function, processes, f"{store.host}:{store.port}", *args)
    torch.multiprocessing.spawn(_run_and_end, arguments, nprocs=processes)


def _run_and_end(rank: int, function: Callable[..., None], *args: Any) -> None:
    function(rank, *args)
    end_process()


def end_process() -> NoReturn:
    """Ends one of several processes that has done its work, without the interpreter's clean-up.

    Threads of a process group can outlive it, and a clean-up that meets them aborts what has gone well.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def broadcast_object(value: Any) -> Any:
    """The main process's value, everywhere."""
    if world_size() == 1:
        return value
    box = [value]
    dist.broadcast_object_list(box, src=0, device=torch.device("cpu"))
    return box[0]


def gather_objects(value: Any) -> list[Any]:
    """The values of all processes in order of rank, in each of them."""
    if world_size() == 1:
        return [value]
    values = [None] * world_size()
    dist.all_gather_object(values, value)
    return values


def any_process(flag: bool) -> bool:
    """Whether the flag is set in any process. Waits for the others, but not for a GPU."""
    if world_size() == 1:
        return flag
    vote = torch.tensor([int(flag)])
    dist.all_reduce(vote, op=dist.ReduceOp.MAX)
    return bool(vote)


def sum_in_place(tensor: Tensor) -> Tensor:
    """The tensor, which now holds the sum over all processes."""
    if world_size() > 1:
        dist.all_reduce(tensor)
    return tensor


@torch.no_grad()
def broadcast_module(module: torch.nn.Module) -> None:
    """Gives every process the main process's parameters and buffers."""
    if world_size() > 1:
        for tensor in [*module.parameters(), *module.buffers()]:
            dist.broadcast(tensor, src=0)


@torch.no_grad()
def average_in_place(tensors: Iterable[Tensor]) -> None:
    """Replaces each tensor by its mean over all processes."""
    if world_size() == 1:
        return
    pending = []
    for bucket in _buckets([tensor for tensor in tensors if tensor.is_floating_point()]):
        joined = bucket[0] if len(bucket) == 1 else torch.cat([tensor.reshape(-1) for tensor in bucket])
        joined /= world_size()
        pending.append((bucket, joined, dist.all_reduce(joined, async_op=True)))
    for bucket, joined, work in pending:
        work.wait()
        if len(bucket) > 1:
            parts = joined.split([tensor.numel() for tensor in bucket])
            torch._foreach_copy_(bucket, [part.view_as(t) for part, t in zip(parts, bucket, strict=True)])


@torch.no_grad()
def average_gradients(parameters: Iterable[torch.nn.Parameter]) -> None:
    """Averages gradients over all processes and mends what is not finite: NaN to 0, infinities to +-1e5."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    average_in_place(gradients)
    for gradient in gradients:
        torch.nan_to_num(gradient, nan=0, posinf=LARGEST_GRADIENT, neginf=-LARGEST_GRADIENT, out=gradient)


def _buckets(tensors: Sequence[Tensor]) -> Iterable[list[Tensor]]:
    """Large tensors alone, small ones in groups."""
    group: list[Tensor] = []
    size = 0
    for tensor in tensors:
        if tensor.numel() >= BUCKET_ELEMENTS and tensor.is_contiguous():
            yield [tensor]
            continue
        group.append(tensor)
        size += tensor.numel()
        if size >= BUCKET_ELEMENTS:
            yield group
            group, size = [], 0
    if group:
        yield group
