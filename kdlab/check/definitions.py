"""From the cells of a notebook to the one function that is to be graded, without running the notebook.

The cell of the exercise runs whole, statement by statement. Of every other cell only those definitions run (imports,
functions, classes, assignments) that the exercise's cell makes use of, directly or by way of one another. So nothing
is trained or drawn, and what is broken elsewhere matters only to an answer that is built on it.
"""

import __future__

import ast
import copy
import io
import linecache
import re
from collections.abc import Iterator, Sequence
from contextlib import redirect_stderr, redirect_stdout
from typing import Any, NamedTuple

_MAGIC = re.compile(r"\s*([%!?]|[\w.]+\s*\?{1,2}\s*$|[\w, ]+=\s*[%!])")
_BLOCKS = (ast.If, ast.Try, ast.With)


class Cell(NamedTuple):
    """A code cell; `whole` if it belongs to the exercise."""

    source: str
    whole: bool = True


class Unavailable:
    """Stands for something that could not be imported, and says so when it is used."""

    def __init__(self, error: ImportError):
        self.__dict__["_error"] = error

    def __getattr__(self, name: str) -> Any:
        raise self._error

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        raise self._error


class _Statement(NamedTuple):
    tree: ast.stmt
    filename: str
    whole: bool


def function_named(name: str, cells: Sequence[Cell]) -> tuple[Any, list[str]]:
    """Run what `name` needs; returns what it then stands for (None if nothing), and what failed on the way."""
    namespace: dict[str, Any] = {"__name__": "__main__"}
    statements, failures = _parsed(cells)
    flags = 0
    for statement in _needed(statements, name):
        flags |= _future(statement.tree)
        try:
            with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
                exec(compile(ast.Module([statement.tree], []), statement.filename, "exec", flags, True), namespace)
        except ImportError as error:
            failures.append(_described(error))
            namespace = {bound: Unavailable(error) for bound in _bound(statement.tree)} | namespace
        except (Exception, SystemExit) as error:
            failures.append(_described(error))
    found = namespace.get(name)
    return (None if isinstance(found, Unavailable) else found), failures


def _described(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


def _parsed(cells: Sequence[Cell]) -> tuple[list[_Statement], list[str]]:
    statements, failures = [], []
    for number, cell in enumerate(cells, 1):
        filename = f"<cell {number}>"
        linecache.cache[filename] = (len(cell.source), None, cell.source.splitlines(keepends=True), filename)
        try:
            body = _tree(cell.source, filename).body
        except Exception as error:  # a syntax error, too deep a nesting, a null byte
            failures += [_described(error)] * cell.whole
            continue
        statements += [_Statement(part, filename, cell.whole) for tree in body for part in _one_by_one(tree)]
    return statements, failures


def _one_by_one(tree: ast.stmt) -> list[ast.stmt]:
    """`import torch, not_there` as two statements, so that the first is there without the second."""
    if not isinstance(tree, ast.Import | ast.ImportFrom):
        return [tree]
    parts = [copy.copy(tree) for _ in tree.names]
    for part, alias in zip(parts, tree.names, strict=True):
        part.names = [alias]
    return parts


def _tree(source: str, filename: str) -> ast.Module:
    try:
        return ast.parse(source, filename)
    except SyntaxError:
        return ast.parse("\n".join(map(_without_magic, source.splitlines())) + "\n", filename)


def _without_magic(line: str) -> str:
    if not _MAGIC.match(line):
        return line
    code = line.lstrip()
    return line[: len(line) - len(code)] + "pass  # " + code


def _needed(statements: list[_Statement], name: str) -> list[_Statement]:
    wanted = {name}.union(*(_used(statement.tree) for statement in statements if statement.whole))
    taken = {at for at, statement in enumerate(statements) if statement.whole}
    grew = True
    while grew:
        grew = False
        for at, statement in enumerate(statements):
            bound = _bound(statement.tree) if at not in taken else set()
            if bound & (wanted | {"*"}):
                taken.add(at)
                wanted |= _used(statement.tree)
                grew = True
    return [statement for at, statement in enumerate(statements) if at in taken]


def _used(tree: ast.AST) -> set[str]:
    return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}


def _bound(tree: ast.stmt) -> set[str]:
    """The names that a definition defines; none for any other statement."""
    if isinstance(tree, ast.Import | ast.ImportFrom):
        return {(alias.asname or alias.name).split(".")[0] for alias in tree.names}
    if isinstance(tree, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return {tree.name}
    if isinstance(tree, ast.Assign):
        return set(_targets(*tree.targets))
    if isinstance(tree, ast.AnnAssign | ast.AugAssign):
        return set(_targets(tree.target))
    if isinstance(tree, _BLOCKS):
        return set().union(
            *(_bound(child) for child in ast.walk(tree) if isinstance(child, ast.stmt) and child is not tree)
        )
    return set()


def _targets(*trees: ast.expr) -> Iterator[str]:
    for tree in trees:
        if isinstance(tree, ast.Name):
            yield tree.id
        elif isinstance(tree, ast.Tuple | ast.List):
            yield from _targets(*tree.elts)
        elif isinstance(tree, ast.Starred):
            yield from _targets(tree.value)


def _future(tree: ast.stmt) -> int:
    """`from __future__ import …` counts for all that follows."""
    if not isinstance(tree, ast.ImportFrom) or tree.module != "__future__":
        return 0
    features = [getattr(__future__, alias.name, None) for alias in tree.names]
    return sum(feature.compiler_flag for feature in features if feature is not None)
