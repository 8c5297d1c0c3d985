"""What an executed notebook depends on in the package: the modules its lesson imports, directly or not."""

import ast
import hashlib
import re
from pathlib import Path

import kdlab
from _lesson import Lesson
from kdlab.fingerprint import bare

PACKAGE = Path(kdlab.__file__).parent
_NUMBER = re.compile(r"(?<!\d)\d\d(?!\d)")


def of_code(lesson: Lesson, package: Path = PACKAGE) -> str:
    """Return the digest of the package code that a lesson reaches; comments and docstrings do not count."""
    source = "\n".join(
        line
        for cell in lesson.cells
        if cell.kind == "code"
        for line in _imports(cell.source)
    )
    reached: set[Path] = set()
    todo = _modules(ast.parse(source), package, package)
    while todo:
        path = todo.pop()
        if path in reached or _of_another_lesson(path, lesson, package):
            continue
        reached.add(path)
        todo |= _modules(ast.parse(path.read_text(encoding="utf-8")), path.parent, package)
        if (
            path == package / "check" / "__init__.py"
        ):  # which imports the exercises only when they are asked for
            todo |= {file for file in path.parent.rglob("*.py") if _numbers(file, package)}
    sha = hashlib.sha256()
    for path in sorted(reached):
        sha.update(
            f"{path.relative_to(package).as_posix()}\n{bare(path.read_text(encoding='utf-8'))}\n".encode()
        )
    return sha.hexdigest()[:20]


def _imports(source: str) -> list[str]:
    """Return the import statements of a cell, which may hold shell or magic lines that Python cannot parse."""
    try:
        return [
            ast.unparse(n)
            for n in ast.walk(ast.parse(source))
            if isinstance(n, ast.Import | ast.ImportFrom)
        ]
    except SyntaxError:
        return re.findall(r"^\s*((?:import|from) .+)$", source, re.MULTILINE)


def _modules(tree: ast.AST, folder: Path, package: Path) -> set[Path]:
    """Return the files of the package that a module in `folder` imports."""
    found: set[Path] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(folder.relative_to(package.parent).parts) if node.level else ""
            for _ in range(node.level - 1):
                base = base.rpartition(".")[0]
            module = ".".join(part for part in (base, node.module) if part)
            names = [module, *(f"{module}.{alias.name}" for alias in node.names)]
        else:
            continue
        for name in names:
            found |= _files(name, package)
    return found


def _files(name: str, package: Path) -> set[Path]:
    """Return the files that ``import name`` runs: the module and every package above it."""
    parts = name.split(".")
    if parts[0] != package.name:
        return set()
    found, place = {package / "__init__.py"}, package
    for part in parts[1:]:
        place = place / part
        found |= {
            f for f in (place.with_suffix(".py"), place / "__init__.py") if f.is_file()
        }
    return found


def _of_another_lesson(path: Path, lesson: Lesson, package: Path) -> bool:
    numbers = _numbers(path, package)
    return bool(numbers) and lesson.name[:2] not in numbers


def _numbers(path: Path, package: Path) -> list[str]:
    """Return the lesson numbers in the name of a module of checks (``check/lesson02/attention_map.py``)."""
    name = path.relative_to(package).as_posix()
    return _NUMBER.findall(name) if name.startswith("check/") else []
