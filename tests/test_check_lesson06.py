"""Lesson 06's exercises: right answers in other styles, mutants that are no mistakes, oracles from elsewhere."""

import copy

import pytest
import torch

from kdlab import check
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


RIGHT = {
    "two_pronged": [
        two_pronged_in_one_go,
        two_pronged_in_batches,
        two_pronged_with_a_function_beside_it,
        two_pronged_and_put_back,
    ],
}


EQUIVALENT = {}


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
