"""What, of Python and of installed libraries, does the same whenever it is called: that much a kept row may rest on."""

import builtins
import re
import site
import sys
import sysconfig
from operator import attrgetter
from pathlib import Path
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any

_LIBRARIES = {"kdlab", "torch", "torchvision", "numpy", "scipy"}
_PYTHON = {
    *("builtins", "abc", "collections", "contextlib", "copy", "copyreg", "dataclasses", "enum", "functools", "inspect"),
    *("itertools", "logging", "operator", "re", "string", "types", "typing", "warnings", "weakref"),
    *("_thread", "bisect", "cmath", "decimal", "fractions", "heapq", "math", "numbers", "random", "statistics"),
}
_CHANGING = re.compile(
    r"builtins\.(open|input|eval|exec|globals|locals|vars|__import__)"
    r"|.*\.(load|read|open|from_?file|memmap|genfromtxt)[^.]*"  # from a file
    r"|kdlab\.(store|writing|exhibits|challenge)\..*"
    r"|kdlab\.measure\.(compute\.latency|rows\.prices).*"  # from a clock
    r"|torch\.(hub|utils\.benchmark|_C\._?load|seed|random\.seed)\b.*"
)
_BUNDLED = {"kdlab.data.load", "kdlab.data.splits.load"}  # from a file, but always the same one


class Unknown(Exception):
    """What something does cannot be told, or changes from call to call."""


def is_installed(module: str) -> bool:
    """Tell whether a module is kdlab's, Python's or an installed library's, and one that is known here."""
    package = module.partition(".")[0]
    if package not in _LIBRARIES | _PYTHON:
        return False
    file = getattr(sys.modules.get(package), "__file__", None)
    if file is None:  # part of the interpreter
        return package in sys.builtin_module_names or hasattr(sys.modules.get(package), "__spec__")
    return package == "kdlab" or any(Path(file).is_relative_to(folder) for folder in _folders())


def _folders() -> list[str]:
    paths = [sysconfig.get_path(kind) for kind in ("stdlib", "platstdlib", "purelib", "platlib")]
    return [*paths, *site.getsitepackages(), site.getusersitepackages()]


def name_of(value: Any) -> str | None:
    """Return the name by which a function or class is imported from something installed; None if there is none.

    Raises
    ------
    Unknown
        If it reads a clock or a file, or may do anything at all.
    """
    try:
        module, name = value.__module__, value.__qualname__
        if value is getattr(builtins, name, None):
            module = "builtins"
        found = is_installed(module) and attrgetter(name)(sys.modules[module]) is value
    except Exception:  # an object's own way to look up attributes may do anything
        return None
    return _unless_changing(f"{module}.{name}") if found else None


def part_of(module: ModuleType, name: str) -> Any:
    """Return what an installed module calls `name`; of a function or class the name, since torch exchanges some later.

    Raises
    ------
    Unknown
        As `name_of`, and for a module that is not installed.
    """
    if not is_installed(module.__name__):
        raise Unknown(module)
    found = getattr(module, name)
    if not isinstance(found, FunctionType | BuiltinFunctionType | type):
        return found
    name_of(found)  # which may be another, and one that changes
    return _unless_changing(f"{module.__name__}.{name}")


def _unless_changing(name: str) -> str:
    if name not in _BUNDLED and _CHANGING.fullmatch(name):
        raise Unknown(name)
    return name
