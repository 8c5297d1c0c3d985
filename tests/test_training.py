"""The one loop: it learns, it is decided by its seed, it resumes, and it refuses what makes no sense."""

import copy
from typing import ClassVar

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from kdlab import data, fingerprint, models, store
from kdlab.distillation import Distill
from kdlab.errors import KdlabError
from kdlab.pruning import Iterative, Slimming
from kdlab.training import Constraint, CrossEntropy, Interrupted, Objective, evaluate, fit, predict
from kdlab.training.augmentation import flip_and_shift


@pytest.fixture(scope="module")
def fashion():
    return data.load(scale="smoke")


def weights(model: nn.Module) -> torch.Tensor:
    return torch.cat([v.flatten().float() for v in model.state_dict().values()])


def cnn(seed: int = 0) -> nn.Module:
    return models.build("cnn", width=4, seed=seed)


class StopAt(CrossEntropy):
    """Presses the stop button at a given step."""

    def __init__(self, step: int | None):
        super().__init__()
        self.left = step

    def __call__(self, model, batch):
        if self.left is not None:
            self.left -= 1
            if self.left < 0:
                raise KeyboardInterrupt
        return super().__call__(model, batch)


def test_it_learns(fashion):
    model = cnn()
    before = evaluate(model, fashion.val)
    history = fit(model, fashion.train, val=fashion.val, epochs=6, batch_size=32, progress=False)
    assert evaluate(model, fashion.val) > max(0.6, before + 0.3)
    assert history.rows[-1]["loss"] < 0.7 * history.rows[0]["loss"]
    assert history.rows[-1]["val"] == evaluate(model, fashion.val) and history.examples == 6 * 600
    assert list(history.table.columns) == ["loss", "lr", "val"]


