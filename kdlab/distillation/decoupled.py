"""Decoupled distillation: the target class, and the rest among themselves (Zhao et al. 2022, arXiv:2203.08679)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdlab.data import Batch, Split
from kdlab.distillation.checks import check_logits, check_temperature, check_weight
from kdlab.distillation.soft_labels import SoftLabels
from kdlab.distillation.taps import Seen
from kdlab.distillation.teaching import FromLogits
from kdlab.errors import KdlabError


def decouple(
    student_logits: Tensor, teacher_logits: Tensor, labels: Tensor, temperature: float = 4.0
) -> tuple[Tensor, Tensor]:
    """Split KL(softened teacher || softened student) into its two parts (Zhao 2022, equations 5 to 7).

    For one image, KL = TCKD + (1 - p) NCKD, where p is the teacher's softened probability of the true class.

    Parameters
    ----------
    student_logits, teacher_logits
        Shape (N, classes). No gradient reaches the teacher.
    labels
        Shape (N,), the true ("target") classes.
    temperature
        T > 0.

    Returns
    -------
    tckd : Tensor, shape (N,)
        Divergence of the two-way distribution "target or not".
    nckd : Tensor, shape (N,)
        Divergence of the distribution over the other classes, renormalised.

    Raises
    ------
    KdlabError
        For shapes that differ, or T <= 0.
    """
    check_temperature(temperature)
    check_logits(student_logits, teacher_logits)
    others = torch.arange(student_logits.shape[1] - 1, device=labels.device)
    others = others + (others >= labels[:, None])  # (N, classes - 1): every class but the target
    student = _binary_and_rest(student_logits / temperature, labels, others)
    teacher = _binary_and_rest(teacher_logits.detach() / temperature, labels, others)
    tckd, nckd = (
        F.kl_div(s, t, log_target=True, reduction="none").sum(1) for s, t in zip(student, teacher, strict=True)
    )
    return tckd, nckd


def decoupled_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    labels: Tensor,
    temperature: float = 4.0,
    alpha: float = 1.0,
    beta: float = 8.0,
) -> Tensor:
    """Return T^2 (alpha TCKD + beta NCKD), averaged over the batch, a scalar (Zhao 2022, equation 8).

    The factor T^2, which the equation leaves out, is in the authors' code. Parameters as of `decouple`.
    """
    tckd, nckd = decouple(student_logits, teacher_logits, labels, temperature)
    return temperature**2 * (alpha * tckd + beta * nckd).mean()


def _binary_and_rest(logits: Tensor, labels: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    """Return the log-probabilities of "target or not", (N, 2), and those of the others among themselves."""
    rest = logits.gather(1, others)
    binary = torch.cat([logits.gather(1, labels[:, None]), rest.logsumexp(1, keepdim=True)], dim=1)
    return F.log_softmax(binary, dim=1), F.log_softmax(rest, dim=1)


class DecoupledKD(FromLogits):
    """Learn the teacher's opinion of the target class and of the other classes, with a weight for each.

    The paper adds the labels' cross-entropy: ``Sum({CrossEntropy(): 1, DecoupledKD(teacher): 1})``.

    Parameters
    ----------
    teacher
        A network, or soft labels made by `soft_labels`.
    temperature
        T > 0.
    alpha, beta
        Weights of TCKD and NCKD.
    warm_up
        Fraction of the training, in [0, 1], over which this loss rises from 0 to its full weight (20 of the 240
        epochs in the paper's CIFAR-100 experiments).
    """

    def __init__(
        self,
        teacher: nn.Module | SoftLabels,
        temperature: float = 4.0,
        alpha: float = 1.0,
        beta: float = 8.0,
        warm_up: float = 0.1,
    ):
        check_temperature(temperature)
        check_weight("alpha", alpha)
        check_weight("beta", beta)
        if not 0 <= warm_up <= 1:
            raise KdlabError(f"warm_up is {warm_up}; expected a fraction of the training, 0 to 1.")
        super().__init__(teacher)
        self.temperature, self.alpha, self.beta, self.warm_up = temperature, alpha, beta, warm_up
        self.risen = 1.0

    def start(self, model: nn.Module, data: Split, *, augmented: bool, device: torch.device) -> None:
        if not data.labelled:
            raise KdlabError(f"{data!r} has no labels, which name the target class. Use a labelled split, or Distill.")
        super().start(model, data, augmented=augmented, device=device)

    def before_step(self, step: int, total_steps: int) -> None:
        rise = self.warm_up * total_steps
        self.risen = min(1.0, (step + 1) / rise) if rise > 0 else 1.0

    def loss(self, student: Seen, teacher: Seen, batch: Batch) -> Tensor:
        loss = decoupled_loss(student.logits, teacher.logits, batch.labels, self.temperature, self.alpha, self.beta)
        return self.risen * loss

    def settings(self) -> dict:
        return {"temperature": self.temperature, "alpha": self.alpha, "beta": self.beta, "warm_up": self.warm_up}
