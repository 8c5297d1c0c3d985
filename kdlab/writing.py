"""Files that are whole, or not there at all: whoever reads one never sees half of it."""

import contextlib
import os
import tempfile
from contextlib import AbstractContextManager
from pathlib import Path


def write_whole(file: Path, content: bytes, *, mode: int = 0o644, lock: AbstractContextManager | None = None) -> None:
    """Write under a temporary name beside the file, then rename; what was there stays until then.

    Parameters
    ----------
    file
        Its folder is made if there is none.
    mode
        Permissions.
    lock
        Held while the file takes its place; none if None.

    Raises
    ------
    OSError
        If the disk refuses (full, read-only). Nothing half-written stays behind.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=file.parent, prefix=f".{file.stem[:40]}-", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as opened:
            opened.write(content)
            opened.flush()
            os.fsync(opened.fileno())
        os.chmod(temporary, mode)
        with lock or contextlib.nullcontext():
            os.replace(temporary, file)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
