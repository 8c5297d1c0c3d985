"""Lesson 03's exercises: right answers in other styles, mutants that are no mistakes, oracles from elsewhere."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils import prune as torch_prune

from kdlab import check
from kdlab import pruning as prune
from kdlab.check.observers.pruning import linear
from kdlab.check.registry import find


def magnitude_mask_by_kth_value(weight, sparsity):
    count = round(sparsity * weight.numel())
    if count == 0:
        return torch.ones_like(weight, dtype=torch.bool)
    return weight.abs() > weight.abs().flatten().kthvalue(count).values


def magnitude_mask_by_topk(w, s):
    kept = w.numel() - round(s * w.numel())
    mask = torch.zeros(w.numel(), dtype=torch.bool)
    mask[torch.topk(w.reshape(-1).square(), kept).indices] = True
    return mask.view_as(w)


def magnitude_mask_by_rank(weight, sparsity):
    ranks = weight.abs().flatten().argsort().argsort().view(weight.shape)
    return ranks >= round(sparsity * weight.numel())


def magnitude_mask_by_torchs_own(weight, sparsity):
    layer = nn.Module()
    layer.weight = nn.Parameter(weight.clone())
    torch_prune.l1_unstructured(layer, "weight", amount=round(sparsity * weight.numel()))
    return layer.weight_mask.bool()


def magnitude_mask_in_numpy(weight, sparsity):
    import numpy as np

    sizes = np.abs(weight.numpy())
    mask = np.ones(sizes.size, dtype=bool)
    mask[np.argpartition(sizes.ravel(), range(sizes.size))[: round(sparsity * sizes.size)]] = False
    return mask.reshape(sizes.shape)


def global_masks_by_rank(weights, sparsity):
    flat = torch.cat([w.reshape(-1) for w in weights]).abs()
    alive = flat.argsort().argsort() >= round(sparsity * flat.numel())
    return [part.view_as(w) for part, w in zip(alive.split([w.numel() for w in weights]), weights, strict=True)]


def global_masks_in_python(weights, sparsity):
    sizes = sorted(abs(x) for w in weights for x in w.flatten().tolist())
    count = round(sparsity * len(sizes))
    threshold = sizes[count - 1] if count else -1.0
    return tuple(torch.tensor([abs(x) > threshold for x in w.flatten().tolist()]).reshape(w.shape) for w in weights)


def global_masks_by_topk(weights, sparsity):
    flat = torch.cat([w.flatten().abs() for w in weights])
    least = flat.topk(len(flat) - round(sparsity * len(flat))).values.min()
    return [w.abs() >= least for w in weights]


def sparse_steps_by_data(layer, mask, optimizer, backward, steps):
    for _ in range(steps):
        optimizer.zero_grad(set_to_none=False)
        backward()
        optimizer.step()
        layer.weight.data *= mask
    return layer


def sparse_steps_by_index(layer, mask, optimizer, backward, steps):
    step = 0
    while step < steps:
        layer.zero_grad()
        backward()
        layer.weight.grad[~mask] = 0
        optimizer.step()
        with torch.no_grad():
            layer.weight[~mask] = 0.0
        step += 1


def sparse_steps_by_fill(layer, mask, optimizer, backward, steps):
    for _ in range(steps):
        optimizer.zero_grad()
        backward()
        optimizer.step()
        layer.weight.data.masked_fill_(mask.logical_not(), 0)


def sparse_steps_by_copying(layer, mask, optimizer, backward, steps):
    kept = mask.float()
    for _ in range(steps):
        optimizer.zero_grad()
        backward()
        optimizer.step()
        with torch.no_grad():
            layer.weight.copy_(torch.where(kept > 0, layer.weight, torch.zeros_like(layer.weight)))


def two_rounds_on_a_copy(layer, first, second):
    trial = copy.deepcopy(layer)
    torch_prune.l1_unstructured(trial, "weight", amount=first)
    torch_prune.remove(trial, "weight")
    torch_prune.l1_unstructured(trial, "weight", amount=second)  # of all weights again: the first mask is gone
    torch_prune.remove(trial, "weight")
    return trial.state_dict()


def two_rounds_in_whole_weights(layer, first, second):
    n = layer.weight.numel()
    trial = copy.deepcopy(layer)
    torch_prune.l1_unstructured(trial, "weight", amount=round(first * n))
    torch_prune.l1_unstructured(trial, "weight", amount=round(second * n) - round(first * n))
    torch_prune.remove(trial, "weight")
    return dict(trial.state_dict())


def two_rounds_without_remove(layer, first, second):
    dense = layer.weight.detach().clone()
    torch_prune.l1_unstructured(layer, "weight", amount=first)
    torch_prune.l1_unstructured(layer, "weight", amount=(second - first) / (1 - first))
    state = {"weight": layer.weight.detach().clone(), "bias": layer.bias.detach().clone()}
    torch_prune.remove(layer, "weight")
    with torch.no_grad():
        layer.weight.copy_(dense)
    return state


def two_rounds_by_one_call(layer, first, second):
    trial = copy.deepcopy(layer)
    torch_prune.global_unstructured([(trial, "weight")], torch_prune.L1Unstructured, amount=second)
    torch_prune.remove(trial, "weight")
    return trial.state_dict()


RIGHT = {
    "magnitude_mask": [
        magnitude_mask_by_kth_value,
        magnitude_mask_by_topk,
        magnitude_mask_by_rank,
        magnitude_mask_by_torchs_own,
        magnitude_mask_in_numpy,
    ],
    "global_masks": [global_masks_by_rank, global_masks_in_python, global_masks_by_topk],
    "sparse_steps": [sparse_steps_by_data, sparse_steps_by_index, sparse_steps_by_fill, sparse_steps_by_copying],
    "two_rounds": [
        two_rounds_on_a_copy,
        two_rounds_in_whole_weights,
        two_rounds_without_remove,
        two_rounds_by_one_call,
    ],
}

_THRESHOLD = "threshold = sizes.sort().values[count - 1] if count else -1"

EQUIVALENT = {
    "magnitude_mask": {
        "mask = torch.ones(weight.numel(), dtype=torch.bool) => mask = torch.ones(order.numel(), dtype=torch.bool)": (
            "there is one place in the order for every weight"
        ),
    },
    "global_masks": {
        f"{_THRESHOLD} => {_THRESHOLD.replace('-1', '-2')}": "no size is negative",
        f"{_THRESHOLD} => {_THRESHOLD.replace('-1', '-0')}": "no weight is exactly zero, or it does not matter",
    },
    "sparse_steps": {
        "optimizer.zero_grad() => layer.zero_grad()": "the optimiser holds the layer's parameters",
    },
    "two_rounds": {
        "dense = copy.deepcopy(layer.state_dict()) => dense = layer.state_dict()": (
            "torch's remove writes the sparse weight into new memory"
        ),
    },
}


@pytest.mark.parametrize("seed", range(3))
def test_magnitude_mask_is_what_torch_prunes(seed):
    exercise = find("magnitude_mask")
    for weight, sparsity in exercise.cases(seed):
        expected = magnitude_mask_by_torchs_own(weight, sparsity)
        if weight.count_nonzero() == weight.numel():  # among equal weights, which one goes is anyone's choice
            assert torch.equal(exercise.reference(weight, sparsity), expected)


def test_global_masks_are_the_librarys():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(7, 5), nn.Linear(5, 3))
    weights = [network[0].weight.detach(), network[1].weight.detach()]
    for sparsity in (0.0, 0.3, 0.77):
        ours = find("global_masks").reference(weights, sparsity)
        for mine, theirs in zip(ours, prune.global_mask(network, sparsity).values(), strict=True):
            assert torch.equal(mine, theirs)


def test_the_handed_out_rounds_are_not_attempted_and_each_repair_is_counted():
    def handed_out(layer, first, second):
        torch_prune.l1_unstructured(layer, "weight", amount=first)
        torch_prune.l1_unstructured(layer, "weight", amount=second)
        sparse = copy.deepcopy(layer.state_dict())
        torch_prune.remove(layer, "weight")
        return sparse

    def on_a_copy(layer, first, second):
        return handed_out(copy.deepcopy(layer), first, second)

    def saved_late_on_a_copy(layer, first, second):
        trial = copy.deepcopy(layer)
        handed_out(trial, first, second)
        return trial.state_dict()

    assert check.two_rounds(handed_out).kind == "untouched"
    one, two = check.two_rounds(on_a_copy), check.two_rounds(saved_late_on_a_copy)
    assert one.says.startswith("Two mistakes remain.")
    assert set(one.mistakes) == {"share_of_the_rest", "saved_too_early"}
    assert two.says.startswith("One mistake remains:") and two.mistakes == ("share_of_the_rest",)
    assert one.earned == pytest.approx(1) and two.earned == pytest.approx(2)


def test_torchs_second_call_takes_its_share_of_the_rest():
    """The trap that the lesson teaches is still there."""
    layer = linear(torch.arange(1.0, 9).reshape(2, 4), torch.zeros(2))
    for _ in range(2):
        torch_prune.l1_unstructured(layer, "weight", amount=0.5)
    assert int((layer.weight == 0).sum()) == 6
