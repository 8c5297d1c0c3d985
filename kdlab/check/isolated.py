"""Grading from the text of a notebook's cells, in a process that holds no right answer.

The learner's code runs in a process of its own (`kdlab.check.child`) that is given inputs and gives back outputs. The
reference runs here, where the learner's code never does; so replacing the check, importing the reference or reading a
frame gets nobody anything. What remains to a cheat is what an honest answer does: to compute the outputs.
Two things it cannot do. Observers run beside the learner's code, so an answer could pretend, say, that it gave the
teacher's mode back; it could not pretend a value. And whoever has the package has the references' source, and can type
them in: that is a matter for a teacher's eye.
"""

import atexit
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO

from kdlab.check import wire
from kdlab.check.calling import Raised, Report, Trial
from kdlab.check.child import asks_for_too_much
from kdlab.check.core import Exercise
from kdlab.check.definitions import Cell
from kdlab.check.judging import judge
from kdlab.check.registry import find
from kdlab.check.rendering import Outcome
from kdlab.errors import KdlabError


@dataclass(frozen=True)
class Limits:
    """What one answer may use: wall-clock and CPU seconds, and bytes of memory beyond torch itself.

    It reads no file but the libraries'; `private` folders it does not read even if they lie among those.
    """

    seconds: float = 60.0
    cpu_seconds: int = 10
    memory: int = 2**30
    private: tuple[str, ...] = ()


@dataclass(frozen=True)
class Answer:
    """What is graded: an exercise, the cells of a notebook up to its check, and what the function is called there."""

    exercise: str
    cells: tuple[Cell, ...]
    function: str


def grade(
    answers: Sequence[Answer],
    seed: int | None = None,
    rounds: int = 4,
    limits: Limits | None = None,
    workers: int | None = None,
) -> list[Outcome]:
    """Grade answers, several at a time.

    Parameters
    ----------
    answers
        One or more.
    seed, rounds
        Which random inputs, and how many times as many as a learner sees; None for fresh ones.
    limits
        Time and memory for each answer.
    workers
        How many run at once, each on one thread; by default one for every core that this process may use.

    Returns
    -------
    list of Outcome
        In the order of the answers. Of kind 'stopped' if time or memory ran out or the process ended too early.
    """
    limits = limits or Limits()
    jobs = [_Job(find(answer.exercise), answer, seed, rounds) for answer in answers]
    outcomes: dict[int, Outcome] = {}
    for number, ended in _run(jobs, limits, workers or _cores()):
        outcomes[number] = jobs[number].outcome(ended, limits)
    return [outcomes[number] for number in range(len(jobs))]


def grade_source(
    name: str,
    sources: Sequence[str],
    seed: int | None = None,
    rounds: int = 4,
    limits: Limits | None = None,
    function: str | None = None,
    context: Sequence[str] = (),
) -> Outcome:
    """Grade one exercise from source text; see `grade`.

    Parameters
    ----------
    name
        The exercise.
    sources
        The exercise's own cells, in their order. A statement that fails does not stop the next.
    function
        What the learner's function is called, if not like the exercise.
    context
        Cells above: only definitions that `sources` use are taken from them.
    """
    cells = (*(Cell(source, whole=False) for source in context), *map(Cell, sources))
    return grade([Answer(name, cells, function or name)], seed, rounds, limits, workers=1)[0]


