"""The challenge: files that hold a network, and cheats that are refused by name."""

import copy
import itertools
import time

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations, prune

from kdlab import challenge, check, data, exhibits, measure, models, pruning, store
from kdlab.challenge import Budget
from kdlab.check import contest
from kdlab.check.contest import measuring
from kdlab.errors import KdlabError

EVERYTHING = Budget(bytes=10**9, macs=10**9, latency=1e9)


@pytest.fixture(autouse=True)
def smoke(monkeypatch):
    """Tiny splits, a quick stopwatch, and no network registered by another test."""
    monkeypatch.setenv("KDLAB_SCALE", "smoke")
    monkeypatch.delenv("NBGRADER_EXECUTION", raising=False)
    monkeypatch.setattr(models.registry, "NETWORKS", dict(models.registry.NETWORKS))
    quick = measure.latency_ratio
    monkeypatch.setattr(measure, "latency_ratio", lambda m, r, x: quick(m, r, x, rounds=1, seconds=1e-4))


@pytest.fixture
def opened(monkeypatch) -> list[int]:
    """One entry every time that test pictures are looked at."""
    test, times, answers = data.load().test.images, [], contest.answers

    def counted(model, images, *rest):
        if images is test:
            times.append(1)
        return answers(model, images, *rest)

    monkeypatch.setattr(contest, "answers", counted)
    return times


def small(seed: int = 0) -> nn.Module:
    return models.build("cnn", width=4, seed=seed)


def separable(model: nn.Module) -> nn.Module:
    """Train a moment, so that the network knows more than chance."""
    train, draw = data.load().train, torch.Generator().manual_seed(0)
    optimizer = torch.optim.Adam(model.parameters(), 5e-3)
    for _ in range(40):
        batch = train.batch(torch.randint(len(train), (128,), generator=draw))
        optimizer.zero_grad()
        F.cross_entropy(model(batch.images), batch.labels).backward()
        optimizer.step()
    return model.eval()


# --- files

NETWORKS = [
    ("cnn", {"width": (3, 5, 4)}),
    ("resnet", {"width": 3, "blocks": 2, "inner": (2, 3, 4, 5, 6, 7)}),
    ("mlp", {"hidden": (5, 4)}),
]


