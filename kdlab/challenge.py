"""A whole network in one file, and the budgets that such a file has to keep.

A file is a checksum, the network's settings as JSON, and its packed tensors. Nothing is ever unpickled.
"""

import json
import numbers
import zlib
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from kdlab import measure, models
from kdlab.errors import KdlabError
from kdlab.measure.packing import pack_rounded
from kdlab.measure.rounding import BITS
from kdlab.writing import write_whole

_MAGIC = b"KDNET"
_DTYPES = {16: torch.float16, 32: torch.float32}
_BROKEN = (ValueError, TypeError, LookupError, AttributeError, RuntimeError, MemoryError)


@dataclass(frozen=True)
class Budget:
    """What a network may cost.

    Attributes
    ----------
    bytes : int
        Of the file that `save` writes.
    macs : int
        Multiply-accumulate operations for one picture of 28 x 28.
    latency : float
        Time for one picture with one thread, divided by that of `reference` on the same machine.
    """

    bytes: int
    macs: int
    latency: float

    def __repr__(self) -> str:
        return f"at most {self.bytes:,} bytes, {self.macs:,} MACs, {self.latency:g} of the reference's time"


BUDGETS = {
    "small": Budget(bytes=50_000, macs=1_500_000, latency=1.0),
    "smaller": Budget(bytes=25_000, macs=1_000_000, latency=0.8),
    "tiny": Budget(bytes=10_000, macs=500_000, latency=0.8),
}


def reference() -> nn.Module:
    """Return the network whose time is the unit of latency: the course's residual teacher, untrained."""
    return models.build("resnet", width=24, blocks=2)


def save(model: nn.Module, path: str | Path, bits: int = 8) -> int:
    """Write a network into one file.

    Parameters
    ----------
    bits
        2 to 8: weights as whole numbers of so many bits, the rest as float16; 16 or 32: everything as float16 or
        float32.

    Returns
    -------
    int
        The size of the file, in bytes.

    Raises
    ------
    KdlabError
        If the network cannot be built again from its settings, or its numbers do not fit the bits.
    """
    raw = to_bytes(model, bits)
    write_whole(Path(path), raw)
    return len(raw)


def load(path: str | Path) -> nn.Module:
    """Return the network that `save` wrote, in eval mode, on the CPU.

    Raises
    ------
    KdlabError
        If there is no such file, or it is cut short, altered, or no network.
    """
    try:
        raw = Path(path).read_bytes()
    except OSError as error:
        raise KdlabError(f"{str(path)!r} cannot be read ({error.strerror}). Write it with challenge.save.") from None
    return from_bytes(raw)


def to_bytes(model: nn.Module, bits: int = 8) -> bytes:
    """Return the bytes that `save` writes; raises as it does."""
    check_bits(bits)
    settings = _as_json(models.settings_of(model))
    if bits in _DTYPES:
        body = measure.pack(model, _DTYPES[bits])
    else:
        body = pack_rounded(model.state_dict(), bits, named=False)
    rest = len(settings).to_bytes(2, "little") + settings + body
    return _MAGIC + zlib.crc32(rest).to_bytes(4, "little") + rest


def from_bytes(raw: bytes) -> nn.Module:
    """Return the network that `to_bytes` turned into bytes; raises as `load` does."""
    start = len(_MAGIC) + 4
    if not raw.startswith(_MAGIC):
        raise KdlabError("These bytes are no network of the course. Write the file with challenge.save.")
    rest = raw[start:]
    if zlib.crc32(rest).to_bytes(4, "little") != raw[start - 4 : start]:
        raise KdlabError("This file of a network is cut short or altered. Write it again with challenge.save.")
    end = 2 + int.from_bytes(rest[:2], "little")
    try:
        model = models.build(**json.loads(rest[2:end]))
        state = measure.unpack(rest[end:], like=model.state_dict())
        model.load_state_dict(state)
    except KdlabError:
        raise
    except _BROKEN as error:
        reason = " ".join(str(error).split())
        raise KdlabError(
            f"This file does not hold the network that it says ({reason}). Write it with challenge.save."
        ) from None
    return model.eval()


def check_bits(bits: int) -> None:
    """Raise `KdlabError` unless `bits` is a whole number from 2 to 8, or 16, or 32."""
    if isinstance(bits, bool) or not isinstance(bits, numbers.Integral) or bits not in (*BITS, *_DTYPES):
        raise KdlabError(f"bits is {bits!r}; expected a whole number from 2 to 8, or 16, or 32.")


def _as_json(settings: dict) -> bytes:
    try:
        text = json.dumps(settings, separators=(",", ":")).encode()
    except TypeError as error:
        raise KdlabError(
            f"The settings of this network cannot be written down ({error}). Expected numbers, strings and tuples."
        ) from None
    if len(text) >= 2**16:
        raise KdlabError(f"The settings of this network take {len(text):,} bytes; expected less than 65,536.")
    return text
