"""Objectives that learn from a teacher."""

from kdlab.distillation.soft_labels import SoftLabels, soft_labels
from kdlab.distillation.soft_targets import Distill, distillation_loss, soften

__all__ = ["Distill", "SoftLabels", "distillation_loss", "soft_labels", "soften"]
