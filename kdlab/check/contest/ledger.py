"""Which networks have been scored on test data: each once, and how many there were."""

import hashlib

from torch import nn

from kdlab import exhibits, fingerprint, store
from kdlab.data import Split


def key_of(raw: bytes, model: nn.Module) -> str:
    """Name a network by its file, and by the code of its classes where that is the learner's own."""
    own = {type(m) for m in model.modules() if type(m).__module__.partition(".")[0] not in ("torch", "kdlab")}
    code = sorted(fingerprint.of_class(cls) or cls.__qualname__ for cls in own)
    return fingerprint.of_settings({"file": hashlib.sha256(raw).hexdigest(), "code": code})


class Ledger:
    """The networks that were scored on one test split, in the order in which they came."""

    def __init__(self, test: Split):
        self._name = f"challenge-{test.digest}"
        record = store.load(self._name)
        self._rows: dict[str, dict] = record.facts["rows"] if record else {}

    def __len__(self) -> int:
        return len(self._rows)

    def recall(self, key: str) -> dict | None:
        """Return what is kept of a network (its ``number``, ``correct``, …), None if it was never scored."""
        return self._rows.get(key)

    def keep(self, key: str, row: dict) -> None:
        """Remember a row, and show it among the exhibits; the same network's last row is replaced."""
        import pandas as pd

        self._rows[key] = row
        store.save(self._name, {}, {"rows": self._rows})
        shown = sorted((row for row in self._rows.values() if "accuracy" in row), key=lambda row: row["number"])
        if shown:
            exhibits.keep(exhibits.YOURS, pd.DataFrame(shown))
