"""Lesson 06's exercises: right answers in other styles, mutants that are no mistakes, oracles from elsewhere."""

import copy
import statistics

import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from kdlab import check, distillation, models, pruning
from kdlab.check.observers.pruning import linear
from kdlab.check.registry import find


def two_pronged_in_one_go(teacher, images, prune, train_student):
    soft = prune(copy.deepcopy(teacher)).eval()(images).detach()
    return train_student(images, soft)


def two_pronged_in_batches(teacher, images, prune, train_student):
    pruned = copy.deepcopy(teacher).train(False)
    prune(pruned)
    soft = []
    for image in images:
        with torch.no_grad():
            soft.append(pruned(image[None])[0])
    return train_student(images, torch.stack(soft))


@torch.no_grad()
def _answers(network, images):
    return network.eval()(images)


def two_pronged_with_a_function_beside_it(teacher, images, prune, train_student):
    soft = _answers(prune(copy.deepcopy(teacher)), images)
    student = train_student(images, soft)
    return student


def two_pronged_and_put_back(teacher, images, prune, train_student):
    dense, training = copy.deepcopy(teacher.state_dict()), teacher.training
    prune(teacher).eval()
    with torch.no_grad():
        soft = teacher(images).clone()
    teacher.load_state_dict(dense)
    teacher.train(training)
    return train_student(images=images, soft=soft)


def student_widths_with_index(remaining, inputs, kernel):
    widths = [inputs]
    for i in range(len(remaining)):
        widths.append(max(round(remaining[i] / kernel**2 / widths[i]), 1))
    return widths[1:]


def student_widths_by_recursion(remaining, inputs, kernel):
    if len(remaining) == 0:
        return []
    first = round(remaining[0] / (inputs * kernel * kernel)) or 1
    return [first, *student_widths_by_recursion(remaining[1:], first, kernel)]


