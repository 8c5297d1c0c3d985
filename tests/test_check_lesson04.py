"""Lesson 04's exercises: right answers in other styles, mutants that are no mistakes, oracles from elsewhere."""

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from kdlab import check, models
from kdlab import pruning as prune
from kdlab.check.registry import find


def parameters_left_in_a_loop(widths, ratio, kernel=3):
    before = after = 0
    for number in range(1, len(widths)):
        reads, makes = widths[number - 1], widths[number]
        before += reads * makes * kernel * kernel
        if number > 1:
            reads = math.floor(reads * (1 - ratio))
        after += reads * math.floor(makes * (1 - ratio)) * kernel * kernel
    return before, after


def parameters_left_of_real_layers(widths, ratio, kernel=3):
    def count(sizes):
        layers = [nn.Conv2d(a, b, kernel, bias=False, device="meta") for a, b in itertools.pairwise(sizes)]
        return sum(layer.weight.numel() for layer in layers)

    return count(widths), count(widths[:1] + [int(w - w * ratio) for w in widths[1:]])


def parameters_left_with_tensors(widths, ratio, kernel=3):
    full = torch.tensor(widths)
    thin = (full * (1 - ratio)).floor().long()
    thin[0] = full[0]
    return [int((w[1:] * w[:-1]).sum()) * kernel**2 for w in (full, thin)]


def remove_channel_by_cat(state, channel):
    def without(tensor, axis):
        first, rest = (
            tensor.narrow(axis, 0, channel),
            tensor.narrow(axis, channel + 1, tensor.shape[axis] - channel - 1),
        )
        return torch.cat([first, rest], axis)

    axes = {"conv2.weight": 1, "conv2.bias": None}
    return {name: t if axes.get(name, 0) is None else without(t, axes.get(name, 0)) for name, t in state.items()}


def remove_channel_by_mask(state, channel):
    keep = torch.ones(len(state["bn.weight"]), dtype=torch.bool)
    keep[channel] = False
    smaller = {name: tensor.clone() for name, tensor in state.items()}
    for name in state:
        if name.startswith("bn.") or name == "conv1.weight":
            smaller[name] = smaller[name][keep]
    smaller["conv2.weight"] = torch.stack([filters[keep] for filters in smaller["conv2.weight"]])
    return smaller


def remove_channel_by_index_select(state, channel):
    order = [i for i in range(state["conv1.weight"].shape[0])]
    order.remove(channel)
    left = torch.tensor(order)
    smaller = {n: t.index_select(0, left) for n, t in state.items() if not n.startswith("conv2")}
    smaller["conv2.bias"] = state["conv2.bias"]
    smaller["conv2.weight"] = state["conv2.weight"].index_select(1, left)
    return smaller


def dependency_group_until_nothing_changes(convs, additions, layer):
    group, size = [convs[layer][1]], 0
    while len(group) > size:
        size = len(group)
        for a, b, c in additions:
            if a in group or b in group or c in group:
                group += [name for name in (a, b, c) if name not in group]
    makers = [name for name in convs if convs[name][1] in group]
    readers = [name for name in convs if convs[name][0] in group]
    return sorted(makers), sorted(readers)


def dependency_group_by_search(convs, additions, layer):
    seen, waiting = set(), [convs[layer][1]]
    while waiting:
        here = waiting.pop()
        if here not in seen:
            seen.add(here)
            waiting += [other for addition in additions if here in addition for other in addition]
    return [sorted(n for n, ends in convs.items() if ends[side] in seen) for side in (1, 0)]


def dependency_group_by_union(convs, additions, layer):
    boss = {name: name for ends in [*convs.values(), *additions] for name in ends}

    def find_boss(name):
        while boss[name] != name:
            name = boss[name]
        return name

    for a, b, c in additions:
        boss[find_boss(a)] = find_boss(c)
        boss[find_boss(b)] = find_boss(c)
    mine = find_boss(convs[layer][1])
    makers, readers = [], []
    for name in sorted(convs):
        read, made = convs[name]
        if find_boss(made) == mine:
            makers.append(name)
        if find_boss(read) == mine:
            readers.append(name)
    return makers, readers


