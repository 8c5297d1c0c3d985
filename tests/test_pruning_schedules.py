"""When weights go: schedules against their formulas, RigL against a slow version, tickets against their definition."""

import copy
import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from kdlab import models
from kdlab import pruning as prune
from kdlab.errors import KdlabError


def noise(step, n=16):
    generator = torch.Generator().manual_seed(step)
    return torch.randn(n, 1, 28, 28, generator=generator), torch.arange(n) % 10


def train(model, constraint, total, look=lambda step: None, lr=0.05):
    opt = torch.optim.SGD(model.parameters(), lr, momentum=0.9)
    if constraint is not None:
        constraint.start(model, total)
    for step in range(total):
        images, labels = noise(step)
        opt.zero_grad()
        F.cross_entropy(model(images), labels).backward()
        if constraint is not None:
            constraint.before_step(model, step)
        opt.step()
        if constraint is not None:
            constraint.after_step(model, step)
        look(step)


def sparsities(constraint, total, network="mlp"):
    model, seen = models.build(network), []
    train(model, constraint, total, lambda step: seen.append(prune.sparsity_of(model)))
    return seen


def test_cubic_is_equation_1():
    for t, first, last, target, initial in [(3, 0, 10, 0.9, 0.0), (50, 20, 80, 0.95, 0.5)]:
        expected = target + (initial - target) * (1 - (t - first) / (last - first)) ** 3
        assert prune.cubic(t, first, last, target, initial) == pytest.approx(expected)
    assert prune.cubic(-5, 0, 10, 0.9) == 0.0 and prune.cubic(99, 0, 10, 0.9) == 0.9
    assert prune.cubic(5, 5, 5, 0.9, 0.1) == 0.9


@pytest.mark.parametrize("every", [1, 7, None])
def test_gradual_follows_the_formula_in_the_weights_themselves(every):
    total, schedule = 40, prune.Gradual(0.9, start=0.1, end=0.75, every=every, initial=0.2)
    seen = sparsities(schedule, total)
    first, last = round(0.1 * 39), round(0.75 * 39)
    for step, sparsity in enumerate(seen):
        latest = first + (min(step, last) - first) // (every or 1) * (every or 1)
        wanted = 0.0 if step < first else prune.cubic(last if step >= last else latest, first, last, 0.9, 0.2)
        assert sparsity == pytest.approx(wanted, abs=1e-3)
    assert seen == pytest.approx(schedule.curve(total), abs=1e-3)
    assert seen[-1] == pytest.approx(0.9, abs=1e-4)


@pytest.mark.parametrize("total", [1, 2, 3, 1000])
@pytest.mark.parametrize("make", [prune.Gradual, prune.OneShot, prune.Iterative])
def test_the_target_is_reached_however_short_the_run(make, total):
    curve = make(0.8).curve(total)
    assert curve[-1] == pytest.approx(0.8) and curve == sorted(curve)


def test_one_shot_prunes_once_before_training_or_at_its_time():
    assert sparsities(prune.OneShot(0.6), 4) == pytest.approx([0.6] * 4, abs=1e-4)
    assert sparsities(prune.OneShot(0.6, at=0.5), 4) == pytest.approx([0, 0.6, 0.6, 0.6], abs=1e-4)


def test_iterative_removes_the_same_fraction_every_round():
    seen = sparsities(prune.Iterative(0.875, rounds=3, start=0.0, end=0.5), 9)
    assert sorted({round(s, 3) for s in seen}) == pytest.approx([0.5, 0.75, 0.875], abs=1e-3)


@pytest.mark.parametrize("scope", ["global", "local", "erk"])
@pytest.mark.parametrize("score", ["magnitude", "random", "gradient", "movement", prune.magnitude])
def test_what_is_pruned_stays_pruned(score, scope):
    model, constraint = models.build("cnn"), prune.Gradual(0.8, start=0.2, score=score, scope=scope)
    before = {}

    def look(step):
        for name, mask in constraint.masks.items():
            assert not (mask & ~before.get(name, torch.ones_like(mask))).any()
            assert mask.any()
            before[name] = mask
            assert not model.get_submodule(name).weight.detach()[~mask].any()

    train(model, constraint, 10, look)
    assert constraint.sparsity == pytest.approx(0.8, abs=5e-3)


