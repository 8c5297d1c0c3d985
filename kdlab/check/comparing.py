"""Equal up to float noise, and in words what differs."""

import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

RELATIVE, ABSOLUTE = 1e-4, 1e-5
_SHOWN_NUMBERS = 16


@dataclass(frozen=True)
class Foreign:
    """Something that could not be carried over from another process; it agrees with nothing."""

    words: str


def agree(expected: Any, received: Any, relative: float = RELATIVE, absolute: float = ABSOLUTE) -> bool:
    """Whether `received` is `expected`, whatever its float dtype and its container.

    Numbers may be Python's, NumPy's or tensors without dimensions; a tuple may be a list, an array or a vector.
    Float tensors of any precision are compared in float64; a half-precision answer gets its own coarser tolerance.
    NaN agrees with NaN.
    """
    if isinstance(expected, dict):
        return (
            isinstance(received, dict)
            and expected.keys() == received.keys()
            and all(agree(expected[key], received[key], relative, absolute) for key in expected)
        )
    if isinstance(expected, list | tuple):
        items = as_items(received)
        return (
            items is not None
            and len(items) == len(expected)
            and all(agree(e, r, relative, absolute) for e, r in zip(expected, items, strict=True))
        )
    if expected is None or isinstance(expected, str):
        return expected == received if isinstance(received, str | None) else False
    return alike(expected, received) and _close(as_tensor(expected), as_tensor(received), relative, absolute)


def alike(expected: Any, received: Any) -> bool:
    """Whether two answers have the same type and shape, so that numbers are what differs."""
    if isinstance(expected, dict):
        return isinstance(received, dict)
    if isinstance(expected, list | tuple):
        items = as_items(received)
        return items is not None and len(items) == len(expected) and all(map(alike, expected, items))
    if expected is None or isinstance(expected, str):
        return type(expected) is type(received)
    expected, received = as_tensor(expected), as_tensor(received)
    if expected is None or received is None or expected.shape != received.shape:
        return False
    kinds = {kind(expected), kind(received)}
    return len(kinds) == 1 or (expected.ndim == 0 and kinds == {"int", "float"})


def _close(expected: torch.Tensor, received: torch.Tensor, relative: float, absolute: float) -> bool:
    if kind(expected) == "float" and kind(received) == "float":
        noise = 4 * torch.finfo(received.dtype).eps
        relative, absolute = max(relative, noise), absolute if noise < relative else max(absolute, noise)
    if kind(expected) == "complex":
        return torch.allclose(expected.to(torch.complex128), received.to(torch.complex128), relative, absolute)
    if kind(expected) != "float":
        if kind(received) != "float":
            return torch.equal(expected.to(torch.int64), received.to(torch.int64))
        relative, absolute = 1e-9, 1e-6  # a count that happens to be held in a float is still exact
    return torch.allclose(received.double(), expected.double(), relative, absolute, equal_nan=True)


def same(before: Any, after: Any) -> bool:
    """Whether nothing changed: bit for bit, NaN included, gradients and `requires_grad` included."""
    if isinstance(before, torch.Tensor):
        return (
            isinstance(after, torch.Tensor)
            and before.shape == after.shape
            and before.dtype == after.dtype
            and before.requires_grad == (after.requires_grad and after.is_leaf)
            and torch.equal(torch.isnan(before), torch.isnan(after))
            and torch.equal(torch.nan_to_num(before.detach()), torch.nan_to_num(after.detach()))
        )
    if isinstance(before, dict):
        return before.keys() == after.keys() and all(same(before[key], after[key]) for key in before)
    if isinstance(before, list | tuple):
        return len(before) == len(after) and all(same(b, a) for b, a in zip(before, after, strict=True))
    if _is_array(before):
        return bool((sys.modules["numpy"].asarray(before == after)).all())
    return before is after or before == after


def as_tensor(value: Any) -> torch.Tensor | None:
    """A number, array or tensor as a dense tensor without history; None for anything else."""
    if isinstance(value, torch.Tensor):
        value = value.detach()
        return value.to_dense() if value.layout != torch.strided else value.cpu()
    if isinstance(value, bool):
        return torch.tensor(value)
    if isinstance(value, int):
        return torch.tensor(value) if abs(value) < 2**63 else torch.tensor(math.inf, dtype=torch.float64)
    if isinstance(value, float):
        return torch.tensor(value, dtype=torch.float64)
    if _is_array(value) and value.dtype.kind in "biuf":
        return torch.from_numpy(sys.modules["numpy"].array(value))
    return None


def as_items(value: Any) -> list | None:
    """A list, tuple, vector or array as a list of its items; None for anything else."""
    if isinstance(value, list | tuple):
        return list(value)
    if isinstance(value, torch.Tensor) or _is_array(value):
        return list(value) if value.ndim else None
    return None


def kind(tensor: torch.Tensor) -> str:
    if tensor.dtype == torch.bool:
        return "bool"
    if tensor.dtype.is_complex:
        return "complex"
    return "float" if tensor.dtype.is_floating_point else "int"


