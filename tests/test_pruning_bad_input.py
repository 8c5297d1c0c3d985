"""Bad input: one line that says what was wrong, and a model that is as it was."""

import copy
import warnings

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations
from torch.nn.utils import prune as torch_prune

from kdlab import models
from kdlab import pruning as prune
from kdlab.errors import KdlabError

PICTURE = torch.randn(2, 1, 28, 28, generator=torch.Generator().manual_seed(0))


def small():
    return models.build("cnn")


def spoilt(value):
    model = small()
    model.features[3].weight.data[0, 0, 0, 0] = value
    return model


def cut(model, *args, **settings):
    return prune.channels.remove(model, PICTURE, *args, **settings)


def wrong_shape(model):
    return prune.magnitude(model) | {"head": torch.ones(3)}


def half_masks(model):
    return {name: mask.float() for name, mask in prune.global_mask(model, 0.5).items()}


CASES = {
    "sparsity 1": (lambda m: prune.global_mask(m, 1.0), "sparsity is 1.0; expected"),
    "sparsity below 0": (lambda m: prune.local_mask(m, -0.1), "sparsity of 'features.0' is -0.1"),
    "sparsity nan": (lambda m: prune.global_mask(m, float("nan")), "sparsity is nan"),
    "sparsity text": (lambda m: prune.global_mask(m, "0.5"), "sparsity is '0.5'"),
    "sparsity above 1": (lambda m: prune.erdos_renyi(m, 80), "sparsity is 80"),
    "more than there is": (lambda m: prune.global_mask(m, 0.9999), "some would be empty; expected at most 0.99"),
    "budget": (lambda m: prune.layer_mask(m, {"head": 1.2}), "sparsity of 'head' is 1.2"),
    "unknown layer": (
        lambda m: prune.layer_mask(m, {"haed": 0.5}),
        "no convolution or linear layer 'haed'; the nearest",
    ),
    "unknown among layers": (
        lambda m: prune.global_mask(m, 0.5, layers=["features.1"]),
        "'features.1'; the nearest are",
    ),
    "unknown score": (lambda m: prune.global_mask(m, 0.5, {"x": torch.ones(2)}), "'x'"),
    "score shape": (lambda m: prune.global_mask(m, 0.5, wrong_shape(m)), "'head' have shape (3,); expected (10, 32)"),
    "no gradient": (lambda m: prune.gradient(m), "has no gradient yet"),
    "pattern": (lambda m: prune.pattern_mask(m, 4, 4), "pattern 4:4"),
    "mask not boolean": (lambda m: prune.apply(m, half_masks(m)), "is torch.float32 of shape"),
    "mask empty": (lambda m: prune.apply(m, {"head": torch.zeros(10, 32).bool()}), "leaves no weight"),
    "mask unknown": (lambda m: prune.Fixed({"hed": torch.ones(1)}).start(m, 1), "'hed'; the nearest are 'head'"),
    "ratio 1": (lambda m: cut(m, 1.0), "ratio is 1.0; expected"),
    "ratio below 0": (lambda m: cut(m, -0.5), "ratio is -0.5"),
    "ratio that empties": (lambda m: cut(m, 0.95), "leaves none of the 8 channels of 'features.0'"),
    "ratio that empties, global": (lambda m: cut(m, 0.99, scope="global"), "would empty a layer; expected at most"),
    "all channels": (lambda m: cut(m, channels={"features.0": range(8)}), "would empty it"),
    "channel out of range": (lambda m: cut(m, channels={"features.0": [8]}), "has channels 0 to 7; got [8]"),
    "output channels": (lambda m: cut(m, channels={"head": [1]}), "the network's output"),
    "ratio of the output": (lambda m: cut(m, {"head": 0.5}), "the network's output"),
    "unknown layer of ratio": (lambda m: cut(m, {"feature.0": 0.5}), "'feature.0'; the nearest are 'features.0'"),
    "unknown layer to keep": (lambda m: cut(m, keep=["hed"]), "'hed'; the nearest are 'head'"),
    "unknown rank": (lambda m: cut(m, rank="l3"), "rank is 'l3'; expected 'l1', 'l2', 'bn', 'taylor', 'random'"),
    "rank of another shape": (lambda m: cut(m, rank=lambda m, g: torch.ones(3)), "returned shape (3,)"),
    "rank not finite": (lambda m: cut(m, rank=lambda m, g: torch.full((g.width,), torch.nan)), "NaN or infinity"),
    "taylor without gradient": (lambda m: cut(m, rank="taylor"), "has no gradient"),
    "unknown scope": (lambda m: cut(m, scope="local"), "scope is 'local'"),
    "round to 0": (lambda m: cut(m, round_to=0), "round_to is 0"),
    "no minimum": (lambda m: cut(m, min_channels=0), "min_channels is 0"),
    "keep everything": (lambda m: cut(m, keep=["features.0", "features.3", "features.6"]), "leave no channel"),
    "picture of three colours": (lambda m: prune.channels.remove(m, torch.ones(1, 3, 8, 8)), "shape (1, 3, 8, 8)"),
    "not a picture": (lambda m: prune.channels.groups(m, "cat"), "refuses an example of shape str"),
}


