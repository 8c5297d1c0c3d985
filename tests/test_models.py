"""Networks with a width for every layer, and the settings read back from their tensors."""

import numpy as np
import pytest
import torch
from torch import nn

from kdlab import measure, models
from kdlab import pruning as prune
from kdlab.errors import KdlabError
from kdlab.models import registry

ONE = torch.zeros(1, 1, 28, 28)
SETTINGS = [
    {"name": "mlp", "hidden": (30, 7)},
    {"name": "cnn", "width": 8},
    {"name": "cnn", "width": (5, 3, 11)},
    {"name": "resnet", "width": 4, "blocks": 2},
    {"name": "resnet", "width": (3, 5, 4), "inner": (1, 7, 2)},
]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_a_network_can_be_built_again_from_its_own_shape(settings):
    model = models.build(**settings, seed=3)
    again = models.build(**models.settings_of(model))
    again.load_state_dict(model.state_dict())
    assert torch.equal(again.eval()(ONE), model.eval()(ONE))


def test_one_number_means_doubling_widths():
    one, three = models.build("cnn", width=4), models.build("cnn", width=(4, 8, 16))
    assert measure.parameters(one) == measure.parameters(three)
    assert torch.equal(one(ONE), three(ONE))


@pytest.mark.parametrize(
    "settings", [{"name": "cnn", "width": 8}, {"name": "resnet", "width": 8, "blocks": 2}], ids=str
)
def test_settings_describe_a_pruned_network_as_it_is_now(settings):
    smaller = prune.channels.remove(models.build(**settings), ONE, 0.4)
    again = models.build(**models.settings_of(smaller))
    again.load_state_dict(smaller.state_dict())
    assert torch.equal(again.eval()(ONE), smaller.eval()(ONE))


def test_what_cannot_be_built_again_is_refused():
    whole = models.build("resnet", width=4, blocks=2)
    with pytest.raises(KdlabError, match="taken out"):
        models.settings_of(prune.layers.remove_blocks(whole, ONE, "stages.1"))
    whole.register_buffer("memory", torch.zeros(3))
    with pytest.raises(KdlabError, match="added"):
        models.settings_of(whole)
    with pytest.raises(KdlabError, match=r"models\.register"):
        models.settings_of(nn.Sequential(nn.Flatten(), nn.Linear(784, 10)))


def test_a_network_of_ones_own(monkeypatch):
    class Tiny(nn.Module):
        def __init__(self, features=3):
            super().__init__()
            self.net = nn.Sequential(nn.Flatten(), nn.Linear(784, features), nn.ReLU(), nn.Linear(features, 10))

        def forward(self, images):
            return self.net(images)

    monkeypatch.setattr(registry, "NETWORKS", dict(registry.NETWORKS))
    models.register("tiny", Tiny)
    assert models.settings_of(models.build("tiny", features=5)) == {"name": "tiny", "features": 5}
    with pytest.raises(KdlabError, match="not made by"):
        models.settings_of(Tiny())
    for name, network in [("cnn", Tiny), ("other", Tiny())]:
        with pytest.raises(KdlabError):
            models.register(name, network)


@pytest.mark.parametrize(
    "settings",
    [
        {"name": "cnn", "width": (1, 2)},
        {"name": "cnn", "width": (1, 2, 0)},
        {"name": "cnn", "width": 2.5},
        {"name": "resnet", "inner": (3,)},
        {"name": "mlp", "hidden": (3, "4")},
    ],
    ids=str,
)
def test_widths_that_make_no_network(settings):
    with pytest.raises(KdlabError, match="expected"):
        models.build(**settings)


def test_numbers_from_a_table_are_numbers():
    assert models.build("cnn", width=np.int64(4)).config == {"name": "cnn", "seed": 0, "width": 4}


def counts(model):
    return {name: int(weight.count_nonzero()) for name, weight in prune.weights(model).items()}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("settings", [{"name": "mlp", "hidden": (64, 32)}, {"name": "cnn", "width": 16}], ids=str)
@pytest.mark.parametrize("sparsity", [0.0, 0.5, 0.8])
def test_a_chain_has_as_many_weights_as_the_teacher_has_left(settings, sparsity, seed):
    teacher = models.build(**settings, seed=seed)
    prune.apply(teacher, prune.local_mask(teacher, sparsity))
    student = models.build(**prune.student_settings(teacher))
    kernel = 9 if settings["name"] == "cnn" else 1
    dense = prune.weights(student)
    for name, remaining in list(counts(teacher).items())[:-1]:
        half_a_unit = kernel * dense[name].shape[1] / 2
        assert abs(dense[name].numel() - remaining) <= half_a_unit, name


@pytest.mark.parametrize("blocks", [1, 2])
@pytest.mark.parametrize("choose", [prune.local_mask, prune.global_mask])
@pytest.mark.parametrize("sparsity", [0.0, 0.5, 0.8])
def test_a_residual_block_has_as_many_weights_as_the_teachers_has_left(choose, sparsity, blocks):
    teacher = models.build("resnet", width=16, blocks=blocks)
    prune.apply(teacher, choose(teacher, sparsity))
    student = models.build(**prune.student_settings(teacher))
    left, dense = counts(teacher), prune.weights(student)
    for number in range(3 * blocks):
        first, second = (dense[f"stages.{number}.{layer}"] for layer in ("conv1", "conv2"))
        remaining = left[f"stages.{number}.conv1"] + left[f"stages.{number}.conv2"]
        half_a_unit = 9 * (first.shape[1] + second.shape[0]) / 2
        assert abs(first.numel() + second.numel() - remaining) <= half_a_unit
    assert sum(w.numel() for w in dense.values()) == pytest.approx(sum(left.values()), rel=0.05)


def test_no_other_widths_of_the_stages_come_nearer():
    """The shortest path agrees with trying every combination."""
    from kdlab.pruning import widths

    teacher = models.build("resnet", width=3)
    prune.apply(teacher, prune.global_mask(teacher, 0.5))
    left = counts(teacher)

    def off(a, b, c):
        total, before = 0.0, 1
        for number, after in enumerate((a, b, c)):
            total += widths._stage(left, number, 1, before, after)[0]
            before = after
        return total + widths._off(left["head"], 10 * c)

    every = {(a, b, c): off(a, b, c) for a in range(1, 4) for b in range(1, 7) for c in range(1, 13)}
    assert off(*prune.student_settings(teacher)["width"]) == pytest.approx(min(every.values()))


def test_a_dense_teacher_gives_its_own_widths():
    for settings in SETTINGS:
        model = models.build(**settings)
        assert prune.student_settings(model) == models.settings_of(model)


def test_no_widths_from_an_empty_layer_or_a_strange_network():
    teacher = models.build("cnn")
    with torch.no_grad():
        teacher.features[3].weight.zero_()
    with pytest.raises(KdlabError, match=r"features\.3"):
        prune.student_settings(teacher)
    with pytest.raises(KdlabError, match="register"):
        prune.student_settings(nn.Linear(3, 3))
