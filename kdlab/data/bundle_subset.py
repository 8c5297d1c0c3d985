"""Build the bundled subset from the full set: ``python -m kdlab.data.bundle_subset``.

The first 1,200 training and the first 500 test images of every class, in the order of the original files, so that
no random number generator has to be reproduced. xz is asked for a fixed preset: the same bytes on every machine
with the same liblzma, and the same *decompressed* bytes (which is what the sha256 covers) on all.
"""

import hashlib
import json
import lzma
from pathlib import Path

import numpy as np

from kdlab.data.sources import BUNDLE, CLASSES, FULL_SHA256, Arrays, read_full

PER_CLASS = {"train": 1200, "test": 500}


def first_per_class(labels: np.ndarray, count: int) -> np.ndarray:
    """Return the sorted positions of the first `count` samples of every class."""
    return np.sort(np.concatenate([np.flatnonzero(labels == c)[:count] for c in np.unique(labels)]))


def subset(full: Arrays) -> Arrays:
    """Cut the stratified subset out of the full arrays."""
    small = {}
    for split, count in PER_CLASS.items():
        chosen = first_per_class(full[f"{split}_labels"], count)
        small[f"{split}_images"] = full[f"{split}_images"][chosen]
        small[f"{split}_labels"] = full[f"{split}_labels"][chosen]
    return small


def write(folder: Path = BUNDLE, download: bool = False) -> None:
    """Write ``fashion.xz`` and ``fashion.json`` into `folder`."""
    small = subset(read_full(download))
    raw = b"".join(array.tobytes() for array in small.values())
    about = {
        "name": "Fashion-MNIST, stratified subset",
        "source": "https://github.com/zalandoresearch/fashion-mnist",
        "licence": "MIT, Copyright (c) 2017 Zalando SE (see LICENSE-fashion-mnist.txt)",
        "rule": f"the first {PER_CLASS['train']} training and {PER_CLASS['test']} test images of every class",
        "classes": CLASSES,
        "full_sha256": FULL_SHA256,
        "sha256": hashlib.sha256(raw).hexdigest(),
        "arrays": {name: list(array.shape) for name, array in small.items()},
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "fashion.xz").write_bytes(lzma.compress(raw, preset=9 | lzma.PRESET_EXTREME))
    (folder / "fashion.json").write_text(json.dumps(about, indent=2) + "\n")


if __name__ == "__main__":
    write()
