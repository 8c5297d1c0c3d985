"""Which exercises there are: one file each in the folders lesson00, lesson01, …, imported when it is asked for."""

import difflib
import functools
import importlib
import pkgutil
from pathlib import Path

from kdlab.check.core import Exercise
from kdlab.errors import KdlabError


class UnknownExercise(KdlabError, AttributeError):
    """There is no exercise of that name."""


@functools.cache
def lessons() -> dict[str, str]:
    """Exercise name -> lesson folder, in the order of the lessons."""
    here = Path(__file__).parent
    folders = sorted(module.name for module in pkgutil.iter_modules([str(here)]) if module.name.startswith("lesson"))
    return {module.name: folder for folder in folders for module in pkgutil.iter_modules([str(here / folder)])}


def find(name: str) -> Exercise:
    """The exercise of that name.

    Raises
    ------
    UnknownExercise
        If there is none; the message names the nearest.
    """
    folder = lessons().get(name)
    if folder is None:
        near = difflib.get_close_matches(name, lessons(), n=1, cutoff=0.5)
        advice = f"did you mean check.{near[0]}?" if near else f"there are {', '.join(lessons())}."
        raise UnknownExercise(f"There is no exercise {name!r}: {advice}")
    return importlib.import_module(f"kdlab.check.{folder}.{name}").EXERCISE
