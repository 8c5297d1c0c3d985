"""Does a student imitate its own teacher? Agreement, beside that with a teacher it never met."""

import torch

from kdlab.check.core import Exercise, Part, Property, Wrong, edit
from kdlab.check.probing import integers, shuffled


def agreement_with_control(student, teacher, other):
    answer, own, foreign = student.argmax(dim=1), teacher.argmax(dim=1), other.argmax(dim=1)
    agrees = (answer == own).float()
    return agrees.mean().item(), (answer == foreign).float().mean().item(), agrees[own != foreign].mean().item()


def probes(generator):
    shapes = [(2, 2), (3, 2), (3, 3), (4, 3), (6, 4), (9, 3), (12, 5), (200, 10)]
    return [_networks(generator, *shape) for shape in shapes]


def _networks(generator, n, classes):
    """Logits of three networks that often agree; no two agree equally often, and the two teachers differ somewhere."""
    while True:
        own = _distinct(generator, n, classes)
        student, other = (_partly(generator, own) for _ in range(2))
        answers = [z.argmax(dim=1) for z in (student, own, other)]
        counts = [int((a == b).sum()) for a, b in ((answers[0], answers[1]), (answers[0], answers[2]))]
        differ = answers[1] != answers[2]
        if counts[0] != counts[1] and bool(differ.any()) and not (n > 2 and bool(differ.all())):
            return student, own, other


def _distinct(generator, n, classes):
    """Logits without ties: each row is a rearrangement of the same numbers."""
    return torch.stack([shuffled(generator, classes) for _ in range(n)]) * 0.7 - 0.5


def _partly(generator, logits):
    kept = integers(generator, 0, 9, len(logits), 1) < 6
    return torch.where(kept, logits * 2, _distinct(generator, *logits.shape))


EXERCISE = Exercise(
    reference=agreement_with_control,
    probes=probes,
    points=3,
    names=("own", "control", "where the teachers differ"),
    parts=(
        Part("agreement with its own teacher", 1, (0,)),
        Part("the control", 1, (1,)),
        Part("where the teachers differ", 1, (2,)),
    ),
    bank=(
        Wrong(
            "teachers_compared",
            edit("(answer == foreign)", "(own == foreign)"),
            "The control compares the two teachers with each other.",
            "The control asks the same question of the same student, about a teacher it never met.",
        ),
        Wrong(
            "over_all_images",
            edit("agrees[own != foreign].mean()", "(agrees * (own != foreign)).mean()"),
            "Where the teachers differ is counted right, but divided by the number of all images.",
            "The images on which the teachers agree tell nothing: leave them out of the average too.",
        ),
        Wrong(
            "where_they_agree",
            edit("own != foreign", "own == foreign"),
            "The third number looks at the images on which the teachers agree.",
            "If the teachers agree, siding with one is siding with both.",
        ),
        Wrong(
            "sides_with_the_other",
            edit("agrees[own != foreign]", "(answer == foreign)[own != foreign].float()"),
            "The third number says how often the student sides with the other teacher.",
            "Whose side is it to be?",
        ),
        Wrong(
            "where_the_student_differs",
            edit("agrees[own != foreign]", "agrees[answer != foreign]"),
            "The third number looks where the student and the other teacher differ.",
            "Choose the images by the two teachers alone, before the student is asked.",
        ),
        Wrong(
            "difference_of_the_two",
            edit("agrees[own != foreign].mean()", "(agrees - (answer == foreign).float()).mean()"),
            "The third number is the difference of the first two.",
            "It is an average over fewer images.",
        ),
        Wrong(
            "exchanged",
            edit("teacher.argmax(dim=1), other.argmax(dim=1)", "other.argmax(dim=1), teacher.argmax(dim=1)"),
            "The student's own teacher and the other one are exchanged.",
            "Look at the order of the arguments.",
        ),
        Wrong(
            "over_the_batch",
            edit(
                "student.argmax(dim=1), teacher.argmax(dim=1), other.argmax(dim=1)",
                "student.argmax(dim=0), teacher.argmax(dim=0), other.argmax(dim=0)",
            ),
            "The largest logit is looked for over the images instead of over the classes.",
            "Along which dimension do the classes lie?",
        ),
        Wrong(
            "least_likely",
            edit(
                "student.argmax(dim=1), teacher.argmax(dim=1), other.argmax(dim=1)",
                "student.argmin(dim=1), teacher.argmin(dim=1), other.argmin(dim=1)",
            ),
            "The least likely classes are compared.",
            "An answer is the class with the largest logit.",
        ),
        Wrong(
            "disagreement",
            edit("answer == own", "answer != own", "answer == foreign", "answer != foreign"),
            "It measures how often the answers differ.",
            "A student compared with itself should give 1.",
        ),
        Wrong(
            "counted",
            edit(
                "agrees.mean()",
                "agrees.sum()",
                "(answer == foreign).float().mean()",
                "(answer == foreign).float().sum()",
                "agrees[own != foreign].mean()",
                "agrees[own != foreign].sum()",
            ),
            "Images are counted; a fraction is wanted.",
            "Divide by how many there are.",
        ),
        Wrong(
            "no_control",
            edit("answer == foreign", "answer == own"),
            "The control repeats the agreement with the student's own teacher.",
            "The third argument has not been used for it.",
        ),
    ),
    properties=(
        Property("Fractions lie between zero and one.", lambda output, *_: all(0 <= float(x) <= 1 for x in output)),
    ),
)
