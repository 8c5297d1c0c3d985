"""Lesson 06's exercises: right answers in other styles, mutants that are no mistakes, oracles from elsewhere."""

import copy

import pytest
import torch

from kdlab import check, models, pruning
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
}

_WIDTH = "before = max(1, round(count / (kernel ** 2 * before)))"

EQUIVALENT = {
    "student_widths": {
        f"{_WIDTH} => before = max(round(count / (kernel ** 2 * before)), 1)": "the larger of two, in any order",
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
