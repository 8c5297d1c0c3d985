"""Knowledge distillation, pruning and their combination: the helper package of the course."""

__version__ = "0.1.0"
