"""Hints: an inner layer of the student is to predict one of the teacher's (FitNets, Romero 2015, arXiv:1412.6550)."""

from collections.abc import Iterable, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdlab.data import Batch, Split
from kdlab.distillation.taps import Seen
from kdlab.distillation.teaching import FromFeatures
from kdlab.errors import KdlabError


def hint_loss(guess: Tensor, feature: Tensor) -> Tensor:
    """Return the mean squared difference of a regressed student feature and the teacher's (Romero 2015, equation 3).

    The mean is over images and all entries; the paper halves the squared norm, which is entries / 2 times this.
    No gradient reaches the teacher.

    Parameters
    ----------
    guess, feature
        The same shape, (N, C, H, W) or (N, D).

    Raises
    ------
    KdlabError
        For shapes that differ.
    """
    if guess.shape != feature.shape:
        raise KdlabError(
            f"features have shapes {tuple(guess.shape)} and {tuple(feature.shape)}; expected the same. A regressor "
            "(a 1x1 convolution, a linear layer) brings the student's to the teacher's number of channels."
        )
    return F.mse_loss(guess, feature.detach())


class Hints(FromFeatures):
    """Learn to predict the teacher's features from the student's, through a regressor that is trained with it.

    The regressor is this objective's own: `fit` trains it, and the student's weights and keys stay what they were.
    Alone, this trains the student up to the tapped layer (the paper's first stage); `Sum` adds labels or soft targets.

    Parameters
    ----------
    teacher
        A network.
    layers
        ``{student layer: teacher layer}`` with equal height and width; names alone where they are the same.
    regressor
        A 1x1 convolution for features (N, C, H, W), a linear layer for (N, D). If False the features are compared as
        they are, and must have the same shape.
    seed
        Decides the regressor's initial weights.
    """

    def __init__(
        self,
        teacher: nn.Module,
        layers: str | Sequence[str] | Mapping[str, str],
        regressor: bool = True,
        seed: int = 0,
    ):
        super().__init__(teacher, layers)
        self.regressor, self.seed = regressor, seed
        self.regressors = nn.ModuleList()  # one a pair of layers, made anew by every `start`

    def start(self, model: nn.Module, data: Split, *, augmented: bool, device: torch.device) -> None:
        self.regressors = nn.ModuleList()
        super().start(model, data, augmented=augmented, device=device)
        self.regressors.to(device)

    def adapt(self, shapes: list[tuple[tuple[int, ...], tuple[int, ...]]]) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            self.regressors = nn.ModuleList(_regressor(*pair) if self.regressor else nn.Identity() for pair in shapes)

    def parameters(self) -> Iterable[nn.Parameter]:
        return self.regressors.parameters()

    def loss(self, student: Seen, teacher: Seen, batch: Batch) -> Tensor:
        pairs = zip(self.regressors, self.pairs(student, teacher), strict=True)
        return sum(hint_loss(regressor(ours), theirs) for regressor, (ours, theirs) in pairs)

    def mismatch(self, student: tuple[int, ...], teacher: tuple[int, ...]) -> str | None:
        if not self.regressor:
            return None if student == teacher else "expected the same without a regressor. Use regressor=True."
        if len(student) not in (1, 3) or len(student) != len(teacher):
            return "expected two (C, H, W) or two (D,). Tap other layers."
        if student[1:] != teacher[1:]:
            return "expected the same height and width: a 1x1 regressor changes channels only. Tap other layers."
        return None

    def settings(self) -> dict:
        return {"regressor": self.regressor, "seed": self.seed}


def _regressor(student: tuple[int, ...], teacher: tuple[int, ...]) -> nn.Module:
    if len(student) == 3:
        return nn.Conv2d(student[0], teacher[0], kernel_size=1)
    return nn.Linear(student[0], teacher[0])