@pytest.mark.parametrize("bits", [2, 6, 8, 16, 32])
@pytest.mark.parametrize(("name", "options"), NETWORKS)
def test_a_file_gives_back_the_rounded_network(name, options, bits, tmp_path):
    model = models.build(name, seed=3, **options)
    size = challenge.save(model, tmp_path / "net", bits)
    loaded = challenge.load(tmp_path / "net")
    assert size == (tmp_path / "net").stat().st_size and not loaded.training
    expected = {16: lambda: copy.deepcopy(model).half().float(), 32: lambda: model}.get(
        bits, lambda: measure.quantise(model, bits)
    )()
    pairs = zip(expected.state_dict().values(), loaded.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    assert models.settings_of(loaded) == models.settings_of(model)
    assert challenge.to_bytes(loaded, bits) == challenge.to_bytes(model, bits)


@pytest.mark.parametrize("name", ["cnn", "resnet", "mlp"])
def test_what_pruning_leaves_goes_through_file_and_check(name):
    picture = data.load().val.images[:1]
    smaller = pruning.channels.remove(models.build(name), picture, ratio=0.5)
    pruning.apply(smaller, pruning.global_mask(smaller, 0.5))
    loaded = challenge.from_bytes(challenge.to_bytes(smaller))
    assert measure.macs(loaded, picture) == measure.macs(smaller, picture)
    assert (loaded(picture) - measure.quantise(smaller, 8).eval()(picture)).abs().max() < 1e-6
    assert check.challenge(smaller, EVERYTHING).passed


def test_a_file_cut_at_any_length_or_altered_is_refused(tmp_path):
    raw = challenge.to_bytes(models.build("cnn", width=1), 8)
    flipped = [raw[:i] + bytes([raw[i] ^ 1]) + raw[i + 1 :] for i in range(len(raw))]
    for bad in [raw[:i] for i in range(len(raw))] + flipped + [raw + b"\0", b"PK\x03\x04" + raw]:
        with pytest.raises(KdlabError, match=r"cut short or altered|no network of the course"):
            challenge.from_bytes(bad)
    (tmp_path / "net").write_bytes(raw[:100])
    with pytest.raises(KdlabError, match="cut short"):
        challenge.load(tmp_path / "net")
    with pytest.raises(KdlabError, match="cannot be read"):
        challenge.load(tmp_path / "nothing")


@pytest.mark.parametrize(
    "settings",
    [
        b"[]",
        b"{}",
        b'{"name":"cnn"}',
        b'{"name":"cnn","width":[1,2]}',
        b'{"name":"what"}',
        b"\xff",
        b'{"name":"cnn","x":1}',
    ],
)
def test_a_file_whose_settings_do_not_fit_is_refused(settings):
    body = challenge.to_bytes(models.build("cnn", width=1))[11:]
    body = body[int.from_bytes(challenge.to_bytes(models.build("cnn", width=1))[9:11], "little") :]
    rest = len(settings).to_bytes(2, "little") + settings + body
    raw = challenge._MAGIC + challenge.zlib.crc32(rest).to_bytes(4, "little") + rest
    with pytest.raises(KdlabError):
        challenge.from_bytes(raw)


class Own(nn.Module):
    """A network of a learner's own."""

    def __init__(self, width: int = 4):
        super().__init__()
        self.one, self.two = nn.Linear(784, width), nn.Linear(width, 10)
        self.layers, self.activation = [self.one, self.two], F.relu  # registered ones may also be in a list

    def forward(self, images):
        return self.two(self.activation(self.one(images.flatten(1))))


def test_a_registered_network_goes_through_file_and_check():
    models.register("own", Own)
    model = models.build("own", width=3)
    assert challenge.from_bytes(challenge.to_bytes(model)).one.out_features == 3
    assert check.challenge(model, "tiny").passed


class Picky(Own):
    def __init__(self, width: int = 4, how=None):
        super().__init__(width)


def test_settings_that_cannot_be_written_or_built_from_are_refused():
    models.register("picky", Picky)
    model = models.build("picky", how=object())
    with pytest.raises(KdlabError, match="cannot be written down"):
        challenge.to_bytes(model)
    assert "cannot be written down" in check.challenge(model).reason
    model.config = {"name": "picky", "width": "four"}
    assert "cannot be saved and loaded: " in check.challenge(model).reason
    model.config = {"name": "picky", "how": "x" * 70_000}
    assert "take 70," in check.challenge(model).reason


@pytest.mark.parametrize("bits", [1, 9, 64, 8.0, True, None, torch.float16])
def test_other_bits_are_refused(bits):
    for use in (challenge.to_bytes, lambda m, b: check.challenge(m, bits=b)):
        with pytest.raises(KdlabError, match="2 to 8, or 16, or 32"):
            use(small(), bits)


# --- verdicts


def test_a_pass_shows_prices_validation_and_test_once(opened):
    model = separable(small())
    verdict = check.challenge(model, "tiny", name="mine")
    row = verdict.row
    assert verdict.passed and verdict.reason == "" and len(opened) == 1
    assert row["name"] == "mine" and row["bytes"] == len(challenge.to_bytes(model, 8))
    assert row["MACs"] == measure.macs(model, data.load().val.images[:1])
    loaded = measure.quantise(model, 8)
    assert row["val accuracy"] == measure.accuracy(loaded, data.load().val).value
    test = measure.accuracy(loaded, data.load().test, final=True)
    assert (row["accuracy"], (row["low"], row["high"])) == (test.value, test.interval)
    text, page = repr(verdict), verdict._repr_html_()
    assert "network 1 that you have had scored." in text and text.index("val accuracy") < text.index("test accuracy")
    assert "best of many" not in text and "<table" in page and "10,000" in page and "✗" not in text


def test_the_same_network_is_scored_once_and_others_are_counted(opened):
    first = check.challenge(small(), "small")
    again = check.challenge(small(), "tiny", name="renamed")
    assert len(opened) == 1 and again.row["accuracy"] == first.row["accuracy"]
    assert "network 1 of the 1 that you have had scored, recalled" in repr(again)
    second = check.challenge(small(1))
    assert len(opened) == 2
    assert "network 2 that you have had scored; the best of many looks better than it is" in repr(second)
    assert check.challenge(small(), bits=7).row["number"] == 3 and len(opened) == 3
    assert "network 1 of the 3" in repr(check.challenge(small())) and len(opened) == 3
    shown = exhibits.collected()
    assert shown["lesson"].eq(exhibits.YOURS).all()
    assert shown["name"].tolist() == ["renamed", "network 2", "network 3"]
    assert sorted(shown["number"]) == [1, 2, 3]


def test_a_store_that_was_cleared_scores_again(opened):
    check.challenge(small())
    store.clear()
    assert check.challenge(small()).row["number"] == 1 and len(opened) == 2


def test_a_threshold_is_asked_of_validation_before_the_test_set_is_opened(opened):
    model = separable(small())
    refused = check.challenge(model, at_least=0.99)
    assert not refused.passed and opened == []
    assert "expected at least 99.0%" in refused.reason and "the test set stays closed" in refused.reason
    assert check.challenge(model, at_least=0.2).passed


def test_a_threshold_is_asked_of_test_pictures_too(opened, monkeypatch):
    monkeypatch.setattr(contest, "compared", lambda *_: measure.Accuracy(300, 300))
    refused = check.challenge(small(), at_least=0.95)
    assert not refused.passed and len(opened) == 1 and "of the test pictures are right" in refused.reason
    assert "network 1 that you have had scored" in refused.reason and "test accuracy" in repr(refused)


def test_unknown_budgets_and_thresholds_are_errors():
    with pytest.raises(KdlabError, match="'small', 'smaller', 'tiny'"):
        check.challenge(small(), "huge")
    with pytest.raises(KdlabError, match="fraction from 0 to 1"):
        check.challenge(small(), at_least=88)


def test_grading_raises_unless_it_passed(monkeypatch, capsys):
    monkeypatch.setenv("NBGRADER_EXECUTION", "autograde")
    with pytest.raises(check.CheckFailed, match=r"^challenge: This is int, not a network") as caught:
        check.challenge(3)
    assert isinstance(caught.value, AssertionError) and "\n" not in str(caught.value)
    assert check.challenge(small()) is None
    assert "test accuracy" in capsys.readouterr().out


def test_the_challenge_is_found_beside_the_exercises():
    assert "challenge" in dir(check) and check.challenge is contest.challenge


# --- refusals: each by a network that does it

MEMORY = torch.zeros(300, 784)


def with_buffer(persistent: bool) -> nn.Module:
    model = small()
    model.register_buffer("memory", MEMORY.clone(), persistent=persistent)
    return model


def with_attribute(value, deep: bool = False) -> nn.Module:
    model = small()
    (model.features[0] if deep else model).memory = value
    return model


def with_patched_forward() -> nn.Module:
    model = small()
    model.forward = lambda images: F.one_hot(images.flatten(1).argmax(1) % 10, 10).float()
    return model


def with_hook() -> nn.Module:
    model = small()
    model.head.register_forward_hook(lambda module, inputs, output: output * 2)
    return model


def with_pre_hook() -> nn.Module:
    model = small()
    prune.l1_unstructured(model.features[3], "weight", 0.9)
    return model


def parametrised() -> nn.Module:
    model = small()
    parametrizations.weight_norm(model.head)
    return model


def longer() -> nn.Module:
    model = models.build("mlp", hidden=(5,))
    model.layers.append(nn.Linear(10, 10))
    model.layers.append(nn.BatchNorm1d(10))
    return model


class Unregistered(Own):
    pass


class Remembering(Own):
    def forward(self, images):
        return super().forward(images) + (images.flatten(1) @ MEMORY.T).sum() * 0


class OfClass(Own):
    memory = (MEMORY,)


class Helped(Own):
    def forward(self, images):
        return super().forward(images) + helper()


class Spelt(Own):
    def forward(self, images):
        return super().forward(images) + len("letters" * 200)  # the compiler writes them out


class ByProperty(Own):
    @property
    def table(self):
        return MEMORY

    def forward(self, images):
        return super().forward(images) + self.table.sum()


class OfDefault(Own):
    def forward(self, images, *, table=[0.0] * 5000):
        return super().forward(images) + sum(table)


class MadeWith(Own):
    """Carries nothing when it is handed in, but is made with something."""

    def __init__(self, width: int = 4):
        super().__init__(width)
        self.memory = MEMORY


def made_with() -> nn.Module:
    model = own(MadeWith)()
    del model.memory
    return model


def helper():
    return MEMORY.sum()


def own(cls: type[nn.Module]):
    def make() -> nn.Module:
        models.register("cheat", cls)
        return models.build("cheat")

    return make


class Other(nn.Module):
    """Registered below with other answers than 10 finite numbers a picture."""

    def __init__(self, kind: str = "nan"):
        super().__init__()
        self.kind, self.head = kind, nn.Linear(784, 10)

    def forward(self, images):
        logits = self.head(images.flatten(1))
        kinds = {
            "nan": logits * torch.where(images.mean() > -9, torch.nan, 1.0),
            "three": logits[:, None].expand(-1, 2, -1),
            "tuple": (logits, logits),
        }
        if self.kind == "raises":
            raise KeyError("what now?")
        return kinds[self.kind]


def other(kind: str):
    def make() -> nn.Module:
        models.register("other", Other)
        return models.build("other", kind=kind)

    return make


def not_finite() -> nn.Module:
    model = small()
    model.head.weight.data[0, 0] = torch.nan
    return model


CHEATS = {
    "no network": (lambda: [1, 2], "This is list, not a network; expected an nn.Module"),
    "a class": (lambda: models.CNN, "This is type, not a network"),
    "memorised": (
        lambda: with_buffer(True),
        r"'memory' \(numbers of shape \(300, 784\), 940,800 bytes\) is no tensor of a CNN",
    ),
    "not persistent": (
        lambda: with_buffer(False),
        "buffer 'memory' with persistent=False .*940,800 bytes.*not in the saved",
    ),
    "tensor": (lambda: with_attribute(MEMORY), r"attribute 'memory' that holds numbers of shape \(300, 784\), 940,800"),
    "array": (lambda: with_attribute(MEMORY.numpy(), deep=True), "'features.0' has an attribute 'memory'"),
    "list": (lambda: with_attribute([MEMORY]), "attribute 'memory'.*this is not in the saved file"),
    "dict": (lambda: with_attribute({"a": (1, MEMORY)}), "attribute 'memory'.*this is not in the saved file"),
    "bytes": (lambda: with_attribute(b"12345"), "attribute 'memory' that holds 5 bytes"),
    "teacher": (lambda: with_attribute([small()]), "attribute 'memory' that holds a network, 1,"),
    "lambda": (lambda: with_attribute(lambda: MEMORY), "attribute 'memory'.*not in the saved file"),
    "forward": (
        with_patched_forward,
        "'forward' of the CNN was replaced on this one network: this is not in the saved",
    ),
    "hook": (with_hook, "a hook on 'head': this is not in the saved file"),
    "mask in a hook": (with_pre_hook, "a hook on 'features.3': this is not in the saved file"),
    "parametrised": (parametrised, "'head', computes its weights from other tensors"),
    "longer": (longer, "layers or tensors taken out or added"),
    "unregistered": (Unregistered, "register your own with models.register"),
    "global": (own(Remembering), "'forward' of the class Remembering .* uses numbers of shape"),
    "class attribute": (own(OfClass), "'memory' of the class OfClass"),
    "helper": (own(Helped), "'forward' of the class Helped"),
    "literal": (own(Spelt), "'forward' of the class Spelt .* uses 1,400 letters"),
    "property": (own(ByProperty), "'table' of the class ByProperty"),
    "default": (own(OfDefault), "'forward' of the class OfDefault .* uses 5,000 letters or entries"),
    "made with": (made_with, "attribute 'memory' that holds numbers"),
    "nan": (other("nan"), "not finite for 300 of 300 pictures"),
    "three axes": (other("three"), "expected logits of shape"),
    "tuple": (other("tuple"), "expected logits of shape"),
    "raises": (other("raises"), "The network handed in cannot answer: 'what now"),
    "classes": (lambda: models.build("cnn", width=4, classes=7), "returns 7 numbers for a picture; expected 10"),
    "channels": (lambda: models.build("cnn", width=4, channels=3), "refuses images of shape"),
    "nan weights": (not_finite, "'head.weight' holds numbers that are not finite"),
}


@pytest.mark.parametrize("name", CHEATS)
def test_a_cheat_is_refused_by_name_before_the_test_set_is_opened(name, opened):
    make, why = CHEATS[name]
    verdict = check.challenge(make(), EVERYTHING)
    assert not verdict.passed and opened == []
    with pytest.raises(AssertionError, match=why):
        raise check.CheckFailed(verdict)
    assert verdict.reason == verdict.says and "\n" not in verdict.reason and "accuracy" not in verdict.row
    assert exhibits.collected().empty


def test_a_forward_replaced_on_the_course_class_is_refused(monkeypatch):
    monkeypatch.setattr(models.CNN, "forward", lambda self, images: torch.zeros(len(images), 10))
    assert "'forward' of the class CNN (the CNN) was replaced" in check.challenge(small()).reason


@pytest.mark.parametrize(
    ("budget", "price", "why"),
    [
        (Budget(100, 10**9, 1e9), "bytes", r"The file has [\d,]+ bytes; expected at most 100\."),
        (Budget(10**9, 100, 1e9), "MACs", r"takes [\d,]+ MACs; expected at most 100\."),
        (Budget(10**9, 10**9, 1e-9), "latency", r"times as long as with the course's teacher, timed 3 times"),
    ],
)
def test_each_price_above_its_limit_is_refused(budget, price, why, opened):
    verdict = check.challenge(small(), budget)
    assert not verdict.passed and opened == [] and "✗" in dict((line[0], line[3]) for line in verdict.table)[price]
    assert [line[3] for line in verdict.table].count("✗") == 1
    with pytest.raises(check.CheckFailed, match=why):
        raise check.CheckFailed(verdict)


def test_zeros_save_bytes_but_no_macs():
    model = models.build("cnn", width=16)
    macs = measure.macs(model, data.load().val.images[:1])
    masks = pruning.global_mask(model, 0.95)
    pruning.apply(model, masks)
    verdict = check.challenge(model, Budget(bytes=10**5, macs=macs - 1, latency=1e9))
    assert verdict.row["bytes"] < 0.25 * len(challenge.to_bytes(models.build("cnn", width=16)))
    assert "zeros among the weights save no arithmetic" in verdict.reason


def test_a_slow_moment_is_timed_again_and_a_slow_network_refused(monkeypatch):
    ratios = itertools.chain([5.0, 5.0], itertools.repeat(0.5))
    monkeypatch.setattr(measure, "latency_ratio", lambda *_: (next(ratios), 1e-3))
    assert check.challenge(small()).passed and next(ratios) == 0.5
    monkeypatch.setattr(measure, "latency_ratio", lambda *_: (1.3, 1e-3))
    assert not check.challenge(small(), "small").passed
    monkeypatch.setattr(measure, "latency_ratio", lambda *_: (1.2, 1e-3))
    assert check.challenge(small(), "small").passed


class Slow(Own):
    def forward(self, images):
        if len(images) == 1:
            time.sleep(0.05)
        return super().forward(images)


def test_a_network_that_takes_its_time_is_refused(opened):
    assert "times as long" in check.challenge(own(Slow)(), "small").reason and opened == []


def test_a_file_that_answers_worse_than_what_was_handed_in_is_refused(opened):
    model = separable(models.build("cnn", width=8))
    good = check.challenge(model, bits=8)
    assert good.passed and good.row["val accuracy"] > 0.4
    opened.clear()
    bad = check.challenge(model, bits=2)
    assert not bad.passed and opened == []
    assert bad.reason.startswith("What was handed in is not what the file holds: ")
    assert "rounded to too few bits" in bad.reason


class Trained(Own):
    """Weights in the settings' shape, but the answers hang on something that only this object has."""

    def __init__(self, width: int = 4):
        super().__init__(width)
        self.trick = 0

    def forward(self, images):
        return super().forward(images) if self.trick else torch.zeros(len(images), 10)


def test_what_a_plain_number_switches_on_is_not_in_the_file(opened):
    model = separable(switched_on(own(Trained)()))
    verdict = check.challenge(model, EVERYTHING)
    assert "What was handed in is not what the file holds" in verdict.reason and opened == []


def switched_on(model: nn.Module) -> nn.Module:
    model.trick = 1
    return model


class Brittle(Own):
    """Fails for pictures that are not in the validation set."""

    def forward(self, images):
        known = len(images) < 2 or float(images.sum()) == float(data.load().val.images.sum())
        return super().forward(images) / float(known) if known else super().forward(images) * torch.nan


def test_answers_on_test_pictures_that_are_not_finite_do_not_pass_and_count(opened):
    model = own(Brittle)()
    for _ in range(2):
        verdict = check.challenge(model, EVERYTHING)
        assert (
            not verdict.passed and "On test pictures the network returns numbers that are not finite" in verdict.reason
        )
        assert len(opened) == 1 and "accuracy" not in verdict.row
    assert exhibits.collected().empty
    assert "network 2 that" in check.challenge(small()).says


def test_the_network_handed_in_is_left_alone():
    model = small().train()
    before = copy.deepcopy(model.state_dict())
    check.challenge(model)
    assert model.training and all(
        torch.equal(a, b) for a, b in zip(before.values(), model.state_dict().values(), strict=True)
    )


def test_timing_in_turn_finds_the_slower_network():
    light, heavy = models.build("cnn", width=2), models.build("resnet", width=16, blocks=2)
    ratio, seconds = measuring.measure.compute.latency_ratio(light, heavy, data.load().val.images[:1], 3, 0.001)
    assert 0 < ratio < 1 and seconds > 0


@pytest.mark.parametrize("bits", [2, 4, 6, 8, 16, 32])
def test_a_file_that_was_read_is_written_again_byte_for_byte(bits):
    """So that a teacher who judges the file that a student has saved sees the student's own size."""
    raw = challenge.to_bytes(models.build("resnet", width=3, seed=5), bits)
    assert challenge.to_bytes(challenge.from_bytes(raw), bits) == raw
