"""The one training loop, and what it is handed: an objective and a sparsity constraint."""

from kdlab.training.evaluation import evaluate, predict
from kdlab.training.history import History
from kdlab.training.loop import Interrupted, fit
from kdlab.training.protocols import Constraint, CrossEntropy, Objective

__all__ = ["Constraint", "CrossEntropy", "History", "Interrupted", "Objective", "evaluate", "fit", "predict"]
