"""Does everything that the course needs work on this machine? A table of OK and FAIL, and what to do."""

import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from kdlab import scale

_PACKAGE = Path(__file__).parent
_REINSTALL = "from the course's folder: python -m pip install -c constraints.txt -e ."
_TORCH = "install the two together: python -m pip install --force-reinstall -c constraints.txt torch torchvision"
_SCALE = f"set KDLAB_SCALE to one of {', '.join(scale.SCALES)}, or unset it"
_FREE_BYTES = 500_000_000


class Line(NamedTuple):
    """One line of the table; ``ok`` is None for what is only information."""

    name: str
    ok: bool | None
    found: str
    remedy: str = ""


def examine(quick: bool = False) -> list[Line]:
    """Check every requirement.

    Parameters
    ----------
    quick
        Only what needs no import of torch: versions and files (well under a second).
    """
    lines = [_python(), *_dependencies(), _bundle(), _try("scale", scale.current, _SCALE)]
    if not quick:
        lines += [_try("torch computes", _torch, _TORCH), _try("torchvision with torch", _torchvision, _TORCH)]
        lines += [_try("data intact", _data, _REINSTALL), _try("store", _store, _move_store()), *_machine()]
    return lines


def report(lines: list[Line]) -> str:
    """Return the table as text, a remedy under each FAIL."""
    width = max(len(line.name) for line in lines)
    words = {True: "OK  ", False: "FAIL", None: "info"}
    rows = []
    for line in lines:
        rows.append(f"{words[line.ok]}  {line.name:<{width}}  {line.found}".rstrip())
        if line.ok is False:
            rows.append(f"      {'':<{width}}  -> {line.remedy}")
    return "\n".join(rows)


def failed(lines: list[Line]) -> bool:
    """Return whether a requirement is not met."""
    return any(line.ok is False for line in lines)


def _python() -> Line:
    from packaging.specifiers import SpecifierSet

    try:
        needed = metadata.metadata("kdlab")["Requires-Python"]
    except metadata.PackageNotFoundError:
        needed = ">=3.11"
    version = platform.python_version()
    fits = SpecifierSet(needed).contains(version, prereleases=True)
    return Line("Python", fits, f"{version} (needs {needed})", "install a newer Python, remove .venv, and set up again")


def _dependencies() -> Iterator[Line]:
    from packaging.requirements import Requirement

    try:
        requirements = [Requirement(text) for text in metadata.requires("kdlab") or []]
    except metadata.PackageNotFoundError:
        yield Line("kdlab", False, "not installed", _REINSTALL)
        return
    for requirement in requirements:
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            yield _dependency(requirement)


def _dependency(requirement) -> Line:
    needs = f"needs {requirement.specifier}" if requirement.specifier else "any version"
    try:
        version = metadata.version(requirement.name)
    except metadata.PackageNotFoundError:
        return Line(requirement.name, False, f"not installed ({needs})", _REINSTALL)
    fits = requirement.specifier.contains(version, prereleases=True)
    return Line(requirement.name, fits, f"{version} ({needs})", _REINSTALL)


def _bundle() -> Line:
    folder = _PACKAGE / "data" / "bundle"
    missing = [name for name in ("fashion.json", "fashion.xz") if not (folder / name).is_file()]
    found = f"{', '.join(missing)} missing in {folder}" if missing else "fashion.xz"
    return Line("data files", not missing, found, _REINSTALL)


def _try(name: str, probe: Callable[[], str], remedy: str) -> Line:
    try:
        return Line(name, True, probe())
    except Exception as error:  # whatever goes wrong is what the table is for
        return Line(name, False, f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}", remedy)


def _torch() -> str:
    import torch

    weight = torch.ones(8, 8, requires_grad=True)
    (weight @ torch.ones(8, 1)).sum().backward()
    if not bool((weight.grad == 1).all()):
        raise ArithmeticError("a gradient of ones came out as something else")
    return f"{torch.__version__}, {torch.get_num_threads()} threads"


def _torchvision() -> str:
    import torch
    import torchvision

    boxes = torch.tensor([[0.0, 0.0, 2.0, 2.0], [0.0, 0.0, 2.0, 2.1]])
    if torchvision.ops.nms(boxes, torch.tensor([0.9, 0.8]), 0.5).tolist() != [0]:
        raise ArithmeticError("torchvision.ops.nms kept the wrong box")
    return torchvision.__version__


def _data() -> str:
    from kdlab.data import sources

    arrays = sources.read_bundle()
    return ", ".join(f"{len(arrays[f'{part}_labels']):,} {part}" for part in ("train", "test"))


def _store() -> str:
    from kdlab import store

    folder = store.home()
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder) as probe:
        probe.write(b"kdlab")
    free = shutil.disk_usage(folder).free
    if free < _FREE_BYTES:
        raise OSError(f"{folder} has only {free / 1e6:.0f} MB left")
    return f"{folder}, {free / 1e9:.0f} GB free"


def _move_store() -> str:
    return f"set KDLAB_HOME to a folder that can be written, with {_FREE_BYTES / 1e9:.1f} GB free"


def _machine() -> Iterator[Line]:
    yield Line("processor", None, f"{os.cpu_count()} cores, {platform.machine()}, {sys.platform}")
    try:
        import torch

        if torch.cuda.is_available():
            found = torch.cuda.get_device_name()
        else:
            found = "Apple (mps)" if torch.backends.mps.is_available() else "none, and none is needed"
    except Exception as error:  # a broken driver must not hide the rest of the table
        found = f"cannot tell ({type(error).__name__})"
    yield Line("GPU", None, found)