def test_movement_prunes_what_moved_towards_zero():
    model = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
    constraint, sums = prune.OneShot(0.5, at=0.99, score="movement"), torch.zeros(10, 784)
    constraint.start(model, 5)
    opt = torch.optim.SGD(model.parameters(), 0.1)
    for step in range(5):
        images, labels = noise(step)
        opt.zero_grad()
        F.cross_entropy(model(images), labels).backward()
        sums -= model[1].weight.detach() * model[1].weight.grad
        constraint.before_step(model, step)
        opt.step()
        constraint.after_step(model, step)
    kept = constraint.masks["1"]
    assert sums[kept].min() >= sums[~kept].max()


def slow_rigl(weight, gradient, mask, share):
    """Evci 2020, algorithm 1, by sorting in Python."""
    w, g, m = weight.flatten().tolist(), gradient.flatten().tolist(), mask.flatten().tolist()
    count = int(share * sum(m))
    alive = sorted((i for i in range(len(m)) if m[i]), key=lambda i: abs(w[i]))
    kept = set(alive[count:])
    grown = sorted((i for i in range(len(m)) if i not in kept), key=lambda i: -abs(g[i]))[:count]
    return torch.tensor([i in kept or i in grown for i in range(len(m))]).view(mask.shape)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.3, 0.9])
def test_drop_and_grow_is_algorithm_1(share):
    generator = torch.Generator().manual_seed(0)
    weight, gradient = torch.randn(2, 6, 5, 3, 3, generator=generator)
    mask = torch.rand(6, 5, 3, 3, generator=generator) < 0.3
    weight = weight * mask
    after = prune.drop_and_grow(weight, gradient, mask, share)
    assert torch.equal(after, slow_rigl(weight, gradient, mask, share))
    assert after.sum() == mask.sum()


def test_dynamic_moves_connections_keeps_counts_and_stops():
    model, constraint = models.build("cnn"), prune.Dynamic(0.8, every=4, seed=1)
    seen = []
    total = 40
    train(model, constraint, total, lambda step: seen.append(copy.deepcopy(constraint.masks)))
    counts = [{name: int(mask.sum()) for name, mask in masks.items()} for masks in seen]
    assert all(count == counts[0] for count in counts)
    assert constraint.sparsity == pytest.approx(0.8, abs=0.01)
    moved = [s for s in range(1, total) if any(not torch.equal(seen[s][n], seen[s - 1][n]) for n in seen[s])]
    assert moved and set(moved) <= set(range(4, 30, 4))
    for step in (4, 12, 28):
        assert constraint.moving(step) == pytest.approx(0.3 / 2 * (1 + math.cos(math.pi * step / 30)))
    assert constraint.moving(32) == constraint.moving(5) == constraint.moving(0) == 0.0


def test_grown_connections_start_at_zero_and_the_dead_gather_no_momentum():
    model, constraint = models.build("mlp"), prune.Dynamic(0.9, every=2)
    constraint.start(model, 100)
    opt = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    for step in range(3):
        images, labels = noise(step)
        opt.zero_grad()
        F.cross_entropy(model(images), labels).backward()
        old = {name: mask.clone() for name, mask in constraint.masks.items()}
        constraint.before_step(model, step)
        for name, mask in constraint.masks.items():
            weight = model.get_submodule(name).weight
            assert not weight.detach()[mask & ~old[name]].any()
            assert not weight.grad[~mask].any()
        opt.step()
        constraint.after_step(model, step)
    assert any((constraint.masks[name] & ~old[name]).any() for name in old)


@pytest.mark.parametrize("budgets", ["erk", "uniform"])
def test_dynamic_starts_at_its_budgets(budgets):
    model, constraint = models.build("resnet"), prune.Dynamic(0.9, budgets=budgets, seed=4)
    constraint.start(model, 10)
    wanted = (prune.erdos_renyi if budgets == "erk" else prune.uniform)(model, 0.9)
    for name, mask in constraint.masks.items():
        assert float((~mask).float().mean()) == pytest.approx(wanted[name], abs=1 / mask.numel())


