"""Logit matching: the student's logits are to equal the teacher's (Ba & Caruana 2014, arXiv:1312.6184)."""

import torch.nn.functional as F
from torch import Tensor, nn

from kdlab.data import Batch
from kdlab.distillation.checks import check_logits
from kdlab.distillation.soft_labels import SoftLabels
from kdlab.distillation.taps import Seen
from kdlab.distillation.teaching import FromLogits


def logit_loss(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """Return the mean squared difference of the logits, a scalar (Ba & Caruana 2014, equation 1).

    The mean is over images and classes; the paper sums over the classes and halves, which is classes / 2 times this.
    No gradient reaches the teacher.

    Parameters
    ----------
    student_logits, teacher_logits
        Shape (N, classes).

    Raises
    ------
    KdlabError
        For shapes that differ.
    """
    check_logits(student_logits, teacher_logits)
    return F.mse_loss(student_logits, teacher_logits.detach())


class LogitMatching(FromLogits):
    """Learn to put out the teacher's logits; the labels are never used (and need not exist).

    Parameters
    ----------
    teacher
        A network, or soft labels made by `soft_labels`.
    """

    def __init__(self, teacher: nn.Module | SoftLabels):
        super().__init__(teacher)

    def loss(self, student: Seen, teacher: Seen, batch: Batch) -> Tensor:
        return logit_loss(student.logits, teacher.logits)

    def settings(self) -> dict:
        return {}