def recalibrate_norms_by_shares(model, batches):
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    before = {norm: norm.momentum for norm in norms}
    model.train()
    with torch.inference_mode():
        for number, batch in enumerate(batches, 1):
            for norm in norms:
                norm.momentum = 1 / number
            model(batch)
    for norm in norms:
        norm.momentum = before[norm]
    model.eval()


@torch.no_grad()
def recalibrate_norms_by_averaging(model, batches):
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    found = {norm: [] for norm in norms}
    model.train()
    for batch in batches:
        before = [norm.momentum for norm in norms]
        for norm in norms:
            norm.momentum = 1.0
        model(batch)
        for norm, momentum in zip(norms, before, strict=True):
            norm.momentum = momentum
            found[norm].append((norm.running_mean.clone(), norm.running_var.clone()))
    for norm, measured in found.items():
        norm.running_mean.copy_(torch.stack([mean for mean, _ in measured]).mean(0))
        norm.running_var.copy_(torch.stack([var for _, var in measured]).mean(0))
    return model.eval()


def recalibrate_norms_by_hooks(model, batches):
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    seen = {norm: [] for norm in norms}
    hooks = [norm.register_forward_pre_hook(lambda module, x: seen[module].append(x[0])) for norm in norms]
    model.train()
    with torch.no_grad():
        for batch in batches:
            model(batch)
    for hook in hooks:
        hook.remove()
    for norm, inputs in seen.items():
        norm.running_mean = sum(x.mean((0, 2, 3)) for x in inputs) / len(inputs)
        norm.running_var = sum(x.var((0, 2, 3)) for x in inputs) / len(inputs)
    model.eval()


def weakest_channels_one_by_one(state, count):
    scores = []
    for channel in range(len(state["bn.weight"])):
        mine = [state["conv1.weight"][channel], state["bn.weight"][channel], state["conv2.weight"][:, channel]]
        scores.append((sum(float(part.abs().sum()) for part in mine), channel))
    return [channel for _, channel in sorted(scores)[:count]]


def weakest_channels_by_norms(state, count):
    maker, reader = state["conv1.weight"].flatten(1), state["conv2.weight"].transpose(0, 1).flatten(1)
    everything = torch.cat([maker, reader, state["bn.weight"][:, None]], dim=1)
    return torch.linalg.vector_norm(everything, ord=1, dim=1).argsort()[:count]


def weakest_channels_in_numpy(state, count):
    first, scale, second = (state[name].abs().numpy() for name in ("conv1.weight", "bn.weight", "conv2.weight"))
    scores = first.sum((1, 2, 3)) + scale + second.sum((0, 2, 3))
    return (-scores).argsort()[::-1][:count].copy()


RIGHT = {
    "parameters_left": [parameters_left_in_a_loop, parameters_left_of_real_layers, parameters_left_with_tensors],
    "remove_channel": [remove_channel_by_cat, remove_channel_by_mask, remove_channel_by_index_select],
    "dependency_group": [
        dependency_group_until_nothing_changes,
        dependency_group_by_search,
        dependency_group_by_union,
    ],
    "recalibrate_norms": [
        recalibrate_norms_by_shares,
        recalibrate_norms_by_averaging,
        recalibrate_norms_by_hooks,
    ],
    "weakest_channels": [
        weakest_channels_one_by_one,
        weakest_channels_by_norms,
        weakest_channels_in_numpy,
    ],
}

_CUT = ("conv1.weight", "bn.weight", "bn.bias", "bn.running_mean", "bn.running_var")
_CUT_LINE = "for name in ('conv1.weight', 'bn.weight', 'bn.bias', 'bn.running_mean', 'bn.running_var'):"


def _orders() -> dict[str, str]:
    """The names with two neighbours swapped, as the mutations print them."""
    swapped = [(*_CUT[:i], _CUT[i + 1], _CUT[i], *_CUT[i + 2 :]) for i in range(4)]
    return {f"{_CUT_LINE} => for name in {names!r}:": "each tensor is cut on its own" for names in swapped}


