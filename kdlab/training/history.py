"""What happened during a training run."""

from dataclasses import dataclass, field


@dataclass
class History:
    """One row an epoch, and how the run went.

    Attributes
    ----------
    rows : list of dict
        ``epoch`` (from 1), ``loss`` (mean over the epoch), ``lr`` (at its end) and, if asked for, ``val`` (accuracy).
    seconds : float
        Time spent training, over all the sittings of an interrupted run.
    examples : int
        Training examples seen, counted with repetition: the budget.
    recalled : bool
        True if the finished run was found in the store instead of being trained.
    resumed_at : int
        Epochs that an interrupted run had already finished, 0 for a fresh one.
    """

    rows: list[dict] = field(default_factory=list)
    seconds: float = 0.0
    examples: int = 0
    recalled: bool = False
    resumed_at: int = 0

    @property
    def table(self):
        """The rows as a `pandas.DataFrame`, indexed by epoch."""
        import pandas as pd

        return pd.DataFrame(self.rows).set_index("epoch")

    def __repr__(self) -> str:
        if not self.rows:
            return "no epoch finished"
        last = self.rows[-1]
        text = f"{last['epoch']} epochs, {self.examples:,} examples in {self.seconds:.1f} s, loss {last['loss']:.3f}"
        if "val" in last:
            text += f", val accuracy {last['val']:.3f}"
        if self.recalled:
            text += " (found in the store, not trained again)"
        elif self.resumed_at:
            text += f" (resumed after epoch {self.resumed_at})"
        return text
