"""Removing channels: find what depends on what, rank, cut a smaller ordinary module out.

    smaller = prune.channels.remove(model, example, ratio=0.5, rank="l1", round_to=4)

How it works, file by file: `trace` follows every channel through one run of the network, with a rule for each torch
function (`rules`); `groups` sorts what was seen into dependency groups; `ranking` scores channels; `choice` decides
which go; `surgery` cuts them out and checks the result.
"""

from kdlab.pruning.channels.files import load, save
from kdlab.pruning.channels.groups import Group, Part, groups
from kdlab.pruning.channels.ranking import Taylor
from kdlab.pruning.channels.recalibration import recalibrate
from kdlab.pruning.channels.surgery import kept, remove, scores, silence

__all__ = ["Group", "Part", "Taylor", "groups", "kept", "load", "recalibrate", "remove", "save", "scores", "silence"]
