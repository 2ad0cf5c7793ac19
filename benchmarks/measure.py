"""Seconds, memory and operations of a piece of work, and what the machine could do at best."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

Step = Callable[[], object]


@dataclass(frozen=True)
class Timing:
    """Times of repeats of one work, in seconds."""

    median_seconds: float
    best_seconds: float


def synchronize(device: torch.device) -> None:
    """Waits until the device has done all that was asked of it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def time_step(step: Step, device: torch.device, warmup: int, repeats: int) -> Timing:
    """Times of a step, after some runs that do not count."""
    seconds = []
    for _ in range(warmup + repeats):
        synchronize(device)
        start = time.perf_counter()
        step()
        synchronize(device)
        seconds.append(time.perf_counter() - start)
    return Timing(statistics.median(seconds[warmup:]), min(seconds[warmup:]))


def count_flop(step: Step) -> int:
    """Multiplications and additions in the convolutions and matrix products of one run."""
    with FlopCounterMode(display=False) as counter:
        step()
    return counter.get_total_flops()


def peak_memory(device: torch.device) -> int:
    """Most bytes that this process has held so far: on the GPU for a GPU, else in main memory (Linux alone; else 0)."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    # Not `getrusage`, which begins with the memory of the process that started this one.
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


def best_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Operations per second of the faster of a 2048-square matrix product and a 3x3 convolution of 128 channels."""
    with torch.inference_mode():
        matrix = torch.randn(2048, 2048, device=device, dtype=dtype)
        image = torch.randn(1, 128, 256, 256, device=device, dtype=dtype).to(memory_format=torch.channels_last)
        kernel = torch.randn(128, 128, 3, 3, device=device, dtype=dtype).to(memory_format=torch.channels_last)
        product = time_step(lambda: matrix @ matrix, device, 2, 7).best_seconds
        convolution = time_step(lambda: F.conv2d(image, kernel, padding=1), device, 2, 7).best_seconds
    return max(2 * 2048**3 / product, 2 * 9 * 128**2 * 256**2 / convolution)


def describe_device(device: torch.device) -> str:
    """The device in words."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    name = names[0] if names else "CPU"
    return f"{name}, {torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}"
