"""Grading from the text of a notebook's cells, in a process that holds no right answer.

The learner's code runs in a fresh interpreter (`kdlab.check.child`) that is given inputs and gives back outputs. The
reference runs here, where the learner's code never does; so replacing the check, importing the reference or reading a
frame gets nobody anything. What remains to a cheat is what an honest answer does: to compute the outputs.
Two things it cannot do. Observers run beside the learner's code, so an answer could pretend, say, that it gave the
teacher's mode back; it could not pretend a value. And whoever has the package has the references' source, and can type
them in: that is a matter for a teacher's eye.
"""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from kdlab.check import wire
from kdlab.check.calling import Raised, Report, Trial
from kdlab.check.core import Exercise
from kdlab.check.judging import judge
from kdlab.check.registry import find
from kdlab.check.rendering import Outcome
from kdlab.errors import KdlabError


@dataclass(frozen=True)
class Limits:
    """What one answer may use: wall-clock and CPU seconds, and bytes of memory beyond torch itself."""

    seconds: float = 60.0
    cpu_seconds: int = 30
    memory: int = 2**30


def grade_source(
    name: str,
    sources: list[str],
    seed: int | None = None,
    rounds: int = 4,
    limits: Limits | None = None,
    function: str | None = None,
) -> Outcome:
    """Grade an exercise from source text.

    Parameters
    ----------
    name
        The exercise.
    sources
        Cells, in their order; one that fails does not stop the next.
    seed, rounds
        Which random inputs, and how many times as many as a learner sees; None for fresh ones.
    limits
        Time and memory.
    function
        What the learner's function is called, if not like the exercise.

    Returns
    -------
    Outcome
        Of kind 'stopped' if time or memory ran out or the process ended before it answered.
    """
    exercise, limits = find(name), limits or Limits()
    probes = exercise.cases(int.from_bytes(os.urandom(7)) if seed is None else seed, rounds)
    with tempfile.TemporaryDirectory() as folder:
        wire.write(Path(folder, "request"), _request(exercise, function or name, sources, probes, limits))
        ended = _run_child(folder, limits)
        report = _answer(Path(folder, "answer"), len(probes)) if ended == "done" else None
    if report is None:
        return Outcome(name, "stopped", _WHY[ended], points=exercise.points)
    return judge(exercise, probes, report)


_WHY = {
    "done": "Your code left nothing that could be checked.",
    "time": "Your code took too long and was stopped: look for a loop that does not end.",
    "died": "Your code ended the program before it could be checked, or used up the memory.",
}


def _request(exercise: Exercise, function: str, sources: list[str], probes: list[tuple], limits: Limits) -> dict:
    observe = exercise.observe
    if ".lesson" in observe.__module__:
        raise KdlabError(
            f"The observer of {exercise.name} stands beside the reference: move it to kdlab.check.observers."
        )
    parameters = exercise.signature.parameters.values()
    return {
        "name": exercise.name,
        "function": function,
        "sources": list(sources),
        "observe": f"{observe.__module__}:{observe.__qualname__}",
        "parameters": [(p.name, [] if p.default is p.empty else [p.default]) for p in parameters],
        "probes": probes,
        "memory": limits.memory,
        "cpu_seconds": limits.cpu_seconds,
    }


def _run_child(folder: str, limits: Limits) -> str:
    """Run the learner's process and everything it started to their end: 'done', 'time' or 'died'."""
    process = subprocess.Popen(
        [sys.executable, "-I", "-c", f"from kdlab.check.child import main; main({folder!r})"],
        cwd=folder,
        env=_environment(folder),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        process.wait(limits.seconds)
    except subprocess.TimeoutExpired:
        return "time"
    finally:
        _stop(process)
    if process.returncode == -getattr(signal, "SIGXCPU", 0):
        return "time"
    return "done" if process.returncode == 0 else "died"


def _stop(process: subprocess.Popen) -> None:
    if hasattr(os, "killpg"):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
    process.wait()


def _environment(folder: str) -> dict[str, str]:
    """Nothing of the grader's own environment but what an interpreter needs to start."""
    kept = {name: os.environ[name] for name in ("PATH", "SYSTEMROOT", "LD_LIBRARY_PATH") if name in os.environ}
    return {**kept, "HOME": folder, "TMPDIR": folder, "TEMP": folder, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


def _answer(path: Path, count: int) -> Report | None:
    """The child's report, taken apart with care: the learner's code may have written it."""
    try:
        plain = wire.read(path)
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
