"""Rows of `run` in the store: named by what the function does, by its setting and its seed."""

import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from kdlab import fingerprint, scale, store
from kdlab.experiments import behaviour
from kdlab.models.registry import NETWORKS


def names(function: Callable, calls: list[tuple[dict, int]]) -> list[str | None]:
    """Name the row of every call; None for one that must not be remembered."""
    what = behaviour.of(function, NETWORKS)
    if what is None:
        return [None] * len(calls)
    where = [
        what,
        fingerprint.of_package(),
        torch.__version__,
        np.__version__,
        scale.current(),
        torch.cuda.is_available(),
    ]
    return [_name(where, *call) for call in calls]


def _name(where: list, setting: dict, seed: int) -> str | None:
    arguments = behaviour.of(setting, fingerprint.plain(seed))
    return None if arguments is None else f"row-{fingerprint.of_settings({'call': [*where, arguments]})}"


def load(name: str | None) -> dict | None:
    """Return the row kept under `name`, if there is one."""
    record = store.load(name) if name else None
    return dict(record.facts["row"]) if record else None


def save(name: str | None, row: Mapping[str, Any]) -> None:
    """Keep a row if it would come back as it is: of text, numbers, lists and dictionaries of them."""
    pairs = [list(pair) for pair in row.items()]
    if name and _comes_back(pairs):
        store.save(name, {}, {"row": pairs})


def _comes_back(pairs: list) -> bool:
    """Tell whether the store gives these pairs back as they are, down to their types and order."""
    try:
        return repr(json.loads(json.dumps(pairs, sort_keys=True))) == repr(pairs)
    except (TypeError, ValueError):
        return False