def first_difference(expected: Any, received: Any, names: tuple[str, ...] = ()) -> tuple[str, Any, Any]:
    """The first part in which two answers differ: its name ('' for the whole), what was expected, what came."""
    if isinstance(expected, dict) and isinstance(received, dict):
        for key in expected:
            if not agree(expected[key], received.get(key)):
                return key, expected[key], received.get(key)
    if isinstance(expected, tuple) and names:
        items = as_items(received)
        if items is not None and len(items) == len(expected):
            for name, e, r in zip(names, expected, items, strict=True):
                if not agree(e, r):
                    return name, e, r
    return "", expected, received


def has_nan(value: Any) -> bool:
    if isinstance(value, dict):
        return any(has_nan(item) for item in value.values())
    if isinstance(value, list | tuple):
        return any(has_nan(item) for item in value)
    tensor = as_tensor(value)
    return tensor is not None and kind(tensor) == "float" and bool(tensor.isnan().any())


def is_void(value: Any) -> bool:
    """Whether it holds NaN or infinity, and not one finite float: then it tells nothing about where it came from."""
    floats = list(_floats(value))
    return any(tensor.numel() for tensor in floats) and not any(bool(tensor.isfinite().any()) for tensor in floats)


def _floats(value: Any) -> Iterator[torch.Tensor]:
    if isinstance(value, dict | list | tuple):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _floats(item)
    else:
        tensor = as_tensor(value)
        if tensor is not None and kind(tensor) == "float":
            yield tensor


def describe(value: Any, values: bool = True) -> str:
    """A value's type, shape and (if `values`) range in a few words."""
    if isinstance(value, torch.Tensor) or _is_array(value):
        return _describe_tensor(value, values)
    if isinstance(value, dict):
        return f"a dictionary with {_items(value)}"
    if isinstance(value, list | tuple):
        return f"a {type(value).__name__} of {_items(value)}"
    if value is None or isinstance(value, bool | int | float):
        return "None" if value is None else f"the {type(value).__name__} {shown(value)}"
    if isinstance(value, str):
        return f"the text {value[:40]!r}"
    return value.words if isinstance(value, Foreign) else f"a {type(value).__name__}"


def _items(value: dict | list | tuple) -> str:
    count = f"{len(value)} item{'s' * (len(value) != 1)}"
    keys = ", ".join(map(str, value)) if isinstance(value, dict) else ""
    return f"{count} ({keys[:60]})" if keys else count


def _describe_tensor(value: Any, values: bool) -> str:
    word = "tensor" if isinstance(value, torch.Tensor) else "array"
    tensor = as_tensor(value)
    if tensor is None:
        return f"an {word} of {value.dtype}"
    dtype = str(tensor.dtype).removeprefix("torch.")
    size = f"{tuple(tensor.shape)} " if tensor.ndim else "single-number "
    text = f"a {size}{dtype} {word}"
    if not values:
        return text
    if kind(tensor) == "float" and tensor.isnan().any():
        numbers = tensor[~tensor.isnan()]
        return f"{text}{_range(numbers)}, some NaN" if numbers.numel() else f"{text}, all NaN"
    return text + _range(tensor)


def _range(tensor: torch.Tensor) -> str:
    if not tensor.numel() or kind(tensor) not in ("int", "float"):
        return ""
    low, high = shown(tensor.min().item()), shown(tensor.max().item())
    return f", values {low} to {high}" if tensor.ndim else f", value {low}"


def shown(value: Any) -> str:
    """Small numbers, rounded; large things by their shape."""
    if isinstance(value, dict):
        return ", ".join(f"{key}: {shown(item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        left, right = "[]" if isinstance(value, list) else "()"
        return (
            f"{left}{', '.join(shown(item) for item in value)}{right}"
            if len(value) <= _SHOWN_NUMBERS
            else describe(value)
        )
    if isinstance(value, torch.Tensor) or _is_array(value):
        tensor = as_tensor(value)
        return describe(value) if tensor is None or tensor.numel() > _SHOWN_NUMBERS else shown(tensor.tolist())
    if isinstance(value, bool) or value is None:
        return str(value)
    if isinstance(value, int):
        return str(value) if abs(value) < 10**15 else "an integer of more than 15 digits"
    if isinstance(value, float):
        return f"{value:.4g}" if not value.is_integer() or abs(value) >= 1e6 else f"{value:.1f}"
    return repr(value) if isinstance(value, str) else describe(value)


def is_small(value: Any) -> bool:
    """Whether every number of it can be shown."""
    items = as_items(value) if not isinstance(value, dict) else list(value.values())
    if isinstance(value, torch.Tensor) or _is_array(value):
        return value.size <= _SHOWN_NUMBERS if _is_array(value) else value.numel() <= _SHOWN_NUMBERS
    return len(items) <= _SHOWN_NUMBERS and all(map(is_small, items)) if items is not None else True


def _is_array(value: Any) -> bool:
    numpy = sys.modules.get("numpy")
    return numpy is not None and isinstance(value, numpy.ndarray | numpy.generic)
