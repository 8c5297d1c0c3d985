"""A lesson as its author writes it: cells with short-form metadata, checked before anything is built.

The form is described in CONTRIBUTING.md; every violation is a `BuildError` that names the lesson and the line.
"""

import ast
import io
import re
import tokenize
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

import jupytext
from IPython.core.inputtransformer2 import TransformerManager

from _markers import MarkerError, learner_source, regions, solved_source, uncommented

_KEYS = {"exercise", "bug", "check", "points", "solution", "tags"}
_JUPYTEXT_KEYS = {"lines_to_next_cell", "lines_to_end_of_cell_marker"}
_IDENTIFIER = re.compile(r"[A-Za-z0-9_-]+")
_RAISE = re.compile(r"raise NotImplementedError\b")


class BuildError(Exception):
    """A lesson that breaks the form; the message begins with ``file:line``."""


@dataclass(frozen=True)
class Cell:
    """One cell of a lesson.

    Attributes
    ----------
    kind : "code" or "markdown"
    source : text as written, markers included
    line : line of the lesson on which the source starts, counted from 1
    keys : the short-form metadata (`exercise`, `bug`, `check`, `points`, `solution`, `tags`)
    """

    kind: str
    source: str
    line: int
    keys: dict


@dataclass(frozen=True)
class Lesson:
    """A lesson that keeps the form."""

    path: Path
    cells: tuple[Cell, ...]

    @property
    def name(self) -> str:
        """File name without its ending: ``01_distillation``."""
        return self.path.stem


def read(path: Path) -> Lesson:
    """Read and check a lesson.

    Raises
    ------
    BuildError
        At the first violation of the form.
    """
    text = path.read_text(encoding="utf-8")
    lines = _cell_lines(path, text)
    notebook = jupytext.reads(text, fmt="py:percent")
    if len(notebook.cells) != len(lines):
        raise BuildError(
            f"{path}:1: found {len(lines)} cell markers but {len(notebook.cells)} cells; start with '# %%'"
        )
    cells = tuple(
        Cell(
            c.cell_type,
            c.source,
            line,
            {k: v for k, v in c.metadata.items() if k not in _JUPYTEXT_KEYS},
        )
        for c, line in zip(notebook.cells, lines, strict=True)
    )
    lesson = Lesson(path, cells)
    _check_keys(lesson)
    _check_exercises(lesson)
    for cell in cells:
        _check_markers(path, cell)
        _check_stub(path, cell)
        _check_compiles(path, cell)
    return lesson


def _cell_lines(path: Path, text: str) -> list[int]:
    """Return the line on which every cell's source starts; a marker inside a string is none."""
    try:
        tokens = list(tokenize.generate_tokens(io.StringIO(text).readline))
    except (tokenize.TokenError, SyntaxError) as error:
        line = error.args[1][0] if isinstance(error, tokenize.TokenError) else error.lineno
        raise BuildError(f"{path}:{line}: does not compile: {error.args[0]}") from None
    marker = re.compile(r"# %%(\s|$)")
    comments = [t for t in tokens if t.type == tokenize.COMMENT and t.start[1] == 0]
    return [t.start[0] + 1 for t in comments if marker.match(t.string)]


def _refuse(path: Path, cell: Cell, why: str, offset: int = -1) -> None:
    """Raise with the line of the cell's marker, or of line `offset` of its source."""
    raise BuildError(f"{path}:{cell.line + offset}: {why}")


def _check_keys(lesson: Lesson) -> None:
    for cell in lesson.cells:
        unknown = sorted(set(cell.keys) - _KEYS)
        if unknown:
            _refuse(
                lesson.path,
                cell,
                f"unknown cell key {', '.join(unknown)}; expected {', '.join(sorted(_KEYS))}",
            )
        roles = [key for key in ("exercise", "check", "solution") if key in cell.keys]
        if len(roles) > 1:
            _refuse(
                lesson.path,
                cell,
                f"a cell is one of exercise, check and solution, not {' and '.join(roles)}",
            )
        for role in roles:
            if not _IDENTIFIER.fullmatch(str(cell.keys[role])):
                _refuse(
                    lesson.path,
                    cell,
                    f"{cell.keys[role]!r} is no id; expected letters, digits, '_' and '-'",
                )
            kind = "markdown" if role == "solution" else "code"
            if cell.kind != kind:
                _refuse(lesson.path, cell, f"{role}= belongs on a {kind} cell")
        if "bug" in cell.keys and "exercise" not in cell.keys:
            _refuse(lesson.path, cell, "bug= belongs on an exercise")
        if "points" in cell.keys and "check" not in cell.keys:
            _refuse(lesson.path, cell, "points= belongs on a check")


