"""What an exercise is: its right answer, the inputs it is tried on, the mistakes that are known."""

import inspect
import itertools
import textwrap
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import torch

from kdlab.check.calling import Trial, call, on_cpu
from kdlab.errors import KdlabError


@dataclass(frozen=True)
class Edit:
    """A mistake written as replacements in the source of the reference."""

    replacements: tuple[tuple[str, str], ...]


def edit(old: str, new: str, *more: str) -> Edit:
    """The reference with `old` replaced by `new`; `more` are further old, new pairs.

    Each old text has to stand exactly once in the reference's source. Edits of different places can be combined,
    so that two known mistakes made at once are recognised without being written down.
    """
    texts = (old, new, *more)
    return Edit(tuple(zip(texts[::2], texts[1::2], strict=True)))


@dataclass(frozen=True)
class Wrong:
    """A known wrong answer.

    Attributes
    ----------
    name
        Unique in its exercise.
    how
        An `edit` of the reference, or a whole wrong function.
    says
        One sentence that names the mistake, not the answer.
    hint
        One sentence that points the way, not the answer.
    costs
        Which part of the points this mistake loses (1 is all); the costs of combined mistakes add up.
    """

    name: str
    how: Edit | Callable
    says: str
    hint: str
    costs: float = 1.0


@dataclass(frozen=True)
class Property:
    """Something that holds for every right output; named where an answer breaks it and no known mistake fits.

    `holds(output, *probe)` looks at what the observer returned. It may raise on strange outputs.
    """

    says: str
    holds: Callable[..., bool]


@dataclass(frozen=True)
class Part:
    """A part of an exercise that earns `points` by itself: the entries `keys` of what the observer returns."""

    name: str
    points: float
    keys: tuple[str | int, ...]


@dataclass(frozen=True)
class Remark:
    """A sentence for an answer that passes all the same.

    Attributes
    ----------
    says
        The sentence.
    probes
        Inputs of their own, on which such an answer differs from the reference; none to look at the exercise's.
    observe
        What is looked at on `probes`, if not what the exercise observes.
    deserved
        `deserved(trial)` for the calls on the exercise's own probes: whether one of them earns the sentence.
    """

    says: str
    probes: tuple[tuple, ...] = ()
    observe: Callable | None = None
    deserved: Callable[[Trial], bool] | None = None


def direct(function: Callable, *probe: Any) -> Any:
    """The observer of most exercises: call the function, look at what it returns."""
    return function(*probe)


@dataclass(frozen=True, eq=False)
class Exercise:
    """One exercise: its right answer, the inputs it is tried on, the mistakes that are known.

    Attributes
    ----------
    reference
        The right answer, plain and readable. Its name and signature are the exercise's.
    probes
        `probes(generator)` gives tuples of plain data, smallest first; trailing arguments may be left out.
    bank
        Known wrong answers, the likeliest first.
    points
        The points of the exercise; with `parts`, their sum.
    observe
        `observe(function, *probe)` calls the function once and returns what counts of it as plain data. It must not
        stand beside the reference: it may have to run in a learner's process.
    names
        For a reference that returns a tuple: what its items are called.
    show
        `show(*probe)` gives name -> text or data, for probes that do not read well as arguments.
    handed_out
        For a bug hunt: the mistakes, by name, that the handed-out body holds.
    combine
        How many known mistakes at once are looked for.
    uses
        Modules of this package, such as "kdlab.models", that an answer may import while it is graded; no others are
        there. They must not hold an answer.
    """

    reference: Callable
    probes: Callable[[torch.Generator], list[tuple]]
    bank: tuple[Wrong, ...]
    points: float = 1.0
    observe: Callable = direct
    names: tuple[str, ...] = ()
    properties: tuple[Property, ...] = ()
    parts: tuple[Part, ...] = ()
    remarks: tuple[Remark, ...] = ()
    show: Callable[..., dict[str, Any]] | None = None
    handed_out: tuple[str, ...] = ()
    combine: int = 2
    uses: tuple[str, ...] = ()

    def __post_init__(self):
        if self.parts and sum(part.points for part in self.parts) != self.points:
            raise KdlabError(f"The parts of {self.name} are not worth its {self.points} points: change one of them.")

    @property
    def name(self) -> str:
        return self.reference.__name__

    @cached_property
    def signature(self) -> inspect.Signature:
        return inspect.signature(self.reference).replace(return_annotation=inspect.Signature.empty)

    def cases(self, seed: int | None = None, rounds: int = 1) -> list[tuple]:
        """The probes for a seed (None: the ones that a learner sees), over several rounds."""
        generator = torch.Generator("cpu").manual_seed(zlib.crc32(self.name.encode()) if seed is None else seed)
        with on_cpu():
            return [probe for _ in range(rounds) for probe in self.probes(generator)]

    def trial(self, function: Callable, probe: tuple, observe: Callable | None = None) -> Trial:
        """One watched call of a function."""
        return call(function, observe or self.observe, probe, list(self.signature.parameters))

    @cached_property
    def wrongs(self) -> tuple[tuple[tuple[Wrong, ...], Callable], ...]:
        """Every known mistake, then every combination that can be made, as (mistakes, function)."""
        return tuple(self._combinations())

    def _combinations(self) -> Iterator[tuple[tuple[Wrong, ...], Callable]]:
        for wrong in self.bank:
            function = variant(self.reference, wrong.how.replacements) if isinstance(wrong.how, Edit) else wrong.how
            if function is None:
                raise KdlabError(
                    f"{self.name}: the text that {wrong.name} replaces does not stand once in the reference."
                )
            yield (wrong,), function
        edits = [wrong for wrong in self.bank if isinstance(wrong.how, Edit)]
        for count in range(2, self.combine + 1):
            for mistakes in itertools.combinations(edits, count):
                replacements = tuple(pair for wrong in mistakes for pair in wrong.how.replacements)
                function = variant(self.reference, replacements)
                if function is not None:
                    yield mistakes, function


@cache
def _source(function: Callable) -> str:
    return textwrap.dedent(inspect.getsource(function))


def variant(reference: Callable, replacements: tuple[tuple[str, str], ...]) -> Callable | None:
    """The reference with text replaced; None if a text does not stand there exactly once or the result is no Python."""
    original = source = _source(reference)
    for old, new in replacements:
        if original.count(old) != 1 or source.count(old) != 1:
            return None
        source = source.replace(old, new)
    namespace = dict(inspect.unwrap(reference).__globals__)
    try:
        exec(compile(source, f"<{reference.__name__}>", "exec"), namespace)
    except SyntaxError:
        return None
    return namespace[reference.__name__]