def _summed_otherwise() -> dict[str, str]:
    """The axes of the two sums with two neighbours swapped, or counted from behind, as the mutations print them."""
    lines = {
        "makes = state['conv1.weight'].abs().sum(dim={})": ((1, 2, 3), [(2, 1, 3), (1, 3, 2), (1, -2, 3)]),
        "reads = state['conv2.weight'].abs().sum(dim={})": ((0, 2, 3), [(2, 0, 3), (0, 3, 2), (0, -2, 3)]),
    }
    return {
        f"{line.format(axes)} => {line.format(other)}": "the same axes are summed"
        for line, (axes, others) in lines.items()
        for other in others
    }


_WEAKEST = "return (makes + scales + reads).topk(count, largest=False).indices"
_SAME_TENSOR = "the copied dictionary holds the same tensors until they are cut"
_LONGER = "searching more often than needed finds the same"
EQUIVALENT = {
    "parameters_left": {
        "def parameters_left(widths, ratio, kernel=3): => def parameters_left(widths, ratio, kernel=-3):": (
            "the kernel is squared"
        )
    },
    "remove_channel": {
        **_orders(),
        "smaller['conv2.weight'] = state['conv2.weight'][:, left] => "
        "smaller['conv2.weight'] = smaller['conv2.weight'][:, left]": _SAME_TENSOR,
        "smaller[name] = state[name][left] => smaller[name] = smaller[name][left]": _SAME_TENSOR,
    },
    "dependency_group": {
        "for _ in additions: => for _ in convs:": _LONGER,
        "for _ in additions: => for _ in layer:": _LONGER,
        "maps = {convs[layer][1]} => maps = {convs[layer][-1]}": "a convolution has two ends",
    },
    "weakest_channels": {
        **_summed_otherwise(),
        f"{_WEAKEST}.tolist() => {_WEAKEST}": "a tensor of the same numbers will do",
    },
    "recalibrate_norms": {"for norm in norms: => for norm in momenta:": "a dictionary goes through its keys"},
}


def output(state, images):
    """conv, batch norm in eval mode, relu, conv."""
    names = ("running_mean", "running_var", "weight", "bias")
    hidden = F.batch_norm(F.conv2d(images, state["conv1.weight"]), *(state[f"bn.{name}"] for name in names))
    return F.conv2d(hidden.relu(), state["conv2.weight"], state["conv2.bias"])


@pytest.mark.parametrize("seed", range(3))
def test_a_removed_channel_is_a_silent_channel(seed):
    exercise, spoke = find("remove_channel"), 0
    for state, channel in exercise.cases(seed):
        images = torch.randn(2, state["conv1.weight"].shape[1], 7, 7)
        silent = {name: tensor.clone() for name, tensor in state.items()}
        silent["bn.weight"][channel] = silent["bn.bias"][channel] = 0
        spoke += not torch.allclose(output(state, images), output(silent, images))
        torch.testing.assert_close(output(exercise.reference(state, channel), images), output(silent, images))
    assert spoke > 2


def test_the_group_is_the_one_that_the_library_finds():
    convs = {
        "stem.0": ("image", "a"),
        "stages.0.conv1": ("a", "b"), "stages.0.conv2": ("b", "c"),
        "stages.1.conv1": ("d", "e"), "stages.1.conv2": ("e", "f"), "stages.1.shortcut.0": ("d", "g"),
        "stages.2.conv1": ("h", "i"), "stages.2.conv2": ("i", "j"), "stages.2.shortcut.0": ("h", "k"),
        "head": ("l", "m"),
    }  # fmt: skip
    additions = [("a", "c", "d"), ("g", "f", "h"), ("k", "j", "l")]
    for group in prune.channels.groups(models.build("resnet", width=4), torch.randn(1, 1, 28, 28)):
        makers, readers = find("dependency_group").reference(convs, additions, group.name)
        assert makers == sorted(part.layer for part in group.makers)
        assert readers == sorted(part.layer for part in group.readers)


