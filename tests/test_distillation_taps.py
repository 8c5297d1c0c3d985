"""Features read by layer name: the right ones, and a network that nobody can tell was listened to."""

import copy
import pickle

import pytest
import torch
from torch import nn

from kdlab import models
from kdlab.distillation import feature_shapes, look
from kdlab.errors import KdlabError

IMAGES = torch.randn(4, 1, 28, 28, generator=torch.Generator().manual_seed(0))


def hooks(model: nn.Module) -> int:
    return sum(len(module._forward_hooks) for module in model.modules())


class Odd(nn.Module):
    """Layers that cannot be tapped, each for its own reason."""

    def __init__(self):
        super().__init__()
        self.twice, self.never, self.head = nn.ReLU(), nn.ReLU(), nn.Linear(784, 10)
        self.pair, self.overwritten = nn.LSTM(784, 784, batch_first=True), nn.Identity()

    def forward(self, images):
        flat = self.twice(self.twice(images.flatten(1)))
        flat, _ = self.pair(flat)
        flat = self.overwritten(flat + 1)
        flat += 1
        return self.head(flat)


def test_features_are_the_layers_outputs():
    model = models.build("cnn", width=4).eval()
    seen = look(model, IMAGES, ["features.2", "features.8"])
    assert list(seen.features) == ["features.2", "features.8"]
    torch.testing.assert_close(seen.features["features.2"], model.features[:3](IMAGES))
    torch.testing.assert_close(seen.features["features.8"], model.features(IMAGES))
    torch.testing.assert_close(seen.logits, model(IMAGES))
    seen.features["features.2"].sum().backward()
    assert model.features[0].weight.grad is not None and model.head.weight.grad is None


def test_nothing_stays_behind():
    model = models.build("resnet", width=4)
    keys, code = list(model.state_dict()), type(model)
    look(model, IMAGES, ["stem", "stages.1"])
    assert hooks(model) == 0 and list(model.state_dict()) == keys and type(model) is code
    with pytest.raises(RuntimeError):
        look(model, torch.zeros(2, 3, 28, 28), ["stem", "stages.1"])
    with pytest.raises(KdlabError):
        look(model, IMAGES, ["stem", "nothing"])
    assert hooks(model) == 0


def test_hooks_of_others_stay():
    model = models.build("cnn", width=4)
    model.head.register_forward_hook(lambda *_: None)
    look(model, IMAGES, ["head"])
    assert hooks(model) == 1


def test_a_copy_made_during_the_pass_is_not_listened_to():
    model, copies = models.build("cnn", width=4).eval(), []

    def copy_and_run(*_):
        if not copies:
            copies.append(copy.deepcopy(model))
            copies[0](IMAGES + 1)

    model.head.register_forward_pre_hook(copy_and_run)
    seen = look(model, IMAGES, ["features.8"])
    torch.testing.assert_close(seen.features["features.8"], model.features(IMAGES))
    assert len(copies) == 1 and hooks(model) == 0
    pickle.dumps(copies[0].features)  # what the copy still carries holds nothing


def test_half_precision_is_compared_in_float32():
    model = models.build("cnn", width=4)
    with torch.autocast("cpu", torch.bfloat16):
        seen = look(model, IMAGES, ["features.0"])
    assert seen.logits.dtype == seen.features["features.0"].dtype == torch.float32


@pytest.mark.parametrize(
    ("layer", "says"),
    [
        ("twice", "runs 2 times in one pass; tap a layer that runs once"),
        ("never", "runs 0 times"),
        ("pair", "puts out a tuple"),
        ("overwritten", "overwritten in place by a later layer; tap that one"),
        ("heads", "Odd has no layer 'heads'; the nearest are 'head'"),
        ("", "has no layer ''"),
    ],
)
def test_what_cannot_be_tapped_is_told_in_one_line(layer, says):
    with pytest.raises(KdlabError, match=says) as caught:
        look(Odd(), IMAGES, [layer])
    assert "\n" not in str(caught.value)


def test_shapes_of_all_that_can_be_tapped():
    model = models.build("cnn", width=4).train()
    shapes = feature_shapes(model, IMAGES)
    assert shapes["features.2"] == (4, 14, 14) and shapes["features"] == (16, 4, 4) and shapes["head"] == (10,)
    assert model.training and hooks(model) == 0
    assert set(feature_shapes(Odd(), IMAGES)) == {"head"}
