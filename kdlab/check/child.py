"""The process in which a learner's code runs when it is graded outside of their notebook.

It gets inputs and gives back what came of them. It holds no right answer, may not read one, may not start a program,
open a connection or write outside of its folder, and its time and memory are limited.
"""

import inspect
import io
import linecache
import os
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Any

from kdlab.check import wire
from kdlab.check.calling import Report, attempt

_FORBIDDEN = (
    "subprocess.Popen",
    "os.system",
    "os.exec",
    "os.spawn",
    "os.posix_spawn",
    "os.fork",
    "os.forkpty",
    "os.kill",
    "os.killpg",
    "os.link",
    "os.symlink",
    "pty.spawn",
    "signal.pthread_kill",
    "socket.connect",
    "socket.bind",
    "ctypes.dlsym",
    "gc.get_objects",
    "gc.get_referrers",
    "gc.get_referents",
)
_MOVES = ("os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate", "os.chmod", "os.chown", "shutil.move")
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


def main(folder: str) -> None:
    """Run what `request` in the folder asks for, and write `answer` there."""
    request = wire.read(Path(folder, "request"))
    observe, signature = _observer(request["observe"]), _signature(request["parameters"])
    _limit(request["memory"], request["cpu_seconds"])
    _lock(folder)
    function, failures = _defined(request["sources"], request["function"])
    if function is None:
        report = Report(problem=_missing(request["function"], failures))
    else:
        report = attempt(function, observe, signature, request["probes"], request["name"])
    wire.write(Path(folder, "answer"), _plain(report))
    os._exit(0)  # nothing that the learner's code has left behind runs any more


def _observer(path: str) -> Callable:
    module, name = path.split(":")
    return getattr(import_module(module), name)


def _signature(parameters: list) -> inspect.Signature:
    return inspect.Signature(
        inspect.Parameter(
            name,
            inspect.Parameter.POSITIONAL_OR_KEYWORD,
            default=default[0] if default else inspect.Parameter.empty,
        )
        for name, default in parameters
    )


def _defined(sources: list[str], name: str) -> tuple[Any, list[str]]:
    """Run the cells in one namespace, as a kernel does: a cell that fails does not stop the next."""
    namespace: dict[str, Any] = {"__name__": "__main__"}
    failures = []
    for number, source in enumerate(sources, 1):
        try:
            with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
                exec(_compiled(source, f"<cell {number}>"), namespace)
        except (Exception, SystemExit) as error:
            failures.append(f"{type(error).__name__}: {' '.join(str(error).split())[:200]}")
    return namespace.get(name), failures


def _compiled(source: str, filename: str) -> Any:
    lines = ["pass  # " + line if line.startswith(("%", "!", "?")) else line for line in source.splitlines()]
    linecache.cache[filename] = (len(source), None, [line + "\n" for line in lines], filename)
    return compile("\n".join(lines) + "\n", filename, "exec")


def _missing(name: str, failures: list[str]) -> str:
    because = f" A cell raised {failures[-1]}" if failures else ""
    return f"There is no function {name}.{because}"


def _plain(report: Report) -> dict:
    plain = {key: value for key, value in vars(report).items() if key != "trials"}
    trials = [{**vars(trial), "raised": trial.raised and asdict(trial.raised)} for trial in report.trials]
    return {**plain, "trials": trials}


def _limit(memory: int, cpu_seconds: int) -> None:
    try:
        import resource
    except ImportError:  # Windows: the time limit of the parent remains
        return
    pages = int(Path("/proc/self/statm").read_text().split()[0]) if Path("/proc/self/statm").exists() else 0
    if pages:
        most = pages * resource.getpagesize() + memory
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
    used = resource.getrusage(resource.RUSAGE_SELF)
    most = int(used.ru_utime + used.ru_stime) + cpu_seconds
    resource.setrlimit(resource.RLIMIT_CPU, (most, most + 2))
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**26, 2**26))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _lock(folder: str) -> None:
    """Forbid what no exercise needs. An audit hook cannot be taken off again."""
    folder, here = os.path.realpath(folder), os.path.dirname(os.path.realpath(__file__))
    answers = os.path.join(here, "lesson")
    sources = os.path.join(os.path.dirname(os.path.dirname(here)), "")  # where the course lies, if it was cloned
    course = tuple(os.path.join(sources, name, "") for name in ("lessons", "solutions", "tests"))
    forbidden, moves, writes, resolve = frozenset(_FORBIDDEN), frozenset(_MOVES), _WRITES, os.path.realpath

    def guard(event: str, arguments: tuple) -> None:
        if event == "open" and isinstance(arguments[0], str | bytes | os.PathLike):
            path = resolve(os.fsdecode(arguments[0]))
            if path.startswith((answers, *course)):
                raise PermissionError("the answers are not part of the exercise")
            if (arguments[2] or 0) & writes and not path.startswith((folder, "/dev/null")):
                raise PermissionError("an answer may not write files")
        elif event in forbidden or event in moves:
            raise PermissionError(f"an answer may not use {event}")

    sys.addaudithook(guard)


if __name__ == "__main__":
    main(sys.argv[1])
