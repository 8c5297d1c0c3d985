"""Which channels to remove: how many of each group, and the lowest scores first."""

import math

import torch
from torch import Tensor, nn

from kdlab.errors import KdlabError
from kdlab.pruning.channels.groups import Graph, Group
from kdlab.pruning.channels.ranking import Rank, importance
from kdlab.pruning.checks import check_count, check_fraction, unknown_name
from kdlab.pruning.masks import lowest


def choose(
    model: nn.Module,
    graph: Graph,
    ratio: float | dict[str, float] = 0.5,
    rank: Rank = "l1",
    *,
    scope: str = "group",
    round_to: int = 1,
    min_channels: int | None = None,
    keep=(),
    seed: int = 0,
) -> dict[str, Tensor]:
    """Return the positions to remove in each group, ``{group name: shape (removed,)}``; see `surgery.remove`."""
    check_count("round_to", round_to)
    if min_channels is not None:
        check_count("min_channels", min_channels)
    if scope not in ("group", "global"):
        raise KdlabError(f"scope is {scope!r}; expected 'group' (the same ratio for each) or 'global'.")
    ratios = _ratios(graph, ratio, _kept_groups(graph, keep))
    scores = {name: score for name, score in importance(model, graph, rank, seed).items() if name in ratios}
    if not scores:
        raise KdlabError(_nothing_left(graph, rank, keep))
    by_name = {group.name: group for group in graph.groups}
    if scope == "global" and rank != "bn":
        scores = {name: score / score.mean().clamp_min(1e-30) for name, score in scores.items()}
    scores = {name: _protected(by_name[name], score, min_channels or 1) for name, score in scores.items()}
    counts = _global_counts(scores, ratio) if scope == "global" else {}
    chosen = {}
    for name, score in scores.items():
        group = by_name[name]
        left = group.width - counts[name] if counts else _left(group, ratios[name], min_channels)
        left = max(_round(group, left, round_to), int(score.isinf().sum()))
        chosen[name] = lowest(score, group.width - left).nonzero().flatten()
    return {name: positions for name, positions in chosen.items() if len(positions)}


def _protected(group: Group, score: Tensor, least: int) -> Tensor:
    """Lift the best channels of every layer above all others: a layer may see a part of the group only."""
    lifted = score.clone()
    for part in (*group.makers, *group.passers, *group.readers):
        own = part.places[part.places >= 0].unique()
        each = max(1, part.entries // len(own))
        lifted[own[score[own].topk(min(len(own), math.ceil(least / each))).indices]] = torch.inf
    return lifted


def _kept_groups(graph: Graph, keep) -> set[str]:
    return {_group_of(graph, name).name for name in ([keep] if isinstance(keep, str) else keep)}


def _group_of(graph: Graph, layer: str) -> Group:
    by_layer = {part.layer: group for group in graph.groups for part in group.makers}
    if layer not in by_layer:
        unknown_name("layer that makes channels", layer, by_layer)
    return by_layer[layer]


def _ratios(graph: Graph, ratio: float | dict[str, float], kept: set[str]) -> dict[str, float]:
    if not isinstance(ratio, dict):
        check_fraction("ratio", ratio)
        return {group.name: ratio for group in graph.removable if group.name not in kept}
    ratios = {}
    for layer, value in ratio.items():
        group = _group_of(graph, layer)
        if group.stays:
            raise KdlabError(f"The channels of {layer!r} cannot be removed: {group.stays}. Leave it out of ratio.")
        ratios[group.name] = check_fraction(f"ratio of {layer!r}", value)
    return {name: value for name, value in ratios.items() if name not in kept}


def _nothing_left(graph: Graph, rank: Rank, keep) -> str:
    if graph.removable:
        if rank == "bn":
            return (
                "rank='bn' needs batch norm with a scale after the layers to prune, and there is none; use rank='l1'."
            )
        return f"keep={list(keep)} and ratio leave no channel to remove; expected at least one group."
    why = "; ".join(f"{group.name}: {group.stays}" for group in graph.groups[:3]) or "it has no layers"
    return f"No channel of this network can be removed ({why})."


def _left(group: Group, ratio: float, min_channels: int | None) -> int:
    """Return ``floor(width * (1 - ratio))``, the count that torch-pruning keeps."""
    left = int(group.width * (1 - ratio))
    if left == 0 and min_channels is None:
        raise KdlabError(
            f"ratio={ratio} leaves none of the {group.width} channels of {group.name!r}; expected at most "
            f"{1 - 1 / group.width:.4g} there. Lower it, keep=[{group.name!r}], or pass min_channels=1."
        )
    return left


def _round(group: Group, left: int, round_to: int) -> int:
    """Round the channels left down to a multiple, at least one multiple, in layers' own channels."""
    each = max(1, group.makers[0].entries // group.width)
    step = round_to // math.gcd(round_to, each)
    return max(left - left % step, min(step, group.width))


def _global_counts(scores: dict[str, Tensor], ratio: float) -> dict[str, int]:
    """Compare the scores of all groups and count how many fall in each."""
    if isinstance(ratio, dict):
        raise KdlabError("scope='global' takes one ratio for the whole network, not one for each group.")
    flat = torch.cat(list(scores.values()))
    count, possible = len(flat) - int(len(flat) * (1 - ratio)), int(flat.isfinite().sum())
    if count > possible:
        raise KdlabError(
            f"ratio={ratio} removes {count} of {len(flat)} channels, which would empty a layer; expected at most "
            f"{possible / len(flat):.4g}."
        )
    parts = lowest(flat, count).split([len(score) for score in scores.values()])
    return {name: int(part.sum()) for name, part in zip(scores, parts, strict=True)}


def named(graph: Graph, channels: dict[str, list[int]]) -> dict[str, Tensor]:
    """Translate ``{layer: indices of its output channels}`` to positions in groups, as `choose` returns them."""
    chosen: dict[str, Tensor] = {}
    for layer, indices in channels.items():
        group = _group_of(graph, layer)
        places = next(part.places for part in group.makers if part.layer == layer)
        indices = torch.as_tensor(indices, dtype=torch.long).flatten()
        if len(indices) and not 0 <= int(indices.min()) <= int(indices.max()) < len(places):
            raise KdlabError(f"{layer!r} has channels 0 to {len(places) - 1}; got {indices.tolist()}.")
        stuck = places[indices] < 0
        if group.stays or stuck.any():
            why = group.stays or "something else reads them by number"
            raise KdlabError(f"Channels {indices.tolist()} of {layer!r} cannot be removed: {why}.")
        chosen[group.name] = torch.cat([chosen.get(group.name, indices[:0]), places[indices]]).unique()
        if len(chosen[group.name]) == group.width:
            raise KdlabError(f"Removing all {group.width} channels of {layer!r} would empty it; leave at least one.")
    return {name: positions for name, positions in chosen.items() if len(positions)}
