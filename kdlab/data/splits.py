"""Splits as tensors in memory; every batch carries the index of its samples."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from kdlab import scale as scales
from kdlab.data import sources
from kdlab.errors import KdlabError

UNLABELLED = -1
_MEAN, _STD = 0.2860, 0.3530  # of Fashion-MNIST's training pixels in [0, 1]
_SMOKE = {"train": 600, "val": 300, "test": 300}


class Batch(NamedTuple):
    """One step's samples.

    ``index`` names the rows of whatever is cached per sample (a teacher's logits, say) that belong to these images.
    """

    images: Tensor  # (N, C, H, W) float32
    labels: Tensor  # (N,) int64
    index: Tensor  # (N,) int64


@dataclass(frozen=True, eq=False)
class Split:
    """Images and labels in memory.

    Attributes
    ----------
    images : Tensor, shape (N, C, H, W), float32, normalised
    labels : Tensor, shape (N,), int64; -1 where a label was taken away
    index : Tensor, shape (N,), int64; positions in the complete split, which survive `sample` and `without`
    name : ``"train"``, ``"val"`` or ``"test"``
    classes : names of the classes
    sealed : True for test data, which `kdlab.training.evaluate` opens only for a final report
    size : number of samples of the complete split (``index`` is always below it)
    """

    images: Tensor
    labels: Tensor
    index: Tensor
    name: str
    classes: tuple[str, ...]
    sealed: bool = False
    size: int = 0
    source: tuple[str, str] | None = None  # (data set, scale) if `load` can bring these pixels back
    labelled: bool = True
    _digests: dict[tuple, str] = field(default_factory=dict, init=False, repr=False)

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        shape = "x".join(map(str, self.images.shape[1:]))
        return f"Split({self.name!r}, {len(self):,} images of {shape}, {len(self.classes)} classes)"

    def batch(self, positions: Tensor) -> Batch:
        """Return the samples at these positions of this split, shape (M,), as one `Batch`."""
        return Batch(self.images[positions], self.labels[positions], self.index[positions])

    def take(self, positions: Tensor) -> "Split":
        """Return the samples at these positions, shape (M,), as a split of their own."""
        return replace(
            self,
            images=self.images[positions],
            labels=self.labels[positions],
            index=self.index[positions],
        )

    def sample(self, count: int, seed: int = 0) -> "Split":
        """Draw `count` samples at random, the same number of every class (as nearly as that is possible)."""
        if not 0 < count <= len(self):
            raise KdlabError(f"count is {count}; expected 1 to {len(self)}, the number of images in this split.")
        generator = torch.Generator().manual_seed(seed)
        order = torch.randperm(len(self), generator=generator)
        labels = self.labels[order].cpu()
        # rank of every sample among its own class; the lowest ranks are drawn first
        one_hot = torch.nn.functional.one_hot(labels - labels.min())
        rank = (one_hot.cumsum(0) * one_hot).sum(1)
        chosen = order[torch.argsort(rank, stable=True)[:count]]
        return self.take(chosen.sort().values)

    def without(self, *classes: int | str) -> "Split":
        """Leave some classes out, named or numbered."""
        return self.take(torch.nonzero(~self._belongs(classes)).flatten())

    def only(self, *classes: int | str) -> "Split":
        """Keep some classes only, named or numbered."""
        return self.take(torch.nonzero(self._belongs(classes)).flatten())

    def unlabelled(self) -> "Split":
        """Return the same images with every label taken away (-1), so that nothing can peek at them."""
        return replace(self, labels=torch.full_like(self.labels, UNLABELLED), labelled=False)

    def to(self, device: torch.device | str) -> "Split":
        """Return this split with its tensors on `device`."""
        if self.images.device == torch.device(device):
            return self
        return replace(self, images=self.images.to(device), labels=self.labels.to(device), index=self.index.to(device))

    def show(self, positions: Sequence[int]) -> np.ndarray:
        """Return grey-scale pictures in [0, 1], shape (M, H, W), for plotting."""
        grey = self.images[list(positions), 0].cpu() * _STD + _MEAN
        return grey.clamp(0, 1).numpy()

    @property
    def digest(self) -> str:
        """A short name for exactly these samples and labels; part of the name of everything trained on them."""
        tensors = self.images, self.labels, self.index
        if any(t.is_inference() for t in tensors):  # these do not count how often they were changed
            return self._compute_digest()
        changes = tuple(t._version for t in tensors)
        if changes not in self._digests:
            self._digests[changes] = self._compute_digest()
        return self._digests[changes]

    def _compute_digest(self) -> str:
        sha = hashlib.sha256(json.dumps([self.source, self.name]).encode())
        # where the pixels come from is known: enough to see whether somebody has changed them since
        pixels = self.images.contiguous().view(torch.int32).sum() if self.source else self.images
        for tensor in (self.index, self.labels, pixels):
            sha.update(tensor.cpu().numpy().tobytes())
        return sha.hexdigest()[:20]

    def _belongs(self, classes: Sequence[int | str]) -> Tensor:
        numbers = torch.tensor([self._class(c) for c in classes], device=self.labels.device)
        return torch.isin(self.labels, numbers)

    def _class(self, name: int | str) -> int:
        if name in self.classes:
            return self.classes.index(name)
        if isinstance(name, int) and 0 <= name < len(self.classes):
            return name
        raise KdlabError(
            f"There is no class {name!r}; expected 0 to {len(self.classes) - 1} or one of {', '.join(self.classes)}."
        )

    def __reduce__(self):
        """Travel to a worker process as a recipe where possible: megabytes of pixels are loaded there once."""
        if self.source is not None:
            recipe = (*self.source, self.name, self.index.cpu().numpy(), self.labelled)
            if _recall(*recipe).digest == self.digest:  # nobody has changed a label or a pixel
                return _recall, recipe
        state = (self.images, self.labels, self.index, self.name, self.classes, self.sealed, self.size)
        return Split, (*state, self.source, self.labelled)


def _recall(name: str, scale: str, split: str, index: np.ndarray, labelled: bool) -> Split:
    whole: Split = getattr(load(name, scale), split)
    part = whole if len(index) == len(whole) else whole.take(torch.from_numpy(index))
    return part if labelled else part.unlabelled()


@dataclass(frozen=True)
class Dataset:
    """Three splits: learn from ``train``, choose on ``val``, report on ``test`` once."""

    train: Split
    val: Split
    test: Split
    classes: tuple[str, ...]

    def __repr__(self) -> str:
        return f"Dataset({len(self.train):,} train, {len(self.val):,} val, {len(self.test):,} test)"


def load(name: str = "fashion", scale: str | None = None, *, download: bool = False) -> Dataset:
    """Load a data set into memory; a second call returns the same tensors.

    Parameters
    ----------
    name
        ``"fashion"`` (Fashion-MNIST, 28 x 28 grey-scale pictures of ten kinds of clothing).
    scale
        ``"smoke"`` (600/300/300 images), ``"laptop"`` (10,000/2,000/5,000, bundled) or ``"full"``
        (55,000/5,000/10,000); the current scale if None. Validation images are the last of every class in the
        training file and are never trained on.
    download
        At ``"full"`` only: allow torchvision to fetch the set if no copy is on this machine.

    Raises
    ------
    KdlabError
        For an unknown name or scale, and for data that is missing, truncated or altered.
    """
    if name != "fashion":
        raise KdlabError(f"There is no data set {name!r}; expected 'fashion'. For your own data use data.from_tensors.")
    return _load_fashion(scales.current() if scale is None else scales.check(scale), download)


@lru_cache(maxsize=4)
def _load_fashion(scale: str, download: bool) -> Dataset:
    arrays = sources.read_full(download) if scale == "full" else sources.read_bundle()
    per_class = len(arrays["train_labels"]) // 10
    held_out = 500 if scale == "full" else 200
    in_val = _rank_in_class(arrays["train_labels"]) >= per_class - held_out
    rows = {"train": np.flatnonzero(~in_val), "val": np.flatnonzero(in_val)}
    splits = {}
    for split in ("train", "val", "test"):
        kind = "test" if split == "test" else "train"
        chosen = rows.get(split, slice(None))
        images, labels = arrays[f"{kind}_images"][chosen], arrays[f"{kind}_labels"][chosen]
        if scale == "smoke":
            few = np.sort(np.argsort(_rank_in_class(labels), kind="stable")[: _SMOKE[split]])
            images, labels = images[few], labels[few]
        splits[split] = _split(_normalise(images), torch.from_numpy(labels.astype(np.int64)), split, sources.CLASSES)
        splits[split] = replace(splits[split], source=("fashion", scale))
    return Dataset(**splits, classes=sources.CLASSES)


def _rank_in_class(labels: np.ndarray) -> np.ndarray:
    rank = np.empty(len(labels), np.int64)
    for c in np.unique(labels):
        rank[labels == c] = np.arange((labels == c).sum())
    return rank


def _normalise(images: np.ndarray) -> Tensor:
    pixels = torch.from_numpy(images.astype(np.float32))
    return pixels.div_(255).sub_(_MEAN).div_(_STD).unsqueeze(1)


def _split(images: Tensor, labels: Tensor, name: str, classes: tuple[str, ...]) -> Split:
    index = torch.arange(len(labels))
    return Split(images, labels, index, name, classes, sealed=name == "test", size=len(labels))


def from_tensors(
    images: Tensor, labels: Tensor, classes: Sequence[str] | None = None, val: float = 0.15, test: float = 0.25
) -> Dataset:
    """Make a data set of your own tensors, split at random (always in the same way) within every class.

    Parameters
    ----------
    images
        Shape (N, C, H, W), float; normalise them first.
    labels
        Shape (N,), integers 0 to C - 1.
    classes
        Names of the classes; their numbers if None.
    val, test
        Fractions held out.

    Raises
    ------
    KdlabError
        For shapes that do not match, non-finite pixels, labels out of range, or fractions that leave nothing.
    """
    images, labels = torch.as_tensor(images), torch.as_tensor(labels)
    if images.ndim != 4 or labels.shape != images.shape[:1] or len(labels) == 0:
        raise KdlabError(
            f"images have shape {tuple(images.shape)} and labels {tuple(labels.shape)}; expected (N, C, H, W) and (N,) "
            "with N at least 1. Reshape them first."
        )
    if not images.is_floating_point() or not bool(images.isfinite().all()):
        raise KdlabError("images must be finite floats. Convert them with .float() and remove NaN and infinity.")
    if labels.is_floating_point():
        raise KdlabError(f"labels are {labels.dtype}; expected integers. Convert them with .long().")
    names = tuple(classes) if classes is not None else tuple(str(c) for c in range(int(labels.max()) + 1))
    check_labels(labels, len(names))
    if not (val > 0 and test > 0 and val + test < 1):
        raise KdlabError(f"val={val} and test={test}; expected two fractions above 0 whose sum is below 1.")
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    shuffled = labels[order].numpy()
    fraction = (_rank_in_class(shuffled) + 0.5) / np.bincount(shuffled)[shuffled]
    bounds = {"test": (0, test), "val": (test, test + val), "train": (test + val, 1)}
    splits = {}
    for name, (low, high) in bounds.items():
        chosen = order[torch.from_numpy((fraction >= low) & (fraction < high))].sort().values
        if len(chosen) == 0:
            raise KdlabError(f"{len(labels)} images leave no {name} split; expected more images or a larger fraction.")
        splits[name] = _split(images[chosen].float(), labels[chosen].long(), name, names)
    return Dataset(**splits, classes=names)


def check_labels(labels: Tensor, classes: int) -> None:
    """Raise `KdlabError` unless every label is in 0 … classes - 1 (or -1, taken away)."""
    if len(labels) and (int(labels.max()) >= classes or int(labels.min()) < UNLABELLED):
        raise KdlabError(
            f"labels run from {int(labels.min())} to {int(labels.max())}; expected 0 to {classes - 1} for "
            f"{classes} classes. Check how the labels were made."
        )
