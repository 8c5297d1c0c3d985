"""The course's networks: plain modules, short enough to read. torchvision's are welcome wherever a model is."""

from kdlab.models.networks import CNN, MLP, ResNet
from kdlab.models.registry import build, register, settings_of

__all__ = ["CNN", "MLP", "ResNet", "build", "register", "settings_of"]
