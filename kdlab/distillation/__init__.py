"""Objectives that learn from a teacher: hand one, or a `Sum` of several, to `kdlab.training.fit`."""

from kdlab.distillation.attention import AttentionTransfer, attention_loss, attention_map
from kdlab.distillation.average import Average
from kdlab.distillation.decoupled import DecoupledKD, decouple, decoupled_loss
from kdlab.distillation.hints import Hints, hint_loss
from kdlab.distillation.logit_matching import LogitMatching, logit_loss
from kdlab.distillation.relational import Relational, angle_loss, distance_loss
from kdlab.distillation.soft_labels import SoftLabels, soft_labels
from kdlab.distillation.soft_targets import Distill, distillation_loss, soften
from kdlab.distillation.sums import Sum
from kdlab.distillation.taps import Seen, feature_shapes, look

__all__ = [
    "AttentionTransfer",
    "Average",
    "DecoupledKD",
    "Distill",
    "Hints",
    "LogitMatching",
    "Relational",
    "Seen",
    "SoftLabels",
    "Sum",
    "angle_loss",
    "attention_loss",
    "attention_map",
    "decouple",
    "decoupled_loss",
    "distance_loss",
    "distillation_loss",
    "feature_shapes",
    "hint_loss",
    "logit_loss",
    "look",
    "soft_labels",
    "soften",
]
