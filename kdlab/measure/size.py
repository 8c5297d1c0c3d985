"""Parameters and bytes."""

import json
import zlib

import numpy as np
import torch
from torch import Tensor, nn

from kdlab.errors import KdlabError

_MAGIC = b"KDLAB1"


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

    return len(save({k: _cast(v, dtype).contiguous() for k, v in model.state_dict().items()}))


def pack(model: nn.Module, dtype: torch.dtype = torch.float32) -> bytes:
    """Save a network compactly: per tensor the non-zeros and a bit for every place (or all, where that is smaller).

    The whole is deflated. `unpack` gives the same numbers back: the file that a sparse network really needs.

    Parameters
    ----------
    dtype
        torch.float32, or torch.float16 to halve the values (rounding them).
    """
    heads, parts = [], []
    for name, tensor in model.state_dict().items():
        flat = _cast(tensor, dtype).detach().cpu().contiguous().flatten().numpy()
        alive = flat != 0
        sparse = np.packbits(alive).tobytes() + flat[alive].tobytes()
        dense = flat.tobytes()
        use_sparse = len(sparse) < len(dense)
        parts.append(sparse if use_sparse else dense)
        heads.append([name, list(tensor.shape), flat.dtype.str, int(alive.sum()) if use_sparse else -1])
    head = json.dumps(heads, separators=(",", ":")).encode()
    return _MAGIC + zlib.compress(len(head).to_bytes(4, "little") + head + b"".join(parts), 9)


def unpack(packed: bytes) -> dict[str, Tensor]:
    """Return the state dictionary that `pack` saved (float16 values stay float16).

    Raises
    ------
    KdlabError
        If the bytes were not written by `pack`, or are cut short.
    """
    try:
        if not packed.startswith(_MAGIC):
            raise ValueError("no such header")
        raw = zlib.decompress(packed[len(_MAGIC) :])
        start = 4 + int.from_bytes(raw[:4], "little")
        state = {}
        for name, shape, dtype, alive in json.loads(raw[4:start]):
            flat, start = _unpack_one(raw, start, int(np.prod(shape)), np.dtype(dtype), alive)
            state[name] = torch.from_numpy(flat).reshape(shape)
        return state
    except (ValueError, zlib.error, UnicodeDecodeError) as error:
        raise KdlabError(f"These bytes are not a packed network ({error}). Pack it again with measure.pack.") from None


def _unpack_one(raw: bytes, start: int, size: int, dtype: np.dtype, alive: int) -> tuple[np.ndarray, int]:
    if alive < 0:
        return np.frombuffer(raw, dtype, size, start).copy(), start + size * dtype.itemsize
    bits = np.frombuffer(raw, np.uint8, -(-size // 8), start)
    start += len(bits)
    flat = np.zeros(size, dtype)
    flat[np.unpackbits(bits, count=size).astype(bool)] = np.frombuffer(raw, dtype, alive, start)
    return flat, start + alive * dtype.itemsize


def _cast(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    return tensor.to(dtype) if tensor.is_floating_point() else tensor
