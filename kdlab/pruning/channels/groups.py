"""Dependency groups: layers whose channels can only be removed together (Fang 2023, section 3)."""

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from kdlab.pruning.channels.book import components
from kdlab.pruning.channels.trace import Axis, Trace, run


@dataclass(frozen=True)
class Part:
    """One axis of one layer's weight that follows a group.

    Attributes
    ----------
    layer
        The layer's name.
    axis
        Its parameter and which axis of it.
    places
        For each entry along that axis, the position in the group of the channel it belongs to, -1 for another
        group's; shape (entries,).
    """

    layer: str
    axis: Axis
    places: Tensor = field(repr=False)

    @property
    def entries(self) -> int:
        """Number of entries that belong to the group."""
        return int((self.places >= 0).sum())


@dataclass(frozen=True)
class Group:
    """Channels that go one by one, each out of every layer at once.

    Attributes
    ----------
    name
        The first layer that makes them.
    width
        How many can be removed, each on its own.
    makers, passers, readers
        Layers whose outputs they are; layers they pass one by one (batch norm, depthwise convolution); layers whose
        inputs they are. A layer has `entries` there: 49 for each channel after a flattened 7 x 7 picture, say.
    stays
        Why none of them can be removed; None if they can.
    """

    name: str
    width: int
    makers: tuple[Part, ...]
    passers: tuple[Part, ...]
    readers: tuple[Part, ...]
    stays: str | None
    units: Tensor = field(repr=False)

    def multiplicity(self, part: Part) -> float:
        """Return how many entries of a part go with each channel."""
        return part.entries / self.width

    def __str__(self) -> str:
        roles = {"out of": self.makers, "through": self.passers, "into": self.readers}
        lines = [f"{self.name}: {self.width} channels" + (f", which stay: {self.stays}" if self.stays else "")]
        for role, parts in roles.items():
            if parts:
                lines.append(f"  {role:8}" + ", ".join(self._label(part) for part in parts))
        return "\n".join(lines)

    def _label(self, part: Part) -> str:
        times = self.multiplicity(part)
        return part.layer if times == 1 else f"{part.layer} (x{times:g})"


@dataclass(frozen=True)
class Graph:
    """All groups of a network, and the sets of coupled channels they are made of.

    Attributes
    ----------
    vectors
        For each axis that follows channels, the set each entry belongs to, shape (entries,).
    stays
        Which sets cannot be removed, shape (sets,); why is in `reasons`.
    """

    trace: Trace
    groups: list[Group]
    vectors: dict[Axis, Tensor]
    stays: Tensor
    reasons: dict[int, str]

    @property
    def removable(self) -> list[Group]:
        return [group for group in self.groups if group.stays is None]


def groups(model: nn.Module, example) -> list[Group]:
    """Return the dependency groups of a network, in the order in which it runs.

    Parameters
    ----------
    example
        A batch that the network accepts, such as (2, 1, 28, 28) pictures; its values and device do not matter.

    Returns
    -------
    list of Group
        Print one to read it. Those with ``stays`` cannot be removed.

    Raises
    ------
    KdlabError
        If the network refuses the example, shares weights between layers, or does something to its channels that
        cannot be followed; the message names the place.
    """
    return build(model, example).groups


def build(model: nn.Module, example) -> Graph:
    """Run the network and sort what was seen into groups."""
    trace = run(model, example)
    sets, reasons = trace.book.solve()
    vectors = {axis: sets[numbers] for axis, numbers in trace.axes.items()}
    stays = torch.zeros(trace.book.count, dtype=torch.bool)
    stays[[0, *reasons]] = True

    made = {layer: sets[numbers] for layer, numbers in trace.made.items()}
    nothing = torch.zeros(0, dtype=torch.long)
    first = torch.cat([nothing, *(numbers[:1].expand_as(numbers) for numbers in made.values())])
    family = components(trace.book.count, first, torch.cat([nothing, *made.values()]))

    members: dict[int, list[str]] = {}
    for layer, numbers in made.items():
        members.setdefault(int(family[numbers[0]]), []).append(layer)
    units, position = {}, torch.full((trace.book.count,), -1)
    for head, layers in members.items():
        own = torch.cat([made[layer] for layer in layers]).unique()
        free = own[~stays[own]]
        units[head] = free if len(free) else own
        position[units[head]] = torch.arange(len(units[head]))

    parts = {role: _parts(vectors, axes, family, position) for role, axes in _roles(trace).items()}
    found = []
    for head, layers in members.items():
        own = units[head]
        why = reasons.get(int(own[0])) if stays[own[0]] else "only all of them together" if len(own) == 1 else None
        found.append(Group(layers[0], len(own), *(tuple(parts[role].get(head, ())) for role in parts), why, own))
    return Graph(trace, found, vectors, stays, reasons)


def _roles(trace: Trace) -> dict[str, dict[str, Axis]]:
    return {"makers": trace.makers, "passers": trace.passers, "readers": trace.readers}


def _parts(vectors, axes: dict[str, Axis], family: Tensor, position: Tensor) -> dict[int, list[Part]]:
    """Return the parts of every group: entry by entry, which group and which place in it."""
    found: dict[int, list[Part]] = {}
    for layer, axis in axes.items():
        heads, places = family[vectors[axis]], position[vectors[axis]]
        for head in heads[places >= 0].unique().tolist():
            found.setdefault(head, []).append(Part(layer, axis, torch.where(heads == head, places, -1)))
    return found
