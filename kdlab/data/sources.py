"""Where the pixels come from: the bundled subset, or a full copy of Fashion-MNIST found on this machine.

Fashion-MNIST: Xiao, Rasul & Vollgraf 2017, arXiv:1708.07747.
"""

import gzip
import hashlib
import json
import lzma
import os
from pathlib import Path

import numpy as np

from kdlab.errors import KdlabError
from kdlab.store import home

CLASSES = ("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot")
SYSTEM_COPY = Path("/usr/share/datasets/fashion-mnist")
BUNDLE = Path(__file__).parent / "bundle"

# sha256 of the *decompressed* files, so that any compressed copy of the same bytes is accepted
FULL_SHA256 = {
    "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}

Arrays = dict[str, np.ndarray]
"""``train_images`` (N, 28, 28) and ``train_labels`` (N,), and the same for ``test``; all uint8."""


def read_bundle(folder: Path = BUNDLE) -> Arrays:
    """Read the subset that travels with the package, verifying its sha256.

    Raises
    ------
    KdlabError
        If a file is missing, truncated or altered.
    """
    repair = "Reinstall kdlab (pip install --force-reinstall --no-deps kdlab, or git checkout the file)."
    try:
        about = json.loads((folder / "fashion.json").read_text())
        raw = lzma.decompress((folder / "fashion.xz").read_bytes())
    except (OSError, EOFError, lzma.LZMAError, json.JSONDecodeError) as error:
        raise KdlabError(f"The bundled data in {folder} cannot be read ({error}). {repair}") from None
    found = hashlib.sha256(raw).hexdigest()
    if found != about["sha256"]:
        raise KdlabError(f"The bundled data in {folder} is damaged: sha256 {found}, not {about['sha256']}. {repair}")
    return unpack(raw, about["arrays"])


def unpack(raw: bytes, shapes: dict[str, list[int]]) -> Arrays:
    """Cut concatenated uint8 arrays apart, in the order of `shapes`."""
    arrays, start = {}, 0
    for name, shape in shapes.items():
        size = int(np.prod(shape))
        arrays[name] = np.frombuffer(raw, np.uint8, size, start).reshape(shape)
        start += size
    return arrays


def full_folders() -> list[Path]:
    """List the folders searched for a full copy, in order: ``$KDLAB_DATA``, the system's, the cache."""
    named = [Path(os.environ["KDLAB_DATA"]).expanduser()] if os.environ.get("KDLAB_DATA") else []
    cache = home() / "datasets" / "FashionMNIST" / "raw"
    return [*named, SYSTEM_COPY, cache]


def read_full(download: bool = False) -> Arrays:
    """Read the full Fashion-MNIST (60,000 + 10,000 images) from this machine, verifying every file.

    Parameters
    ----------
    download
        Fetch the set through torchvision into the cache if no copy is found. Nothing is ever downloaded unasked.

    Raises
    ------
    KdlabError
        If no copy is found (the message lists every way to get one) or a file is truncated or altered.
    """
    if os.environ.get("KDLAB_DATA"):
        _check_complete(full_folders()[0])
    folder = _first_complete(full_folders())
    if folder is None and download:
        folder = _download()
    if folder is None:
        places = ", ".join(str(f) for f in full_folders())
        raise KdlabError(
            f"The full Fashion-MNIST is not on this machine (looked in {places}). Either install Debian's package "
            "dataset-fashion-mnist, or point KDLAB_DATA at a folder that holds the four files "
            f"({', '.join(FULL_SHA256)}, plain or .gz), or call kdlab.data.load('fashion', scale='full', "
            "download=True), or use KDLAB_SCALE=laptop, which needs nothing."
        )
    return {
        "train_images": _idx(folder, "train-images-idx3-ubyte", 16).reshape(-1, 28, 28),
        "train_labels": _idx(folder, "train-labels-idx1-ubyte", 8),
        "test_images": _idx(folder, "t10k-images-idx3-ubyte", 16).reshape(-1, 28, 28),
        "test_labels": _idx(folder, "t10k-labels-idx1-ubyte", 8),
    }


def _first_complete(folders: list[Path]) -> Path | None:
    return next((f for f in folders if all(_find(f, name) for name in FULL_SHA256)), None)


def _check_complete(folder: Path) -> None:
    missing = [name for name in FULL_SHA256 if _find(folder, name) is None]
    if missing:
        raise KdlabError(
            f"KDLAB_DATA points at {folder}, where {', '.join(missing)} (plain or .gz) cannot be found. Point it at "
            "the folder that holds all four files of Fashion-MNIST, or unset it."
        )


def _find(folder: Path, name: str) -> Path | None:
    return next((p for p in (folder / name, folder / f"{name}.gz") if p.is_file()), None)


def _idx(folder: Path, name: str, header: int) -> np.ndarray:
    path = _find(folder, name)
    try:
        raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError) as error:
        raise KdlabError(f"{path} cannot be read ({error}). Replace it with an intact copy of {name}.") from None
    found = hashlib.sha256(raw).hexdigest()
    if found != FULL_SHA256[name]:
        raise KdlabError(
            f"{path} is not Fashion-MNIST's {name}: its decompressed bytes have sha256 {found}, expected "
            f"{FULL_SHA256[name]}. Replace it with an intact copy, or unset KDLAB_DATA."
        )
    return np.frombuffer(raw, np.uint8, offset=header)


def _download() -> Path:
    from torchvision.datasets import FashionMNIST

    root = home() / "datasets"
    try:
        FashionMNIST(str(root), download=True)
    except (OSError, RuntimeError) as error:
        raise KdlabError(
            f"Downloading Fashion-MNIST into {root} failed ({error}). Check the network, or copy the four files "
            "from another machine and point KDLAB_DATA at their folder."
        ) from None
    return root / "FashionMNIST" / "raw"
