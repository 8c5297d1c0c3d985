"""Trained models and cached logits on disk, named by their content.

A record is one safetensors file: tensors, and facts about them as JSON in the header. Nothing is ever unpickled.
It is written under a temporary name and renamed, so a reader sees a whole record or none; what is read is verified,
and a damaged record is put aside and made again.
"""

import json
import os
import warnings
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock, Timeout
from torch import Tensor

from kdlab import fingerprint
from kdlab.errors import KdlabError
from kdlab.writing import write_whole

_LOCK_SECONDS = 60


class Record(NamedTuple):
    """What is kept under one name."""

    tensors: dict[str, Tensor]
    facts: dict


def home() -> Path:
    """Return the folder for everything kdlab keeps: ``$KDLAB_HOME``, else the user's cache folder."""
    if os.environ.get("KDLAB_HOME"):
        return Path(os.environ["KDLAB_HOME"]).expanduser()
    import platformdirs

    return Path(platformdirs.user_cache_dir("kdlab"))


def path(name: str) -> Path:
    """Return where the record `name` lies (whether or not it exists)."""
    if not name or not all(c.isalnum() or c in "-_" for c in name):
        raise KdlabError(f"{name!r} cannot name a record; expected letters, digits, '-' and '_' only.")
    return home() / "store" / f"{name}.safetensors"


def save(name: str, tensors: dict[str, Tensor], facts: dict) -> bool:
    """Keep tensors and JSON-able facts under `name`; replaces what was there.

    Returns
    -------
    bool
        False if the disk refused (full, read-only): a warning says so, and nothing half-written stays behind.
        Training goes on without a record.
    """
    from safetensors.torch import save as serialise

    own = {key: tensor.detach().cpu().contiguous().clone() for key, tensor in tensors.items()}
    header = {"facts": json.dumps(facts, sort_keys=True), "digest": fingerprint.of_tensors(own)}
    try:
        file = path(name)
        lock = FileLock(file.parent / ".lock", timeout=_LOCK_SECONDS)
        write_whole(file, serialise(own, header), mode=0o600, lock=lock)
    except (OSError, Timeout) as error:
        warnings.warn(
            f"kdlab could not keep a result in {home()} ({error}). Work goes on, but will not be remembered: free some "
            "space, or point KDLAB_HOME at a folder that can be written.",
            stacklevel=2,
        )
        return False
    return True


def load(name: str) -> Record | None:
    """Return the record `name`, or None if there is none (or only a damaged one, which is then deleted)."""
    from safetensors import SafetensorError, safe_open

    file = path(name)
    try:
        with safe_open(file, "pt") as opened:
            header = opened.metadata()
            tensors = {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118 (not a dict)
        if header["digest"] != fingerprint.of_tensors(tensors):
            raise KeyError("digest")
        return Record(tensors, json.loads(header["facts"]))
    except OSError:  # none there, or none that may be read
        return None
    except (SafetensorError, KeyError, TypeError, json.JSONDecodeError):
        delete(name)
        return None


def delete(name: str) -> None:
    """Forget the record `name`; nothing happens if there is none."""
    path(name).unlink(missing_ok=True)


def names(prefix: str) -> list[str]:
    """Return the names of the records that begin with `prefix`, sorted."""
    return sorted(file.stem for file in (home() / "store").glob(f"{prefix}*.safetensors"))


def usage() -> tuple[int, int]:
    """Return the number of records and their bytes."""
    files = list((home() / "store").glob("*.safetensors"))
    return len(files), sum(f.stat().st_size for f in files)


def clear() -> int:
    """Forget everything; returns how many records there were."""
    files = list((home() / "store").glob("*.safetensors"))
    for file in files:
        file.unlink(missing_ok=True)
    return len(files)
