"""Lesson 05's exercises: right answers in other styles, mutants that are no mistakes, oracles from elsewhere."""

import copy
import itertools

import numpy as np
import pytest
import torch
from torch import nn

from kdlab import pruning as prune
from kdlab.check.registry import find


def cubic_by_cases(step, first, last, target, initial=0.0):
    if step <= first:
        return initial
    if step >= last:
        return target
    left = (last - step) / (last - first)
    return target - (target - initial) * left * left * left


def cubic_with_numpy(t, t0, t1, final, start=0.0):
    progress = np.clip((t - t0) / (t1 - t0), 0, 1)
    return final + (start - final) * np.power(1 - progress, 3)


def cubic_with_torch(step, first, last, target, initial=0.0):
    progress = torch.tensor((step - first) / (last - first), dtype=torch.float64).clamp(0, 1)
    return torch.lerp(
        torch.tensor(float(target)).double(), torch.tensor(float(initial)).double(), (1 - progress).pow(3)
    )


def two_of_four_by_topk(weight):
    groups = weight.abs().unflatten(1, (-1, 4))
    mask = torch.zeros(groups.shape, dtype=torch.bool)
    return mask.scatter(2, groups.topk(2, dim=2).indices, True).flatten(1)


def two_of_four_by_comparing(weight):
    groups = weight.square().reshape(-1, 4)
    return (groups >= groups.sort(dim=1).values[:, 2:3]).view_as(weight)


def two_of_four_in_loops(weight):
    mask = torch.zeros(weight.shape, dtype=torch.bool)
    for row in range(weight.shape[0]):
        for start in range(0, weight.shape[1], 4):
            four = sorted(range(start, start + 4), key=lambda column: -abs(float(weight[row, column])))
            mask[row, four[0]] = mask[row, four[1]] = True
    return mask


def two_of_four_by_rank(weight):
    groups = np.abs(weight.numpy()).reshape(-1, 4)
    return (groups.argsort(axis=1).argsort(axis=1) >= 2).reshape(weight.shape)


def regrow_with_lists(weight, gradient, mask, count):
    w, g, alive = weight.flatten().tolist(), gradient.flatten().tolist(), mask.flatten().tolist()
    living = {place for place, lives in enumerate(alive) if lives}
    living -= set(sorted(living, key=lambda place: abs(w[place]))[:count])
    candidates = sorted(set(range(len(w))) - living, key=lambda place: -abs(g[place]))
    living |= set(candidates[:count])
    return torch.tensor([place in living for place in range(len(w))]).reshape(mask.shape)


def regrow_by_topk(weight, gradient, mask, count):
    size = torch.where(mask, weight.abs(), torch.full_like(weight, -1.0)).flatten()
    stay = torch.zeros(mask.numel(), dtype=torch.bool)
    stay[size.topk(int(mask.sum()) - count).indices] = True
    pull = torch.where(stay, torch.tensor(-1.0), gradient.abs().flatten())
    return stay.index_fill(0, pull.topk(count).indices, True).view_as(mask)


def regrow_one_by_one(w, g, m, k):
    new = m.clone()
    for _ in range(k):
        places = new.nonzero().tolist()
        weakest = min(places, key=lambda place: float(w[tuple(place)].abs()))
        new[tuple(weakest)] = False
    for _ in range(k):
        places = (~new).nonzero().tolist()
        strongest = max(places, key=lambda place: float(g[tuple(place)] ** 2) if not new[tuple(place)] else -1)
        new[tuple(strongest)] = True
    return new


def ticket_by_threshold(initial, trained, mask, rate):
    sizes = trained[mask].abs().sort().values
    count = int(rate * len(sizes))
    new = mask & (trained.abs() >= sizes[count])
    return torch.where(new, initial, torch.zeros_like(initial)), new


def ticket_by_topk(initial, trained, mask, rate):
    stay = round((1 - rate) * float(mask.sum()))
    new = torch.zeros(mask.numel(), dtype=torch.bool)
    new[torch.where(mask, trained.abs(), -torch.ones_like(trained)).flatten().topk(stay).indices] = True
    weights = initial.clone()
    weights[~new.view_as(mask)] = 0
    return weights, new.view_as(mask)


def ticket_with_numpy(initial, trained, mask, rate):
    flat, alive = np.abs(trained.numpy()).ravel(), np.flatnonzero(mask.numpy())
    gone = alive[np.argsort(flat[alive])][: int(np.floor(rate * len(alive)))]
    new = mask.numpy().copy()
    new.ravel()[gone] = False
    return initial.numpy() * new, new


