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
    as_usual = torch.get_default_dtype() is torch.float32 and torch.is_grad_enabled()  # a worker has no other
    what = behaviour.of(function, NETWORKS) if as_usual else None
    if what is None:
        return [None] * len(calls)
    where = [fingerprint.of_package(), torch.__version__, np.__version__, scale.current(), torch.cuda.is_available()]
    settings = {id(setting): setting for setting, _ in calls}
    read = {number: behaviour.of(setting) for number, setting in settings.items()}
    return [_name([what, *where], read[id(setting)], seed) for setting, seed in calls]


def _name(where: list, setting: str | None, seed: int) -> str | None:
    if setting is None:
        return None
    return f"row-{fingerprint.of_settings({'where': where, 'setting': setting, 'seed': seed})}"


def load(name: str | None) -> dict | None:
    """Return the row kept under `name`, if there is one."""
    record = store.load(name) if name else None
    return dict(record.facts["row"]) if record else None


def save(name: str, row: Mapping[str, Any]) -> None:
    """Keep a row if it would come back as it is: of text, numbers, lists and dictionaries of them."""
    pairs = [list(pair) for pair in row.items()]
    if _comes_back(pairs):
        store.save(name, {}, {"row": pairs})


def _comes_back(pairs: list) -> bool:
    try:
        return _alike(json.loads(json.dumps(pairs, sort_keys=True)), pairs)
    except (TypeError, ValueError):
        return False


def _alike(one: Any, other: Any) -> bool:
    """Tell whether two values are equal down to their types, and dictionaries down to their order."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return _alike([*one.items()], [*other.items()])
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(_alike, one, other))
    return one == other or one != one
