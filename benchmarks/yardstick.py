"""The unit in which costs are given: the time of one fixed piece of work.

Seconds do not carry from machine to machine, nor from a quiet minute to a busy one. Run as
`python -m benchmarks.yardstick`: a process of its own, without this project's settings.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.measure import time_step
from torch_utils.memory import HUGE_PAGES


def unit_seconds(device: torch.device, repeats: int = 9) -> float:
    """Median time of forward and backward of a convolution, a look-up in planes and a small dense layer."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator).to(device).requires_grad_()

    image, kernel = normal(2, 64, 128, 128), normal(64, 64, 3, 3)
    planes = normal(3, 32, 128, 128)
    places = (torch.rand(3, 1, 2**16, 2, generator=generator) * 2 - 1).to(device)
    points, layer = normal(2**18, 32), normal(32, 64)

    def step() -> None:
        total = F.conv2d(image, kernel, padding=1).square().mean()
        total += F.grid_sample(planes, places, align_corners=False).square().mean()
        total += F.softplus(points @ layer).mean()
        total.backward()

    return time_step(step, device, 2, repeats).median_seconds


def measured_apart(device: str, threads: int) -> float:
    """The unit in seconds, measured by a process of its own, which does not inherit the allocator's settings."""
    command = [sys.executable, "-m", "benchmarks.yardstick", "--device", device, "--threads", str(threads)]
    environment = {name: value for name, value in os.environ.items() if name != HUGE_PAGES}
    result = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    return float(result.stdout)


def main() -> None:
    """Print the unit in seconds."""
    arguments = argparse.ArgumentParser(description=main.__doc__)
    arguments.add_argument("--device", default="cpu")
    arguments.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = arguments.parse_args()
    torch.set_num_threads(options.threads)
    print(f"{unit_seconds(torch.device(options.device)):.4f}")


if __name__ == "__main__":
    main()
