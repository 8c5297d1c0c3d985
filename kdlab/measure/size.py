"""Parameters and bytes."""

import torch
from torch import nn

from kdlab.measure.packing import cast


def parameters(model: nn.Module) -> int:
    """Count the trainable numbers of a network."""
    return sum(p.numel() for p in model.parameters())


def nonzeros(model: nn.Module) -> int:
    """Count the trainable numbers that are not zero."""
    return sum(int(p.count_nonzero()) for p in model.parameters())


def bytes_on_disk(model: nn.Module, dtype: torch.dtype = torch.float32) -> int:
    """Return the size in bytes of the network saved as a safetensors file: every number, zeros included.

    Parameters
    ----------
    dtype
        The type in which floating-point numbers are saved.
    """
    from safetensors.torch import save

    return len(save({k: cast(v, dtype).contiguous() for k, v in model.state_dict().items()}))
