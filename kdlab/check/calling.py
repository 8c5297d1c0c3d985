"""One watched call of a learner's function: what came back, what it raised, printed, changed.

Nothing here knows a reference answer, so this module can run in a process of its own beside a learner's code.
Everything it returns is plain data: tensors, arrays, numbers, strings, lists and dictionaries.
"""

import contextlib
import copy
import dis
import inspect
import io
import linecache
import random
import sys
import sysconfig
import textwrap
import traceback
import types
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from kdlab.check.comparing import describe, same

_HERE = str(Path(__file__).parents[1])
_LIBRARIES = tuple({sysconfig.get_paths()[key] for key in ("stdlib", "platstdlib", "purelib", "platlib")})
_RANDOM = ("torch's random seed", "Python's random seed", "NumPy's random seed")
_NOTED_WARNINGS = 8
_DOES_NOTHING = {"RESUME", "NOP", "LOAD_CONST", "RETURN_CONST", "RETURN_VALUE", "COPY_FREE_VARS", "POP_TOP"}


class Scripted(Exception):
    """Raised on purpose by an object that an observer hands to the learner's function."""


@dataclass(frozen=True)
class Raised:
    """An exception in the learner's code, and the line of theirs that it came from; `stub` if it is a stub's."""

    type: str
    message: str
    line: int | None = None
    text: str = ""
    stub: bool = False


@dataclass(frozen=True)
class Trial:
    """What one call did.

    `output` is what the exercise's observer noted; `finished` says that the function itself returned, `none` that it
    returned None; `modified` names the arguments it changed in place, `state` the global settings it did not give back,
    `warned` what Python warned of.
    """

    output: Any = None
    raised: Raised | None = None
    none: bool = False
    modified: tuple[str, ...] = ()
    state: tuple[str, ...] = ()
    printed: str = ""
    finished: bool = False
    warned: tuple[str, ...] = ()


@dataclass(frozen=True)
class Report:
    """All calls of one learner's function. `problem` says why it could not be called at all."""

    trials: tuple[Trial, ...] = ()
    problem: str = ""
    empty: bool = False
    defaults: dict[str, Any] = field(default_factory=dict)


def attempt(function: Any, observe: Callable, signature: inspect.Signature, probes: list[tuple], name: str) -> Report:
    """Call `function` on every probe through `observe`.

    Parameters
    ----------
    function
        What the learner handed in; anything at all.
    observe
        `observe(function, *probe)` calls the function once and returns what counts of it as plain data.
    signature
        The signature that the exercise asks for.
    probes
        Tuples of plain data. The function gets copies.
    name
        The exercise's name, for messages.
    """
    problem = _unusable(function, signature, name)
    if problem:
        return Report(problem=problem)
    trials, parameters = [], list(signature.parameters)
    for probe in probes:
        trial = call(function, observe, probe, parameters)
        trials.append(_without_mere_use(trial, function, observe, probe, parameters))
        if trial.raised and trial.raised.stub:
            break
    return Report(tuple(trials), empty=_does_nothing(function), defaults=_defaults(function))


def _without_mere_use(
    trial: Trial, function: Callable, observe: Callable, probe: tuple, parameters: list[str]
) -> Trial:
    """Drawing random numbers is nobody's concern; seeding is: the state is then the same whatever it was before."""
    if not any(setting in _RANDOM for setting in trial.state):
        return trial
    ends = [_Watched(function, parameters, seed) for seed in (0, 1)]
    for watched in ends:
        _watch(watched, observe, probe)
    return replace(
        trial,
        state=tuple(
            name for name in trial.state if name not in _RANDOM or same(*(end.after.get(name) for end in ends))
        ),
    )


def call(function: Callable, observe: Callable, probe: tuple, parameters: list[str]) -> Trial:
    """Call `function` once, on a copy of `probe`, and give the interpreter back as it was."""
    return _watch(_Watched(function, parameters), observe, probe)


def _watch(watched: "_Watched", observe: Callable, probe: tuple) -> Trial:
    output = None
    with (
        _restored(),
        on_cpu(),
        contextlib.redirect_stdout(watched.printed),
        contextlib.redirect_stderr(watched.printed),
    ):
        try:
            output = duplicate(observe(watched, *duplicate(probe)))
        except (Exception, SystemExit) as error:
            if watched.raised is None:  # the observer stumbled over what came back, or it has no end
                output = _stumbled(watched.returned, error)
    return Trial(
        output=output,
        raised=watched.raised,
        none=watched.finished and watched.returned is None,
        modified=tuple(watched.modified),
        state=tuple(watched.state),
        printed=watched.printed.getvalue(),
        finished=watched.finished,
        warned=tuple(watched.warned),
    )


