"""Seeds x settings -> a table; paired differences with intervals."""

from kdlab.experiments.running import RunFailed, run, seeds
from kdlab.experiments.statistics import Difference, interval, paired

__all__ = ["Difference", "RunFailed", "interval", "paired", "run", "seeds"]
