"""What a network gets right."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdlab.data import Split
from kdlab.errors import KdlabError
from kdlab.training import predict
from kdlab.training.evaluation import check_open


@dataclass(frozen=True)
class Accuracy:
    """Right answers out of a number of images, with the interval that this number allows.

    Attributes
    ----------
    correct, total : int
    low, high : float
        Wilson's binomial interval at 95 % (Wilson 1927).
    """

    correct: int
    total: int

    @classmethod
    def of(cls, logits: Tensor, labels: Tensor) -> "Accuracy":
        """Count the right answers among logits of shape (N, classes), for labels of shape (N,)."""
        return cls(int((logits.argmax(1) == labels.to(logits.device)).sum()), len(labels))

    @property
    def value(self) -> float:
        """The fraction of right answers."""
        return self.correct / self.total

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval (Wilson), for another sample of as many images."""
        from scipy.stats import binomtest

        found = binomtest(self.correct, self.total).proportion_ci(0.95, "wilson")
        return float(found.low), float(found.high)

    def __repr__(self) -> str:
        low, high = self.interval
        return f"{self.value:.1%} (95 % interval {low:.1%} to {high:.1%}, {self.total:,} images)"


def accuracy(model: nn.Module, data: Split, *, final: bool = False) -> Accuracy:
    """Count right answers; test data opens with ``final=True`` only."""
    check_open(data, final)
    return Accuracy.of(predict(model, data), data.labels)


def calibration_error(logits: Tensor, labels: Tensor, bins: int = 15) -> float:
    """Return the expected calibration error: how far confidence is from accuracy (Guo 2017, equation 3).

    Parameters
    ----------
    logits
        Shape (N, classes).
    labels
        Shape (N,).
    bins
        Number of equally wide bins of confidence.
    """
    confidence, guess = F.softmax(logits.float(), dim=1).max(1)
    right = (guess == labels.to(logits.device)).float()
    which = (confidence * bins).long().clamp(max=bins - 1)
    gap = torch.zeros(bins, device=logits.device).index_add_(0, which, right - confidence)
    return (gap.abs().sum() / len(labels)).item()


def agreement(a: Tensor, b: Tensor) -> float:
    """Return the fraction of images to which two networks give the same answer, right or wrong.

    Parameters
    ----------
    a, b
        Logits of the same images, shape (N, classes).
    """
    if a.shape != b.shape:
        raise KdlabError(f"logits have shapes {tuple(a.shape)} and {tuple(b.shape)}; expected two of the same images.")
    return (a.argmax(1) == b.to(a.device).argmax(1)).float().mean().item()


def kl_divergence(teacher: Tensor, student: Tensor, temperature: float = 1.0) -> float:
    """Return KL(teacher || student) between two networks' distributions, averaged over images, in nats.

    Parameters
    ----------
    teacher, student
        Logits of the same images, shape (N, classes). The order counts.
    temperature
        T > 0, applied to both; 1 compares what the networks say as they are used.
    """
    if teacher.shape != student.shape or not temperature > 0:
        raise KdlabError(
            f"logits have shapes {tuple(teacher.shape)} and {tuple(student.shape)}, temperature is {temperature}; "
            "expected two of the same images and a temperature above 0."
        )
    p, q = (F.log_softmax(z.double() / temperature, dim=1) for z in (teacher, student.to(teacher.device)))
    return F.kl_div(q, p, log_target=True, reduction="batchmean").item()


@dataclass(frozen=True)
class Fidelity:
    """How well a student imitates a teacher, which is not how well it does (Stanton 2021, arXiv:2106.05945, section 3).

    Attributes
    ----------
    agreement : float
        Fraction of images to which both give the same answer, right or wrong.
    kl : float
        KL(teacher || student) at temperature 1, averaged over images, in nats.
    """

    agreement: float
    kl: float

    def __repr__(self) -> str:
        return f"agrees on {self.agreement:.1%}, KL {self.kl:.3f} nats"


def fidelity(student: nn.Module, teacher: nn.Module, data: Split, *, final: bool = False) -> Fidelity:
    """Compare a student with a teacher: its own, or another one as a control.

    Parameters
    ----------
    data
        A labelled split; test data opens with ``final=True`` only.
    """
    check_open(data, final)
    ours, theirs = predict(student, data), predict(teacher, data)
    return Fidelity(agreement(ours, theirs), kl_divergence(theirs, ours))