def test_one_step_is_what_torch_would_do(fashion):
    model, by_hand = cnn(), cnn()
    fit(model, fashion.train, epochs=1, batch_size=600, lr=0.05, schedule="constant", progress=False)
    optimizer = torch.optim.SGD(by_hand.parameters(), 0.05, 0.9, weight_decay=5e-4, nesterov=True)
    by_hand.train()
    F.cross_entropy(by_hand(fashion.train.images), fashion.train.labels).backward()
    optimizer.step()
    torch.testing.assert_close(weights(model), weights(by_hand), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("settings", [{}, {"augment": True}, {"optimizer": "adam", "lr": 0.01}])
def test_the_seed_decides_the_weights_and_nothing_else_does(fashion, settings):
    def trained(seed):
        model = cnn()
        fit(model, fashion.train, epochs=2, seed=seed, keep=False, progress=False, **settings)
        return weights(model)

    first = trained(5)
    torch.manual_seed(99)
    state = torch.random.get_rng_state()
    assert torch.equal(first, trained(5)) and not torch.equal(first, trained(6))
    assert torch.equal(state, torch.random.get_rng_state())


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("same_object", [True, False])
def test_stopped_and_run_again_gives_the_same_network_as_never_stopped(fashion, optimizer, same_object):
    settings = {"epochs": 4, "seed": 1, "augment": True, "optimizer": optimizer, "lr": 0.01, "progress": False}
    whole = cnn()
    fit(whole, fashion.train, objective=StopAt(None), keep=False, **settings)
    model = cnn()
    with pytest.raises(Interrupted, match=r"Stopped after 2 of 4 epochs. Run the cell again"):
        fit(model, fashion.train, objective=StopAt(13), **settings)
    if not same_object:  # as after a restart of the kernel
        model = cnn()
    history = fit(model, fashion.train, objective=StopAt(None), **settings)
    assert history.resumed_at == 2 and len(history.rows) == 4 and history.examples == 2400
    assert torch.equal(weights(model), weights(whole))


def test_a_stopped_network_with_other_settings_is_another_run(fashion):
    model = cnn()
    with pytest.raises(Interrupted):
        fit(model, fashion.train, objective=StopAt(13), epochs=4, progress=False)
    half_trained = weights(model)
    other = fit(model, fashion.train, objective=StopAt(None), epochs=2, progress=False)
    assert not other.recalled and other.resumed_at == 0 and len(other.rows) == 2
    assert not torch.equal(weights(model), half_trained)
    again = fit(cnn(), fashion.train, objective=StopAt(None), epochs=2, progress=False)
    assert not again.recalled  # what began half trained is not taken for a run that began fresh


def test_stopped_twice_still_gives_the_same_network(fashion):
    settings = {"epochs": 4, "seed": 1, "progress": False}
    whole, model = cnn(), cnn()
    fit(whole, fashion.train, objective=StopAt(None), keep=False, **settings)
    for steps in (8, 6):
        with pytest.raises(Interrupted):
            fit(model, fashion.train, objective=StopAt(steps), **settings)
    history = fit(model, fashion.train, objective=StopAt(None), **settings)
    assert history.resumed_at == 2 and torch.equal(weights(model), weights(whole))


def test_a_finished_run_is_recalled_not_trained_again(fashion):
    model, again = cnn(), cnn()
    first = fit(model, fashion.train, epochs=2, progress=False)
    second = fit(again, fashion.train, epochs=2, progress=False, objective=CrossEntropy())
    assert second.recalled and not first.recalled and second.rows == first.rows
    assert torch.equal(weights(model), weights(again)) and not again.training


@pytest.mark.parametrize("whole", [np.int64, np.int32, np.uint8])
def test_numbers_from_a_table_are_the_same_settings(fashion, whole):
    """Settings read from a data frame are NumPy's numbers: the run has the name that Python's give it."""
    plain = {"epochs": 2, "batch_size": 100, "lr": 0.125, "momentum": 0.5, "weight_decay": 0.0, "seed": 3}
    kinds = dict.fromkeys(plain, np.float32) | dict.fromkeys(["epochs", "batch_size", "seed"], whole)
    numpys = {name: kinds[name](value) for name, value in plain.items()}
    model, again = cnn(), cnn()
    sparsity, objective = Iterative(np.float32(0.5), rounds=whole(2)), Slimming(strength=np.float64(1e-3))
    first = fit(model, fashion.train, objective=objective, sparsity=sparsity, progress=False, **numpys)
    sparsity, objective = Iterative(0.5, rounds=2), Slimming(strength=1e-3)
    second = fit(again, fashion.train, objective=objective, sparsity=sparsity, progress=False, **plain)
    assert second.recalled and not first.recalled and second.rows == first.rows
    assert torch.equal(weights(model), weights(again))


@pytest.mark.parametrize(("of_a_table", "plain"), [(np.int64(4), 4), (np.float64(4), 4.0), (np.float32(4), 4.0)])
def test_a_temperature_from_a_table_names_the_same_run(fashion, of_a_table, plain):
    teacher = cnn(seed=7)
    fit(cnn(), fashion.train, objective=Distill(teacher, plain), epochs=1, progress=False)
    assert fit(cnn(), fashion.train, objective=Distill(teacher, of_a_table), epochs=1, progress=False).recalled


def test_what_is_no_number_is_no_part_of_a_name():
    settings = {"epochs": 4, "alphas": [0.5, 1], "augment": True, "seed": None}
    numpys = {"epochs": np.int16(4), "alphas": [np.float64(0.5), np.int64(1)], "augment": np.bool_(True), "seed": None}
    assert fingerprint.of_settings(settings) == fingerprint.of_settings(numpys)
    assert fingerprint.of_settings({"epochs": torch.tensor(4)}) == fingerprint.of_settings({"epochs": 4})
    for value in (object(), np.zeros(2), torch.zeros(1), {1, 2}):
        with pytest.raises(TypeError, match="cannot be a part of a name"):
            fingerprint.of_settings({"epochs": value})


@pytest.mark.parametrize(
    "change",
    [
        {"epochs": 3}, {"lr": 0.05}, {"seed": 1}, {"augment": True}, {"batch_size": 64}, {"optimizer": "adam"},
        {"objective": CrossEntropy(smoothing=0.1)}, {"precision": "bfloat16"}, {"schedule": "constant"},
    ],
)  # fmt: skip
def test_other_settings_are_other_runs(fashion, change):
    fit(cnn(), fashion.train, epochs=2, progress=False)
    settings = {"epochs": 2, "progress": False, **change}
    assert not fit(cnn(), fashion.train, **settings).recalled
    assert not fit(cnn(seed=1), fashion.train, epochs=2, progress=False).recalled
    assert not fit(cnn(), fashion.train.sample(300), epochs=2, progress=False).recalled


def test_a_truncated_record_is_trained_again(fashion):
    fit(cnn(), fashion.train, epochs=1, progress=False)
    (record,) = (store.home() / "store").glob("fit-*.safetensors")
    record.write_bytes(record.read_bytes()[:-100])
    assert not fit(cnn(), fashion.train, epochs=1, progress=False).recalled


def test_an_objective_that_does_not_describe_itself_is_never_recalled(fashion):
    def plain(model, batch):
        return F.cross_entropy(model(batch.images), batch.labels)

    for _ in range(2):
        assert not fit(cnn(), fashion.train, objective=plain, epochs=1, progress=False).recalled


def test_batches_carry_the_index_of_their_samples(fashion):
    part, seen = fashion.train.sample(100, seed=4), []

    def look(model, batch):
        assert torch.equal(fashion.train.images[batch.index], batch.images)
        assert torch.equal(fashion.train.labels[batch.index], batch.labels)
        seen.append(batch.index)
        return F.cross_entropy(model(batch.images), batch.labels)

    fit(cnn(), part, objective=look, epochs=1, batch_size=32, progress=False)
    assert torch.equal(torch.cat(seen).sort().values, part.index)


def test_an_objective_may_train_parameters_of_its_own(fashion):
    class Scaled(Objective):
        def __init__(self):
            self.scale = nn.Parameter(torch.ones(()))

        def parameters(self):
            return [self.scale]

        def __call__(self, model, batch):
            return F.cross_entropy(self.scale * model(batch.images), batch.labels)

    objective, model = Scaled(), cnn()
    names = set(model.state_dict())
    fit(model, fashion.train, objective=objective, epochs=1, progress=False)
    assert objective.scale.item() != 1 and set(model.state_dict()) == names


def test_a_constraint_is_called_around_every_step(fashion):
    class Recorder(Constraint):
        calls: ClassVar[list] = []

        def start(self, model, total_steps):
            self.calls.append(("start", total_steps))

        def before_step(self, model, step):
            assert model.head.weight.grad is not None
            self.before = model.head.weight.detach().clone()
            self.calls.append(("before", step))

        def after_step(self, model, step):
            assert not torch.equal(self.before, model.head.weight)
            self.calls.append(("after", step))

    fit(cnn(), fashion.train, sparsity=Recorder(), epochs=1, batch_size=300, progress=False)
    assert Recorder.calls == [("start", 2), ("before", 0), ("after", 0), ("before", 1), ("after", 1)]


def test_learning_rate_rises_and_falls_to_zero(fashion):
    rates = []

    class Watch(Constraint):
        def before_step(self, model, step):
            rates.append(optimizers[0].param_groups[0]["lr"])

    optimizers = []

    def make(parameters):
        optimizers.append(torch.optim.SGD(parameters, lr=0.2))
        return optimizers[0]

    fit(cnn(), fashion.train, sparsity=Watch(), optimizer=make, epochs=8, progress=False)
    peak = rates.index(max(rates))
    assert max(rates) == pytest.approx(0.2) and 0 < peak < len(rates) / 5
    assert rates[peak:] == sorted(rates[peak:], reverse=True) and rates[-1] < 0.002


def test_label_smoothing_is_torchs_own(fashion):
    model, batch = cnn().eval(), fashion.train.batch(torch.arange(8))
    expected = nn.CrossEntropyLoss(label_smoothing=0.2)(model(batch.images), batch.labels)
    torch.testing.assert_close(CrossEntropy(0.2)(model, batch), expected)


def test_bfloat16_trains_a_float32_network(fashion):
    model = cnn()
    fit(model, fashion.train, epochs=4, batch_size=32, precision="bfloat16", progress=False)
    assert model.head.weight.dtype == torch.float32 and evaluate(model, fashion.val) > 0.5


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu(fashion):
    model = cnn()
    fit(model, fashion.train, val=fashion.val, epochs=4, batch_size=32, progress=False)
    assert model.head.weight.is_cuda and evaluate(model, fashion.val) > 0.5


# ---- evaluation


def test_predict_matches_the_network_and_restores_every_mode(fashion):
    model = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(784, 10), nn.BatchNorm1d(10))
    model.train()
    model[3].eval()
    logits = predict(model, fashion.val, batch_size=7)
    assert [m.training for m in model] == [True, True, True, False] and not logits.requires_grad
    expected = copy.deepcopy(model).eval()(fashion.val.images)
    torch.testing.assert_close(logits, expected)


