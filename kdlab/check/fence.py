"""What an answer may use while it is graded, in layers: limits, the kernel's own fences, and a guard inside Python.

On Linux (5.13 or newer) landlock and a system call filter hold against native code too. The guard is what remains on
other systems, where it stops whoever does not go looking for a hole; there a teacher grades in a container.
"""

import ctypes
import os
import sys
import sysconfig
from collections.abc import Callable, Sequence
from pathlib import Path

from kdlab.check import syscalls

NOT_HERE = "kdlab is not there while an answer is graded: write the answer with torch and NumPy"

_FORBIDDEN = (
    *("subprocess.Popen", "os.system", "os.exec", "os.spawn", "os.posix_spawn", "os.fork", "os.forkpty", "pty.spawn"),
    *("os.kill", "os.killpg", "signal.pthread_kill", "resource.prlimit", "resource.setrlimit"),
    *("os.link", "os.symlink", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate", "os.chdir"),
    *("os.chmod", "os.chown", "os.utime", "os.setxattr", "os.removexattr", "shutil.move"),
    *("socket.__new__", "socket.connect", "socket.bind"),
    *("gc.get_objects", "gc.get_referrers", "gc.get_referents"),
)
_NATIVE = (
    "ctypes.dlopen",
    "ctypes.dlsym",
    "mmap.__new__",
    "sqlite3.connect",
)  # libraries use these; the kernel watches
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_SYSTEM = ("/usr", "/lib", "/lib64", "/etc/ld.so.cache", "/etc/localtime", "/dev/null", "/dev/urandom", "/dev/zero")

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_READ_FILE, _READ_DIR, _WRITE_FILE, _EXECUTE = 4, 8, 2, 1


def kernel_layers() -> tuple[str, ...]:
    """Which fences this system's kernel offers: "landlock" for files, "seccomp" for everything else."""
    if sys.platform != "linux":
        return ()
    libc = ctypes.CDLL(None, use_errno=True)
    landlock = ("landlock",) if libc.syscall(_CREATE_RULESET, None, 0, 1) > 0 else ()
    return (*landlock, "seccomp") if libc.prctl(21, 0, 0, 0, 0) >= 0 else landlock  # PR_GET_SECCOMP


def close(memory: int, cpu_seconds: int, private: Sequence[str] = ()) -> None:
    """Put all fences around this process, for good. What it has loaded stays; open files stay open.

    Parameters
    ----------
    memory
        Bytes beyond what it uses now.
    cpu_seconds
        Seconds of processor time, over all threads, beyond what it has used.
    private
        Folders that are out of reach even where they lie among the libraries.
    """
    readable = _readable(private)
    _limit(memory, cpu_seconds)
    files = _landlock(readable)
    filtered = syscalls.refuse(writing=not files)
    sys.addaudithook(_guard(readable, _FORBIDDEN if files and filtered else _FORBIDDEN + _NATIVE))


def _readable(private: Sequence[str]) -> list[str]:
    """Where Python and its libraries lie, without this package and what is private."""
    package = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
    paths = [*sysconfig.get_paths().values(), *filter(None, sys.path), sys.prefix, sys.base_prefix, *_SYSTEM]
    course = os.path.dirname(package)
    clone = [course] if os.path.exists(os.path.join(course, "pyproject.toml")) else []  # lessons, solutions, tests
    holes = [package, *clone, *map(os.path.realpath, private)]
    found = [path for path in paths if os.path.exists(path)]
    roots = {os.path.abspath(path) for path in found} | {os.path.realpath(path) for path in found}
    roots = sorted(root for root in roots if os.path.realpath(root) not in (os.path.sep, *holes))
    roots = [root for root in roots if not any(_inside(root, other) for other in roots)]
    return [part for root in roots for part in _without(root, *holes)]


def _without(root: str, *holes: str) -> list[str]:
    """`root`, or what is in it, so that no hole is among it; a root inside of a hole stays."""
    real = os.path.realpath(root)
    if real in holes:
        return []
    if not any(_inside(hole, real) for hole in holes):
        return [root]
    children = [child.path for child in os.scandir(root) if not child.is_symlink()]
    return [part for child in sorted(children) for part in _without(child, *holes)]


def _inside(path: str, folder: str) -> bool:
    return path.startswith(os.path.join(folder, ""))


def _limit(memory: int, cpu_seconds: int) -> None:
    try:
        import resource
    except ImportError:  # Windows: the parent's own clock remains
        return
    pages = int(Path("/proc/self/statm").read_text().split()[0]) if Path("/proc/self/statm").exists() else 0
    if pages:
        most = pages * resource.getpagesize() + memory
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
    used = resource.getrusage(resource.RUSAGE_SELF)
    most = int(used.ru_utime + used.ru_stime) + cpu_seconds
    resource.setrlimit(resource.RLIMIT_CPU, (most, most + 2))
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**24, 2**24))
    resource.setrlimit(resource.RLIMIT_NOFILE, (128, 128))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _landlock(readable: list[str]) -> bool:
    """Let this process read `readable` and no other file, and write none; False if the system cannot."""
    if "landlock" not in kernel_layers():
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    version = libc.syscall(_CREATE_RULESET, None, 0, 1)
    handled = (1 << {1: 13, 2: 14}.get(version, 15)) - 1  # what this version of the kernel can refuse
    ruleset = libc.syscall(_CREATE_RULESET, ctypes.byref(ctypes.c_uint64(handled)), 8, 0)
    for path in readable:
        _allow(libc, ruleset, path)
    closed = syscalls.no_new_privileges() and libc.syscall(_RESTRICT_SELF, ruleset, 0) == 0
    os.close(ruleset)
    return closed


def _allow(libc: ctypes.CDLL, ruleset: int, path: str) -> None:
    class Beneath(ctypes.Structure):
        _pack_ = 1
        _fields_ = (("access", ctypes.c_uint64), ("folder", ctypes.c_int32))

    try:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    access = _READ_FILE | _READ_DIR | _EXECUTE if os.path.isdir(path) else _READ_FILE
    if path == "/dev/null":
        access |= _WRITE_FILE
    libc.syscall(_ADD_RULE, ruleset, 1, ctypes.byref(Beneath(access, place)), 0)
    os.close(place)


def _guard(readable: list[str], forbidden: Sequence[str]) -> Callable:
    """An audit hook, which cannot be taken off again. It uses nothing that the answer could have replaced."""
    paths = frozenset(map(os.path.normcase, readable))
    folders = tuple(os.path.join(path, "") for path in paths)
    forbidden, writes = frozenset(forbidden), _WRITES
    decode, absolute, exactly, begins = os.fsdecode, os.path.abspath, str.__str__, str.startswith
    same_case = os.path.normcase
    sep, null, refused = os.sep, os.devnull, PermissionError

    def guard(event: str, arguments: tuple) -> None:
        if event == "open":
            path, _, flags = arguments
            if type(path) is int or path is None:
                return
            path = same_case(exactly(decode(path)))
            if f"{sep}..{sep}" in path or not begins(path, sep):
                path = same_case(absolute(path))
            if path not in paths and not begins(path, folders):
                raise refused("an answer may read nothing but the libraries")
            if (flags or 0) & writes and path != null:
                raise refused("an answer may not write files")
        elif event == "import":
            if begins(arguments[0] + ".", "kdlab."):
                raise ImportError(NOT_HERE)
        elif event in forbidden:
            raise refused(f"an answer may not use {event}")

    return guard
