"""Plain data between processes that do not trust each other: JSON and safetensors in one piece, nothing unpickled."""

import json
import sys
from typing import Any

import torch
from safetensors.torch import load, save

from kdlab.check.comparing import Foreign, describe


def dumps(value: Any) -> bytes:
    """Tensors, arrays, numbers, strings, lists, tuples and dictionaries as bytes; of anything else a description."""
    tensors: dict[str, torch.Tensor] = {}
    text = json.dumps(_packed(value, tensors))
    return save(tensors, metadata={"json": text})


def loads(data: bytes) -> Any:
    """What `dumps` was given. Raises whatever comes to hand if the bytes are not its work."""
    length = int.from_bytes(data[:8], "little")
    text = json.loads(data[8 : 8 + length])["__metadata__"]["json"]
    return _unpacked(json.loads(text), load(data))


def _packed(value: Any, tensors: dict[str, torch.Tensor]) -> Any:
    numpy = sys.modules.get("numpy")
    if value is None or type(value) in (bool, float, str):
        return value
    if type(value) is int and abs(value) < 2**63:
        return value
    if isinstance(value, torch.Tensor):
        return {"tensor": _stored(value, tensors), "requires_grad": value.requires_grad and value.is_leaf}
    if numpy and isinstance(value, numpy.ndarray | numpy.generic) and value.dtype.kind in "biuf":
        return {"array": _stored(torch.from_numpy(numpy.array(value)), tensors)}
    if isinstance(value, dict):
        return {"dict": [[_packed(key, tensors), _packed(item, tensors)] for key, item in value.items()]}
    if isinstance(value, list | tuple):
        return {type(value).__name__ if type(value) is list else "tuple": [_packed(item, tensors) for item in value]}
    return {"foreign": value.words if isinstance(value, Foreign) else describe(value)}


def _stored(tensor: torch.Tensor, tensors: dict[str, torch.Tensor]) -> str:
    name = str(len(tensors))
    dense = tensor.detach().to_dense() if tensor.layout != torch.strided else tensor.detach()
    tensors[name] = dense.cpu().contiguous().clone()
    return name


def _unpacked(value: Any, tensors: dict[str, torch.Tensor]) -> Any:
    if not isinstance(value, dict):
        return value
    if "tensor" in value:
        return tensors[value["tensor"]].requires_grad_(bool(value["requires_grad"]))
    if "array" in value:
        return tensors[value["array"]].numpy()[()]
    if "dict" in value:
        return {_unpacked(key, tensors): _unpacked(item, tensors) for key, item in value["dict"]}
    if "list" in value:
        return [_unpacked(item, tensors) for item in value["list"]]
    if "tuple" in value:
        return tuple(_unpacked(item, tensors) for item in value["tuple"])
    return Foreign(str(value["foreign"]))