def test_test_data_is_sealed(fashion):
    model = cnn()
    for look in (lambda: evaluate(model, fashion.test), lambda: fit(model, fashion.train, val=fashion.test)):
        with pytest.raises(KdlabError, match="test data"):
            look()
    with pytest.raises(KdlabError, match="test data"):
        fit(model, fashion.test)
    assert 0 <= evaluate(model, fashion.test, final=True) <= 1


# ---- augmentation


def test_augmented_views_are_flips_and_shifts_of_their_own_image():
    images = torch.arange(5 * 36.0).reshape(5, 1, 6, 6)
    views = flip_and_shift(images, torch.Generator().manual_seed(0), shift=1)
    padded = F.pad(images, (1, 1, 1, 1), mode="replicate")
    for view, wide in zip(views, padded, strict=True):
        crops = [wide[:, r : r + 6, c : c + 6] for r in range(3) for c in range(3)]
        assert any(torch.equal(view, candidate) for crop in crops for candidate in (crop, crop.flip(2)))


def test_augmentation_mirrors_about_half_and_centres_shifts():
    ramp = torch.arange(28.0).expand(2000, 1, 28, 28)
    views = flip_and_shift(ramp, torch.Generator().manual_seed(1))
    mirrored = (views[:, 0, 0, 0] > views[:, 0, 0, -1]).float().mean().item()
    assert 0.45 < mirrored < 0.55 and abs(views[:, 0, 0, 14].mean().item() - 13.5) < 0.2


