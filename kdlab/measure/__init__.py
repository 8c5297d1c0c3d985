"""What a network costs, and what it gets right."""

from kdlab.measure.compute import Latency, latency, latency_ratio, macs
from kdlab.measure.packing import pack, unpack
from kdlab.measure.quality import Accuracy, Fidelity, accuracy, agreement, calibration_error, fidelity, kl_divergence
from kdlab.measure.rounding import quantise
from kdlab.measure.rows import counts, prices
from kdlab.measure.size import bytes_on_disk, nonzeros, parameters

__all__ = [
    "Accuracy",
    "Fidelity",
    "Latency",
    "accuracy",
    "agreement",
    "bytes_on_disk",
    "calibration_error",
    "counts",
    "fidelity",
    "kl_divergence",
    "latency",
    "latency_ratio",
    "macs",
    "nonzeros",
    "pack",
    "parameters",
    "prices",
    "quantise",
    "unpack",
]