def recorded(calls):
    def run(model, sparsity):
        calls.append((copy.deepcopy(model.state_dict()), sparsity))
        train(model, sparsity, 3)

    return run


def test_weight_rewinding_puts_survivors_back_where_they_were():
    model, calls = models.build("mlp"), []
    origin = copy.deepcopy(model.state_dict())
    tickets = list(prune.weight_rewinding(model, recorded(calls), rounds=3, rate=0.3))
    assert all(torch.equal(origin[k], v) for k, v in model.state_dict().items())
    assert [round(t.sparsity, 3) for t in tickets] == [0, 0.3, 0.51, 0.657]
    assert calls[0][1] is None
    for ticket, (state, sparsity) in zip(tickets[1:], calls[1:], strict=True):
        assert isinstance(sparsity, prune.Fixed)
        for name, mask in ticket.masks.items():
            assert torch.equal(state[f"{name}.weight"], origin[f"{name}.weight"] * mask)
            assert not ticket.model.get_submodule(name).weight.detach()[~mask].any()
    for earlier, later in itertools.pairwise(tickets):
        assert all(not (later.masks[n] & ~earlier.masks[n]).any() for n in later.masks)
        by_size = earlier.model.get_submodule("layers.1").weight.detach().abs()
        lost = earlier.masks["layers.1"] & ~later.masks["layers.1"]
        assert by_size[lost].max() <= by_size[later.masks["layers.1"]].min()


def test_rewinding_to_a_later_point():
    model, calls = models.build("mlp"), []
    early = copy.deepcopy(models.build("mlp", seed=7).state_dict())
    list(prune.weight_rewinding(model, recorded(calls), rounds=1, rewind_to=early))
    kept = prune.weights(model)
    state = calls[1][0]
    assert all(((state[f"{n}.weight"] == 0) | (state[f"{n}.weight"] == early[f"{n}.weight"])).all() for n in kept)


def test_learning_rate_rewinding_keeps_the_weights_reached():
    model, calls = models.build("mlp"), []
    tickets = list(prune.learning_rate_rewinding(model, recorded(calls), rounds=2, rate=0.5, scope="local"))
    for before, after, (state, _) in zip(tickets, tickets[1:], calls[1:], strict=False):
        for name, mask in after.masks.items():
            assert torch.equal(state[f"{name}.weight"], before.model.get_submodule(name).weight.detach() * mask)
            assert float((~mask).float().mean()) == pytest.approx(after.sparsity, abs=1e-3)


@pytest.mark.parametrize(
    "make, word",
    [
        (lambda: prune.Gradual(1.0), "target is 1.0"),
        (lambda: prune.Gradual(-0.1), "target is -0.1"),
        (lambda: prune.Gradual(0.9, start=0.8, end=0.2), "start=0.8, end=0.2"),
        (lambda: prune.Gradual(0.9, every=0), "every is 0"),
        (lambda: prune.Gradual(0.5, initial=0.6), "initial=0.6"),
        (lambda: prune.Gradual(0.5, score="size"), "score is 'size'"),
        (lambda: prune.Gradual(0.5, scope="all"), "scope is 'all'"),
        (lambda: prune.Iterative(0.5, rounds=0), "rounds is 0"),
        (lambda: prune.OneShot(0.5, at=1.5), "at is 1.5"),
        (lambda: prune.Dynamic(0.5, budgets="even"), "budgets is 'even'"),
        (lambda: prune.Dynamic(0.5, fraction=2), "fraction is 2"),
        (lambda: prune.OneShot(0.5, score="movement").start(models.build("mlp"), 10), "gathered while training"),
        (lambda: prune.Gradual(0.5, layers=["fc"]).start(models.build("mlp"), 10), "'fc'"),
        (lambda: list(prune.weight_rewinding(models.build("mlp"), None, rounds=0)), "rounds is 0"),
        (lambda: list(prune.weight_rewinding(models.build("mlp"), None, scope="x")), "scope is 'x'"),
    ],
)
def test_bad_settings(make, word):
    with pytest.raises(KdlabError) as error:
        make()
    assert word in str(error.value) and "\n" not in str(error.value)
