"""Marked regions inside a cell, and the two versions that are made of them.

``SOLUTION`` is what the learner is to write, ``STUB`` (commented code right before it) what stands there instead in
the learner's version, ``HIDDEN TESTS`` what only grading sees.
"""

import re
from itertools import zip_longest
from typing import NamedTuple

from nbformat import NotebookNode
from nbgrader.preprocessors import ClearSolutions

YOUR_CODE = 'raise NotImplementedError("Replace this line with your code.")'

_KINDS = "SOLUTION|STUB|HIDDEN TESTS"
_MARKER = re.compile(rf"\s*### (BEGIN|END) ({_KINDS})")
_SUSPECT = re.compile(rf"\b(BEGIN|END) ({_KINDS})\b")


class MarkerError(ValueError):
    """Markers that do not pair up; `offset` is the line within the cell, counted from 0."""

    def __init__(self, message: str, offset: int) -> None:
        super().__init__(message)
        self.offset = offset


class Region(NamedTuple):
    """Lines `first` (the BEGIN marker) to `last` (the END marker) of a cell, counted from 0."""

    kind: str
    first: int
    last: int


def regions(source: str) -> list[Region]:
    """Find the marked regions of a cell, in order.

    Raises
    ------
    MarkerError
        If markers are unbalanced, nested or misspelt, or a STUB is not directly followed by its SOLUTION.
    """
    found: list[Region] = []
    begun: tuple[str, int] | None = None
    for offset, line in enumerate(source.split("\n")):
        marker = _MARKER.fullmatch(line.rstrip())
        if marker is None:
            if _SUSPECT.search(line):
                raise MarkerError(
                    f"expected a marker alone on its line, '### BEGIN SOLUTION', not {line!r}",
                    offset,
                )
            continue
        edge, kind = marker.groups()
        if edge == "BEGIN":
            if begun:
                raise MarkerError(
                    f"### BEGIN {kind} inside a region that has not ended (BEGIN {begun[0]})",
                    offset,
                )
            begun = kind, offset
        else:
            if begun is None or begun[0] != kind:
                raise MarkerError(f"### END {kind} without its ### BEGIN {kind}", offset)
            found.append(Region(kind, begun[1], offset))
            begun = None
    if begun:
        raise MarkerError(f"### BEGIN {begun[0]} without its ### END {begun[0]}", begun[1])
    _check_stubs(source.split("\n"), found)
    return found


def _check_stubs(lines: list[str], found: list[Region]) -> None:
    for region, after in zip_longest(found, found[1:]):
        if region.kind != "STUB":
            continue
        if after is None or after.kind != "SOLUTION" or after.first != region.last + 1:
            raise MarkerError(
                "a STUB region must be directly followed by its SOLUTION region",
                region.first,
            )
        list(uncommented(lines, region))


def uncommented(lines: list[str], region: Region) -> list[tuple[int, str]]:
    """Return the offset and the code of every line of a STUB region."""
    indent = re.match(r"\s*", lines[region.first]).group()
    code = []
    for offset in range(region.first + 1, region.last):
        match = re.fullmatch(rf"{indent}#(?: (.*))?", lines[offset].rstrip())
        if match is None:
            raise MarkerError(
                "a stub line is a comment ('# code') indented like its marker", offset
            )
        code.append((offset, f"{indent}{match[1]}" if match[1] else ""))
    return code


def solved_source(source: str) -> str:
    """Return the solved version of a cell: no stubs, no hidden tests, no markers."""
    dropped: set[int] = set()
    for region in regions(source):
        dropped |= (
            {region.first, region.last}
            if region.kind == "SOLUTION"
            else set(range(region.first, region.last + 1))
        )
    return _without(source.split("\n"), dropped)


def stubs_in_place(source: str) -> tuple[str, bool]:
    """Put every STUB in the place of its SOLUTION; returns the source and whether there was one."""
    lines = source.split("\n")
    replaced: dict[int, str] = {}
    dropped: set[int] = set()
    found = regions(source)
    for region, after in zip_longest(found, found[1:]):
        if region.kind == "STUB":
            dropped |= set(range(region.first, after.last + 1))
            replaced |= dict(uncommented(lines, region))
    lines = [replaced.get(offset, line) for offset, line in enumerate(lines)]
    return _without(lines, dropped - set(replaced)), bool(replaced or dropped)


def learner_source(source: str) -> str:
    """Return the learner's version of a cell."""
    cell = NotebookNode(cell_type="code", source=source)
    ClearStubs()._replace_solution_region(cell, "python")
    return cell.source


def _without(lines: list[str], dropped: set[int]) -> str:
    return "\n".join(line for offset, line in enumerate(lines) if offset not in dropped)


class ClearStubs(ClearSolutions):
    """nbgrader's own preprocessor, which also knows STUB regions; for a course's nbgrader_config.py as well."""

    def __init__(self, **kwargs) -> None:
        super().__init__(**kwargs)
        self.code_stub = {"python": YOUR_CODE}

    def _replace_solution_region(self, cell: NotebookNode, language: str) -> bool:
        cell.source, stubbed = (
            stubs_in_place(cell.source)
            if cell.cell_type == "code"
            else (cell.source, False)
        )
        return super()._replace_solution_region(cell, language) or stubbed
