"""What a network learns from (an objective) and which of its weights may live (a constraint)."""

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdlab.data import Batch, Split
from kdlab.errors import KdlabError


class Objective:
    """What a network learns from: turns a network and a batch into a loss.

    Subclass it, or hand `fit` any function ``(model, batch) -> loss``; only objects that `describe` themselves have
    their results kept in the store.
    """

    def start(self, model: nn.Module, data: Split, *, augmented: bool, device: torch.device) -> None:
        """Get ready before the first step; `augmented` says that the images change from epoch to epoch."""

    def before_step(self, step: int, total_steps: int) -> None:
        """Learn that the next loss is that of step 0, 1, … of `total_steps`, for a loss that changes on the way."""

    def __call__(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the mean loss of the batch, a scalar."""
        raise NotImplementedError

    def parameters(self) -> Iterable[nn.Parameter]:
        """Return parameters of the objective's own that are trained beside the network's (none by default)."""
        return ()

    def describe(self) -> dict | None:
        """Return what identifies this objective, as JSON-able values; None if that cannot be told."""
        return None


class CrossEntropy(Objective):
    """Cross-entropy with the true labels.

    Parameters
    ----------
    smoothing
        Label smoothing in [0, 1): the fraction of the target spread evenly over all classes (Szegedy 2016, section 7).
    """

    def __init__(self, smoothing: float = 0.0):
        if not 0 <= smoothing < 1:
            raise KdlabError(f"smoothing is {smoothing}; expected 0 <= smoothing < 1.")
        self.smoothing = smoothing

    def start(self, model: nn.Module, data: Split, *, augmented: bool, device: torch.device) -> None:
        if not data.labelled:
            raise KdlabError(
                f"{data!r} has no labels, and cross-entropy needs them. Train on a labelled split, or learn from a "
                "teacher alone with Distill(teacher, alpha=1)."
            )

    def __call__(self, model: nn.Module, batch: Batch) -> Tensor:
        return F.cross_entropy(model(batch.images).float(), batch.labels, label_smoothing=self.smoothing)

    def describe(self) -> dict:
        return {"objective": "cross-entropy", "smoothing": self.smoothing}


class Constraint:
    """Which weights may live. `fit` calls it around every step of the optimiser."""

    def start(self, model: nn.Module, total_steps: int) -> None:
        """Get ready before the first step of `total_steps`."""

    def before_step(self, model: nn.Module, step: int) -> None:
        """Look at the gradients of step 0, 1, …, before the optimiser moves the weights."""

    def after_step(self, model: nn.Module, step: int) -> None:
        """Put the weights right after the optimiser has moved them."""

    def state(self) -> dict[str, Tensor]:
        """Return what is needed to go on after a resume."""
        return {}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Take up the `state` of an earlier run; called after `start`."""

    def describe(self) -> dict | None:
        """Return what identifies this constraint, as JSON-able values; None if that cannot be told."""
        return None
