"""A network as few bytes."""

import json
import lzma
import zlib

import numpy as np
import torch
from torch import Tensor, nn

from kdlab.errors import KdlabError
from kdlab.measure import coding, rounding

_MAGIC = b"KDLAB1"
_ROUNDED_MAGIC = b"KDQ"
_FLOAT = "f"
_BROKEN = (ValueError, TypeError, LookupError, zlib.error, lzma.LZMAError)
Heads = list[tuple[str, tuple[int, ...], str]]  # name, shape and type of every tensor, in order


def pack(model: nn.Module, dtype: torch.dtype = torch.float32, *, bits: int | None = None) -> bytes:
    """Save a network compactly: per tensor the non-zeros and a bit for every place (or all, where that is smaller).

    The whole is deflated. `unpack` gives the same numbers back: the file that a sparse network really needs.

    Parameters
    ----------
    dtype
        torch.float32, or torch.float16 to halve the values (rounding them).
    bits
        2 to 8: round weights to so many bits, everything else to float16, as `quantise` does; `dtype` does not count.

    Raises
    ------
    KdlabError
        For other `bits`, and for numbers that `bits` cannot round: not finite, or too large for float16.
    """
    if bits is not None:
        return pack_rounded(model.state_dict(), bits)
    heads, parts = [], []
    for name, tensor in model.state_dict().items():
        flat = cast(tensor, dtype).detach().cpu().contiguous().flatten().numpy()
        sparse, dense = coding.with_places(flat), flat.tobytes()
        use_sparse = len(sparse) < len(dense)
        parts.append(sparse if use_sparse else dense)
        heads.append([name, list(tensor.shape), flat.dtype.str, int(np.count_nonzero(flat)) if use_sparse else -1])
    head = json.dumps(heads, separators=(",", ":")).encode()
    return _MAGIC + zlib.compress(len(head).to_bytes(4, "little") + head + b"".join(parts), 9)


def unpack(packed: bytes, like: dict[str, Tensor] | None = None) -> dict[str, Tensor]:
    """Return the state dictionary that `pack` saved (float16 values stay float16; rounded ones become float32).

    Parameters
    ----------
    like
        Tensors of the same names, shapes and types, for bytes that were packed without them.

    Raises
    ------
    KdlabError
        If the bytes were not written by `pack`, are cut short, or do not fit `like`.
    """
    try:
        if packed.startswith(_ROUNDED_MAGIC):
            return _unpack_rounded(packed, like)
        if not packed.startswith(_MAGIC):
            raise ValueError("no such header")
        raw = zlib.decompress(packed[len(_MAGIC) :])
        start = 4 + int.from_bytes(raw[:4], "little")
        state = {}
        for name, shape, dtype, alive in json.loads(raw[4:start]):
            flat, start = _unpack_one(raw, start, int(np.prod(shape)), np.dtype(dtype), alive)
            state[name] = torch.from_numpy(flat).reshape(shape)
        return state
    except _BROKEN as error:
        reason = str(error).rstrip(".")
        raise KdlabError(f"These bytes are not a packed network ({reason}). Pack it again with measure.pack.") from None


def cast(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """Return a floating-point tensor as `dtype`, any other as it is."""
    return tensor.to(dtype) if tensor.is_floating_point() else tensor


def _unpack_one(raw: bytes, start: int, size: int, dtype: np.dtype, alive: int) -> tuple[np.ndarray, int]:
    if alive < 0:
        return np.frombuffer(raw, dtype, size, start).copy(), start + size * dtype.itemsize
    return coding.from_places(raw, dtype, size, start)


# -- rounded to a few bits: a checksum, everything that is no code (squeezed), all codes together (squeezed) -----------


def pack_rounded(state: dict[str, Tensor], bits: int, *, named: bool = True) -> bytes:
    """Return a state dictionary as bytes, its weights rounded to `bits`.

    Parameters
    ----------
    named
        Whether names and shapes are written: without them, `unpack` has to be told with `like`.
    """
    rounding.check_bits(bits)
    plain, codes = [], [np.zeros(0, np.int8)]
    for name, tensor in state.items():
        if rounding.is_coded(tensor):
            whole, tensor = rounding.encode(name, tensor, bits)
            codes.append(whole.contiguous().numpy().ravel())
        elif tensor.is_floating_point():
            tensor = rounding.to_half(name, tensor)
        plain.append(tensor.detach().cpu().contiguous().numpy().tobytes())
    head = json.dumps(list(zip(*_heads(state), strict=True)), separators=(",", ":")).encode() if named else b""
    rest = coding.squeeze(len(head).to_bytes(3, "little") + head + b"".join(plain))
    body = len(rest).to_bytes(3, "little") + rest + coding.squeeze_codes(np.concatenate(codes))
    return _ROUNDED_MAGIC + zlib.crc32(body).to_bytes(4, "little") + body


def _heads(state: dict[str, Tensor]) -> Heads:
    kinds = (_FLOAT if t.is_floating_point() else _numpy_type(t) for t in state.values())
    return [(name, tuple(t.shape), kind) for (name, t), kind in zip(state.items(), kinds, strict=True)]


def _numpy_type(tensor: Tensor) -> str:
    return torch.empty(0, dtype=tensor.dtype).numpy().dtype.str


def _unpack_rounded(packed: bytes, like: dict[str, Tensor] | None) -> dict[str, Tensor]:
    start = len(_ROUNDED_MAGIC) + 4
    body = packed[start:]
    if zlib.crc32(body).to_bytes(4, "little") != packed[start - 4 : start]:
        raise ValueError("cut short or altered")
    middle = 3 + int.from_bytes(body[:3], "little")
    plain = coding.expand(body[3:middle])
    start = 3 + int.from_bytes(plain[:3], "little")
    heads = list(zip(*json.loads(plain[3:start]), strict=True)) if start > 3 else _heads(like or {})
    if not heads and len(plain) > start:
        raise ValueError("packed without names: say with like= which tensors they are")
    coded = [_size(shape) for _, shape, kind in heads if _is_coded(shape, kind)]
    codes = np.split(coding.expand_codes(body[middle:], sum(coded)), np.cumsum(coded))
    return _restored(heads, plain, start, codes)


def _restored(heads: Heads, plain: bytes, start: int, codes: list[np.ndarray]) -> dict[str, Tensor]:
    state, codes = {}, iter(codes)
    for name, shape, kind in heads:
        stored = shape[:1] if _is_coded(shape, kind) else shape
        flat = np.frombuffer(plain, np.float16 if kind == _FLOAT else kind, _size(stored), start).copy()
        start += flat.nbytes
        tensor = torch.from_numpy(flat).reshape(stored)
        if _is_coded(shape, kind):
            tensor = rounding.decode(torch.from_numpy(next(codes)).reshape(shape), tensor)
        state[name] = tensor.float() if kind == _FLOAT else tensor
    if start != len(plain):
        raise ValueError("more numbers than the tensors hold")
    return state


def _is_coded(shape: tuple[int, ...], kind: str) -> bool:
    return kind == _FLOAT and len(shape) >= 2 and _size(shape) > 0


def _size(shape: tuple[int, ...]) -> int:
    return int(np.prod(shape, dtype=np.int64))
