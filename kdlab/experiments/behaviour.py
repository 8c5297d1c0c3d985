"""A fingerprint of what a function does: of its code, and of everything that the code refers to.

Functions of one fingerprint, called with the same arguments, give the same result. Where that cannot be promised (a
clock, a file, a module of one's own, an object that cannot be taken apart) there is no fingerprint, and nothing is
remembered: to compute once too often costs time, to recall what is no longer true costs the lesson.
"""

import builtins
import copyreg
import dis
import functools
import hashlib
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from types import BuiltinFunctionType, CodeType, FunctionType, MappingProxyType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import nn

from kdlab import fingerprint
from kdlab.data import Split
from kdlab.experiments.installed import Unknown, is_installed, name_of, part_of

_WRITTEN_DOWN = {bool, int, float, complex, str, bytes, type(None), type(Ellipsis), range, slice, torch.dtype}
_CONTAINERS = {dict, OrderedDict, MappingProxyType, list, set, np.ndarray, torch.Tensor, nn.Parameter}
_STATEFUL = (torch.Generator, np.random.Generator, np.random.RandomState)
_NOT_BEHAVIOUR = {
    *("__dict__", "__weakref__", "__doc__", "__module__", "__firstlineno__", "__static_attributes__"),
    *("__slotnames__", "_abc_impl"),  # which taking objects apart leaves there, and which cannot be taken apart
}


def of(*values: Any) -> str | None:
    """Fingerprint values, functions among them; None where it cannot be told what one of them does.

    Functions and classes of kdlab, torch, NumPy and Python count by their names; those typed into a notebook by their
    code and by all that it refers to, and so on from there.
    """
    try:
        return _Reader().read(values)
    except Exception:  # objects may do anything when they are taken apart
        return None


class _Reader:
    """Takes values apart; knows what it has read, and what it is reading (functions that call each other)."""

    def __init__(self):
        self._read: dict[int, tuple[Any, str]] = {}  # the values too: the number of one that is gone is given away
        self._reading: list[int] = []

    def read(self, value: Any) -> str:
        if type(value) in _WRITTEN_DOWN:
            return f"{type(value).__name__} {value!r}"
        if id(value) in self._read:
            return self._read[id(value)][1]
        if id(value) in self._reading:
            return f"the {self._reading.index(id(value))}th"
        self._reading.append(id(value))
        sha = hashlib.sha256()
        for part in self._parts(value):
            sha.update(f"{len(part)} {part}".encode())
        self._reading.pop()
        # the same object twice is not the same as two equal ones, if it can be changed
        again = sha.hexdigest() if _is_constant(value) else f"again {len(self._read)}"
        self._read[id(value)] = value, again
        return sha.hexdigest()

    def _parts(self, value: Any) -> Iterable[str]:
        if name := name_of(value):
            return [name]
        if isinstance(value, _STATEFUL):
            raise Unknown
        return [self.read(type(value)), *_READERS.get(type(value), _Reader._object)(self, value)]

    def _each(self, values: Iterable) -> Iterator[str]:
        for value in values:
            yield self.read(value)

    def _set(self, value) -> Iterator[str]:
        yield from sorted(self._each(value))

    def _dict(self, value) -> Iterator[str]:
        for pair in value.items():
            yield from self._each(pair)

    def _tensor(self, value: torch.Tensor) -> Iterator[str]:
        if not value.is_leaf or value._backward_hooks:
            raise Unknown
        yield f"{value.device} {value.requires_grad} {fingerprint.of_tensors({'': value})}"
        yield from self._each((value.grad, vars(value)))

    def _array(self, value: np.ndarray) -> Iterator[str]:
        if value.dtype.hasobject:
            raise Unknown
        yield f"{value.dtype} {value.shape} {hashlib.sha256(value.tobytes()).hexdigest()}"

    def _split(self, value: Split) -> Iterator[str]:
        yield f"{value.digest} {value.sealed} {value.labelled} {value.classes} {value.size} {value.images.device}"

    def _method(self, value: MethodType) -> Iterator[str]:
        yield from self._each((value.__func__, value.__self__))

    def _builtin(self, value: BuiltinFunctionType) -> Iterator[str]:
        yield from self._each((value.__qualname__, value.__self__))

    def _function(self, value: FunctionType) -> Iterator[str]:
        if value.__module__ != "__main__" and not is_installed(value.__module__):
            raise Unknown  # of a file that a worker process, or the next kernel, may read differently
        enclosed = [cell.cell_contents for cell in value.__closure__ or ()]
        yield from self._each((value.__qualname__, value.__code__, value.__defaults__, value.__kwdefaults__, enclosed))
        yield from self._dict(vars(value))
        for name, found in _globals_of(value):
            yield from self._each((name, found))

    def _code(self, value: CodeType) -> Iterator[str]:
        counts = value.co_argcount, value.co_posonlyargcount, value.co_kwonlyargcount, value.co_flags
        names = value.co_names, value.co_varnames, value.co_freevars, value.co_cellvars
        yield from self._each((value.co_code, value.co_exceptiontable, value.co_consts, *counts, *names))

    def _class(self, value: type) -> Iterator[str]:
        if value.__module__ == "builtins":  # the type of functions, say, which cannot be imported by its name
            yield value.__qualname__
            return
        if value.__module__ != "__main__" and not is_installed(value.__module__):
            raise Unknown
        yield from self._each((value.__qualname__, value.__bases__))
        yield from self._dict({name: part for name, part in vars(value).items() if name not in _NOT_BEHAVIOUR})

    def _wrapper(self, value) -> Iterator[str]:
        yield self.read(value.__func__)

    def _property(self, value: property) -> Iterator[str]:
        yield from self._each((value.fget, value.fset, value.fdel))

    def _cached(self, value) -> Iterator[str]:
        if value.cache_info().currsize:  # what is in there may come from before a change
            raise Unknown
        yield self.read(value.__wrapped__)

    def _object(self, value: Any) -> Iterator[str]:
        """Take any other object apart as pickle would."""
        if isinstance(value, type):  # of a metaclass
            yield from self._class(value)
            return
        reduce = copyreg.dispatch_table.get(type(value))
        reduced = reduce(value) if reduce else value.__reduce_ex__(4)
        made_by, arguments, state, items, pairs = (*reduced, None, None, None)[:5]
        yield from self._each((made_by, arguments, state, list(items or ()), list(pairs or ())))


