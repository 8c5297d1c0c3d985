"""The process in which a learner's code runs when it is graded outside of their notebook.

It gets inputs and gives back what came of them. It holds no right answer, and what it may use is fenced in.
"""

import inspect
import os
import sys
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import asdict
from importlib import import_module
from typing import Any

from kdlab.check import fence, wire
from kdlab.check.calling import Report, attempt
from kdlab.check.definitions import Cell, function_named


def main(request: int | str, answer: int | str) -> None:
    """Do what is asked for in the file `request`, and write what came of it to `answer` (paths or descriptors)."""
    with open(request, "rb") as file:
        file.seek(0)
        asked = wire.loads(file.read())
    opened = answer if isinstance(answer, int) else os.open(answer, os.O_WRONLY)  # later nothing can be opened
    observe, signature = _named(asked["observe"]), _signature(asked["parameters"])
    kept = [import_module(module) for module in asked["uses"]]
    tempfile.tempdir = os.sep  # there is none, and libraries that ask for its name shall not look for one
    fence.close(asked["memory"], asked["cpu_seconds"], asked["private"])
    hidden = _hide_package(module.__name__ for module in kept)
    function, failures = function_named(asked["function"], [Cell(*cell) for cell in asked["cells"]])
    if function is None:
        report = Report(problem=_missing(asked["function"], failures))
    else:
        report = attempt(function, _thrifty(observe), signature, asked["probes"], asked["name"])
    _write(opened, wire.dumps(_plain(report)))
    del hidden
    os._exit(0)  # nothing that the learner's code has left behind runs any more


def _named(path: str) -> Callable:
    module, name = path.split(":")
    return getattr(import_module(module), name)


def _thrifty(observe: Callable) -> Callable:
    """Once the memory was not enough it is not tried again: filling it takes long."""
    exhausted = []

    def observed(function: Callable, *probe: Any) -> Any:
        if exhausted:
            raise exhausted[0]
        try:
            return observe(function, *probe)
        except (MemoryError, RuntimeError) as error:
            exhausted.extend([error] if asks_for_too_much(type(error).__name__, str(error)) else [])
            raise

    return observed


def asks_for_too_much(kind: str, message: str) -> bool:
    """Whether an exception of this type's name and message says that there is no memory left."""
    return kind == "MemoryError" or "can't allocate memory" in message


def _signature(parameters: list) -> inspect.Signature:
    return inspect.Signature(
        inspect.Parameter(
            name,
            inspect.Parameter.POSITIONAL_OR_KEYWORD,
            default=default[0] if default else inspect.Parameter.empty,
        )
        for name, default in parameters
    )


def _hide_package(used: Iterable[str]) -> dict[str, Any]:
    """Take this package out of what can be imported, but for the modules that the exercise hands out."""
    inside = tuple(f"{name}." for name in used)
    above = {name[:dot] for name in inside for dot in range(len(name)) if name[dot] == "."}
    names = [f"{name}." for name in sys.modules if f"{name}.".startswith("kdlab.")]
    hidden = [name[:-1] for name in names if not name.startswith(inside) and name[:-1] not in above]
    return {name: sys.modules.pop(name) for name in hidden}


def _missing(name: str, failures: list[str]) -> str:
    because = f" A cell raised {failures[-1]}" if failures else ""
    return f"There is no function {name}.{because}"


def _plain(report: Report) -> dict:
    plain = {key: value for key, value in vars(report).items() if key != "trials"}
    trials = [{**vars(trial), "raised": trial.raised and asdict(trial.raised)} for trial in report.trials]
    return {**plain, "trials": trials}


def _write(answer: int, data: bytes) -> None:
    written = 0
    while written < len(data):
        written += os.write(answer, data[written:])
