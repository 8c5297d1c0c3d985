"""A teacher's logits, computed once and looked up by sample index."""

from collections import OrderedDict
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from kdlab import fingerprint, store
from kdlab.data import Split
from kdlab.errors import KdlabError
from kdlab.training import predict
from kdlab.training.evaluation import device_of

_RECENT: OrderedDict[str, "SoftLabels"] = OrderedDict()
_MOST_RECENT = 8


@dataclass(frozen=True, eq=False)
class SoftLabels:
    """A teacher's opinion of every sample, kept as logits so that any temperature can be applied later.

    Attributes
    ----------
    logits : Tensor, shape (size, classes), float32
        Row i belongs to the sample whose index is i; NaN where the teacher was never asked.
    split : str
        Which data the rows belong to.
    prints : Tensor, shape (size,), int64, or None
        `image_prints` of the images that the teacher saw; None where only `split` is known.
    """

    logits: Tensor
    split: str
    prints: Tensor | None = None

    def __getitem__(self, index: Tensor) -> Tensor:
        """Return the logits, shape (N, classes), of the samples with these indices, shape (N,)."""
        return self.logits[index]

    def __repr__(self) -> str:
        known = int((~self.logits[:, 0].isnan()).sum())
        return (
            f"SoftLabels(for {known:,} of {len(self.logits):,} samples of {self.split}, {self.logits.shape[1]} classes)"
        )

    def check_cover(self, data: Split) -> None:
        """Raise `KdlabError` unless there is a row for every sample of `data`, made from the same data."""
        if self.split != split_name(data):
            raise KdlabError(
                f"These soft labels were made for {self.split}, not for {split_name(data)}: their rows belong to other "
                "images. Make them with soft_labels(teacher, data) for the data you train on."
            )
        missing = int(self.logits[data.index.to(self.logits.device), 0].isnan().sum())
        if missing:
            raise KdlabError(
                f"{missing} of {len(data)} samples have no soft label. Make them with soft_labels(teacher, data) for "
                "the data you train on, or for a split that contains it."
            )
        if self.prints is None:
            return
        others = int((self.prints[data.index.to(self.prints.device)] != image_prints(data.images)).sum())
        if others:
            raise KdlabError(
                f"{others} of {len(data)} images are not those that these soft labels were made for. Make them with "
                "soft_labels(teacher, data) for the data you train on."
            )

    def to(self, device: torch.device) -> "SoftLabels":
        """Return the same rows on `device`."""
        return SoftLabels(self.logits.to(device), self.split, self.prints)


def split_name(data: Split) -> str:
    """Name the complete split that `data` is a part of: its rows are numbered the same way."""
    origin = "/".join(data.source) if data.source else f"own data of {data.size} samples"
    return f"{origin}/{data.name}"


def image_prints(images: Tensor) -> Tensor:
    """Return a number for every image that tells its pixels apart from others, shape (N,), int64, on the CPU.

    Parameters
    ----------
    images
        Shape (N, C, H, W), float32.
    """
    bits = images.cpu().float().contiguous().flatten(1).view(torch.int32)
    factors = torch.randint(1, 2**62, bits.shape[1:], generator=torch.Generator().manual_seed(0))
    return torch.cat([(part * factors).sum(1) for part in bits.split(1000)])  # overflow wraps: exact everywhere


def soft_labels(teacher: nn.Module, data: Split) -> SoftLabels:
    """Ask the teacher once about every sample of `data`, in eval mode, without gradients.

    The answer is kept in memory and in the store, under a name made from the teacher's weights and the data, so it is
    never computed twice.

    Parameters
    ----------
    teacher
        From images (N, C, H, W) to logits (N, classes).
    data
        The images as they are: for augmented training hand the teacher itself to the objective instead.

    Returns
    -------
    SoftLabels
    """
    identity = fingerprint.of_model(teacher)
    made_by = {"teacher": identity, "data": data.digest, "code": fingerprint.of_code("distillation", "data")}
    name = f"soft-{fingerprint.of_settings(made_by)}"
    if identity is None:
        return _ask(teacher, data)
    if name not in _RECENT:
        record = store.load(name)
        labels = SoftLabels(**record.tensors, **record.facts) if record else _ask(teacher, data)
        if record is None:
            store.save(name, {"logits": labels.logits, "prints": labels.prints}, {"split": labels.split})
        _RECENT[name] = labels
        while len(_RECENT) > _MOST_RECENT:
            _RECENT.popitem(last=False)
    return _RECENT[name].to(device_of(teacher))


def _ask(teacher: nn.Module, data: Split) -> SoftLabels:
    logits = predict(teacher, data)
    table = torch.full((data.size, logits.shape[1]), torch.nan, device=logits.device)
    table[data.index.to(logits.device)] = logits
    prints = torch.zeros(data.size, dtype=torch.int64).index_copy_(0, data.index.cpu(), image_prints(data.images))
    return SoftLabels(table, split_name(data), prints)