def _check_exercises(lesson: Lesson) -> None:
    exercises: set[str] = set()
    checks: set[str] = set()
    for cell, after in zip_longest(lesson.cells, lesson.cells[1:]):
        if "exercise" in cell.keys:
            name = cell.keys["exercise"]
            if name in exercises:
                _refuse(lesson.path, cell, f"exercise {name!r} occurs twice")
            if after is None or after.keys.get("check") != name:
                _refuse(
                    lesson.path,
                    cell,
                    f'exercise {name!r} has no check right after it: # %% check="{name}" points=1',
                )
            exercises.add(name)
        if "check" in cell.keys:
            name, points = cell.keys["check"], cell.keys.get("points")
            if name in checks:
                _refuse(lesson.path, cell, f"check {name!r} occurs twice")
            if name not in exercises:
                _refuse(lesson.path, cell, f"check of an unknown exercise {name!r}")
            if (
                not isinstance(points, int | float)
                or isinstance(points, bool)
                or points <= 0
            ):
                _refuse(
                    lesson.path,
                    cell,
                    f"check {name!r} without points: expected points=1 or more",
                )
            checks.add(name)
        if "solution" in cell.keys and cell.keys["solution"] not in exercises:
            _refuse(
                lesson.path,
                cell,
                f"solution text of an unknown exercise {cell.keys['solution']!r}",
            )


def _check_markers(path: Path, cell: Cell) -> None:
    try:
        found = regions(cell.source)
    except MarkerError as error:
        _refuse(path, cell, str(error), error.offset)
    for region in found:
        if region.kind == "HIDDEN TESTS":
            if "check" not in cell.keys:
                _refuse(path, cell, "hidden tests outside a check cell", region.first)
        elif "exercise" not in cell.keys:
            _refuse(
                path, cell, f"{region.kind} markers outside an exercise cell", region.first
            )
    if "exercise" in cell.keys and not any(region.kind == "SOLUTION" for region in found):
        _refuse(
            path,
            cell,
            f"exercise {cell.keys['exercise']!r} has no ### BEGIN SOLUTION … ### END SOLUTION",
        )


def _check_stub(path: Path, cell: Cell) -> None:
    """Every line of a stub is a line of its solution, unless the stub is the bug to be found."""
    if "exercise" not in cell.keys or cell.keys.get("bug"):
        return
    known = {line.strip() for line in solved_source(cell.source).split("\n")}
    lines = cell.source.split("\n")
    for region in regions(cell.source):
        if region.kind != "STUB":
            continue
        for offset, line in uncommented(lines, region):
            if line.strip() not in known and not _RAISE.match(line.strip()):
                _refuse(
                    path,
                    cell,
                    f"stub line does not occur in its solution: {line.strip()!r}",
                    offset,
                )
    if not _RAISE.search(learner_source(cell.source)):
        _refuse(
            path,
            cell,
            f"the stub of {cell.keys['exercise']!r} never raises NotImplementedError",
        )


def _check_compiles(path: Path, cell: Cell) -> None:
    if cell.kind != "code":
        return
    versions = {"as written": cell.source}
    if "exercise" in cell.keys:
        versions |= {
            "solved": solved_source(cell.source),
            "as a stub": learner_source(cell.source),
        }
    for version, source in versions.items():
        try:
            plain = TransformerManager().transform_cell(source)
            compile(
                plain,
                str(path),
                "exec",
                flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT,
                dont_inherit=True,
            )
        except SyntaxError as error:
            offset = (error.lineno or 1) - 1 if version == "as written" else -1
            _refuse(path, cell, f"does not compile {version}: {error.msg}", offset)
        if version == "as a stub" and _raises_at_once(ast.parse(plain)):
            _refuse(
                path,
                cell,
                "the stub raises as soon as its cell runs; let the learner complete a function instead",
            )


def _raises_at_once(node: ast.AST) -> bool:
    """An untouched notebook runs to its end, so a stub raises only when it is called."""
    if isinstance(node, ast.Raise):
        return True
    inside = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
    return any(
        _raises_at_once(child)
        for child in ast.iter_child_nodes(node)
        if not isinstance(child, inside)
    )
