"""Masked weights are exactly zero, whatever moves them."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from kdlab import data, models
from kdlab import pruning as prune
from kdlab.training import fit

OPTIMIZERS = {
    "momentum": lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, nesterov=True, weight_decay=5e-2),
    "adam": lambda p: torch.optim.Adam(p, 0.01, weight_decay=0.1),
    "adamw": lambda p: torch.optim.AdamW(p, 0.01, weight_decay=0.5),
    "rmsprop": lambda p: torch.optim.RMSprop(p, 0.001, momentum=0.9),
}


def steps(model, constraint, make, count=6, total=6, start=0, optimizer=None, autocast=False, begin=True, after=None):
    """Train by hand on noise, calling the constraint as `fit` does."""
    optimizer = optimizer or make(list(model.parameters()))
    if begin:
        constraint.start(model, total)
    for step in range(start, start + count):
        generator = torch.Generator().manual_seed(step)
        images, labels = torch.randn(16, 1, 28, 28, generator=generator), torch.arange(16) % 10
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            loss = F.cross_entropy(model(images).float(), labels)
        optimizer.zero_grad()
        loss.backward()
        constraint.before_step(model, step)
        optimizer.step()
        constraint.after_step(model, step)
        if after:
            after(step)
    return optimizer


def bits_at_mask(model, masks):
    return [model.get_submodule(name).weight.detach()[~mask].view(torch.int32) for name, mask in masks.items()]


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("network", ["mlp", "cnn", "resnet"])
def test_masked_weights_stay_zero_to_the_bit_after_every_step(network, optimizer, autocast):
    model = models.build(network)
    # a dense step first, so that momentum and running means already point somewhere
    opt = steps(model, prune.Masked(), OPTIMIZERS[optimizer], 2)
    masks = prune.global_mask(model, 0.8)
    others = {n: m.clone() for n, m in prune.magnitude(model).items()}

    def check(step):
        assert all(not bits.any() for bits in bits_at_mask(model, masks))  # +0.0, not -0.0

    steps(model, prune.Fixed(masks), None, 4, optimizer=opt, autocast=autocast, after=check)
    assert prune.sparsity_of(model) == pytest.approx(0.8, abs=1e-3)
    assert any(not torch.equal(others[n][masks[n]], prune.magnitude(model)[n][masks[n]]) for n in masks)


def test_without_the_constraint_momentum_revives_zeros():
    model = models.build("cnn")
    opt = steps(model, prune.Masked(), OPTIMIZERS["momentum"], 2)
    prune.apply(model, prune.global_mask(model, 0.8))
    steps(model, prune.Masked(), None, 1, optimizer=opt)
    assert prune.sparsity_of(model) < 0.1


def test_nothing_is_added_to_the_model():
    model, plain = models.build("resnet"), models.build("resnet")
    steps(model, prune.Gradual(0.9), OPTIMIZERS["momentum"], 4)
    assert list(model.state_dict()) == list(plain.state_dict())
    assert [type(m) for m in model.modules()] == [type(m) for m in plain.modules()]
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_state_dict_hooks")
    assert not any(getattr(m, h) for m in model.modules() for h in hooks)
    assert all(type(p) is nn.Parameter and not p._backward_hooks for p in model.parameters())


def test_a_deepcopy_of_the_model_is_as_sparse_and_the_constraint_follows_it():
    model = models.build("cnn")
    constraint = prune.OneShot(0.7)
    opt = steps(model, constraint, OPTIMIZERS["momentum"], 3)
    twin = copy.deepcopy(model)
    assert prune.sparsity_of(twin) == prune.sparsity_of(model)
    copied = copy.deepcopy(constraint)
    steps(twin, copied, OPTIMIZERS["adam"], 2, begin=False)
    steps(model, constraint, None, 2, optimizer=opt, begin=False)
    for m, c in ((model, constraint), (twin, copied)):
        assert all(not bits.any() for bits in bits_at_mask(m, c.masks))
    assert not torch.equal(twin.head.weight, model.head.weight)


@pytest.mark.parametrize(
    "make",
    [
        lambda: prune.Gradual(0.9, every=2),
        lambda: prune.Gradual(0.8, score="movement", start=0.2),
        lambda: prune.Iterative(0.9, rounds=3, score="random", scope="local"),
        lambda: prune.Dynamic(0.8, every=3),
    ],
)
def test_resuming_in_the_middle_changes_nothing(make):
    whole = models.build("cnn")
    steps(whole, make(), OPTIMIZERS["momentum"], 16, total=16)

    first, constraint = models.build("cnn"), make()
    opt = steps(first, constraint, OPTIMIZERS["momentum"], 8, total=16)
    saved = {key: t.clone() for key, t in constraint.state().items()}
    assert all(isinstance(t, torch.Tensor) for t in saved.values())

    second, resumed = models.build("cnn"), make()
    again = OPTIMIZERS["momentum"](list(second.parameters()))
    resumed.start(second, 16)
    second.load_state_dict(first.state_dict())
    again.load_state_dict(opt.state_dict())
    resumed.load_state(saved)
    steps(second, resumed, None, 8, total=16, start=8, optimizer=again, begin=False)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), second.parameters(), strict=True))


def test_moving_the_model_to_another_format_keeps_the_masks():
    model = models.build("resnet")
    constraint = prune.Fixed(prune.global_mask(model, 0.6))
    steps(model, constraint, OPTIMIZERS["momentum"], 2)
    model.to(memory_format=torch.channels_last)
    steps(model, constraint, OPTIMIZERS["momentum"], 2, begin=False)
    assert prune.sparsity_of(model) == pytest.approx(0.6, abs=1e-3)


@pytest.fixture(scope="module")
def tiny():
    generator = torch.Generator().manual_seed(0)
    return data.from_tensors(torch.randn(400, 1, 28, 28, generator=generator), torch.arange(400) % 10)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_fit_keeps_every_kind_of_constraint(tiny, precision, optimizer):
    for make in (
        lambda model: prune.Fixed(prune.pattern_mask(model)),
        lambda model: prune.Gradual(target=0.9),
        lambda model: prune.Dynamic(target=0.9),
    ):
        model = models.build("cnn")
        constraint = make(model)
        fit(model, tiny.train, sparsity=constraint, epochs=2, batch_size=64, lr=0.01, optimizer=optimizer,
            precision=precision, progress=False)  # fmt: skip
        assert all(not bits.any() for bits in bits_at_mask(model, constraint.masks))
        assert prune.sparsity_of(model) == pytest.approx(constraint.sparsity * _share(model, constraint), abs=2e-3)


def _share(model, constraint):
    masked = sum(mask.numel() for mask in constraint.masks.values())
    return masked / sum(w.numel() for w in prune.weights(model).values())


def test_a_finished_run_is_recalled_with_its_masks(tiny):
    settings = {"epochs": 2, "batch_size": 64, "progress": False}
    first, again = models.build("cnn"), models.build("cnn")
    one, two = prune.Gradual(0.9), prune.Gradual(0.9)
    fit(first, tiny.train, sparsity=one, **settings)
    history = fit(again, tiny.train, sparsity=two, **settings)
    assert history.recalled
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    assert all(torch.equal(one.masks[name], two.masks[name]) for name in one.masks)
    assert not fit(models.build("cnn"), tiny.train, sparsity=prune.Gradual(0.8), **settings).recalled


def test_fixed_masks_are_told_apart_by_their_content():
    model = models.build("cnn")
    a, b = prune.global_mask(model, 0.5), prune.global_mask(model, 0.6)
    assert prune.Fixed(a).describe() == prune.Fixed(copy.deepcopy(a)).describe() != prune.Fixed(b).describe()
    assert prune.Gradual(0.5, score=prune.magnitude).describe() is None  # a function cannot be told apart


def test_a_schedule_of_ones_own_is_a_method_and_is_never_recalled():
    class Straight(prune.Scheduled):
        def milestones(self, total_steps):
            return {step: self.target * (step + 1) / total_steps for step in range(total_steps)}

    model, constraint = models.build("cnn"), Straight(0.5)
    steps(model, constraint, OPTIMIZERS["momentum"], 5, total=5)
    assert prune.sparsity_of(model) == pytest.approx(0.5, abs=1e-3)
    assert constraint.curve(4) == pytest.approx([0.125, 0.25, 0.375, 0.5])
    assert constraint.describe() is None and prune.Gradual(0.5).describe() is not None