def test_recalibration_is_the_librarys():
    images = torch.randn(40, 1, 28, 28)
    ours, theirs = models.build("resnet", width=4), models.build("resnet", width=4)
    find("recalibrate_norms").reference(ours, images.split(10))
    prune.channels.recalibrate(theirs, images, batch_size=10)
    for name, tensor in ours.state_dict().items():
        torch.testing.assert_close(tensor, theirs.state_dict()[name])


def test_parameters_left_is_what_surgery_leaves():
    model = models.build("cnn", width=8)
    smaller = prune.channels.remove(model, torch.randn(1, 1, 28, 28), ratio=0.25)

    def count(network):
        return sum(m.weight.numel() for m in network.modules() if isinstance(m, nn.Conv2d))

    assert find("parameters_left").reference([1, 8, 16, 32], 0.25) == (count(model), count(smaller))


def the_weakest(makes, scales, reads, largest=False):
    """The body of weakest_channels, with any of its parts done otherwise."""

    def weakest_channels(state, count):
        scores = makes(state["conv1.weight"]) + scales(state["bn.weight"]) + reads(state["conv2.weight"])
        return scores.topk(count, largest=largest).indices

    return weakest_channels


def test_the_handed_out_ranking_is_not_attempted_and_each_repair_is_counted():
    maker, scale, reader = lambda w: w.abs().sum((1, 2, 3)), torch.abs, lambda w: w.abs().sum((0, 2, 3))
    signs_cancel, outputs = lambda w: w.sum((1, 2, 3)).abs(), lambda w: w.abs().sum((1, 2, 3))

    assert check.weakest_channels(the_weakest(signs_cancel, scale, outputs, True)).kind == "untouched"
    one = check.weakest_channels(the_weakest(maker, scale, outputs, True))
    assert one.says.startswith("Two mistakes remain. One of them: ") and one.earned == pytest.approx(1)
    assert set(one.mistakes) == {"reader_along_its_outputs", "strongest_first"}
    two = check.weakest_channels(the_weakest(signs_cancel, scale, reader))
    assert two.says.startswith("One mistake remains: ") and two.earned == pytest.approx(2)
    assert two.mistakes == ("signs_cancel",)
    new = check.weakest_channels(the_weakest(maker, torch.Tensor.detach, reader))
    assert new.says.startswith("There is a new mistake: ") and new.mistakes == ("signed_scales",)
    assert check.weakest_channels(the_weakest(maker, scale, reader)).passed


def test_each_handed_out_mistake_changes_which_channels_go():
    """Not only their order: whoever removes them gets another network."""
    exercise = find("weakest_channels")
    for (wrong,), function in exercise.wrongs[:3]:
        assert wrong.name in exercise.handed_out
        cases = [case for case in exercise.cases() if case[1] < len(case[0]["bn.weight"])]
        differ = [set(function(*case)) != set(exercise.reference(*case)) for case in cases]
        assert sum(differ) >= 3, wrong.name


def test_the_weakest_channels_are_those_that_the_library_removes():
    network = models.build("resnet", width=8)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(parameter.numel())))
    block = network.stages[0]
    layers = {"conv1": block.conv1, "bn": block.bn1, "conv2": block.conv2}
    state = {f"{name}.{key}": t for name, layer in layers.items() for key, t in layer.state_dict().items()}
    kept = prune.channels.kept(network, torch.randn(1, 1, 28, 28), 0.5, "l1")["stages.0.conv1"]
    weakest = find("weakest_channels").reference(state, 4)
    assert sorted(weakest) == sorted(set(range(8)) - set(kept.tolist()))
    scores = prune.channels.scores(network, torch.randn(1, 1, 28, 28), "l1")["stages.0.conv1"]
    assert weakest == scores.argsort()[:4].tolist()


def test_part_of_the_points_for_a_network_left_in_training_mode():
    def recalibrate_norms(model, batches):
        recalibrate_norms_by_shares(model, batches)
        model.train()

    outcome = check.recalibrate_norms(recalibrate_norms)
    assert outcome.mistakes == ("left_in_training_mode",)
    assert outcome.earned == 2
