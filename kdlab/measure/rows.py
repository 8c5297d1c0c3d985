"""One call, one row."""

from torch import Tensor, nn

from kdlab.data import Split
from kdlab.measure.compute import latency, macs
from kdlab.measure.packing import pack
from kdlab.measure.quality import Accuracy, calibration_error
from kdlab.measure.size import bytes_on_disk, nonzeros, parameters
from kdlab.training import predict
from kdlab.training.evaluation import check_open


def prices(model: nn.Module, data: Split, *, final: bool = False) -> dict[str, float]:
    """Return everything a network costs and what it gets right, as one row of a table.

    Parameters
    ----------
    data
        Split to score on; test data opens with ``final=True`` only.

    Returns
    -------
    dict
        ``parameters``, ``nonzeros``, ``bytes`` (float32 file), ``packed bytes`` (compressed sparse file), ``MACs`` and
        ``latency µs`` (one image, one thread, median), ``latency IQR µs``, ``accuracy`` with ``low`` and ``high``
        (95 %), ``calibration error``.
    """
    check_open(data, final)
    one, logits = data.images[:1], predict(model, data)
    timed, right = latency(model, one), Accuracy.of(logits, data.labels)
    low, high = right.interval
    return {
        **counts(model, one),
        "latency µs": timed.median * 1e6,
        "latency IQR µs": timed.iqr * 1e6,
        "accuracy": right.value,
        "low": low,
        "high": high,
        "calibration error": calibration_error(logits, data.labels),
    }


def counts(model: nn.Module, image: Tensor) -> dict[str, int]:
    """Return the prices that are counted and not timed, the first five of `prices`.

    Parameters
    ----------
    image
        Shape (1, C, H, W).
    """
    return {
        "parameters": parameters(model),
        "nonzeros": nonzeros(model),
        "bytes": bytes_on_disk(model),
        "packed bytes": len(pack(model)),
        "MACs": macs(model, image),
    }
