"""Number format, memory layout and threads."""

import contextlib
from collections.abc import Iterator

import torch
from torch import nn

from kdlab.errors import KdlabError

# below this many weights a CPU gains nothing from bfloat16 (measured: 1.0-1.1x at 6,000 weights, 1.35x at 78,000)
_WORTH_HALVING = 20_000

# Below this many weights a second thread gains little (measured on two cores: 1.0-1.4x), while two processes with two
# threads each slow each other more than tenfold; with one thread the result does not depend on the number of cores.
_WORTH_THREADS = 1_000_000


def prepare(model: nn.Module, device: torch.device, precision: str) -> torch.dtype | None:
    """Move the network to `device`, its convolutions to channels-last memory; return the type to autocast to.

    Returns
    -------
    torch.dtype or None
        None for plain float32.
    """
    layout = torch.channels_last if any(p.ndim == 4 for p in model.parameters()) else torch.preserve_format
    try:
        model.to(device=device, memory_format=layout)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).partition("\n")[0]
        raise KdlabError(f"device {str(device)!r} cannot be used ({reason}). Use device='cpu'.") from None
    if precision == "bfloat16" or (precision == "auto" and _bfloat16_pays(model, device)):
        return torch.bfloat16
    return None


def _bfloat16_pays(model: nn.Module, device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type != "cpu" or not torch.cpu.get_capabilities().get("avx512_bf16", False):
        return False
    return sum(p.numel() for p in model.parameters()) >= _WORTH_HALVING


@contextlib.contextmanager
def suitable_threads(model: nn.Module) -> Iterator[None]:
    """Use one thread for a small network and all of torch's for a large one; afterwards as many as before."""
    before = torch.get_num_threads()
    small = sum(p.numel() for p in model.parameters()) < _WORTH_THREADS
    torch.set_num_threads(1 if small else before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
