"""How large the course runs: the same cells at three scales.

``KDLAB_SCALE=smoke`` only asks whether everything runs, ``laptop`` (the default) trains enough for the claims to
be checked on two processor cores, ``full`` uses the whole data set and expects a GPU.
"""

import os
from typing import TypeVar

from kdlab.errors import KdlabError

T = TypeVar("T")

SCALES = ("smoke", "laptop", "full")


def current() -> str:
    """Return the scale named by ``$KDLAB_SCALE``, ``"laptop"`` when it is not set.

    Raises
    ------
    KdlabError
        If the variable holds anything but one of `SCALES`.
    """
    return check(os.environ.get("KDLAB_SCALE") or "laptop", where="KDLAB_SCALE")


def check(scale: str, where: str = "scale") -> str:
    """Return `scale` if it is one of `SCALES`; `where` names the culprit in the error otherwise."""
    if scale not in SCALES:
        raise KdlabError(f"{where} is {scale!r}; expected one of {', '.join(SCALES)}. Set it to one of these.")
    return scale


def pick(*, smoke: T, laptop: T, full: T | None = None) -> T:
    """Return the value for the current scale; `full` falls back to `laptop`."""
    return {"smoke": smoke, "laptop": laptop, "full": laptop if full is None else full}[current()]
