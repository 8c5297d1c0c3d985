"""Remarks for right answers of several exercises."""

import torch

from kdlab.check.calling import Trial
from kdlab.check.core import Remark


def implicit_dim(trial: Trial) -> bool:
    """Whether torch had to guess the dimension of a softmax."""
    return any("Implicit dimension choice" in warning for warning in trial.warned)


def gives_an_array(trial: Trial) -> bool:
    """Whether a NumPy array came back."""
    return hasattr(trial.output, "__array_interface__")


def gives_half_precision(trial: Trial) -> bool:
    """Whether a tensor of 16-bit floats came back."""
    return getattr(trial.output, "dtype", None) in (torch.float16, torch.bfloat16)


IMPLICIT_DIM = Remark(
    "A softmax has no dim: torch guesses it from the number of dimensions, and warns. Say which one you mean.",
    deserved=implicit_dim,
)
