"""Objectives with a teacher in the one `fit`: what they train, leave alone, recall and refuse."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from kdlab import data, models
from kdlab.data import Batch
from kdlab.distillation import (
    AttentionTransfer,
    Average,
    DecoupledKD,
    Distill,
    Hints,
    LogitMatching,
    Relational,
    Sum,
    attention_loss,
    hint_loss,
    logit_loss,
    look,
    soft_labels,
)
from kdlab.errors import KdlabError
from kdlab.training import CrossEntropy, Interrupted, Objective, evaluate, fit, predict
from kdlab.training.checkpoint import name_of

PAIRS = {"features.5": "stages.1", "features.8": "stages.2"}
LAST = {"features.8": "stages.2"}
QUICK = {"epochs": 1, "progress": False}


@pytest.fixture(scope="module")
def fashion():
    return data.load(scale="smoke")


@pytest.fixture(scope="module")
def teacher(fashion):
    model = models.build("resnet", width=4, seed=7)
    fit(model, fashion.train, epochs=4, batch_size=64, keep=False, progress=False)
    model.zero_grad()
    return model


def student(seed: int = 0) -> nn.Module:
    return models.build("cnn", width=4, seed=seed)


def weights(model: nn.Module) -> torch.Tensor:
    return torch.cat([v.flatten().float() for v in model.state_dict().values()])


def every_objective(teacher: nn.Module, inside: str = "") -> dict[str, Objective]:
    pairs = {inside + ours: theirs for ours, theirs in PAIRS.items()}
    last = {inside + ours: theirs for ours, theirs in LAST.items()}
    return {
        "Distill": Distill(teacher),
        "DecoupledKD": DecoupledKD(teacher),
        "LogitMatching": LogitMatching(teacher),
        "Hints": Hints(teacher, pairs),
        "AttentionTransfer": AttentionTransfer(teacher, pairs),
        "Relational": Relational(teacher, last),
        "Average": Distill(Average(teacher, models.build("cnn", width=4, seed=3))),
        "Sum": Sum({CrossEntropy(): 0.5, Distill(teacher, alpha=1): 0.5, AttentionTransfer(teacher, pairs): 10}),
    }


NAMES = list(every_objective(nn.Identity()))


# ---- they are what they say


def first_loss(objective, split, *, augmented=False) -> tuple[float, nn.Module, Batch]:
    """Return the loss of a batch without any training, and what it was made from."""
    model, batch = student().eval(), split.batch(torch.arange(32))
    objective.start(model, split, augmented=augmented, device=torch.device("cpu"))
    return objective(model, batch).item(), model, batch


def test_losses_are_those_of_the_plain_functions(fashion, teacher):
    loss, model, batch = first_loss(LogitMatching(teacher), fashion.train)
    ours, theirs = look(model, batch.images, PAIRS), look(teacher.eval(), batch.images, PAIRS.values())
    assert loss == pytest.approx(logit_loss(ours.logits, theirs.logits).item(), rel=1e-4)
    loss, *_ = first_loss(AttentionTransfer(teacher, PAIRS), fashion.train)
    expected = sum(attention_loss(ours.features[a], theirs.features[b]).item() for a, b in PAIRS.items())
    assert loss == pytest.approx(expected, rel=1e-4)
    hints = Hints(teacher, PAIRS)
    loss, *_ = first_loss(hints, fashion.train)
    guesses = [r(ours.features[a]) for r, a in zip(hints.regressors, PAIRS, strict=True)]
    expected = sum(hint_loss(g, theirs.features[b]).item() for g, b in zip(guesses, PAIRS.values(), strict=True))
    assert loss == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("augment", [False, True])
def test_every_objective_trains_a_student_and_leaves_its_teacher_as_it_was(fashion, teacher, name, augment):
    model, before = student(), weights(teacher)
    teacher.train(augment)  # it is asked in eval mode, and has its own mode back
    keys, start = list(model.state_dict()), weights(model)
    history = fit(model, fashion.train, objective=every_objective(teacher)[name], augment=augment, keep=False, **QUICK)
    assert torch.equal(weights(teacher), before) and {m.training for m in teacher.modules()} == {augment}
    assert all(p.grad is None and p.requires_grad for p in teacher.parameters())
    assert list(model.state_dict()) == keys and not torch.equal(weights(model), start) and history.rows[0]["loss"] > 0
    assert not any(module._forward_hooks for module in [*model.modules(), *teacher.modules()])


class Household(nn.Module):
    """A student that holds its teacher, runs it in every pass, and hands its own train() down to it."""

    def __init__(self, teacher: nn.Module):
        super().__init__()
        self.student, self.teacher = student(), teacher

    def forward(self, images):
        return self.student(images) + 0.1 * self.teacher(images)


@pytest.mark.parametrize("name", NAMES)
def test_the_teacher_is_unchanged_bit_for_bit_even_where_its_parent_runs_and_trains_it(fashion, teacher, name):
    resident = copy.deepcopy(teacher)
    both, before = Household(resident), weights(resident)
    objective = every_objective(resident, inside="student.")[name]
    fit(both, fashion.train, objective=objective, keep=False, **QUICK)
    assert torch.equal(weights(resident), before)
    assert all(p.requires_grad and p.grad is None for p in resident.parameters())
    assert not torch.equal(weights(both.student), weights(student()))


def test_without_that_care_the_same_parent_changes_its_teacher(fashion, teacher):
    both = Household(copy.deepcopy(teacher))
    before = weights(both.teacher)
    fit(both, fashion.train, keep=False, **QUICK)
    assert not torch.equal(weights(both.teacher), before)  # or the test above would prove nothing


def test_a_feature_teacher_sees_the_views_that_the_student_sees(fashion, teacher):
    seen, spy, model = {"teacher": [], "student": []}, copy.deepcopy(teacher), student()
    spy.register_forward_hook(lambda m, args, out: seen["teacher"].append((m.training, args[0].clone())))
    model.register_forward_hook(lambda m, args, out: seen["student"].append(args[0].clone()) if m.training else None)
    sum_ = Sum({CrossEntropy(): 1, AttentionTransfer(spy, PAIRS): 1, Hints(spy, LAST): 1, Distill(spy): 1})
    fit(model, fashion.train, objective=sum_, augment=True, keep=False, **QUICK)
    steps = [(mode, images) for mode, images in seen["teacher"] if len(images) > 2]  # two try the layers out
    assert len(steps) == len(seen["student"]) == 5  # one pass of each, whatever the number of terms
    assert not any(mode for mode, _ in steps)
    assert all(torch.equal(a, b) for (_, a), b in zip(steps, seen["student"], strict=True))


# ---- hints


def test_the_regressor_is_trained_kept_and_left_out_of_the_student(fashion, teacher):
    hints, model = Hints(teacher, PAIRS), student()
    keys, state = set(model.state_dict()), torch.random.get_rng_state()
    assert not list(hints.parameters())
    fit(model, fashion.train, objective=hints, **QUICK)
    assert torch.equal(state, torch.random.get_rng_state()) and set(model.state_dict()) == keys
    assert [tuple(r.weight.shape) for r in hints.regressors] == [(8, 8, 1, 1), (16, 16, 1, 1)]
    trained = weights(hints.regressors)
    again, recalled = Hints(teacher, PAIRS), student()
    assert fit(recalled, fashion.train, objective=again, **QUICK).recalled
    assert torch.equal(weights(again.regressors), trained) and torch.equal(weights(recalled), weights(model))
    again.start(recalled, fashion.train, augmented=False, device=torch.device("cpu"))
    assert not torch.equal(weights(again.regressors), trained)  # it had moved


def test_the_seed_decides_where_the_regressor_starts(fashion, teacher):
    def start(seed):
        hints = Hints(teacher, LAST, seed=seed)
        hints.start(student(), fashion.train, augmented=False, device=torch.device("cpu"))
        return weights(hints.regressors)

    assert torch.equal(start(1), start(1)) and not torch.equal(start(1), start(2))


def test_hints_alone_train_the_student_up_to_the_hint(fashion, teacher):
    model = student()
    before = copy.deepcopy(model.state_dict())
    fit(model, fashion.train, objective=Hints(teacher, {"features.2": "stages.0"}), keep=False, **QUICK)
    same = {k: torch.equal(v, before[k]) for k, v in model.named_parameters()}
    assert not same["features.0.weight"] and same["features.3.weight"] and same["head.weight"]


def test_vectors_meet_through_a_linear_layer(fashion):
    one, two = models.build("mlp", hidden=(20,)), models.build("mlp", hidden=(30,), seed=1)
    hints = Hints(two, {"layers.2": "layers.2"})
    fit(one, fashion.train, objective=hints, keep=False, **QUICK)
    assert isinstance(hints.regressors[0], nn.Linear) and hints.regressors[0].weight.shape == (30, 20)


def test_without_a_regressor_equal_shapes_are_compared_as_they_are(fashion):
    hints = Hints(student(seed=1), "features.8", regressor=False)
    loss, model, batch = first_loss(hints, fashion.train)
    a, b = (look(m, batch.images, ["features.8"]).features["features.8"] for m in (model, hints.teacher.eval()))
    assert loss == pytest.approx(F.mse_loss(a, b).item(), rel=1e-5) and not list(hints.parameters())


# ---- several teachers


def test_an_average_is_the_geometric_mean_of_its_members_at_every_temperature(fashion, teacher):
    one, two = teacher, student(seed=3)
    images = fashion.val.images[:20]
    p, q = (F.softmax(predict(m, images) / 3, dim=1) for m in (one, two))
    geometric = (p * q).sqrt()
    expected = geometric / geometric.sum(1, keepdim=True)
    torch.testing.assert_close(F.softmax(predict(Average(one, two), images) / 3, dim=1), expected, rtol=1e-4, atol=1e-6)


def test_an_average_is_cached_and_tapped_like_any_network(fashion, teacher):
    both = Average(teacher, student(seed=3))
    table = soft_labels(both, fashion.train)
    torch.testing.assert_close(table[fashion.train.index[:9]], predict(both, fashion.train.images[:9]))
    layers = {"features.8": "members.0.stages.2"}
    loss, *_ = first_loss(AttentionTransfer(both, layers), fashion.train)
    assert loss == pytest.approx(first_loss(AttentionTransfer(teacher, LAST), fashion.train)[0], rel=1e-5)


def test_averages_that_make_no_sense_are_refused(fashion, teacher):
    with pytest.raises(KdlabError, match="expected networks"):
        Average(teacher, "other")
    with pytest.raises(KdlabError, match="10, 7 classes"):
        fit(student(), fashion.train, objective=Distill(Average(teacher, models.build("cnn", classes=7))), **QUICK)


# ---- sums


def test_a_sum_is_the_weighted_sum_of_its_terms(fashion, teacher):
    parts = {
        CrossEntropy(): 0.1,
        Distill(teacher, alpha=1): 0.9,
        AttentionTransfer(teacher, PAIRS): 50,
        lambda model, batch: model(batch.images).square().mean(): 0.01,
    }
    expected = 0.0
    for term, weight in parts.items():
        if isinstance(term, Objective):
            expected += weight * first_loss(term, fashion.train)[0]
        else:
            expected += weight * term(student().eval(), fashion.train.batch(torch.arange(32))).item()
    assert first_loss(Sum(parts), fashion.train)[0] == pytest.approx(expected, rel=1e-4)
    nested = Sum({Sum({CrossEntropy(): 0.5}): 0.2})
    assert first_loss(nested, fashion.train)[0] == pytest.approx(0.1 * first_loss(CrossEntropy(), fashion.train)[0])


def test_a_function_in_a_sum_may_look_at_layers_and_weights(fashion):
    def activity(model, batch):
        penalty = sum(p.abs().sum() for p in model.parameters())
        return look(model, batch.images, ["features.8"]).features["features.8"].mean() + 1e-6 * penalty

    model = student()
    fit(model, fashion.train, objective=Sum({CrossEntropy(): 1, activity: 0.1}), **QUICK)


def test_sums_that_make_no_sense_are_refused(teacher):
    for terms, says in [
        ([CrossEntropy()], "expected {objective: weight"),
        ({CrossEntropy(): -1}, "weight of CrossEntropy is -1"),
        ({CrossEntropy(): 0}, "Nothing is left"),
        ({"labels": 1}, "str is no objective"),
    ]:
        with pytest.raises(KdlabError, match=says):
            Sum(terms)


# ---- decoupled distillation's warm-up


def losses_of(monkeypatch, objective, split, **settings) -> list[float]:
    found, call = [], type(objective).__call__
    monkeypatch.setattr(type(objective), "__call__", lambda *a: found.append(call(*a)) or found[-1])
    fit(student(), split, objective=objective, lr=1e-9, keep=False, progress=False, batch_size=600, **settings)
    return [loss.item() for loss in found]


def test_the_loss_rises_over_the_warm_up(fashion, teacher, monkeypatch):
    level = losses_of(monkeypatch, DecoupledKD(teacher, warm_up=0), fashion.train, epochs=4)
    risen = losses_of(monkeypatch, Sum({DecoupledKD(teacher, warm_up=0.5): 2}), fashion.train, epochs=4)
    assert [b / a for a, b in zip(level, risen, strict=True)] == pytest.approx([1, 2, 2, 2], rel=1e-2)


def test_a_resumed_run_goes_on_within_its_warm_up(fashion, teacher):
    class Stopped(DecoupledKD):
        left = 7

        def __call__(self, model, batch):
            self.left -= 1
            if self.left < 0:
                raise KeyboardInterrupt
            return super().__call__(model, batch)

    settings = {"epochs": 3, "progress": False}
    whole, model = student(), student()
    fit(whole, fashion.train, objective=DecoupledKD(teacher, warm_up=1), keep=False, **settings)
    objective = Stopped(teacher, warm_up=1)
    with pytest.raises(Interrupted):
        fit(model, fashion.train, objective=objective, **settings)
    objective.left = 100
    assert fit(model, fashion.train, objective=objective, **settings).resumed_at == 1
    assert torch.equal(weights(model), weights(whole))


# ---- the store


def test_whatever_decides_the_result_is_in_the_name_of_the_run(fashion, teacher):
    other = models.build("resnet", width=4, seed=8)
    table = soft_labels(teacher, fashion.train)
    different = [
        CrossEntropy(),
        Distill(teacher), Distill(other), Distill(table), Distill(teacher, 5), Distill(teacher, 4, 0.5),
        DecoupledKD(teacher), DecoupledKD(other), DecoupledKD(teacher, 5), DecoupledKD(teacher, alpha=2),
        DecoupledKD(teacher, beta=2), DecoupledKD(teacher, warm_up=0),
        LogitMatching(teacher), LogitMatching(other), LogitMatching(Average(teacher, other)),
        Hints(teacher, PAIRS), Hints(other, PAIRS), Hints(teacher, LAST), Hints(teacher, LAST, seed=1),
        Hints(teacher, LAST, regressor=False), Hints(teacher, {"features.8": "stages.1"}),
        Hints(teacher, dict(reversed(PAIRS.items()))),
        AttentionTransfer(teacher, PAIRS), AttentionTransfer(teacher, LAST), AttentionTransfer(other, LAST),
        Relational(teacher, LAST), Relational(teacher, LAST, distance=1), Relational(teacher, LAST, angle=1),
        Relational(teacher, {"features.5": "stages.2"}),
        Sum({CrossEntropy(): 0.5}), Sum({CrossEntropy(): 1}), Sum({CrossEntropy(0.1): 1}),
        Sum({CrossEntropy(): 1, LogitMatching(teacher): 1}), Sum({CrossEntropy(): 1, LogitMatching(other): 1}),
        Sum({CrossEntropy(): 1, LogitMatching(teacher): 2}),
    ]  # fmt: skip
    names = [name_of(student(), fashion.train, {}, [objective]) for objective in different]
    assert None not in names and len(set(names)) == len(names)
    assert name_of(student(), fashion.train, {}, [Hints(copy.deepcopy(teacher), PAIRS)]) in names
    unnamed = Sum({CrossEntropy(): 1, lambda model, batch: 0: 1})
    assert name_of(student(), fashion.train, {}, [unnamed]) is None


# ---- what is refused before the first step


def refused(objective, split, says: str, model: nn.Module | None = None, **settings) -> None:
    model = model or student()
    before = weights(model)
    with pytest.raises(KdlabError, match=says) as caught:
        fit(model, split, objective=objective, **QUICK, **settings)
    assert "\n" not in str(caught.value) and torch.equal(weights(model), before)


def test_layers_that_do_not_exist(fashion, teacher):
    ours = "CNN has no layer 'feature.8'; the nearest are 'features.8'"
    theirs = "ResNet has no layer 'stage.2'; the nearest are 'stages.2'"
    refused(Hints(teacher, {"feature.8": "stages.2"}), fashion.train, ours)
    refused(AttentionTransfer(teacher, {"features.8": "stage.2"}), fashion.train, theirs)
    refused(Sum({CrossEntropy(): 1, Relational(teacher, {"feature.8": "stages.2"}): 1}), fashion.train, ours)
    with pytest.raises(KdlabError, match="layers is empty"):
        Hints(teacher, {})


def test_shapes_that_do_not_match(fashion, teacher):
    wide = models.build("resnet", width=8)
    says = r"'features.8' gives \(16, 4, 4\) .* \(32, 4, 4\); expected the same without a regressor. Use regressor=True"
    refused(Hints(wide, LAST, regressor=False), fashion.train, says)
    refused(Hints(teacher, {"features.2": "stages.2"}), fashion.train, "expected the same height and width")
    refused(Hints(teacher, {"head": "stages.2"}), fashion.train, r"expected two \(C, H, W\) or two \(D,\)")
    refused(AttentionTransfer(teacher, {"head": "stages.2"}), fashion.train, "maps need positions")


@pytest.mark.parametrize("kind", [Distill, DecoupledKD, LogitMatching])
@pytest.mark.parametrize("augment", [False, True])
def test_other_classes(fashion, teacher, kind, augment):
    says = "The student has 12 logits and the teacher 10"
    refused(kind(teacher), fashion.train, says, models.build("cnn", classes=12), augment=augment)


@pytest.mark.parametrize("kind", [Distill, DecoupledKD, LogitMatching])
def test_logits_of_other_data(fashion, teacher, kind):
    refused(kind(soft_labels(teacher, fashion.val)), fashion.train, "made for fashion/smoke/val")
    refused(
        kind(soft_labels(teacher, fashion.train.sample(50))), fashion.train, "550 of 600 samples have no soft label"
    )
    refused(kind(soft_labels(teacher, fashion.train)), fashion.train, "augment=False", augment=True)
    own = [data.from_tensors(fashion.train.images + i, fashion.train.labels).train for i in range(2)]
    table = soft_labels(teacher, own[0])
    refused(kind(table), own[1], f"{len(own[1])} of {len(own[1])} images are not those")
    fit(student(), own[0].sample(50), objective=kind(table), **QUICK)


def test_teachers_that_cannot_teach(fashion, teacher):
    model = student()
    refused(Distill(model), fashion.train, "The teacher is the student itself", model)
    refused(LogitMatching(nn.Sequential(model)), fashion.train, "or contains it", model)
    refused(AttentionTransfer(models.build("resnet", channels=3), PAIRS), fashion.train, "refuses images")
    refused(DecoupledKD(teacher), fashion.train.unlabelled(), "has no labels")
    with pytest.raises(KdlabError, match="needs the teacher's layers"):
        Hints(soft_labels(teacher, fashion.train), PAIRS)
    with pytest.raises(KdlabError, match="teacher is str"):
        LogitMatching("teacher")


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"temperature": 0}, "temperature is 0"),
        ({"alpha": -1}, "alpha is -1; expected a finite number of at least 0"),
        ({"beta": float("nan")}, "beta is nan"),
        ({"warm_up": 2}, "warm_up is 2; expected a fraction"),
    ],
)
def test_settings_out_of_range(teacher, settings, says):
    with pytest.raises(KdlabError, match=says):
        DecoupledKD(teacher, **settings)


# ---- and it teaches


def test_a_student_learns_from_features_and_logits_without_labels(fashion, teacher):
    model = student()
    objective = Sum({LogitMatching(teacher): 1, AttentionTransfer(teacher, PAIRS): 5})
    fit(model, fashion.train.unlabelled(), objective=objective, epochs=8, batch_size=32, progress=False)
    assert evaluate(model, fashion.val) > 0.5
