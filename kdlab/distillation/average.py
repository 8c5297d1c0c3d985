"""Several teachers that speak as one."""

import torch
from torch import Tensor, nn

from kdlab.errors import KdlabError


class Average(nn.Module):
    """A teacher whose logits are the mean of its members' logits.

    That is the geometric mean of their distributions, one of the two means that Hinton, Vinyals & Dean 2015 (section
    2) name for an ensemble. Unlike the arithmetic mean of probabilities it is the same before and after softening, at
    every temperature, so that the mean can be cached once. A member whose logits are larger counts for more.

    Being a network, it goes wherever a teacher goes (``Distill(Average(one, two))``), can be evaluated, and its logits
    are cached like any other's; its members' layers are tapped as ``"members.0.features.8"``.

    Parameters
    ----------
    *members
        Networks that know the same classes.
    """

    def __init__(self, *members: nn.Module):
        super().__init__()
        if not members or not all(isinstance(member, nn.Module) for member in members):
            kinds = ", ".join(type(member).__name__ for member in members) or "nothing"
            raise KdlabError(f"Average was given {kinds}; expected networks: Average(one, two, three).")
        self.members = nn.ModuleList(members)

    def forward(self, images: Tensor) -> Tensor:
        answers = [member(images) for member in self.members]
        if len({tuple(answer.shape) for answer in answers}) > 1:
            classes = ", ".join(str(answer.shape[-1]) for answer in answers)
            raise KdlabError(f"The averaged teachers know {classes} classes; expected the same number of each.")
        return torch.stack(answers).mean(0)
