"""Spot the bug: a teacher that follows its parent into train mode, and a regressor that nobody trains."""

import torch
import torch.nn.functional as F
from torch import nn

from kdlab.check.core import Exercise, Property, Wrong, edit
from kdlab.check.observers.hints import trained
from kdlab.check.probing import integer, numbers


def train_with_hints(student, teacher, regressor, batches, lr):
    model = nn.ModuleList([student, teacher, regressor])
    optimizer = torch.optim.SGD([*student.parameters(), *regressor.parameters()], lr)
    losses = []
    for images in batches:
        model.train()
        teacher.eval()
        with torch.no_grad():
            wanted = teacher(images)
        loss = F.mse_loss(regressor(student(images)), wanted)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def probes(generator):
    def case(n, side, steps, lr, training, student=1, teacher=2):
        networks = {
            "student": student,
            "teacher": teacher,
            "seed": integer(generator, 0, 999),
            "training": training,
        }
        return networks, [numbers(generator, n, 1, side, side) for _ in range(steps)], lr

    return [
        case(2, 1, 2, 0.5, True),
        case(2, 2, 2, 0.2, False),
        case(3, 2, 3, 0.1, True),
        case(4, 2, 3, 0.3, False, student=2, teacher=3),
        case(3, 3, 4, 0.2, True, student=3, teacher=2),
        case(6, 3, 5, 0.1, False, student=2, teacher=4),
    ]


def show(networks, batches, lr):
    mode = "training" if networks["training"] else "evaluation"
    return {
        "networks": f"three small ones, in {mode} mode (student {networks['student']}, teacher "
        f"{networks['teacher']} channels)",
        "batches": batches,
        "lr": lr,
    }


EXERCISE = Exercise(
    reference=train_with_hints,
    probes=probes,
    observe=trained,
    show=show,
    points=2,
    handed_out=("teacher_follows_its_parent", "regressor_left_out"),
    bank=(
        Wrong(
            "teacher_follows_its_parent",
            edit("        teacher.eval()\n", ""),
            "the teacher answers in train mode, so its batch norm learns from every batch.",
            "train() reaches every module inside the one it is called on: print teacher.training in the loop.",
            costs=1 / 2,
        ),
        Wrong(
            "regressor_left_out",
            edit("[*student.parameters(), *regressor.parameters()]", "student.parameters()"),
            "the regressor keeps its random weights.",
            "Which parameters does the optimiser know of?",
            costs=1 / 2,
        ),
        Wrong(
            "student_left_out",
            edit("[*student.parameters(), *regressor.parameters()]", "regressor.parameters()"),
            "the student's weights do not move.",
            "Which parameters does the optimiser know of, and does a gradient reach them?",
        ),
        Wrong(
            "teacher_learns",
            edit(
                "[*student.parameters(), *regressor.parameters()]",
                "model.parameters()",
                "with torch.no_grad():",
                "if True:",
            ),
            "the teacher's weights move towards the student's.",
            "It is meant to be a target: which parameters may the optimiser touch?",
            costs=1 / 2,
        ),
        Wrong(
            "everything_in_evaluation_mode",
            edit("model.train()", "model.eval()"),
            "the student learns in evaluation mode, where its batch norm never sees the batch.",
            "Two networks are to learn, one is to answer: each needs its own mode.",
            costs=1 / 2,
        ),
        Wrong(
            "mode_as_it_came",
            edit("        model.train()\n", ""),
            "the student learns in whatever mode it came in.",
            "Someone may have evaluated it just before.",
            costs=1 / 2,
        ),
        Wrong(
            "gradients_pile_up",
            edit("        optimizer.zero_grad()\n", ""),
            "the gradients of all steps so far add up.",
            "In the handed-out code they were cleared before each step.",
        ),
        Wrong(
            "no_step",
            edit("        optimizer.step()\n", ""),
            "no weight moves at all.",
            "In the handed-out code the optimiser took a step for every batch.",
        ),
        Wrong(
            "summed",
            edit("wanted)", 'wanted, reduction="sum")'),
            "the loss is summed over all entries, so it grows with the batch.",
            "In the handed-out code this line was right.",
        ),
        Wrong(
            "last_loss",
            edit("return losses", "return losses[-1]"),
            "the last loss alone comes back.",
            "One number is wanted for every batch.",
        ),
    ),
    properties=(
        Property(
            "There has to be one loss for every batch.",
            lambda output, _, batches, lr: len(output["losses"]) == len(batches),
        ),
        Property("The teacher must be the same afterwards.", lambda output, *_: output["the teacher as it was"]),
    ),
)