RIGHT = {
    "cubic_sparsity": [cubic_by_cases, cubic_with_numpy, cubic_with_torch],
    "two_of_four": [two_of_four_by_topk, two_of_four_by_comparing, two_of_four_in_loops, two_of_four_by_rank],
    "prune_and_regrow": [regrow_with_lists, regrow_by_topk, regrow_one_by_one],
    "next_ticket": [ticket_by_threshold, ticket_by_topk, ticket_with_numpy],
}

_SAME_SHAPE = "all the arguments have one shape"
_ORDER = "min and max do not mind the order"
_LAST = "the fours are the last of two dimensions"
_CLAMP = "progress = min(1, max(0, (step - first) / (last - first)))"

EQUIVALENT = {
    "cubic_sparsity": {
        "def cubic_sparsity(step, first, last, target, initial=0.0): => "
        "def cubic_sparsity(step, first, last, target, initial=-0.0):": "zero has no sign here",
        f"{_CLAMP} => progress = min(max(0, (step - first) / (last - first)), 1)": _ORDER,
        f"{_CLAMP} => progress = min(1, max((step - first) / (last - first), 0))": _ORDER,
    },
    "two_of_four": {
        "order = groups.argsort(dim=1, descending=True) => order = groups.argsort(descending=True)": _LAST,
        "order = groups.argsort(dim=1, descending=True) => order = groups.argsort(dim=-1, descending=True)": _LAST,
        "mask.scatter_(1, order[:, :2], True) => mask.scatter_(-1, order[:, :2], True)": _LAST,
        "mask.scatter_(1, order[:, :2], True) => mask.scatter_(1, order[:, :-2], True)": "two of four, from either end",
        "mask = torch.zeros_like(groups, dtype=torch.bool) => mask = torch.zeros_like(order, dtype=torch.bool)": (
            "both have the shape of the groups"
        ),
    },
    "prune_and_regrow": {
        f"return living.reshape(mask.shape) => return living.reshape({other}.shape)": _SAME_SHAPE
        for other in ("weight", "gradient")
    },
    "next_ticket": {
        f"survivors = survivors.reshape(mask.shape) => survivors = survivors.reshape({other}.shape)": _SAME_SHAPE
        for other in ("initial", "trained")
    },
}


@pytest.mark.parametrize("seed", range(3))
def test_the_schedule_agrees_with_the_library(seed):
    exercise = find("cubic_sparsity")
    for probe in exercise.cases(seed):
        assert exercise.reference(*probe) == pytest.approx(prune.cubic(*probe))


@pytest.mark.parametrize("seed", range(3))
def test_the_pattern_agrees_with_the_library(seed):
    exercise = find("two_of_four")
    for (weight,) in exercise.cases(seed):
        layer = nn.Linear(weight.shape[1], weight.shape[0])
        layer.weight.data = weight
        (mask,) = prune.pattern_mask(nn.Sequential(layer)).values()
        assert torch.equal(exercise.reference(weight), mask)


@pytest.mark.parametrize("seed", range(3))
def test_the_pattern_is_one_that_torch_accepts(seed):
    from torch.ao.pruning import WeightNormSparsifier

    exercise = find("two_of_four")
    for (weight,) in exercise.cases(seed):
        layer = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
        layer.weight.data = weight.clone()
        network = nn.Sequential(layer)
        sparsifier = WeightNormSparsifier(sparsity_level=1.0, sparse_block_shape=(1, 4), zeros_per_block=2)
        sparsifier.prepare(network, config=[{"tensor_fqn": "0.weight"}])
        sparsifier.step()
        assert torch.equal(exercise.reference(weight), network[0].parametrizations.weight[0].mask.bool())


@pytest.mark.parametrize("seed", range(3))
def test_a_step_of_rigl_agrees_with_the_library(seed):
    exercise = find("prune_and_regrow")
    for weight, gradient, mask, count in exercise.cases(seed):
        share = (count + 0.5) / int(mask.sum())
        expected = prune.drop_and_grow(weight, gradient, mask, share)
        assert torch.equal(exercise.reference(weight, gradient, mask, count), expected)


def test_rounds_of_rewinding_agree_with_the_library():
    network = nn.Sequential(nn.Linear(8, 8, bias=False))
    trained = iter(torch.randn(4, 8, 8, generator=torch.Generator().manual_seed(0)))

    def train(model, sparsity):
        with torch.no_grad():
            model[0].weight.copy_(next(trained))
            if sparsity is not None:
                sparsity.start(model, 1)

    initial = copy.deepcopy(network[0].weight.detach())
    tickets = list(prune.weight_rewinding(network, train, rounds=2, rate=0.5))
    mask = torch.ones(8, 8, dtype=torch.bool)
    for before, after in itertools.pairwise(tickets):
        weights, mask = find("next_ticket").reference(initial, before.model[0].weight.detach(), mask, 0.5)
        assert torch.equal(mask, after.masks["0"])
        assert torch.equal(weights, initial * mask)