@dataclass
class _Job:
    exercise: Exercise
    answer: Answer
    seed: int | None
    rounds: int
    files: list[BinaryIO] = field(default_factory=list)
    probes: list[tuple] = field(default_factory=list)

    def open(self, limits: Limits) -> None:
        """Write the request, and make room for the answer: two files without a name."""
        seed = int.from_bytes(os.urandom(7)) if self.seed is None else self.seed
        self.probes = self.exercise.cases(seed, self.rounds)
        self.files = [tempfile.TemporaryFile() for _ in range(2)]  # noqa: SIM115, closed when they are judged
        self.files[0].write(wire.dumps(_request(self.exercise, self.answer, self.probes, limits)))
        self.files[0].flush()

    def outcome(self, ended: str, limits: Limits) -> Outcome:
        """Judge what was written; it may be anything, since a learner's code could write it."""
        self.files[1].seek(0)
        data = self.files[1].read() if ended == "done" else b""
        for file in self.files:
            file.close()
        report = _report(data, len(self.probes)) if data else None
        if report is None:
            return self._stopped(_WHY["died" if ended == "done" and not data else ended])
        raised = [trial.raised for trial in report.trials if trial.raised]
        if any(asks_for_too_much(error.type, error.message) for error in raised):
            return self._stopped(f"Your code asks for more memory than it may use ({limits.memory / 2**30:.1f} GB).")
        try:
            return _short(judge(self.exercise, self.probes, report))
        except Exception:
            return self._stopped(_WHY["done"])

    def _stopped(self, why: str) -> Outcome:
        return Outcome(self.exercise.name, "stopped", why, points=self.exercise.points)


def _short(outcome: Outcome) -> Outcome:
    """Nothing of a learner's own making fills a page."""
    case = tuple((name[:80], text[:500]) for name, text in outcome.case)
    return replace(outcome, case=case, says=outcome.says[:500], hint=outcome.hint[:500], printed=outcome.printed[:1000])


_WHY = {
    "done": "Your code left nothing that could be checked.",
    "time": "Your code took too long and was stopped: look for a loop that does not end.",
    "died": "Your code ended the program before it could be checked, or used up the memory.",
}


def _request(exercise: Exercise, answer: Answer, probes: list[tuple], limits: Limits) -> dict:
    observe = exercise.observe
    if ".lesson" in observe.__module__:
        raise KdlabError(
            f"The observer of {exercise.name} stands beside the reference: move it to kdlab.check.observers."
        )
    parameters = exercise.signature.parameters.values()
    return {
        "name": exercise.name,
        "function": answer.function,
        "cells": [tuple(cell) for cell in answer.cells],
        "observe": f"{observe.__module__}:{observe.__qualname__}",
        "parameters": [(p.name, [] if p.default is p.empty else [p.default]) for p in parameters],
        "probes": probes,
        "uses": exercise.uses,
        "private": list(limits.private),
        "memory": limits.memory,
        "cpu_seconds": limits.cpu_seconds,
    }


# --- running


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _run(jobs: list[_Job], limits: Limits, workers: int) -> Iterator[tuple[int, str]]:
    """Run the jobs; yields each one's number and how it ended while others still run."""
    run = _run_forked if sys.platform == "linux" else _run_spawned
    return run(jobs, limits, workers)


def _run_forked(jobs: list[_Job], limits: Limits, workers: int) -> Iterator[tuple[int, str]]:
    waiting, flying, lost = deque(range(len(jobs))), {}, set()
    while waiting or flying:
        while waiting and len(flying) < workers:
            number = waiting.popleft()
            jobs[number].open(limits)
            flying[_server().ask(limits.seconds, jobs[number].files)] = number
        heard = _server().hear()
        if heard is None:  # the system ended the server, for want of memory: one by one shows which answer wanted it
            again, workers = list(flying.values()), 1
            flying = {}
            yield from ((number, "died") for number in again if number in lost)
            waiting.extendleft(number for number in again if number not in lost)
            lost |= set(again)
        elif heard[0] in flying:
            yield flying.pop(heard[0]), heard[1]


def _run_spawned(jobs: list[_Job], limits: Limits, workers: int) -> Iterator[tuple[int, str]]:
    for number, job in enumerate(jobs):
        job.open(limits)
        yield number, _spawn(job.files, limits)


