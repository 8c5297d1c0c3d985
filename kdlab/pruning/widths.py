"""A dense network with the widths of what pruning has left of a sparse one."""

import itertools
import math

from torch import nn

from kdlab.errors import KdlabError
from kdlab.models.networks import CNN, MLP, ResNet
from kdlab.models.registry import settings_of
from kdlab.pruning.masks import weights


def student_settings(teacher: nn.Module) -> dict:
    """Return the settings of a dense network whose layers have as many weights as a sparse one has non-zeros.

    Layer by layer, from the picture on: ``w_l = round(remaining_l / (k^2 w_(l-1)))`` (Park & No 2022, section 3.2), at
    least 1; in a linear layer k is 1, and the classes stay as many as they are.

    In the residual network the channels that are added have to agree. There, between the two convolutions of a block,
    ``round(remaining / (k^2 (before + after)))`` channels, so that the block as a whole has as many weights as
    non-zeros; and of all widths of the stages those with the smallest sum, over all layers, of
    ``|log(weights / non-zeros)|``: a layer with twice as many is as far off as one with half as many.

    Parameters
    ----------
    teacher
        One of the course's networks, its pruned weights at zero (as `apply` and every constraint leave them). It is
        not changed.

    Returns
    -------
    dict
        For ``models.build(**settings, seed=…)``.

    Raises
    ------
    KdlabError
        For another network, or one with a layer of zeros only.
    """
    settings = settings_of(teacher)
    remaining = {name: int(weight.count_nonzero()) for name, weight in weights(teacher).items()}
    empty = [name for name, count in remaining.items() if count == 0]
    if empty:
        raise KdlabError(f"Every weight of {empty[0]!r} is zero, so there is no width to take from it. Prune less.")
    if isinstance(teacher, MLP):
        *hidden, _ = remaining.values()
        return settings | {"hidden": _chain(hidden, settings["inputs"], kernel=1)}
    if isinstance(teacher, CNN):
        *convs, _ = remaining.values()
        return settings | {"width": _chain(convs, settings["channels"], kernel=3)}
    if isinstance(teacher, ResNet):
        return settings | _residual(remaining, settings)
    raise KdlabError(
        f"The widths of a student are known for the course's MLP, CNN and ResNet, not for {type(teacher).__name__}."
    )


def _chain(remaining: list[int], before: int, kernel: int) -> tuple[int, ...]:
    widths = []
    for count in remaining:
        before = max(1, round(count / (kernel**2 * before)))
        widths.append(before)
    return tuple(widths)


def _residual(remaining: dict[str, int], settings: dict) -> dict:
    """Try every width of the three stages, each stage given the best so far: what a stage costs depends on one before.

    The sum over layers falls apart into stages, so the best is found exactly, as a shortest path through the widths.
    """
    best: dict[int, tuple[float, list[int], list[int]]] = {settings["channels"]: (0.0, [], [])}  # width -> cost, path
    for number, largest in enumerate(settings["width"]):
        reached: dict[int, tuple[float, list[int], list[int]]] = {}
        for (before, (cost, widths, inner)), after in itertools.product(best.items(), range(1, largest + 1)):
            more, own = _stage(remaining, number, settings["blocks"], before, after)
            if number == 2:
                more += _off(remaining["head"], settings["classes"] * after)
            if after not in reached or cost + more < reached[after][0]:
                reached[after] = (cost + more, [*widths, after], [*inner, *own])
        best = reached
    _, widths, inner = min(best.values())
    return {"width": tuple(widths), "inner": tuple(inner)}


def _stage(remaining: dict[str, int], number: int, blocks: int, before: int, after: int) -> tuple[float, list[int]]:
    """Return by how much the layers of a stage are off with these widths, and the channels inside its blocks."""
    off, inner = 0.0, []
    if number == 0:
        off, before = _off(remaining["stem.0"], 9 * before * after), after
    for position in range(blocks):
        name = f"stages.{number * blocks + position}"
        first, second = remaining[f"{name}.conv1"], remaining[f"{name}.conv2"]
        inner.append(max(1, round((first + second) / (9 * (before + after)))))
        off += _off(first, 9 * before * inner[-1]) + _off(second, 9 * inner[-1] * after)
        if f"{name}.shortcut.0" in remaining:
            off += _off(remaining[f"{name}.shortcut.0"], before * after)
        before = after
    return off, inner


def _off(remaining: int, dense: int) -> float:
    return abs(math.log(dense / remaining))
