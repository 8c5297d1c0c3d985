"""What a network may carry that its file does not: whatever is found here is refused."""

import dis
import sys
from collections.abc import Iterator
from types import CodeType, FunctionType

import numpy as np
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from kdlab.check.contest.refusing import Refused

_ARRAYS = (Tensor, np.ndarray, nn.Module, bytes, bytearray, memoryview)
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_state_dict_hooks", "_state_dict_pre_hooks")
_LIBRARIES = ("torch", "torchvision", "kdlab", "numpy", "builtins")
_ORDINARY = {*vars(nn.Module()), "config"}  # the settings are in the file
_COURSE_TENSORS = {"weight", "bias", "running_mean", "running_var", "num_batches_tracked"}
_DEPTH = 4
_LONG = 1000  # so many letters or entries in code are data, not settings
_NOT_SAVED = "this is not in the saved file"


def refuse_hidden(model: nn.Module) -> None:
    """Raise `Refused` if the network computes with anything but its settings and its state dictionary."""
    own = {id(part) for part in (*model.modules(), *model.parameters(), *model.buffers())}
    for path, module in model.named_modules():
        where = repr(path) if path else f"the {type(module).__name__}"
        _refuse_rewritten(where, module)
        _refuse_buffers(where, module)
        _refuse_attributes(where, module, own)
        _refuse_class(where, type(module), own)
    if _of_library(type(model)):
        _refuse_added(model)


def _refuse_rewritten(where: str, module: nn.Module) -> None:
    if is_parametrized(module):
        raise Refused(
            f"A layer, {where}, computes its weights from other tensors (a parametrisation): {_NOT_SAVED}. Make the "
            "weights permanent with torch.nn.utils.parametrize.remove_parametrizations."
        )
    if any(getattr(module, kind, None) for kind in _HOOKS):
        raise Refused(
            f"There is a hook on {where}: {_NOT_SAVED}. Remove it; what it did to the weights has to be in the weights."
        )
    for name, value in vars(module).items():
        if callable(value) and name not in _ORDINARY and hasattr(type(module), name):
            raise Refused(
                f"{name!r} of {where} was replaced on this one network: {_NOT_SAVED}. Hand in a network as "
                "models.build makes it."
            )


def _refuse_added(model: nn.Module) -> None:
    """A network of the course has the tensors of its layers, and no other buffer or parameter."""
    for name, tensor in model.state_dict().items():
        if name.rpartition(".")[2] not in _COURSE_TENSORS:
            raise Refused(
                f"{name!r} ({_described(tensor)}) is no tensor of a {type(model).__name__}, so the network cannot be "
                "built again from its settings. Take it out."
            )


def _refuse_buffers(where: str, module: nn.Module) -> None:
    for name in sorted(module._non_persistent_buffers_set):
        found = _described(getattr(module, name))
        raise Refused(f"{where} has a buffer {name!r} with persistent=False ({found}): {_NOT_SAVED}. Take it out.")


def _refuse_attributes(where: str, module: nn.Module, own: set[int]) -> None:
    for name, value in vars(module).items():
        found = None if name in _ORDINARY else _array_in(value, own)
        if found is not None:
            raise Refused(f"{where} has an attribute {name!r} that holds {_described(found)}: {_NOT_SAVED}. Delete it.")


def _refuse_class(where: str, kind: type, own: set[int]) -> None:
    """Look at the code: the library's has to be the library's, a learner's own must not reach for data."""
    for cls in kind.__mro__:
        if _of_library(cls):
            _refuse_foreign_forward(where, cls)
            continue
        for name, value in vars(cls).items():
            # what __init__ reaches for ends in tensors of the file, or in attributes that were looked at
            found = _array_in(value, own) if isinstance(value, FunctionType) or not name.startswith("__") else None
            found = None if name == "__init__" else found
            if found is not None:
                raise Refused(
                    f"{name!r} of the class {cls.__name__} ({where}) uses {_described(found)}: {_NOT_SAVED}. A network "
                    "may use its own parameters and buffers only."
                )


def _refuse_foreign_forward(where: str, cls: type) -> None:
    forward = vars(cls).get("forward")
    if not isinstance(forward, FunctionType):
        return
    if forward.__code__.co_filename != getattr(sys.modules.get(cls.__module__), "__file__", None):
        raise Refused(
            f"'forward' of the class {cls.__name__} ({where}) was replaced: {_NOT_SAVED}. Restart the kernel, and "
            "register a class of your own with models.register."
        )


def _array_in(value, own: set[int], depth: int = _DEPTH):
    """Return an array that can be reached from `value`, other than the network's own tensors; None if there is none."""
    if isinstance(value, _ARRAYS):
        return None if id(value) in own or (isinstance(value, bytes) and not value) else value
    if isinstance(value, str | list | tuple | set | frozenset | dict) and len(value) > _LONG:
        return value
    if depth == 0:
        return None
    found = (_array_in(part, own, depth - 1) for part in _parts(value))
    return next((part for part in found if part is not None), None)


def _parts(value) -> Iterator:
    if isinstance(value, dict):
        yield from value.values()
    elif isinstance(value, list | tuple | set | frozenset):
        yield from value
    elif isinstance(value, staticmethod | classmethod):
        yield value.__func__
    elif isinstance(value, property):
        yield value.fget
    elif isinstance(value, FunctionType) and not _of_library(value):
        names = set(_global_names(value.__code__))
        yield from (value.__globals__[name] for name in names if name in value.__globals__)
        yield from (constant for constant in value.__code__.co_consts if constant != value.__doc__)
        yield from value.__defaults__ or ()
        yield from (value.__kwdefaults__ or {}).values()
        yield from (cell.cell_contents for cell in value.__closure__ or () if _is_filled(cell))


def _global_names(code: CodeType) -> Iterator[str]:
    yield from (step.argval for step in dis.get_instructions(code) if step.opname in ("LOAD_GLOBAL", "LOAD_NAME"))
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _global_names(constant)


def _is_filled(cell) -> bool:
    try:
        return cell.cell_contents is not None
    except ValueError:  # a name of the enclosing function that was never given a value
        return False


def _of_library(thing) -> bool:
    return str(thing.__module__).partition(".")[0] in _LIBRARIES


def _described(value) -> str:
    if isinstance(value, Tensor | np.ndarray):
        return f"numbers of shape {tuple(value.shape)}, {value.nbytes:,} bytes"
    if isinstance(value, nn.Module):
        return f"a network, {sum(p.numel() for p in value.parameters()):,} parameters"
    kind = "bytes" if isinstance(value, bytes | bytearray | memoryview) else "letters or entries"
    return f"{len(value):,} {kind}"