class _Server:
    """This process's end of `kdlab.check.server`."""

    def __init__(self):
        self.control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        code = f"from kdlab.check.server import serve; serve({theirs.fileno()})"
        self.process = _python(code, pass_fds=[theirs.fileno()])
        self.asked, self.lost = 0, False
        theirs.close()

    def ask(self, seconds: float, files: Sequence[BinaryIO]) -> int:
        """Have one answer run; returns the number under which `hear` will speak of it."""
        self.asked += 1
        with contextlib.suppress(OSError):  # then there is nothing to hear either
            socket.send_fds(self.control, [json.dumps([self.asked, seconds]).encode()], [f.fileno() for f in files])
        return self.asked

    def hear(self) -> tuple[int, str] | None:
        """Wait for one answer to end; None if the server itself has."""
        with contextlib.suppress(OSError):
            message = self.control.recv(4096)
            if message:
                number, ended = json.loads(message)
                return number, ended
        self.lost = True
        return None

    def stop(self) -> None:
        self.control.close()
        self.process.wait()


_started: dict[int, _Server] = {}  # by process, so that a fork does not talk into its parent's conversation


def _server() -> _Server:
    server = _started.get(os.getpid())
    if server is None or server.lost:
        _stop_server()
        server = _started[os.getpid()] = _Server()
    return server


@atexit.register
def _stop_server() -> None:
    server = _started.pop(os.getpid(), None)
    if server is not None:
        server.stop()


def _spawn(files: Sequence[BinaryIO], limits: Limits) -> str:
    """Run one answer in a fresh interpreter, and everything it started to its end: 'done', 'time' or 'died'."""
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder, name) for name in ("request", "answer")]
        files[0].seek(0)
        paths[0].write_bytes(files[0].read())
        paths[1].touch()
        ended = _wait(_python(f"from kdlab.check.child import main; main(*{list(map(str, paths))})"), limits)
        files[1].write(paths[1].read_bytes())
    return ended


def _wait(process: subprocess.Popen, limits: Limits) -> str:
    try:
        process.wait(limits.seconds)
    except subprocess.TimeoutExpired:
        return "time"
    finally:
        _stop(process)
    if process.returncode == -getattr(signal, "SIGXCPU", 0):
        return "time"
    return "done" if process.returncode == 0 else "died"


def _python(code: str, pass_fds: Sequence[int] = ()) -> subprocess.Popen:
    """A Python of its own that knows nothing of this one's environment and folder."""
    streams = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
    options = {"cwd": os.sep, "env": _environment(), "start_new_session": True, **streams}
    return subprocess.Popen([sys.executable, "-I", "-c", code], pass_fds=pass_fds, **options)


def _stop(process: subprocess.Popen) -> None:
    if hasattr(os, "killpg"):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
    process.wait()


def _environment() -> dict[str, str]:
    """Nothing of the grader's own environment but what an interpreter needs to start."""
    kept = {name: os.environ[name] for name in ("PATH", "SYSTEMROOT", "LD_LIBRARY_PATH") if name in os.environ}
    threads = {f"{library}_NUM_THREADS": "1" for library in ("OMP", "MKL", "OPENBLAS")}
    return {**kept, **threads, "HOME": tempfile.gettempdir(), "PYTHONDONTWRITEBYTECODE": "1"}


# --- reading what a learner's process wrote


def _report(data: bytes, count: int) -> Report | None:
    """The report in `data`, taken apart with care: the learner's code may have written it."""
    try:
        plain = wire.loads(data)
        trials = tuple(map(_trial, plain["trials"]))
        defaults = {str(name): value for name, value in plain["defaults"].items()}
        report = Report(trials, str(plain["problem"]), bool(plain["empty"]), defaults)
    except Exception:
        return None
    complete = report.problem or report.empty or len(trials) == count or any(trial.raised for trial in trials)
    return report if complete else None


def _trial(plain: dict) -> Trial:
    raised = plain["raised"]
    return Trial(
        output=plain["output"],
        raised=Raised(*(str(raised[key]) for key in ("type", "message", "line", "text")), stub=bool(raised["stub"]))
        if raised
        else None,
        none=bool(plain["none"]),
        modified=tuple(map(str, plain["modified"])),
        state=tuple(map(str, plain["state"])),
        printed=str(plain["printed"]),
    )
