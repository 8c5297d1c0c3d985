"""Data that stays in memory, and remembers which sample is which."""

from kdlab.data.splits import Batch, Dataset, Split, from_tensors, load

__all__ = ["Batch", "Dataset", "Split", "from_tensors", "load"]
