"""Pruning: which weights may live (masks), when they go (schedules), and networks that really become smaller.

from kdlab import pruning as prune

    masks = prune.global_mask(model, 0.8)                             # single weights become zero
    smaller = prune.channels.remove(model, example, ratio=0.5)        # channels disappear
    smaller = prune.layers.remove_blocks(model, example, "stages.1")  # whole blocks disappear
"""

from kdlab.pruning import channels, layers
from kdlab.pruning.constraint import Fixed, Masked
from kdlab.pruning.masks import (
    apply,
    erdos_renyi,
    global_mask,
    gradient,
    layer_mask,
    local_mask,
    magnitude,
    movement,
    pattern_mask,
    random,
    sparsity_of,
    uniform,
    weights,
)
from kdlab.pruning.schedules import Dynamic, Gradual, Iterative, OneShot, Scheduled, cubic, drop_and_grow
from kdlab.pruning.slimming import Slimming
from kdlab.pruning.tickets import Ticket, learning_rate_rewinding, weight_rewinding
from kdlab.pruning.widths import student_settings

__all__ = [
    "Dynamic",
    "Fixed",
    "Gradual",
    "Iterative",
    "Masked",
    "OneShot",
    "Scheduled",
    "Slimming",
    "Ticket",
    "apply",
    "channels",
    "cubic",
    "drop_and_grow",
    "erdos_renyi",
    "global_mask",
    "gradient",
    "layer_mask",
    "layers",
    "learning_rate_rewinding",
    "local_mask",
    "magnitude",
    "movement",
    "pattern_mask",
    "random",
    "sparsity_of",
    "student_settings",
    "uniform",
    "weight_rewinding",
    "weights",
]
