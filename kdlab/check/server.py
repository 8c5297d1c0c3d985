"""A process that has imported torch once and forks a copy of itself for every answer that is to be graded.

It never sees an answer: it passes two open files on, one to read the request from, one to write the answer to. A copy
that runs too long is killed with all that it has started; so are all of them when the grader goes away.
"""

import contextlib
import gc
import json
import os
import select
import signal
import socket
import time
from importlib import import_module
from typing import NamedTuple

from kdlab.check import child

# what answers use, once for all; the first step of an optimizer imports torch._dynamo
LOADED = ("numpy", "torch", "torch.nn.functional", "torch._dynamo", "scipy.stats", "statistics")
_PAUSE = 0.004


class _Running(NamedTuple):
    number: int
    deadline: float


def serve(descriptor: int) -> None:
    """Take requests from a socket, as `number, seconds` and two files, until it closes."""
    for name in LOADED:
        import_module(name)
    gc.freeze()  # so that copies share the memory
    control = socket.socket(fileno=descriptor)
    running: dict[int, _Running] = {}
    while _take(control, running):
        for process in list(running):
            ended = _ended(process, running[process].deadline)
            if ended:
                control.send(json.dumps([running.pop(process).number, ended]).encode())
    for process in running:
        _kill(process)


def _take(control: socket.socket, running: dict[int, _Running]) -> bool:
    """Start what is asked for, if anything is; False once nobody can ask any more."""
    if not select.select([control], [], [], _PAUSE if running else None)[0]:
        return True
    message, files, _, _ = socket.recv_fds(control, 4096, 2)
    if not message:
        return False
    number, seconds = json.loads(message)
    running[_start(*files)] = _Running(number, time.monotonic() + seconds)
    for file in files:
        os.close(file)
    return True


def _start(request: int, answer: int) -> int:
    process = os.fork()
    if process:
        return process
    try:
        os.setsid()
        _close_others(request, answer)
        child.main(request, answer)
    finally:
        os._exit(1)


def _close_others(*kept: int) -> None:
    for descriptor in sorted(map(int, os.listdir("/proc/self/fd"))):
        if descriptor > 2 and descriptor not in kept:
            with contextlib.suppress(OSError):
                os.close(descriptor)


def _ended(process: int, deadline: float) -> str:
    """How a copy ended: 'done', 'time' or 'died'; '' if it has not."""
    late = time.monotonic() > deadline
    if late:
        _kill(process, wait=False)
    done, status = os.waitpid(process, 0 if late else os.WNOHANG)
    if not done:
        return ""
    _kill_group(process)
    code = os.waitstatus_to_exitcode(status)
    if late or code == -signal.SIGXCPU:
        return "time"
    return "done" if code == 0 else "died"


def _kill(process: int, wait: bool = True) -> None:
    os.kill(process, signal.SIGKILL)
    _kill_group(process)
    if wait:
        os.waitpid(process, 0)


def _kill_group(process: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process, signal.SIGKILL)
