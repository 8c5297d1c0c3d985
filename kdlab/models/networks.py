"""Three small networks for 28 x 28 pictures (they accept other sizes too).

A width is one number for the whole network, or one for every layer that may have its own: what pruning leaves of a
network is again one of these networks.
"""

import itertools

import torch.nn.functional as F
from torch import Tensor, nn

from kdlab.errors import KdlabError


class MLP(nn.Module):
    """A multilayer perceptron; 784-300-100-10 is LeNet-300-100 (LeCun 1998), on which lottery tickets were found.

    Images of shape (N, C, H, W) are flattened; returns logits of shape (N, classes).
    """

    def __init__(self, hidden: tuple[int, ...] = (300, 100), classes: int = 10, inputs: int = 784):
        super().__init__()
        sizes = [inputs, *hidden]
        layers = [nn.Flatten()]
        for before, after in itertools.pairwise(sizes):
            layers += [nn.Linear(before, after), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Linear(sizes[-1], classes))

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images)


class CNN(nn.Module):
    """A small plain convolutional network: three strided 3 x 3 convolutions, then an average and a linear layer.

    Images (N, channels, H, W) to logits (N, classes). Width 8 means the widths (8, 16, 32), about 6,000 parameters;
    any other three may be given instead.
    """

    def __init__(self, width: int | tuple[int, ...] = 8, classes: int = 10, channels: int = 1):
        super().__init__()
        first, second, third = _doubling(width)
        self.features = nn.Sequential(
            *_conv_block(channels, first), *_conv_block(first, second), *_conv_block(second, third)
        )
        self.head = nn.Linear(third, classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.features(images).mean((2, 3)))


def _doubling(width: int | tuple[int, ...], count: int = 3) -> tuple[int, ...]:
    """Return `count` widths: those given, or one that doubles."""
    widths = tuple(width * 2**i for i in range(count)) if isinstance(width, int) else tuple(width)
    if len(widths) != count:
        raise KdlabError(f"width is {width!r}; expected one whole number, or {count} of them.")
    return widths


def _conv_block(before: int, after: int) -> list[nn.Module]:
    return [nn.Conv2d(before, after, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]


class Block(nn.Module):
    """A basic residual block (He 2016, section 3.3): relu(shortcut(x) + conv-bn-relu-conv-bn(x)).

    Between its two convolutions it has `inner` channels, as many as come out unless told otherwise.
    """

    def __init__(self, before: int, after: int, stride: int = 1, inner: int | None = None):
        super().__init__()
        inner = after if inner is None else inner
        self.conv1 = nn.Conv2d(before, inner, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, after, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(after)
        self.shortcut = nn.Identity()
        if stride != 1 or before != after:
            self.shortcut = nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after))

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.shortcut(x) + self.bn2(self.conv2(out)))


class ResNet(nn.Module):
    """A small residual network: a strided stem, three stages of `blocks` blocks, an average, a linear layer.

    Images (N, channels, H, W) to logits (N, classes). Width 16 means stages of (16, 32, 64) channels and has, with one
    block a stage, 78,000 parameters; any other three may be given instead. `inner` are the channels between the two
    convolutions of every block, in order: each block's own width if None.
    """

    def __init__(
        self,
        width: int | tuple[int, ...] = 16,
        blocks: int = 1,
        classes: int = 10,
        channels: int = 1,
        inner: tuple[int, ...] | None = None,
    ):
        super().__init__()
        widths = _doubling(width)
        inner = [None] * 3 * blocks if inner is None else list(inner)
        if len(inner) != 3 * blocks:
            raise KdlabError(f"inner is {tuple(inner)}; expected {3 * blocks} whole numbers, one a block.")
        self.stem = nn.Sequential(*_conv_block(channels, widths[0]))
        stages, before = [], widths[0]
        for number, after in enumerate(widths):
            for position in range(blocks):
                stride = 2 if number > 0 and position == 0 else 1
                stages.append(Block(before, after, stride, inner[len(stages)]))
                before = after
        self.stages = nn.Sequential(*stages)
        self.head = nn.Linear(before, classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.stages(self.stem(images)).mean((2, 3)))