@pytest.mark.parametrize("case", CASES)
def test_bad_input_is_refused_in_one_line(case):
    act, words = CASES[case]
    model = small()
    before, modes = copy.deepcopy(model.state_dict()), [m.training for m in model.modules()]
    with pytest.raises(KdlabError) as error:
        act(model)
    assert words in str(error.value) and "\n" not in str(error.value)
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    assert modes == [m.training for m in model.modules()]


ACTS = {
    "masks": lambda model: prune.global_mask(model, 0.5),
    "apply": lambda model: prune.apply(model, {"features.0": torch.ones(8, 1, 3, 3).bool()}),
    "constraint": lambda model: prune.Gradual(0.5).start(model, 10),
    "channels": cut,
    "groups": lambda model: prune.channels.groups(model, PICTURE),
    "blocks": lambda model: prune.layers.blocks(model, PICTURE),
}


def shared():
    model = nn.Sequential(nn.Flatten(), nn.Linear(784, 784), nn.ReLU(), nn.Linear(784, 784), nn.Linear(784, 10))
    model[3].weight = model[1].weight
    return model


def masked():
    model = small()
    torch_prune.l1_unstructured(model.head, "weight", 0.5)
    return model


def parametrised():
    model = small()
    parametrizations.orthogonal(model.head)
    return model


def weight_normed():
    model = small()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        nn.utils.weight_norm(model.head)
    return model


class Packed(nn.Module):
    """A linear layer as quantisation leaves it: whole numbers and a scale."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(10, 32, dtype=torch.int8), requires_grad=False)

    def forward(self, x):
        return x @ self.weight.float().t()


def quantised():
    model = small()
    model.head = Packed()
    return model


def quantised_by_torch():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.ao.quantization.quantize_dynamic(small(), {nn.Linear}, torch.qint8)


def lazy():
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(10))


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize(
    "make, words",
    [
        (shared, "'1.weight' and '3.weight' are one shared parameter"),
        (masked, "'head' computes its weight from other parameters"),
        (parametrised, "'head' computes its weight from other parameters"),
        (weight_normed, "'head' computes its weight from other parameters"),
        (quantised, "'head' (Packed) is quantised"),
        (quantised_by_torch, "'head' (Linear) is quantised"),
        (lazy, "'1.weight' has no shape yet"),
    ],
)
def test_networks_that_cannot_be_pruned_are_refused(make, words, act):
    model = make()
    with pytest.raises(KdlabError) as error:
        ACTS[act](model)
    assert words in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("act", ["masks", "constraint", "channels"])
def test_scores_that_are_not_finite(value, act):
    model = spoilt(value)
    acts = ACTS | {"constraint": lambda model: prune.OneShot(0.5).start(model, 10)}
    with pytest.raises(KdlabError, match="hold NaN or infinity") as error:
        acts[act](model)
    assert "features." in str(error.value) and "\n" not in str(error.value)


def test_a_model_without_layers_and_things_that_are_no_model():
    with pytest.raises(KdlabError, match="nothing to prune"):
        prune.global_mask(nn.ReLU(), 0.5)
    with pytest.raises(KdlabError, match=r"expected a network"):
        prune.global_mask({"weight": torch.ones(2)}, 0.5)
    with pytest.raises(KdlabError, match="No channel of this network can be removed"):
        prune.channels.remove(nn.Linear(4, 2), torch.ones(1, 4))


def test_one_module_used_in_two_places_is_no_shared_weight():
    layer = nn.Linear(8, 8)
    model = nn.Sequential(nn.Linear(4, 8), layer, nn.ReLU(), layer, nn.Linear(8, 2))
    assert list(prune.global_mask(model, 0.5)) == ["0", "1", "4"]
    smaller = prune.channels.remove(model, torch.ones(1, 4), 0.5)
    assert smaller[1] is smaller[3]
    assert smaller[1].weight.shape == (4, 4)
