"""What a network costs, and what it gets right."""

from kdlab.measure.compute import Latency, latency, macs
from kdlab.measure.quality import Accuracy, accuracy, agreement, calibration_error
from kdlab.measure.rows import prices
from kdlab.measure.size import bytes_on_disk, nonzeros, pack, parameters, unpack

__all__ = [
    "Accuracy",
    "Latency",
    "accuracy",
    "agreement",
    "bytes_on_disk",
    "calibration_error",
    "latency",
    "macs",
    "nonzeros",
    "pack",
    "parameters",
    "prices",
    "unpack",
]
