"""Whether our CUDA kernels run: wanted, built, and found to agree with plain torch; one line where they are not."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import torch
from torch import Tensor

from torch_utils import distributed
from torch_utils.ops.binding import FORMATS, MAX_ELEMENTS, Kernels
from torch_utils.ops.building import BuildError, build

COST = "filters, activations and look-ups run in plain torch, slower and with more memory"

_wanted = True


def use(wanted: bool) -> None:
    """Turns the kernels on or off in this process; off, plain torch runs everywhere."""
    global _wanted
    _wanted = wanted


def serve(*tensors: Tensor | None) -> bool:
    """Whether the kernels run for these tensors: on a GPU, in one of their formats, and of a size they can count."""
    given = [tensor for tensor in tensors if tensor is not None]
    fits = all(x.is_cuda and x.dtype in FORMATS and x.numel() <= MAX_ELEMENTS for x in given)
    return _wanted and fits and _usable(given[0].device)


@torch.compiler.assume_constant_result
def _usable(device: torch.device) -> bool:
    return loaded(device) is not None


@cache
def loaded(device: torch.device) -> Kernels | None:
    """The kernels for a GPU, built where that has not happened yet, or None after one line on standard error."""
    try:
        return checked(device)
    except (BuildError, OSError, RuntimeError) as error:
        lines = str(error).splitlines() or [type(error).__name__]
        distributed.print_main(f"CUDA kernels are off ({lines[0]}): {COST}.", file=sys.stderr)
        return None


def checked(device: torch.device) -> Kernels:
    """The kernels for a GPU, after a comparison with plain torch.

    Raises BuildError where they cannot be built or do not agree, OSError where they cannot be loaded, RuntimeError
    where they do not run.
    """
    # The comparison knows the operations, which know this file.
    from torch_utils.ops.agreement import disagreement

    found = Kernels(build(architecture(device)))
    # In a thread of its own it meets none of the caller's modes (inference, compilation, operators below autograd).
    with ThreadPoolExecutor(1) as pool:
        problem = pool.submit(disagreement, found, device).result()
    if problem is not None:
        raise BuildError(problem)
    return found


def architecture(device: torch.device) -> str:
    """What the compiler calls a GPU's generation, such as "sm_90"."""
    major, minor = torch.cuda.get_device_capability(device)
    return f"sm_{major}{minor}"