def student_widths_in_whole_numbers(remaining, inputs, kernel):
    widths = []
    for count in remaining:
        dense = kernel * kernel * (widths[-1] if widths else inputs)
        widths.append(max(1, (2 * count + dense) // (2 * dense)))
    return tuple(widths)


def student_widths_in_numpy(remaining, inputs, kernel):
    import numpy as np

    widths = np.zeros(len(remaining), dtype=int)
    for layer, count in enumerate(remaining):
        inputs = widths[layer] = np.clip(np.rint(count / (kernel**2 * inputs)), 1, None)
    return widths


def kd_importance_by_soft_cross_entropy(layer, inputs, teacher_logits, temperature):
    soft = torch.softmax(teacher_logits / temperature, -1)
    loss = F.cross_entropy(layer(inputs) / temperature, soft)
    gradient = torch.autograd.grad(loss, layer.weight)[0]
    with torch.no_grad():
        return layer.weight.abs() * gradient.abs()


def kd_importance_by_backward(layer, inputs, teacher_logits, temperature):
    p = F.log_softmax(teacher_logits / temperature, dim=1)
    q = F.log_softmax(layer(inputs) / temperature, dim=1)
    loss = temperature**2 * F.kl_div(q, p, reduction="sum", log_target=True) / len(inputs)
    loss.backward()
    scores = (layer.weight.detach() * layer.weight.grad).abs()
    layer.zero_grad()
    return scores


def kd_importance_by_hand(layer, inputs, teacher_logits, temperature):
    with torch.no_grad():
        q = (layer(inputs) / temperature).softmax(1)
        p = (teacher_logits / temperature).softmax(1)
        return ((q - p).T @ inputs / temperature / len(inputs) * layer.weight).abs()


def kd_importance_on_a_copy(layer, inputs, teacher_logits, temperature):
    weight = layer.weight.detach().double().requires_grad_()
    logits = inputs.double() @ weight.T + layer.bias.detach().double()
    p, q = (z.div(temperature).softmax(dim=1) for z in (teacher_logits.double(), logits))
    (p * (p / q).log()).sum(dim=1).mean().backward()
    return (weight.detach() * weight.grad).abs()


def kd_importance_without_the_factor_of_the_batch(layer, inputs, teacher_logits, temperature):
    q = F.log_softmax(layer(inputs) / temperature, dim=1)
    loss = nn.KLDivLoss(reduction="mean")(q, F.softmax(teacher_logits / temperature, dim=1))
    return (torch.autograd.grad(loss, layer.weight)[0] * layer.weight).detach().abs()


def order_table_in_pandas(runs, baseline):
    frame = pd.DataFrame(runs)
    budget = frame.loc[frame["order"] == baseline, "examples"].iloc[0]
    wide = frame[frame["examples"] == budget].pivot(index="seed", columns="order", values="accuracy")
    gained = wide.sub(wide[baseline], axis=0).mean()
    return {order: (int(budget), gained[order]) for order in wide.columns}


def order_table_by_grouping(runs, baseline):
    grouped, budgets = {}, {}
    for run in runs:
        grouped.setdefault(run["order"], {})[run["seed"]] = run["accuracy"]
        budgets[run["order"]] = run["examples"]
    table = {}
    for order in grouped:
        if budgets[order] != budgets[baseline]:
            continue
        shared = grouped[order].keys() & grouped[baseline].keys()
        table[order] = budgets[order], statistics.fmean(grouped[order][s] - grouped[baseline][s] for s in shared)
    return table


def order_table_by_looking_for_pairs(runs, baseline):
    table = {}
    own = [run for run in runs if run["order"] == baseline]
    for order in sorted({run["order"] for run in runs}):
        pairs = [
            (a["accuracy"], b["accuracy"])
            for a in runs
            for b in own
            if a["order"] == order and a["seed"] == b["seed"] and a["examples"] == b["examples"]
        ]
        if pairs:
            means = [sum(column) / len(pairs) for column in zip(*pairs, strict=True)]
            table[order] = [own[0]["examples"], means[0] - means[1]]
    return table


RIGHT = {
    "two_pronged": [
        two_pronged_in_one_go,
        two_pronged_in_batches,
        two_pronged_with_a_function_beside_it,
        two_pronged_and_put_back,
    ],
    "student_widths": [
        student_widths_with_index,
        student_widths_by_recursion,
        student_widths_in_whole_numbers,
        student_widths_in_numpy,
    ],
    "kd_importance": [
        kd_importance_by_soft_cross_entropy,
        kd_importance_by_backward,
        kd_importance_by_hand,
        kd_importance_on_a_copy,
        kd_importance_without_the_factor_of_the_batch,
    ],
    "order_table": [order_table_in_pandas, order_table_by_grouping, order_table_by_looking_for_pairs],
}

_STUDENT = "student = F.log_softmax(layer(inputs) / temperature, dim=1)"
_TEACHER = "teacher = F.softmax(teacher_logits / temperature, dim=1)"
_LOSS = "loss = F.kl_div(student, teacher, reduction='batchmean')"
_LAST = "the classes are the last of two dimensions"
_IMPLICIT = "torch takes that dimension by itself"
_FACTOR = "a factor before the loss does not change how the scores compare"
_WIDTH = "before = max(1, round(count / (kernel ** 2 * before)))"
_ROW = "table[order] = (count, sum(differences) / len(both))"

EQUIVALENT = {
    "student_widths": {
        f"{_WIDTH} => before = max(round(count / (kernel ** 2 * before)), 1)": "the larger of two, in any order",
    },
    "kd_importance": {
        **{f"{line} => {line.replace('dim=1', 'dim=-1')}": _LAST for line in (_STUDENT, _TEACHER)},
        **{f"{line} => {line.replace(', dim=1', '')}": _IMPLICIT for line in (_STUDENT, _TEACHER)},
        **{f"{_LOSS} => {_LOSS.replace('batchmean', other)}": _FACTOR for other in ("mean", "sum")},
        f"{_LOSS} => loss = F.kl_div(student, teacher)": _FACTOR,
    },
    "order_table": {
        f"{_ROW} => {_ROW.replace('both', 'differences')}": "one difference for each seed that both have",
    },
}


def test_the_handed_out_recipe_is_not_attempted_and_each_repair_is_counted():
    def handed_out(teacher, images, prune, train_student):
        with torch.no_grad():
            soft = teacher(images)
        pruned = prune(teacher)  # noqa: F841, handed out like this
        return train_student(images, soft)

    def copied(teacher, images, prune, train_student):
        return handed_out(teacher, images, lambda network: prune(copy.deepcopy(network)), train_student)

    def asked_in_evaluation_mode(teacher, images, prune, train_student):
        return handed_out(teacher.eval(), images, prune, train_student)

    def asked_after_pruning(teacher, images, prune, train_student):
        return handed_out(prune(teacher), images, lambda network: network, train_student)

    def asked_after_pruning_a_copy(teacher, images, prune, train_student):
        return handed_out(prune(copy.deepcopy(teacher)), images, lambda network: network, train_student)

    def asked_in_evaluation_mode_after_pruning(teacher, images, prune, train_student):
        return handed_out(prune(teacher.eval()), images, lambda network: network, train_student)

    def asked_too_early_in_evaluation_mode(teacher, images, prune, train_student):
        return handed_out(copy.deepcopy(teacher).eval(), images, prune, train_student)

    asked, mode, in_place = find("two_pronged").handed_out
    assert check.two_pronged(handed_out).kind == "untouched"
    for repaired, left in {
        copied: {asked, mode},
        asked_in_evaluation_mode: {asked, in_place},
        asked_after_pruning: {mode, in_place},
        asked_after_pruning_a_copy: {mode},
        asked_in_evaluation_mode_after_pruning: {in_place},
        asked_too_early_in_evaluation_mode: {asked},
    }.items():
        outcome = check.two_pronged(repaired)
        assert set(outcome.mistakes) == left, repaired.__name__
        assert outcome.says.startswith("One mistake remains:" if len(left) == 1 else "Two mistakes remain.")
        assert outcome.earned == pytest.approx(3 - len(left))


@pytest.mark.parametrize("seed", range(30))
def test_no_probe_lies_halfway_between_two_widths(seed):
    for remaining, before, kernel in find("student_widths").cases(seed):
        assert min(remaining) >= 1
        for count, width in zip(remaining, find("student_widths").reference(remaining, before, kernel), strict=True):
            assert abs(count / (kernel**2 * before) % 1 - 0.5) > 0.05
            before = width


def test_student_widths_are_the_librarys():
    reference = find("student_widths").reference
    for sparsity in (0.3, 0.8, 0.95):
        mlp = models.build("mlp", hidden=(30, 20))
        cnn = models.build("cnn", width=8)
        for network, inputs, kernel, key in ((mlp, 784, 1, "hidden"), (cnn, 1, 3, "width")):
            pruning.apply(network, pruning.global_mask(network, sparsity))
            *remaining, _ = (int(weight.count_nonzero()) for weight in pruning.weights(network).values())
            assert tuple(reference(remaining, inputs, kernel)) == pruning.student_settings(network)[key]


def test_a_width_of_zero_in_the_middle_is_remarked_on():
    def at_least_one_at_the_end(remaining, inputs, kernel):
        widths, before = [], inputs
        for count in remaining:
            before = round(count / (kernel**2 * before))
            widths.append(before)
        return [max(1, width) for width in widths]

    outcome = check.student_widths(at_least_one_at_the_end)
    assert outcome.passed and outcome.hint.startswith("Where a layer in the middle")


@pytest.mark.parametrize("seed", range(3))
def test_kd_importance_is_that_of_the_courses_distillation_loss(seed):
    for weight, bias, inputs, teacher_logits, temperature in find("kd_importance").cases(seed):
        layer = linear(weight, bias)
        ours = find("kd_importance").reference(layer, inputs, teacher_logits, temperature)
        labels = torch.zeros(len(inputs), dtype=torch.long)
        distillation.distillation_loss(layer(inputs), teacher_logits, labels, temperature, alpha=1.0).backward()
        theirs = (layer.weight * layer.weight.grad).abs().detach()
        torch.testing.assert_close(temperature**2 * ours, theirs)


def test_kd_importance_foretells_what_taking_a_weight_out_a_little_does_to_the_loss():
    torch.manual_seed(0)
    layer, inputs, teacher_logits = nn.Linear(3, 4), torch.randn(5, 3), torch.randn(5, 4)

    def loss():
        return distillation.distillation_loss(layer(inputs), teacher_logits, torch.zeros(5).long(), 1.0, 1.0).item()

    scores = find("kd_importance").reference(layer, inputs, teacher_logits, 1.0)
    whole = loss()
    for place in range(12):
        weight = layer.weight.data.view(-1)
        kept = weight[place].item()
        weight[place] = kept * 0.99
        assert abs(loss() - whole) * 100 == pytest.approx(scores.view(-1)[place].item(), rel=0.1, abs=1e-4)
        weight[place] = kept


@pytest.mark.parametrize("seed", range(10))
def test_every_order_shares_a_seed_with_the_baseline(seed):
    for runs, baseline in find("order_table").cases(seed):
        seeds = {}
        for run in runs:
            seeds.setdefault(run["order"], set()).add(run["seed"])
        assert all(own & seeds[baseline] for own in seeds.values())
        assert len({(run["order"], run["seed"]) for run in runs}) == len(runs)
