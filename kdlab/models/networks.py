"""Three small networks for 28 x 28 pictures (they accept other sizes too)."""

import itertools

import torch.nn.functional as F
from torch import Tensor, nn


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

    Images (N, channels, H, W) to logits (N, classes). Width 8 has about 6,000 parameters.
    """

    def __init__(self, width: int = 8, classes: int = 10, channels: int = 1):
        super().__init__()
        self.features = nn.Sequential(
            *_conv_block(channels, width), *_conv_block(width, 2 * width), *_conv_block(2 * width, 4 * width)
        )
        self.head = nn.Linear(4 * width, classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.features(images).mean((2, 3)))


def _conv_block(before: int, after: int) -> list[nn.Module]:
    return [nn.Conv2d(before, after, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]


class Block(nn.Module):
    """A basic residual block (He 2016, section 3.3): relu(shortcut(x) + conv-bn-relu-conv-bn(x))."""

    def __init__(self, before: int, after: int, stride: int = 1):
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(after)
        self.conv2 = nn.Conv2d(after, after, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(after)
        self.shortcut = nn.Identity()
        if stride != 1 or before != after:
            self.shortcut = nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after))

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.shortcut(x) + self.bn2(self.conv2(out)))


class ResNet(nn.Module):
    """A small residual network: a strided stem, three stages of `blocks` blocks, an average, a linear layer.

    Images (N, channels, H, W) to logits (N, classes). Width 16 with one block a stage has 78,000 parameters.
    """

    def __init__(self, width: int = 16, blocks: int = 1, classes: int = 10, channels: int = 1):
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(channels, width, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()
        )
        stages, before = [], width
        for number in range(3):
            after = width * 2**number
            for position in range(blocks):
                stages.append(Block(before, after, stride=2 if number > 0 and position == 0 else 1))
                before = after
        self.stages = nn.Sequential(*stages)
        self.head = nn.Linear(before, classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.stages(self.stem(images)).mean((2, 3)))
