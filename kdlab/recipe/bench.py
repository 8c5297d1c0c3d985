"""What lies on the bench while a recipe is followed."""

from dataclasses import dataclass, field

from torch import nn

from kdlab.data import Split
from kdlab.distillation import SoftLabels
from kdlab.training import History

TEACHER, PRUNED, STUDENT, LABELS = "teacher", "pruned teacher", "student", "soft labels"


@dataclass
class Bench:
    """Everything that the steps have made so far.

    Attributes
    ----------
    data, val : Split
        To learn from, and to score on.
    seed : int
    networks : dict
        ``"teacher"``, ``"pruned teacher"``, ``"student"``: as far as they exist.
    soft_labels : SoftLabels or None
    rows : list of dict
        The prices after every step.
    examples : int
        Training examples seen by all steps so far.
    recalled : int
        Steps whose training was found in the store.
    priced : dict
        What the networks cost that have been measured.
    """

    data: Split
    val: Split
    seed: int
    networks: dict[str, nn.Module] = field(default_factory=dict)
    soft_labels: SoftLabels | None = None
    rows: list[dict] = field(default_factory=list)
    examples: int = 0
    recalled: int = 0
    priced: dict[nn.Module, dict] = field(default_factory=dict, repr=False)

    @property
    def teacher(self) -> nn.Module | None:
        """The teacher, dense."""
        return self.networks.get(TEACHER)

    @property
    def pruned_teacher(self) -> nn.Module | None:
        """The teacher after pruning."""
        return self.networks.get(PRUNED)

    @property
    def student(self) -> nn.Module | None:
        """The student as the last step left it."""
        return self.networks.get(STUDENT)

    @property
    def table(self):
        """The prices after every step, as a `pandas.DataFrame`."""
        import pandas as pd

        return pd.DataFrame(self.rows)

    def count(self, history: History) -> None:
        """Add a training run to the budget that has been used."""
        self.examples += history.examples
        self.recalled += history.recalled

    def __repr__(self) -> str:
        made = ", ".join([*self.networks, *([LABELS] if self.soft_labels else [])]) or "nothing"
        return f"Bench({made}; {self.examples:,} training examples, seed {self.seed})"