# ---- bad input


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"epochs": 0}, "epochs is 0"),
        ({"epochs": True}, "epochs is True"),
        ({"epochs": np.float64(2)}, "epochs is 2.0"),
        ({"batch_size": 2.5}, "batch_size is 2.5"),
        ({"batch_size": np.int64(0)}, "batch_size is 0"),
        ({"lr": -1}, "lr is -1"),
        ({"lr": float("nan")}, "lr is nan"),
        ({"momentum": 1}, "momentum=1"),
        ({"schedule": "step"}, "expected 'cosine' or 'constant'"),
        ({"precision": "int4"}, "expected 'auto', 'float32' or 'bfloat16'"),
        ({"optimizer": "lion"}, "expected 'sgd', 'adam' or a function"),
        ({"device": "cuda:99"}, "Use device='cpu'"),
    ],
)
def test_bad_settings_are_named_before_anything_is_trained(fashion, settings, says):
    model = cnn()
    before = weights(model)
    with pytest.raises(KdlabError, match=says):
        fit(model, fashion.train, progress=False, **settings)
    assert torch.equal(before, weights(model))


def test_bad_data_is_named(fashion):
    with pytest.raises(KdlabError, match="refuses images of shape"):
        fit(models.build("cnn", channels=3), fashion.train)
    with pytest.raises(KdlabError, match="labels run from 0 to 9; expected 0 to 4"):
        fit(models.build("cnn", classes=5), fashion.train)
    with pytest.raises(KdlabError, match=r"alpha=1"):
        fit(cnn(), fashion.train.unlabelled())
    with pytest.raises(KdlabError, match="expected logits of shape"):
        fit(nn.Conv2d(1, 3, 3), fashion.train)
    with pytest.raises(KdlabError, match=r"expected a split"):
        fit(cnn(), [(1, 2)])
    with pytest.raises(KdlabError, match=r"expected a split .* got CNN"):
        fit(fashion.train, cnn())
    with pytest.raises(KdlabError, match=r"objective is 'distill'"):
        fit(cnn(), fashion.train, objective="distill")
    with pytest.raises(KdlabError, match=r"returned shape \(128, 10\); expected one number"):
        fit(cnn(), fashion.train, objective=lambda model, batch: model(batch.images), progress=False)


def test_divergence_is_told_and_leaves_no_record(fashion):
    with pytest.raises(KdlabError, match="diverged at lr=1e"):
        fit(cnn(), fashion.train, lr=1e12, epochs=3, progress=False)
    assert store.usage()[0] == 0


def test_unknown_network_and_setting():
    with pytest.raises(KdlabError, match="expected one of 'mlp', 'cnn', 'resnet'"):
        models.build("vit")
    with pytest.raises(KdlabError, match="width is 0; expected at least 1"):
        models.build("cnn", width=0)
    with pytest.raises(KdlabError, match="no setting depth; expected some of width"):
        models.build("cnn", depth=3)


def test_building_leaves_the_global_random_state_alone():
    torch.manual_seed(3)
    state = torch.random.get_rng_state()
    one, two, other = models.build("mlp", seed=1), models.build("mlp", seed=1), models.build("mlp", seed=2)
    assert torch.equal(state, torch.random.get_rng_state())
    assert torch.equal(weights(one), weights(two)) and not torch.equal(weights(one), weights(other))


@pytest.mark.parametrize(
    ("name", "settings", "count"), [("mlp", {}, 266_610), ("cnn", {"width": 8}, 6_274), ("resnet", {}, 77_754)]
)
def test_the_networks_have_the_size_that_is_said_of_them(name, settings, count):
    assert sum(p.numel() for p in models.build(name, **settings).parameters()) == count


def test_a_stop_before_the_first_epoch_is_one_line_as_well(fashion):
    class Slow(CrossEntropy):
        def start(self, *_, **__):
            raise KeyboardInterrupt

    with pytest.raises(Interrupted, match="Stopped between epochs; what was finished is kept"):
        fit(cnn(), fashion.train, objective=Slow(), epochs=1)
