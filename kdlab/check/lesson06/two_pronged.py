"""Spot the bug: the teacher is pruned, and the student never notices."""

import copy

import torch

from kdlab.check.core import Exercise, Property, Wrong, edit
from kdlab.check.observers.orders import taught
from kdlab.check.probing import integer, numbers


def two_pronged(teacher, images, prune, train_student):
    pruned = copy.deepcopy(teacher)
    pruned.eval()
    prune(pruned)
    with torch.no_grad():
        soft = pruned(images)
    return train_student(images, soft)


def probes(generator):
    def case(n, classes, training, side=1):
        teacher = {"classes": classes, "seed": integer(generator, 0, 999), "training": training}
        return teacher, numbers(generator, n, 1, side, side)

    return [
        case(3, 2, True),
        case(3, 2, False),
        case(4, 2, True, side=2),
        case(5, 3, True, side=2),
        case(4, 3, False, side=2),
        case(12, 5, True, side=3),
    ]


def show(teacher, images):
    mode = "training" if teacher["training"] else "evaluation"
    return {
        "teacher": f"a small network with batch norm, in {mode} mode",
        "images": images,
        "prune": "sets half of the weights of each layer to zero",
    }


EXERCISE = Exercise(
    reference=two_pronged,
    probes=probes,
    observe=taught,
    show=show,
    points=3,
    handed_out=("asked_before_pruning", "mode_as_it_came", "teacher_pruned_in_place"),
    combine=3,
    bank=(
        Wrong(
            "asked_before_pruning",
            edit(
                "    prune(pruned)\n    with torch.no_grad():\n        soft = pruned(images)\n",
                "    with torch.no_grad():\n        soft = pruned(images)\n    prune(pruned)\n",
            ),
            "the soft labels are those of the dense teacher, so pruning it makes no difference to the student.",
            "Leave the pruning out altogether: does the student get anything else?",
            costs=1 / 3,
        ),
        Wrong(
            "mode_as_it_came",
            edit("    pruned.eval()\n", ""),
            "the soft labels are made in whatever mode the teacher came in: in training mode, an image's answer "
            "depends on the other images.",
            "Ask for the same image in two different batches, and compare the answers.",
            costs=1 / 3,
        ),
        Wrong(
            "teacher_pruned_in_place",
            edit("copy.deepcopy(teacher)", "teacher"),
            "the dense teacher is lost: its own weights were set to zero.",
            "prune() works in place. On what should it work, if somebody still needs the teacher?",
            costs=1 / 3,
        ),
        Wrong(
            "nothing_pruned",
            edit("    prune(pruned)\n", ""),
            "nothing is pruned at all.",
            "In the handed-out code prune() was called, if in the wrong place.",
            costs=1 / 3,
        ),
        Wrong(
            "student_pruned_instead",
            edit(
                "    prune(pruned)\n",
                "",
                "return train_student(images, soft)",
                "return prune(train_student(images, soft))",
            ),
            "it is the student that is pruned, and not the teacher.",
            "The student is small and dense from the start: which of the two networks has weights to spare?",
            costs=2 / 3,
        ),
        Wrong(
            "student_pruned_as_well",
            edit("return train_student(images, soft)", "return prune(train_student(images, soft))"),
            "the student is pruned as well.",
            "In this recipe one network is pruned, before the other is trained.",
        ),
        Wrong(
            "training_mode",
            edit("pruned.eval()", "pruned.train()"),
            "the network that is asked is put in training mode, where an image's answer depends on the other images.",
            "Ask for the same image in two different batches, and compare the answers.",
            costs=1 / 3,
        ),
        Wrong(
            "mode_of_the_other_network",
            edit("pruned.eval()", "teacher.eval()"),
            "the mode is changed of one network, and the other is asked.",
            "A copy takes the mode along that the original has at that moment.",
            costs=1 / 3,
        ),
        Wrong(
            "teacher_left_in_evaluation_mode",
            edit(
                "pruned = copy.deepcopy(teacher)\n    pruned.eval()",
                "teacher.eval()\n    pruned = copy.deepcopy(teacher)",
            ),
            "the dense teacher stays in evaluation mode, even if it came in training mode.",
            "Whose mode has to change: that of the network which is asked, or that of the one which was handed in?",
            costs=1 / 3,
        ),
        Wrong(
            "gradient_kept",
            edit("with torch.no_grad():", "if True:"),
            "the soft labels hang on the teacher's graph, so a gradient would reach the teacher.",
            "In the handed-out code the teacher was asked without recording gradients.",
            costs=1 / 3,
        ),
        Wrong(
            "trained_without_gradients",
            edit("    return train_student(images, soft)", "        return train_student(images, soft)"),
            "the student is trained where torch records no gradients, and cannot learn.",
            "How far does the indented block reach?",
            costs=1 / 3,
        ),
        Wrong(
            "hard_labels",
            edit("train_student(images, soft)", "train_student(images, soft.argmax(dim=1))"),
            "only the winning class reaches the student.",
            "Soft labels are all that the teacher says of an image.",
        ),
        Wrong(
            "probabilities",
            edit("train_student(images, soft)", "train_student(images, soft.softmax(dim=1))"),
            "probabilities reach the student, which would soften them a second time.",
            "In the handed-out code the teacher's output was passed on as it was.",
        ),
        Wrong(
            "log_probabilities",
            edit("train_student(images, soft)", "train_student(images, soft.log_softmax(dim=1))"),
            "log-probabilities reach the student in place of logits.",
            "In the handed-out code the teacher's output was passed on as it was.",
        ),
        Wrong(
            "images_reshuffled",
            edit("train_student(images, soft)", "train_student(images[torch.randperm(len(images))], soft)"),
            "the images are shuffled and the soft labels are not, so that each image gets another one's.",
            "Whoever trains can shuffle: both together, and anew in every epoch.",
        ),
        Wrong(
            "soft_labels_reversed",
            edit("train_student(images, soft)", "train_student(images, soft.flip(0))"),
            "the soft labels are in reverse order, so that each image gets another one's.",
            "The first row has to belong to the first image.",
        ),
        Wrong(
            "arguments_swapped",
            edit("train_student(images, soft)", "train_student(soft, images)"),
            "the images and the soft labels have changed places.",
            "Which of the two does the training take first?",
        ),
        Wrong(
            "soft_labels_returned",
            edit("return train_student(images, soft)", "train_student(images, soft)\n    return soft"),
            "the soft labels come back in place of the student.",
            "Which network is the recipe for?",
            costs=1 / 3,
        ),
        Wrong(
            "pruned_teacher_returned",
            edit("return train_student(images, soft)", "train_student(images, soft)\n    return pruned"),
            "the pruned teacher comes back in place of the student.",
            "Which network is the recipe for?",
            costs=1 / 3,
        ),
        Wrong(
            "student_never_trained",
            edit("return train_student(images, soft)", "return soft"),
            "the student is never trained.",
            "Soft labels are a means: who is to learn from them?",
            costs=2 / 3,
        ),
    ),
    properties=(
        Property(
            "the student has to come back.",
            lambda output, *_: output["what comes back"] == "the student",
        ),
        Property(
            "the teacher's weights have to be those it came with.",
            lambda output, *_: output["teacher's weights as they were"],
        ),
        Property(
            "the teacher has to be in the mode it came in.",
            lambda o, teacher, _: o["teacher's mode"] == ("training" if teacher["training"] else "evaluation"),
        ),
        Property(
            "the student has to get the images as they are.",
            lambda output, _, images: torch.equal(output["images for the student"], images),
        ),
        Property(
            "there has to be one row of soft labels for every image.",
            lambda output, _, images: len(output["soft labels"]) == len(images),
        ),
    ),
)
