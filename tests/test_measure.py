"""Prices against torch's own counts and scipy's own intervals."""

import pytest
import torch
from safetensors.torch import save
from scipy.stats import binom
from torch import nn

from kdlab import data, measure, models
from kdlab.errors import KdlabError
from kdlab.training import predict


@pytest.fixture(scope="module")
def fashion():
    return data.load(scale="smoke")


def test_parameters_and_nonzeros():
    model = nn.Linear(4, 3)
    with torch.no_grad():
        model.weight[0] = 0
    assert measure.parameters(model) == 15 and measure.nonzeros(model) == 11


def test_bytes_on_disk_is_the_size_of_the_file(tmp_path):
    model = models.build("cnn", width=8)
    (tmp_path / "m").write_bytes(save(model.state_dict()))
    assert measure.bytes_on_disk(model) == (tmp_path / "m").stat().st_size
    assert 0.45 < measure.bytes_on_disk(model, torch.float16) / measure.bytes_on_disk(model) < 0.65


def test_zeros_shrink_the_packed_file_only():
    dense, sparse = models.build("mlp"), models.build("mlp")
    with torch.no_grad():
        for parameter in sparse.parameters():
            parameter[torch.rand_like(parameter) < 0.9] = 0
    assert measure.bytes_on_disk(sparse) == measure.bytes_on_disk(dense)
    assert len(measure.pack(sparse)) < 0.2 * len(measure.pack(dense))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_packing_loses_nothing(dtype):
    model = models.build("resnet", width=4)
    with torch.no_grad():
        model.head.weight[:, ::2] = 0
        model.stem[0].weight.zero_()
    state = measure.unpack(measure.pack(model, dtype))
    for name, value in model.state_dict().items():
        expected = value.to(dtype) if value.is_floating_point() else value
        assert torch.equal(state[name], expected) and state[name].shape == value.shape
    models.build("resnet", width=4).load_state_dict(state)


def test_damaged_packs_are_refused():
    packed = measure.pack(models.build("cnn"))
    for bad in (b"hello", packed[:-9], packed[:40]):
        with pytest.raises(KdlabError, match="not a packed network"):
            measure.unpack(bad)


@pytest.mark.parametrize(
    ("layer", "image", "expected"),
    [
        (nn.Conv2d(3, 8, 3, padding=1), (3, 10, 10), 100 * 8 * 27),
        (nn.Conv2d(8, 8, 3, stride=2, groups=8), (8, 9, 9), 16 * 8 * 9),
        (nn.Sequential(nn.Flatten(), nn.Linear(12, 5)), (3, 2, 2), 60),
    ],
)
def test_macs_of_known_layers(layer, image, expected):
    assert measure.macs(layer, torch.randn(2, *image)) == expected


def test_latency_is_positive_says_its_conditions_and_restores_threads(fashion):
    before = torch.get_num_threads()
    small, large = models.build("cnn", width=4), models.build("resnet", width=32, blocks=2)
    timed = measure.latency(small, fashion.val.images[:1], seconds=0.05)
    assert 0 < timed.median < measure.latency(large, fashion.val.images[:1], seconds=0.05).median
    assert timed.runs >= 10 and "batch 1, 1 thread" in repr(timed) and torch.get_num_threads() == before
    with pytest.raises(KdlabError, match="at least 1 thread"):
        measure.latency(small, fashion.val.images, threads=0)


def test_accuracy_interval_is_wilsons():
    # the interval's ends p solve |k/n - p| = z sqrt(p(1-p)/n)
    low, high = measure.Accuracy(90, 100).interval
    for end in (low, high):
        assert abs(0.9 - end) == pytest.approx(1.959964 * (end * (1 - end) / 100) ** 0.5, rel=1e-4)
    covered = sum(binom.pmf(k, 100, 0.9) for k in range(101) if _covers(measure.Accuracy(k, 100), 0.9))
    assert 0.93 < covered < 0.97


def _covers(found, truth):
    low, high = found.interval
    return low <= truth <= high


def test_accuracy_counts_and_seals(fashion):
    model = models.build("cnn")
    found = measure.accuracy(model, fashion.val)
    assert found.correct == int((predict(model, fashion.val).argmax(1) == fashion.val.labels).sum())
    with pytest.raises(KdlabError, match="test data"):
        measure.prices(model, fashion.test)


def test_calibration_error_of_known_cases():
    confident = torch.full((100, 2), -20.0)
    confident[:, 0] = 20
    labels = (torch.arange(100) >= 70).long()
    assert measure.calibration_error(confident, labels) == pytest.approx(0.3, abs=1e-4)
    honest = torch.log(torch.tensor([0.7, 0.3])).expand(100, 2)
    assert measure.calibration_error(honest, labels) == pytest.approx(0, abs=1e-4)


def test_agreement_counts_equal_answers():
    a, b = torch.eye(4), torch.eye(4)[[0, 1, 3, 2]]
    assert measure.agreement(a, b) == 0.5 and measure.agreement(a, a) == 1
    with pytest.raises(KdlabError, match="two of the same images"):
        measure.agreement(a, b[:2])


def test_one_call_gives_one_row(fashion):
    row = measure.prices(models.build("cnn", width=4), fashion.val)
    assert row["low"] < row["accuracy"] < row["high"] and row["latency µs"] > 0
    assert row["parameters"] == row["nonzeros"] + sum(
        int((p == 0).sum()) for p in models.build("cnn", width=4).parameters()
    )
