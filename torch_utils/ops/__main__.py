"""Builds the CUDA kernels ahead of time and says what it found: `python -m torch_utils.ops`."""

from __future__ import annotations

import sys
import time

import click
import torch

from torch_utils.ops import kernels
from torch_utils.ops.building import BuildError, build, find_nvcc


@click.command()
@click.option("--architecture", "architectures", multiple=True, help="Compile for GPUs such as sm_90; may be repeated.")
def main(architectures: tuple[str, ...]) -> None:
    """Build for the GPUs of this machine, or for named ones, and compare with plain torch where there is a GPU.

    The exit status is 0 where all of it went well.
    """
    devices = [torch.device("cuda", i) for i in range(torch.cuda.device_count())]
    if not devices and not architectures:
        click.echo("no GPU here: plain torch runs. To compile all the same: --architecture sm_90")
        return
    try:
        click.echo(f"compiler: {find_nvcc()}")
        for architecture in architectures or sorted({kernels.architecture(device) for device in devices}):
            start = time.perf_counter()
            library = build(architecture)
            click.echo(f"{architecture}: {library} ({time.perf_counter() - start:.1f} s)")
        for device in devices:
            kernels.checked(device)
            click.echo(f"{device} ({torch.cuda.get_device_name(device)}): agrees with plain torch")
    except (BuildError, OSError, RuntimeError) as error:
        sys.exit(f"CUDA kernels are off: {error}")


if __name__ == "__main__":
    main()
