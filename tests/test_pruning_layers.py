"""Whole blocks, neurons, and the slimming penalty."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from kdlab import data, models
from kdlab import pruning as prune
from kdlab.data import Batch
from kdlab.errors import KdlabError
from kdlab.training import CrossEntropy, Objective, fit

PICTURE = torch.randn(2, 1, 28, 28, generator=torch.Generator().manual_seed(0))


def test_only_blocks_without_a_projection_can_go():
    model = models.build("resnet", width=4, blocks=3)
    blocks = prune.layers.blocks(model, PICTURE)
    assert blocks == [f"stages.{i}" for i in (0, 1, 2, 4, 5, 7, 8)]
    smaller = prune.layers.remove_blocks(model, PICTURE, ["stages.1", "stages.8"])
    assert isinstance(smaller.stages[1], nn.Identity) and isinstance(model.stages[1], models.networks.Block)
    for removed in (1, 8):  # a block whose two convolutions are silent passes its positive input on
        nn.init.zeros_(model.stages[removed].bn2.weight)
    torch.testing.assert_close(smaller.eval()(PICTURE), model.eval()(PICTURE))
    with pytest.raises(KdlabError, match=r"There is no residual block .* 'stages.3'; the nearest are"):
        prune.layers.remove_blocks(model, PICTURE, "stages.3")
    assert prune.layers.blocks(models.build("cnn"), PICTURE) == []


def test_a_removed_neuron_is_a_row_and_a_column():
    model = models.build("mlp", hidden=(20, 10))
    smaller = prune.layers.remove_neurons(model, PICTURE, channels={"layers.1": [0, 7]})
    left = [i for i in range(20) if i not in (0, 7)]
    first, second = smaller.layers[1], smaller.layers[3]
    assert torch.equal(first.weight, model.layers[1].weight[left]) and torch.equal(
        first.bias, model.layers[1].bias[left]
    )
    assert torch.equal(second.weight, model.layers[3].weight[:, left])
    assert (first.out_features, second.in_features) == (18, 18)
    assert prune.layers.remove_neurons(model, PICTURE, 0.5, "l2").layers[3].in_features == 10
    with pytest.raises(KdlabError, match="has convolutions"):
        prune.layers.remove_neurons(models.build("cnn"), PICTURE)


def noise(n=64):
    generator = torch.Generator().manual_seed(0)
    return data.from_tensors(torch.randn(n, 1, 28, 28, generator=generator), torch.arange(n) % 10).train


def test_slimming_adds_the_l1_norm_of_every_scale():
    model = models.build("resnet")
    for scale in prune.slimming.scales(model):
        nn.init.uniform_(scale, -1, 1)
    batch = Batch(PICTURE, torch.tensor([1, 2]), torch.arange(2))
    loss = prune.Slimming(strength=0.3)(model.eval(), batch)
    norms = sum(m.weight.abs().sum() for m in model.modules() if isinstance(m, nn.BatchNorm2d))
    torch.testing.assert_close(loss, F.cross_entropy(model(PICTURE), batch.labels) + 0.3 * norms)


def test_slimming_wraps_any_objective():
    class Inner(Objective):
        def __init__(self):
            self.weight, self.started = nn.Parameter(torch.ones(())), False

        def start(self, model, data, *, augmented, device):
            self.started = True

        def __call__(self, model, batch):
            return model(batch.images).sum() * self.weight

        def parameters(self):
            return [self.weight]

        def describe(self):
            return {"objective": "inner"}

    inner = Inner()
    slimming = prune.Slimming(inner, 1e-3)
    fit(models.build("cnn"), noise(), objective=slimming, epochs=1, lr=1e-4, progress=False)
    assert inner.started and inner.weight in list(slimming.parameters()) and inner.weight.item() != 1
    assert slimming.describe() == {"objective": "slimming", "strength": 1e-3, "of": {"objective": "inner"}}
    assert prune.Slimming(lambda model, batch: 0).describe() is None
    assert prune.Slimming().describe()["of"] == CrossEntropy().describe()


def test_slimming_drives_scales_towards_zero():
    sums = []
    for strength in (0.0, 1e-1):
        model = models.build("cnn")
        fit(model, noise(), objective=prune.Slimming(strength=strength), epochs=3, batch_size=16, progress=False)
        sums.append(float(sum(s.detach().abs().sum() for s in prune.slimming.scales(model))))
    assert sums[1] < 0.8 * sums[0]


def test_slimming_needs_batch_norm_and_a_sensible_strength():
    with pytest.raises(KdlabError, match="no batch norm"):
        fit(models.build("mlp"), noise(), objective=prune.Slimming(), epochs=1, progress=False)
    for strength in (-1, "a", float("nan"), True):
        with pytest.raises(KdlabError, match="strength is"):
            prune.Slimming(strength=strength)


def test_the_smaller_network_trains_with_the_same_fit():
    model = models.build("resnet", width=8)
    smaller = prune.channels.remove(model, PICTURE, 0.5)
    before = copy.deepcopy(smaller.state_dict())
    fit(smaller, noise(), sparsity=prune.Gradual(0.5), epochs=1, lr=0.01, progress=False)
    assert any(not torch.equal(before[k], v) for k, v in smaller.state_dict().items())
