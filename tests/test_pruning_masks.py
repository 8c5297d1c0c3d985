"""Masks against torch.nn.utils.prune, and against what masks must never do."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils import prune as oracle

from kdlab import models
from kdlab import pruning as prune
from kdlab.data import Batch
from kdlab.errors import KdlabError


@pytest.fixture(params=["mlp", "cnn", "resnet"])
def model(request):
    """Weights of one size in all layers, so that torch, too, leaves some in each."""
    model = models.build(request.param, seed=3)
    generator = torch.Generator().manual_seed(3)
    for layer in scored(model).values():
        layer.weight.data.normal_(generator=generator)
    return model


def batch(n=16, seed=0):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(n, 1, 28, 28, generator=generator)
    return Batch(images, torch.randint(10, (n,), generator=generator), torch.arange(n))


def scored(model):
    return {name: m for name, m in model.named_modules() if isinstance(m, (nn.Conv2d, nn.Linear))}


@pytest.mark.parametrize("sparsity", [0.0, 0.2, 0.5, 0.77, 0.9, 0.95])
def test_global_mask_is_that_of_torch(model, sparsity):
    masks = prune.global_mask(model, sparsity)
    theirs = copy.deepcopy(model)
    pairs = [(module, "weight") for module in scored(theirs).values()]
    oracle.global_unstructured(pairs, oracle.L1Unstructured, amount=sparsity)
    assert list(masks) == list(scored(model))
    for name, module in scored(theirs).items():
        assert torch.equal(masks[name], module.weight_mask.bool())


@pytest.mark.parametrize("sparsity", [0.0, 0.3, 0.5, 0.9])
def test_local_mask_is_that_of_torch(model, sparsity):
    masks = prune.local_mask(model, sparsity)
    for name, module in scored(copy.deepcopy(model)).items():
        oracle.l1_unstructured(module, "weight", sparsity)
        assert torch.equal(masks[name], module.weight_mask.bool())


def test_random_masks_have_torchs_counts_and_follow_the_seed(model):
    masks = prune.local_mask(model, 0.37, prune.random(model, seed=5))
    again = prune.local_mask(model, 0.37, prune.random(model, generator=torch.Generator().manual_seed(5)))
    other = prune.local_mask(model, 0.37, prune.random(model, seed=6))
    for name, module in scored(copy.deepcopy(model)).items():
        oracle.random_unstructured(module, "weight", 0.37)
        assert int(masks[name].sum()) == int(module.weight_mask.sum())
        assert torch.equal(masks[name], again[name])
    assert any(not torch.equal(masks[name], other[name]) for name in masks)


def test_random_scores_leave_the_global_random_state_alone(model):
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    prune.random(model, seed=9)
    assert torch.equal(torch.rand(1), expected)


def test_layer_mask_prunes_named_layers_only():
    model = models.build("cnn")
    masks = prune.layer_mask(model, {"features.3": 0.5, "head": 0.25})
    assert {n: round(1 - float(m.float().mean()), 3) for n, m in masks.items()} == {"features.3": 0.5, "head": 0.25}
    weight = model.get_submodule("features.3").weight.detach()
    kept = masks["features.3"]
    assert weight[kept].abs().min() >= weight[~kept].abs().max()


@pytest.mark.parametrize("n, m", [(2, 4), (1, 4), (4, 8), (1, 2)])
def test_pattern_keeps_the_n_best_of_every_m_inputs(n, m):
    model = nn.Sequential(nn.Conv2d(8, 6, 3), nn.Flatten(), nn.Linear(16, 5))
    masks = prune.pattern_mask(model, n, m)
    for name, mask in masks.items():
        weight = model.get_submodule(name).weight.detach().abs()
        rows = weight.transpose(0, 1).flatten(1).t().reshape(-1, m)  # neighbours along the input dimension
        alive = mask.transpose(0, 1).flatten(1).t().reshape(-1, m)
        for values, lives in zip(rows.tolist(), alive.tolist(), strict=True):
            best = sorted(range(m), key=lambda i: -values[i])[:n]
            assert {i for i in range(m) if lives[i]} == set(best)


def test_pattern_leaves_layers_that_do_not_divide_alone_unless_named():
    model = models.build("cnn")  # its first convolution has one input
    assert "features.0" not in prune.pattern_mask(model)
    with pytest.raises(KdlabError, match=r"'features.0' has 1 inputs"):
        prune.pattern_mask(model, layers=["features.0"])


def test_no_layer_is_ever_empty():
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 400), nn.Linear(400, 2))
    with torch.no_grad():
        model[0].weight.mul_(1e-6)  # the global threshold would take all of it
    masks = prune.global_mask(model, 0.9)
    assert all(mask.any() for mask in masks.values())
    total = sum(mask.numel() for mask in masks.values())
    assert sum(int((~mask).sum()) for mask in masks.values()) == round(0.9 * total)  # and the count is still exact
    assert all(int(mask.sum()) >= 1 for mask in prune.local_mask(model, 0.99).values())


def test_equal_scores_are_cut_in_order_and_exactly():
    model = nn.Sequential(nn.Linear(10, 10), nn.Linear(10, 10))
    with torch.no_grad():
        for layer in model:
            layer.weight.fill_(0.5)
    masks = prune.global_mask(model, 0.33)
    flat = torch.cat([mask.flatten() for mask in masks.values()])
    assert int((~flat).sum()) == 66
    first = prune.global_mask(model, 0.33)
    assert all(torch.equal(masks[name], first[name]) for name in masks)


def test_batch_norm_and_biases_do_not_count():
    model = models.build("resnet")
    masks = prune.global_mask(model, 0.5)
    assert set(masks) == set(scored(model))
    before = {n: p.clone() for n, p in model.named_parameters() if n.removesuffix(".weight") not in masks}
    prune.apply(model, masks)
    assert all(torch.equal(p, before[n]) for n, p in model.named_parameters() if n in before)
    counted = sum(m.weight.numel() for m in scored(model).values())
    zeros = sum(int((m.weight == 0).sum()) for m in scored(model).values())
    assert prune.sparsity_of(model) == pytest.approx(zeros / counted) == pytest.approx(prune.sparsity_of(masks))
    assert prune.sparsity_of(masks) == pytest.approx(0.5, abs=1e-4)


def test_making_masks_leaves_the_model_alone(model):
    state = copy.deepcopy(model.state_dict())
    modes = [module.training for module in model.modules()]
    for scores in (prune.magnitude(model), prune.gradient(model, batch()), prune.movement(model, [batch(), batch(8)])):
        prune.global_mask(model, 0.5, scores)
    assert all(torch.equal(state[k], v) for k, v in model.state_dict().items())
    assert modes == [module.training for module in model.modules()]
    assert all(p.grad is None for p in model.parameters())


def test_gradient_scores_are_those_of_backward():
    model, data = models.build("mlp").eval(), batch()
    loss = nn.functional.cross_entropy(model(data.images), data.labels)
    asked, moved = prune.gradient(model, data), prune.movement(model, data)
    loss.backward()
    for name, module in scored(model).items():
        product = module.weight.detach() * module.weight.grad
        torch.testing.assert_close(asked[name], product.abs())
        torch.testing.assert_close(moved[name], -product)
    left = prune.gradient(model)  # from what backward left
    assert all(torch.allclose(left[name], asked[name]) for name in left)


def test_gradient_is_averaged_over_images_not_batches():
    model, data = models.build("mlp").eval(), batch(12)
    parts = [Batch(*(t[:2] for t in data)), Batch(*(t[2:] for t in data))]
    whole, pieces = prune.gradient(model, data), prune.gradient(model, parts)
    assert all(torch.allclose(whole[name], pieces[name], atol=1e-7) for name in whole)


def test_gradient_scores_take_any_objective():
    model, data = models.build("mlp").eval(), batch()
    scores = prune.gradient(model, data, lambda model, batch: 0 * model(batch.images).sum())
    assert all(not score.any() for score in scores.values())


@pytest.mark.parametrize("many", [False, True])
def test_gradient_takes_batches_from_another_device(many):
    """Meta tensors stand in for a GPU: they know shapes and devices, and mixing them with others raises."""
    model = models.build("cnn").to("meta").eval()
    scores = prune.gradient(model, [batch(), batch(seed=1)] if many else batch())
    assert {score.device.type for score in scores.values()} == {"meta"}


def test_erdos_renyi_budgets_add_up_and_favour_small_layers():
    model = models.build("resnet", width=16)
    budgets = prune.erdos_renyi(model, 0.9)
    sizes = {name: m.weight.numel() for name, m in scored(model).items()}
    zeros = sum(budgets[name] * sizes[name] for name in sizes)
    assert zeros / sum(sizes.values()) == pytest.approx(0.9)
    assert budgets["head"] < budgets["stages.2.conv2"]
    density = {n: (sum(m.weight.shape)) / sizes[n] for n, m in scored(model).items()}
    sparse = [n for n in sizes if budgets[n] > 0]
    ratios = [(1 - budgets[n]) / density[n] for n in sparse]
    assert max(ratios) == pytest.approx(min(ratios))
    assert set(prune.erdos_renyi(model, 0.0).values()) == {0.0}
    assert set(prune.uniform(model, 0.8).values()) == {0.8}


def test_a_layer_may_be_the_whole_model():
    layer = nn.Linear(8, 4)
    masks = prune.global_mask(layer, 0.5)
    prune.apply(layer, masks)
    assert prune.sparsity_of(layer) == 0.5


def test_other_number_formats_and_three_dimensions():
    model = nn.Sequential(nn.Conv3d(2, 4, 3), nn.ConvTranspose1d(4, 2, 3)).to(torch.bfloat16)
    assert prune.sparsity_of(prune.apply(model, prune.global_mask(model, 0.5))) == pytest.approx(0.5, abs=0.01)
