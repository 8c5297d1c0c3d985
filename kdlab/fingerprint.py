"""What version of the code, and which settings: the parts of the names under which results are stored."""

import ast
import hashlib
import inspect
import json
import textwrap
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor, nn

PACKAGE = Path(__file__).parent
_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def bare(source: str) -> str:
    """Return Python source without comments, docstrings and layout; the same text from every version of Python."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, _DOCUMENTED) and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return ast.unparse(tree)


def of_source(source: str) -> str:
    """Fingerprint what Python source does: comments, layout and docstrings do not count."""
    return hashlib.sha256(bare(source).encode()).hexdigest()


@lru_cache
def of_code(*parts: str) -> str:
    """Fingerprint the modules and subpackages of kdlab named by `parts` (``"training"``, ``"data"``, …)."""
    sha = hashlib.sha256()
    for part in parts:
        path = PACKAGE / part
        files = sorted(path.rglob("*.py")) if path.is_dir() else [path.with_suffix(".py")]
        for file in files:
            sha.update(f"{file.relative_to(PACKAGE)} {of_source(file.read_text(encoding='utf-8'))}".encode())
    return sha.hexdigest()[:20]


@lru_cache
def of_package() -> str:
    """Fingerprint all of kdlab's files as they are."""
    sha = hashlib.sha256()
    for file in sorted(PACKAGE.rglob("*.py")):
        sha.update(str(file.relative_to(PACKAGE)).encode() + file.read_bytes())
    return sha.hexdigest()[:20]


def of_tensors(tensors: dict[str, Tensor]) -> str:
    """Fingerprint named tensors: names, types, shapes and every bit."""
    sha = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        flat = tensor.detach().cpu().contiguous()
        sha.update(f"{name} {flat.dtype} {tuple(flat.shape)}".encode())
        sha.update(flat.flatten().view(torch.uint8).numpy().tobytes() if flat.numel() else b"")
    return sha.hexdigest()[:20]


def of_model(model: nn.Module) -> str | None:
    """Fingerprint a network: its structure, its code where it is the learner's own, and its weights.

    None where the code of a class typed into a notebook cannot be read, so that nothing stale is ever recalled.
    """
    classes = sorted({type(m) for m in model.modules()}, key=lambda c: c.__qualname__)
    sources = [of_class(cls) for cls in classes]
    if None in sources:
        return None
    return of_settings({"structure": repr(model), "code": sources, "weights": of_tensors(model.state_dict())})


def of_class(cls: type) -> str | None:
    """Fingerprint the code of a class; None if it cannot be read. Released libraries count by their name alone."""
    package, *inner = cls.__module__.split(".")
    if package in ("torch", "torchvision"):
        return cls.__qualname__
    if package == "kdlab":
        return cls.__qualname__ + of_code(inner[0])
    try:
        return of_source(textwrap.dedent(inspect.getsource(cls)))
    except (OSError, TypeError, SyntaxError):
        return None


def of_settings(settings: dict) -> str:
    """Fingerprint JSON-able settings; a NumPy number counts as the Python number that it is equal to."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True, default=_jsonable).encode()).hexdigest()[:32]


def plain(value):
    """Return a NumPy number, or a tensor without dimensions, as a number of Python's; anything else as it is."""
    return value.item() if getattr(value, "ndim", None) == 0 and hasattr(value, "item") else value


def _jsonable(value):
    number = plain(value)
    if number is value:
        raise TypeError(f"{value!r} cannot be a part of a name; expected numbers, texts, lists and dictionaries.")
    return number