_READERS: dict[type, Callable] = {
    **dict.fromkeys((tuple, list), _Reader._each),
    **dict.fromkeys((set, frozenset), _Reader._set),
    **dict.fromkeys((dict, OrderedDict, MappingProxyType), _Reader._dict),
    **dict.fromkeys((torch.Tensor, nn.Parameter), _Reader._tensor),
    **dict.fromkeys((staticmethod, classmethod), _Reader._wrapper),
    np.ndarray: _Reader._array,
    Split: _Reader._split,
    MethodType: _Reader._method,
    BuiltinFunctionType: _Reader._builtin,
    FunctionType: _Reader._function,
    CodeType: _Reader._code,
    type: _Reader._class,
    property: _Reader._property,
    functools._lru_cache_wrapper: _Reader._cached,
}


def _is_constant(value: Any) -> bool:
    """Tell whether nobody can change a value in place, or whether that is no matter of behaviour (code)."""
    if type(value) in _CONTAINERS:
        return False
    return type(value) in _READERS or isinstance(value, type) or name_of(value) is not None


def _globals_of(function: FunctionType) -> Iterator[tuple[str, Any]]:
    """Yield every global that the function's code reads; of ``module.name`` the thing named, not the module."""
    for code in _nested(function.__code__):
        steps = list(dis.get_instructions(code))
        for number, step in enumerate(steps):
            if step.opname in ("STORE_GLOBAL", "DELETE_GLOBAL", "IMPORT_NAME"):
                raise Unknown
            if "GLOBAL" in step.opname or step.opname == "LOAD_NAME":
                yield from _named(step, steps[number + 1 :], function.__globals__)


def _named(step: dis.Instruction, following: list[dis.Instruction], known: dict) -> Iterator[tuple[str, Any]]:
    path = step.argval
    if path in known:
        found = known[path]
    elif hasattr(builtins, path):
        found = getattr(builtins, path)
    elif step.opname == "LOAD_NAME":  # of a class's own body
        return
    else:
        raise Unknown(path)
    for access in following:
        if not isinstance(found, ModuleType) or access.opname not in ("LOAD_ATTR", "LOAD_METHOD"):
            break
        found = part_of(found, access.argval)
        path += f".{access.argval}"
    if isinstance(found, ModuleType):  # which is asked for something that cannot be seen from here
        raise Unknown(found)
    yield path, found


def _nested(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _nested(constant)
