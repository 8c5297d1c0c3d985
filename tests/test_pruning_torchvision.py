"""torchvision's networks: the same channels as torch-pruning keeps, and silent channels can go."""

import copy
import warnings

import pytest
import torch
import torchvision
from test_pruning_channels import check_silence_is_removal, randomise
from torch import nn

from kdlab import pruning as prune

HEADS = {
    "resnet18": "fc",
    "resnet50": "fc",
    "vgg11_bn": "classifier.6",
    "mobilenet_v2": "classifier.1",
    "mobilenet_v3_small": "classifier.3",
    "densenet121": "classifier",
    "squeezenet1_1": "classifier.1",
    "efficientnet_b0": "classifier.1",
}
MORE = ("shufflenet_v2_x1_0", "googlenet", "regnet_y_400mf", "mnasnet0_5", "swin_t", "convnext_tiny")
EXAMPLE = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def network(name, seed=0):
    torch.manual_seed(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # googlenet announces a new initialisation
        model = narrow_vgg() if name == "vgg11_bn" else getattr(torchvision.models, name)(weights=None)
    model.eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
    for key, parameter in model.named_parameters():
        if key.endswith("layer_scale"):
            nn.init.uniform_(parameter, 0.5, 1.5)  # instead of 1e-6, which would hide every mistake
    return model


def narrow_vgg():
    """Return vgg11_bn with 64 neurons instead of 4096: its 130 million weights would only take time."""
    with torch.device("meta"):
        model = torchvision.models.vgg11_bn(weights=None)
    model.features.to_empty(device="cpu").apply(
        lambda m: m.reset_parameters() if hasattr(m, "reset_parameters") else None
    )
    model.classifier[0], model.classifier[3] = nn.Linear(512 * 49, 64), nn.Linear(64, 64)
    model.classifier[6] = nn.Linear(64, 1000)
    return model


def by_torch_pruning(model, head, importance, ratio, round_to):
    """Return what torch-pruning keeps in each layer, and its smaller network."""
    import torch_pruning as tp

    model = copy.deepcopy(model)
    names = {module: name for name, module in model.named_modules()}
    layers = {n: m for m, n in names.items() if isinstance(m, (nn.Conv2d, nn.Linear))}
    kept = {name: set(range(layer.weight.shape[0])) for name, layer in layers.items()}
    pruner = tp.pruner.BasePruner(
        model, EXAMPLE, importance, pruning_ratio=ratio, ignored_layers=[layers[head]], round_to=round_to
    )
    for group in pruner.step(interactive=True):
        for dependency, indices in group:
            if names.get(dependency.target.module) in kept and pruner.DG.is_out_channel_pruning_fn(dependency.handler):
                kept[names[dependency.target.module]] -= set(indices)
        group.prune()
    return {name: sorted(channels) for name, channels in kept.items()}, model


ALIKE = [(name, "l1", 0.5, 1) for name in HEADS]
ALIKE += [(name, "l2", 0.3, 4) for name in ("resnet18", "mobilenet_v2", "mobilenet_v3_small", "efficientnet_b0")]
ALIKE += [("mobilenet_v2", "bn", 0.6, 4)]


@pytest.mark.parametrize("name, rank, ratio, round_to", ALIKE)
def test_torch_pruning_keeps_the_same_channels(name, rank, ratio, round_to):
    from torch_pruning import importance

    model = network(name)
    score = importance.BNScaleImportance() if rank == "bn" else importance.MagnitudeImportance(p=int(rank[1]))
    theirs, their_model = by_torch_pruning(model, HEADS[name], score, ratio, round_to)
    settings = {"ratio": ratio, "rank": rank, "round_to": round_to}
    ours = prune.channels.kept(model, EXAMPLE, **settings)
    assert {layer: indices.tolist() for layer, indices in ours.items()} == theirs
    smaller = prune.channels.remove(model, EXAMPLE, **settings)
    shapes = {n: p.shape for n, p in smaller.state_dict().items()}
    assert shapes == {n: p.shape for n, p in their_model.state_dict().items()}
    with torch.no_grad():
        torch.testing.assert_close(smaller(EXAMPLE), their_model.eval()(EXAMPLE), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", [*HEADS, *MORE])
def test_silent_channels_can_go(name):
    check_silence_is_removal(randomise(network(name)), EXAMPLE.double())


@pytest.mark.parametrize("name", ["mobilenet_v3_small", "densenet121"])
def test_the_pruned_network_survives_the_disk(name, tmp_path):
    smaller = prune.channels.remove(network(name), EXAMPLE, 0.4)
    prune.channels.save(smaller, tmp_path / name)
    back = prune.channels.load(tmp_path / name, network(name, seed=1)).eval()
    with torch.no_grad():
        assert torch.equal(back(EXAMPLE), smaller(EXAMPLE))


def test_residual_blocks_can_be_taken_out():
    model = network("mobilenet_v2")
    blocks = prune.layers.blocks(model, EXAMPLE)
    assert blocks == [f"features.{i}" for i in (3, 5, 6, 8, 9, 10, 12, 13, 15, 16)]
    smaller = prune.layers.remove_blocks(model, EXAMPLE, blocks[:4])
    assert smaller(EXAMPLE).shape == (1, 1000)
    assert prune.layers.blocks(smaller, EXAMPLE) == blocks[4:]