@contextlib.contextmanager
def unwatched() -> Iterator[None]:
    """Room for `result_of`: nothing is printed or warned of, and afterwards the interpreter is as it was."""
    nowhere = io.StringIO()
    with (
        _restored(),
        on_cpu(),
        contextlib.redirect_stdout(nowhere),
        contextlib.redirect_stderr(nowhere),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        yield


def result_of(function: Callable, observe: Callable, probe: tuple) -> tuple[bool, Any]:
    """Whether a call of a known function came to its end, and what the observer then noted; quicker than `call`.

    Meant for many calls in one `unwatched` block: side effects are not looked for.
    """
    seeded = _Seeded(function)
    with _settings_restored():
        try:
            return True, duplicate(observe(seeded, *duplicate(probe)))
        except (Exception, SystemExit) as error:
            return not seeded.raised, _stumbled(seeded.returned, error)


class _Seeded:
    """Stands in for a known function while an observer calls it."""

    def __init__(self, function: Callable):
        self.function, self.raised, self.returned = function, False, None

    def __call__(self, *arguments: Any) -> Any:
        _seed(0)
        try:
            self.returned = self.function(*arguments)
        except Scripted:
            raise
        except (Exception, SystemExit):
            self.raised = True
            raise
        return self.returned


def _stumbled(returned: Any, error: BaseException) -> str:
    """What stands for an observer's note if the observer could not deal with what came back."""
    return f"{describe(returned)} ({type(error).__name__})"


class _Watched:
    """Stands in for the learner's function while an observer calls it."""

    def __init__(self, function: Callable, parameters: list[str], seed: int = 0):
        self.function, self.parameters, self.seed = function, parameters, seed
        self.finished, self.returned, self.raised = False, None, None
        self.modified: list[str] = []
        self.state: list[str] = []
        self.warned: list[str] = []
        self.after: dict[str, Any] = {}
        self.printed = io.StringIO()

    def __call__(self, *arguments: Any) -> Any:
        kept = [duplicate(argument) for argument in arguments]
        _seed(self.seed)
        before = _settings()
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                self.returned = self.function(*arguments)
            self.warned += sorted({str(warning.message) for warning in caught})[:_NOTED_WARNINGS]
            self.finished = True
        except Scripted:
            raise
        except (Exception, SystemExit) as error:
            self.raised = _raised(error, self.function)
            raise
        finally:
            self.after = _settings()
            self.state += [setting for setting in before if not same(before[setting], self.after[setting])]
            self.modified += [
                name
                for name, was, now in zip(self.parameters, kept, arguments, strict=False)
                if is_plain(was) and not same(was, now)
            ]
        return self.returned


def is_plain(value: Any) -> bool:
    """Whether a value is data (and not, say, a module or a function that a probe's observer built)."""
    if isinstance(value, dict):
        return all(is_plain(item) for item in value.values())
    if isinstance(value, list | tuple):
        return all(is_plain(item) for item in value)
    return value is None or isinstance(value, bool | int | float | str | torch.Tensor) or _is_array(value)


def duplicate(value: Any) -> Any:
    """A copy that shares no memory; tensors come without their history, and ask for gradients if the original did."""
    if isinstance(value, torch.Tensor):
        return value.detach().clone().requires_grad_(value.requires_grad and value.is_leaf)
    if isinstance(value, dict):
        return {key: duplicate(item) for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(duplicate(item) for item in value)
    return copy.deepcopy(value) if _is_array(value) else value


def _is_array(value: Any) -> bool:
    numpy = sys.modules.get("numpy")
    return numpy is not None and isinstance(value, numpy.ndarray | numpy.generic)


def _seed(seed: int) -> None:
    torch.default_generator.manual_seed(seed)
    random.seed(seed)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(seed)


def _settings() -> dict[str, Any]:
    settings = {
        "the number of torch threads": torch.get_num_threads(),
        "torch's gradient mode": torch.is_grad_enabled(),
        "torch's default dtype": str(torch.get_default_dtype()),
        _RANDOM[0]: torch.default_generator.get_state(),
        _RANDOM[1]: hash(random.getstate()),
    }
    if "numpy" in sys.modules:
        kind, keys, *rest = sys.modules["numpy"].random.get_state()
        settings[_RANDOM[2]] = hash((kind, keys.tobytes(), *rest))
    return settings


def on_cpu() -> contextlib.AbstractContextManager:
    """Probes lie on the CPU, whatever device a notebook has made the default."""
    return contextlib.nullcontext() if torch.get_default_device().type == "cpu" else torch.device("cpu")


@contextlib.contextmanager
def _restored() -> Iterator[None]:
    state, python = torch.default_generator.get_state(), random.getstate()
    numpy = sys.modules.get("numpy")
    numbers = numpy.random.get_state() if numpy else None
    try:
        with _settings_restored():
            yield
    finally:
        torch.default_generator.set_state(state)
        random.setstate(python)
        if numpy:
            numpy.random.set_state(numbers)


@contextlib.contextmanager
def _settings_restored() -> Iterator[None]:
    threads, gradients, dtype = torch.get_num_threads(), torch.is_grad_enabled(), torch.get_default_dtype()
    torch.set_grad_enabled(True)
    try:
        yield
    finally:
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
        torch.set_grad_enabled(gradients)
        torch.set_default_dtype(dtype)


def _raised(error: BaseException, function: Callable) -> Raised:
    frames = traceback.extract_tb(error.__traceback__)
    code = _code(function)
    theirs = [frame for frame in frames if code is not None and frame.filename == code.co_filename]
    if not theirs:
        theirs = [frame for frame in frames if not frame.filename.startswith((_HERE, *_LIBRARIES))]
    kind, words = type(error).__name__, textwrap.shorten(str(error), 300, placeholder=" …")
    if not theirs:
        return Raised(kind, words)
    last = theirs[-1]
    text = linecache.getline(last.filename, last.lineno).strip()
    return Raised(kind, words, last.lineno, text, stub=_is_stub(error) and frames[-1] is last)


def _is_stub(error: BaseException) -> bool:
    """Whether the last frame has a raise statement for it: torch raises NotImplementedError too, from C."""
    place = error.__traceback__
    while place.tb_next is not None:
        place = place.tb_next
    instruction = dis.opname[place.tb_frame.f_code.co_code[place.tb_lasti]]
    return type(error) is NotImplementedError and instruction == "RAISE_VARARGS"


def is_of_this_package(function: Any) -> bool:
    """Whether a function comes with the course, and so is nobody's own answer."""
    function = inspect.unwrap(function) if callable(function) else function
    function = getattr(function, "func", function)  # functools.partial
    module = getattr(function, "__module__", None) or type(function).__module__
    return f"{module}.".startswith("kdlab.")


def _code(function: Callable) -> types.CodeType | None:
    function = inspect.unwrap(function)
    function = getattr(function, "func", function)  # functools.partial
    if not hasattr(function, "__code__"):  # an object that can be called
        function = vars(type(function)).get("__call__", function)
    return getattr(function, "__code__", None)


def _does_nothing(function: Callable) -> bool:
    code = _code(function)
    if code is None:
        return False
    return all(
        step.opname in _DOES_NOTHING and (step.opname not in ("LOAD_CONST", "RETURN_CONST") or _filler(step.argval))
        for step in dis.get_instructions(code)
    )


def _filler(constant: Any) -> bool:
    return constant is None or constant is Ellipsis


def _defaults(function: Callable) -> dict[str, Any]:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return {}
    return {p.name: p.default for p in parameters if p.default is not p.empty and is_plain(p.default)}


def _unusable(function: Any, signature: inspect.Signature, name: str) -> str:
    if not callable(function):
        given = describe(function) if is_plain(function) else f"a {type(function).__name__}"
        return f"This needs the function itself, check.{name}({name}), and got {given}."
    if isinstance(function, type):
        return f"This needs a function, and got the class {function.__name__}."
    try:
        yours = inspect.signature(function)
    except (TypeError, ValueError):
        return ""
    required = [p for p in signature.parameters.values() if p.default is p.empty]
    for count in range(len(required), len(signature.parameters) + 1):
        try:
            yours.bind(*[None] * count)
        except TypeError:
            return f"{name} has to take {signature}; yours takes {yours}."
    return ""
