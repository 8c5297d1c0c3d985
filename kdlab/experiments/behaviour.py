"""A fingerprint of what a function does: of its code, and of everything that the code refers to.

Functions of one fingerprint, called with the same arguments, give the same result. Where that cannot be promised (a
clock, a file, a random state, an object that cannot be taken apart) there is no fingerprint, and nothing is remembered.
"""

import builtins
import dis
import functools
import hashlib
import inspect
import operator
import sys
import sysconfig
from collections.abc import Callable, Iterator
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch

from kdlab import fingerprint
from kdlab.data import Split

# What answers differently from call to call, or asks the world outside.
_CHANGING_MODULES = {
    *("time", "datetime", "random", "_random", "secrets", "uuid"),
    *("os", "posix", "nt", "io", "_io", "pathlib", "socket", "subprocess", "urllib"),
}
_CHANGING_NAMES = {
    *(f"builtins.{name}" for name in ("open", "input", "eval", "exec", "globals", "locals", "vars", "__import__")),
    "kdlab.measure.compute.latency",
    "kdlab.measure.compute.latency_ratio",
    "kdlab.measure.rows.prices",
    "kdlab.exhibits.row",
}
_CHANGING_TYPES = (torch.Generator, np.random.Generator, np.random.RandomState)
_WRITTEN_DOWN = (bool, int, float, complex, str, bytes, type(None), type(Ellipsis), range, slice, torch.dtype)
_NOT_BEHAVIOUR = {"__dict__", "__weakref__", "__doc__", "__module__", "__firstlineno__", "__static_attributes__"}


class _Unknown(Exception):
    """What something does cannot be told."""


def of(*values: Any) -> str | None:
    """Fingerprint values, functions among them; None where it cannot be told what one of them does.

    Functions and classes of kdlab and of installed libraries count by their names; those typed into a notebook, or
    imported from a file beside it, by their code and by all that it refers to, and so on from there.
    """
    try:
        return _Reader().read(values)
    except (_Unknown, RecursionError):
        return None


class _Reader:
    """Takes values apart; remembers what it has read, and what it is reading (functions that call each other)."""

    def __init__(self):
        self._read: dict[int, tuple[Any, str]] = {}  # the values too: the number of one that is gone is given away
        self._reading: list[int] = []

    def read(self, value: Any) -> str:
        if isinstance(value, _WRITTEN_DOWN):
            return f"{type(value).__name__} {value!r}"
        if id(value) in self._read:
            return self._read[id(value)][1]
        if id(value) in self._reading:
            return f"the {self._reading.index(id(value))}th"
        self._reading.append(id(value))
        try:
            sha = hashlib.sha256()
            for part in self._parts(value):
                sha.update(f"{len(part)} {part}".encode())
        finally:
            self._reading.pop()
        self._read[id(value)] = value, sha.hexdigest()
        return sha.hexdigest()

    def _parts(self, value: Any) -> Iterator[str]:
        if _has_a_name(value):
            yield _known(value.__module__, value.__qualname__)
            return
        yield self.read(type(value))
        if isinstance(value, _CHANGING_TYPES):
            raise _Unknown
        for kinds, parts in _READERS.items():
            if isinstance(value, kinds):
                yield from parts(self, value)
                return
        yield from self._object(value)

    def _each(self, values) -> Iterator[str]:
        for value in values:
            yield self.read(value)

    def _set(self, value) -> Iterator[str]:
        yield from sorted(self._each(value))

    def _dict(self, value: dict) -> Iterator[str]:
        for pair in value.items():
            yield from self._each(pair)

    def _tensor(self, value: torch.Tensor) -> Iterator[str]:
        yield f"{value.device} {value.requires_grad} {fingerprint.of_tensors({'': value})}"

    def _array(self, value: np.ndarray) -> Iterator[str]:
        if value.dtype.hasobject:
            raise _Unknown
        yield f"{value.dtype} {value.shape} {hashlib.sha256(value.tobytes()).hexdigest()}"

    def _split(self, value: Split) -> Iterator[str]:
        yield f"{value.digest} {value.sealed} {value.labelled} {value.classes} {value.size} {value.images.device}"

    def _module(self, value: ModuleType) -> Iterator[str]:
        yield _known(value.__name__)

    def _method(self, value: MethodType) -> Iterator[str]:
        yield from self._each((value.__func__, value.__self__))

    def _builtin(self, value: BuiltinFunctionType) -> Iterator[str]:
        yield from self._each((value.__qualname__, value.__self__))

    def _function(self, value: FunctionType) -> Iterator[str]:
        yield from self._each((value.__code__, value.__defaults__, value.__kwdefaults__, *_enclosed(value)))
        for name, found in _globals_of(value):
            yield from self._each((name, found))

    def _code(self, value: CodeType) -> Iterator[str]:
        counts = value.co_argcount, value.co_posonlyargcount, value.co_kwonlyargcount, value.co_flags
        names = value.co_names, value.co_varnames, value.co_freevars, value.co_cellvars
        yield from self._each((value.co_code, value.co_exceptiontable, value.co_consts, *counts, *names))

    def _class(self, value: type) -> Iterator[str]:
        if _is_installed(value.__module__) and "<locals>" not in value.__qualname__:
            yield _known(value.__module__, value.__qualname__)
            return
        yield from self._each((value.__qualname__, value.__bases__))
        yield from self._dict({name: part for name, part in vars(value).items() if name not in _NOT_BEHAVIOUR})

    def _wrapper(self, value) -> Iterator[str]:
        yield self.read(value.__func__)

    def _property(self, value: property) -> Iterator[str]:
        yield from self._each((value.fget, value.fset, value.fdel))

    def _cached(self, value) -> Iterator[str]:
        yield self.read(value.__wrapped__)

    def _object(self, value: Any) -> Iterator[str]:
        """Take any other object apart as pickle would."""
        if inspect.isgenerator(value) or hasattr(value, "__next__"):
            raise _Unknown
        try:
            reduced = value.__reduce_ex__(4)
        except Exception:
            raise _Unknown from None
        if isinstance(reduced, str):
            yield from self._each((type(value), reduced))
            return
        made_by, arguments, state, items, pairs = (*reduced, None, None, None)[:5]
        yield from self._each((type(value), made_by, arguments, state, list(items or ()), list(pairs or ())))


