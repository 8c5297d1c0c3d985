"""The settings of nbgrader that a course needs; its nbgrader_config.py calls `configure`."""

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

from nbgrader.converters import Autograde, GenerateAssignment
from nbgrader.preprocessors import ClearSolutions, Execute

from kdlab.classroom import resuming
from kdlab.classroom.grading import Finished, GradeAnswers, RefuseOthers
from kdlab.classroom.restoring import RestoreCells
from kdlab.errors import KdlabError

STUBS = "kdlab_stubs.py"


def configure(c: Any, folder: Path) -> None:
    """Set nbgrader up for the course in `folder`.

    Raises
    ------
    KdlabError
        If the folder lacks what `python -m kdlab classroom` writes there.
    """
    folder = Path(folder).resolve()
    c.CourseDirectory.root = str(folder)
    clear_stubs = _module(folder / STUBS).ClearStubs
    steps = [clear_stubs if step is ClearSolutions else step for step in _default(GenerateAssignment, "preprocessors")]
    c.GenerateAssignment.preprocessors = [RefuseOthers, *steps]
    c.Autograde.sanitize_preprocessors = [RestoreCells, *_default(Autograde, "sanitize_preprocessors")]
    grading = [GradeAnswers if step is Execute else step for step in _default(Autograde, "autograde_preprocessors")]
    c.Autograde.autograde_preprocessors = [*grading, Finished]
    resuming.install()


def _default(converter: type, trait: str) -> list:
    return list(converter.class_traits()[trait].default())


def _module(path: Path) -> ModuleType:
    if not path.exists():
        raise KdlabError(f"{path} is missing: run python -m kdlab classroom {path.parent} again.")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
