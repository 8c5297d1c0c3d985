"""Bytes made fewer without loss: whichever of a few coders does best."""

import lzma
import zlib

import numpy as np

_LZMA = [{"id": lzma.FILTER_LZMA1, "dict_size": 1 << 20, "lc": 0, "lp": 0, "pb": 0, "preset": 6 | lzma.PRESET_EXTREME}]
_DEFLATED, _LZMAED = 0, 1
_WITH_PLACES = 2


def squeeze(raw: bytes) -> bytes:
    """Return one byte that names the coder, and the bytes as the best coder leaves them."""
    mark, coded = min(_coded(raw), key=lambda pair: len(pair[1]))
    return bytes([mark]) + coded


def expand(squeezed: bytes) -> bytes:
    """Return what `squeeze` was given; raises ValueError, zlib.error or lzma.LZMAError for anything else."""
    return _decoded(squeezed[0], squeezed[1:])


def squeeze_codes(codes: np.ndarray) -> bytes:
    """Squeeze whole numbers (int8): one a byte, or a bit for every place and the others than zero.

    One number a byte lets Huffman's code follow how often each number occurs; bits packed side by side hide it, and
    are larger in all but 8 bits.
    """
    layouts = {0: codes.tobytes(), _WITH_PLACES: with_places(codes)}
    pairs = [(layout | mark, coded) for layout, raw in layouts.items() for mark, coded in _coded(raw)]
    mark, coded = min(pairs, key=lambda pair: len(pair[1]))
    return bytes([mark]) + coded


def expand_codes(squeezed: bytes, count: int) -> np.ndarray:
    """Return the `count` whole numbers (int8) that `squeeze_codes` was given; raises as `expand` does."""
    raw = _decoded(squeezed[0] & 1, squeezed[1:])
    if not squeezed[0] & _WITH_PLACES:
        return np.frombuffer(raw, np.int8, count).copy()
    return from_places(raw, np.dtype(np.int8), count)[0]


def with_places(flat: np.ndarray) -> bytes:
    """Return a bit for every place of a flat array, and the numbers that are not zero."""
    alive = flat != 0
    return np.packbits(alive).tobytes() + flat[alive].tobytes()


def from_places(raw: bytes, dtype: np.dtype, count: int, start: int = 0) -> tuple[np.ndarray, int]:
    """Return the `count` numbers that `with_places` turned into bytes, and where the bytes end."""
    places = np.frombuffer(raw, np.uint8, -(-count // 8), start)
    alive, start = np.unpackbits(places, count=count).astype(bool), start + len(places)
    flat, living = np.zeros(count, dtype), int(alive.sum())
    flat[alive] = np.frombuffer(raw, dtype, living, start) if living else []
    return flat, start + living * dtype.itemsize


def _coded(raw: bytes) -> list[tuple[int, bytes]]:
    return [
        (_DEFLATED, _deflated(raw, zlib.Z_DEFAULT_STRATEGY)),
        (_DEFLATED, _deflated(raw, zlib.Z_HUFFMAN_ONLY)),
        (_LZMAED, lzma.compress(raw, lzma.FORMAT_RAW, filters=_LZMA)),
    ]


def _deflated(raw: bytes, strategy: int) -> bytes:
    coder = zlib.compressobj(9, zlib.DEFLATED, -15, 9, strategy)
    return coder.compress(raw) + coder.flush()


def _decoded(mark: int, coded: bytes) -> bytes:
    if mark == _LZMAED:
        return lzma.decompress(coded, lzma.FORMAT_RAW, filters=_LZMA)
    return zlib.decompress(coded, -15)