_READERS: dict[Any, Callable] = {
    (tuple, list): _Reader._each,
    (set, frozenset): _Reader._set,
    dict: _Reader._dict,
    torch.Tensor: _Reader._tensor,
    np.ndarray: _Reader._array,
    Split: _Reader._split,
    ModuleType: _Reader._module,
    MethodType: _Reader._method,
    BuiltinFunctionType: _Reader._builtin,
    FunctionType: _Reader._function,
    CodeType: _Reader._code,
    type: _Reader._class,
    (staticmethod, classmethod): _Reader._wrapper,
    property: _Reader._property,
    functools._lru_cache_wrapper: _Reader._cached,
}


def _enclosed(function: FunctionType) -> list[Any]:
    """Return what the function has kept of the functions around it."""
    try:
        return [cell.cell_contents for cell in function.__closure__ or ()]
    except ValueError:  # a name that is not bound yet
        raise _Unknown from None


def _globals_of(function: FunctionType) -> Iterator[tuple[str, Any]]:
    """Yield every global that the function's code reads, ``module.name`` as the thing named, not as the module."""
    for code in _nested(function.__code__):
        steps = list(dis.get_instructions(code))
        for number, step in enumerate(steps):
            if step.opname in ("STORE_GLOBAL", "DELETE_GLOBAL"):
                raise _Unknown
            if step.opname == "IMPORT_NAME":
                yield step.argval, _known(step.argval)
            elif "GLOBAL" in step.opname or step.opname == "LOAD_NAME":
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
        raise _Unknown
    for access in following:
        if not isinstance(found, ModuleType) or access.opname not in ("LOAD_ATTR", "LOAD_METHOD"):
            break
        if _is_installed(found.__name__):
            _known(found.__name__)
        path += f".{access.argval}"
        if not hasattr(found, access.argval):
            raise _Unknown
        found = getattr(found, access.argval)
    yield path, found


def _nested(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _nested(constant)


def _has_a_name(value: Any) -> bool:
    """Tell whether this is what one gets by importing its name from something installed."""
    module, name = getattr(value, "__module__", None), getattr(value, "__qualname__", None)
    if not isinstance(module, str) or not isinstance(name, str) or not _is_installed(module):
        return False
    try:
        return operator.attrgetter(name)(sys.modules[module]) is value
    except (KeyError, AttributeError):
        return False


def _known(module: str, name: str = "") -> str:
    """Return the name of something installed, unless it answers differently from call to call."""
    whole = f"{module}.{name}" if name else module
    if not _is_installed(module) or module.partition(".")[0] in _CHANGING_MODULES or whole in _CHANGING_NAMES:
        raise _Unknown
    return whole


@functools.lru_cache
def _is_installed(module: str) -> bool:
    """Tell whether a module belongs to kdlab, to Python, or to an installed library."""
    package = module.partition(".")[0]
    if package == "__main__":  # a notebook's, though its file may be the kernel's
        return False
    if package == "kdlab" or package in sys.stdlib_module_names:
        return True
    file = getattr(sys.modules.get(package), "__file__", None) or ""
    folders = {sysconfig.get_path(kind) for kind in ("purelib", "platlib")}
    return any(file.startswith(folder) for folder in folders)
