"""Lesson 07's exercise: right answers in other styles, mutants that are no mistakes, oracles from elsewhere."""

import numpy as np
import pytest
import torch

from kdlab.check.judging import run
from kdlab.check.registry import find


def with_broadcasting(weight, bits):
    largest = 2**bits // 2 - 1
    others = tuple(range(1, weight.ndim))
    scale = (weight.abs().amax(dim=others, keepdim=True) / largest).clamp(min=1e-12)
    return torch.clamp(torch.round(weight / scale), -largest, largest) * scale


def number_by_number(w, b):
    rows = []
    for channel in w.reshape(len(w), -1).tolist():
        most = max(map(abs, channel))
        top = (1 << (b - 1)) - 1
        rows.append([round(number * top / most) * most / top if most else 0.0 for number in channel])
    return torch.tensor(rows).view(w.shape)


def with_numpy(weight, bits):
    rows = weight.numpy().reshape(weight.shape[0], -1).astype(np.float64)
    scale = np.abs(rows).max(axis=1, keepdims=True) / (2 ** (bits - 1) - 1)
    codes = np.rint(np.divide(rows, scale, out=np.zeros_like(rows), where=scale > 0)).astype(np.int8)
    return (codes * scale).reshape(weight.shape)


def halves_away_from_zero(weight, bits):
    result = torch.zeros_like(weight)
    for out, channel in enumerate(weight):
        step = channel.abs().max() / (2 ** (bits - 1) - 1)
        if step > 0:
            codes = (channel.abs() / step + 0.5).floor().to(torch.int8)
            result[out] = channel.sign() * codes * step
    return result


def nan_made_zero(weight, bits):
    largest = 2 ** (bits - 1) - 1
    scale = torch.stack([channel.abs().max() for channel in weight]) / largest
    codes = (weight.movedim(0, -1) / scale).nan_to_num(0).round()
    return (codes * scale).movedim(-1, 0)


RIGHT = {
    "quantise_weight": [with_broadcasting, number_by_number, with_numpy, halves_away_from_zero, nan_made_zero],
}

_ZEROS = "zeros stay zeros, whatever they are divided by"

EQUIVALENT = {
    "quantise_weight": {
        "largest = 2 ** (bits - 1) - 1 => largest = 1 - 2 ** (bits - 1)": "the scale and the codes both change sign",
        "scale = channels.abs().amax(dim=1, keepdim=True) / largest => "
        "scale = channels.abs().amax(dim=-1, keepdim=True) / largest": "the second of two dimensions is the last",
        "scale[scale == 0] = 1 => scale[scale == 0] = 2": _ZEROS,
        "scale[scale == 0] = 1 => scale[scale == 0] = -1": _ZEROS,
        "scale[scale == 0] = 1 => scale[scale <= 0] = 1": "a scale is never negative",
    },
}


def scales(weight, bits):
    most = weight.flatten(1).abs().amax(dim=1) / (2 ** (bits - 1) - 1)
    return torch.where(most > 0, most, torch.ones_like(most))


@pytest.mark.parametrize("seed", range(3))
def test_rounding_agrees_with_torchs_fake_quantisation(seed):
    exercise = find("quantise_weight")
    for weight, bits in exercise.cases(seed):
        largest, zeros = 2 ** (bits - 1) - 1, torch.zeros(len(weight), dtype=torch.int32)
        expected = torch.fake_quantize_per_channel_affine(weight, scales(weight, bits), zeros, 0, -largest, largest)
        torch.testing.assert_close(exercise.reference(weight, bits), expected)


@pytest.mark.parametrize("seed", range(3))
def test_each_weight_goes_to_the_nearest_value_that_its_channel_can_hold(seed):
    exercise = find("quantise_weight")
    for weight, bits in exercise.cases(seed):
        largest = 2 ** (bits - 1) - 1
        for before, after in zip(weight, exercise.reference(weight, bits), strict=True):
            grid = torch.linspace(-1, 1, 2 * largest + 1) * before.abs().max()
            nearest = (before.flatten()[:, None] - grid).abs().argmin(dim=1)
            torch.testing.assert_close(after.flatten(), grid[nearest], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_no_code_has_to_be_cut_off_and_none_is_a_matter_of_taste(seed):
    for weight, bits in find("quantise_weight").cases(seed):
        places = (weight.flatten(1) / scales(weight, bits)[:, None]).abs()
        assert places.round().max() == 2 ** (bits - 1) - 1
        assert ((places % 1 - 0.5).abs() > 0.005).all()


@pytest.mark.parametrize("seed", range(3))
def test_the_right_answer_keeps_what_every_answer_has_to_keep(seed):
    exercise = find("quantise_weight")
    for probe in exercise.cases(seed):
        for rule in exercise.properties:
            assert rule.holds(exercise.reference(*probe), *probe), rule.says


def test_the_probes_have_pruned_weights_channels_of_zeros_and_layers_of_every_kind():
    cases = find("quantise_weight").cases()
    assert {weight.ndim for weight, _ in cases} == {2, 3, 4}
    assert any((weight.flatten(1) == 0).all(dim=1).any() for weight, _ in cases)
    assert any(0.3 < (weight == 0).float().mean() < 0.9 for weight, _ in cases)


def rounded_in_place(weight, bits):
    scale = scales(weight, bits).reshape(-1, *[1] * (weight.ndim - 1))
    return weight.div_(scale).round_().mul_(scale)


def random_rounding(weight, bits):
    scale = scales(weight, bits).reshape(-1, *[1] * (weight.ndim - 1))
    return (weight / scale + torch.rand(weight.shape)).floor() * scale


def nudged(weight, bits):
    return find("quantise_weight").reference(weight, bits) + 0.001


def two_bits_more(weight, bits):
    return find("quantise_weight").reference(weight, bits + 2)


def test_a_weight_that_is_changed_in_place_is_noticed():
    outcome = run(find("quantise_weight"), rounded_in_place)
    assert outcome.kind == "side effect"
    assert "weight" in outcome.says


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (nudged, "zero no longer"),
        (random_rounding, "half a step"),
        (two_bits_more, "more different values"),
    ],
)
def test_what_an_unknown_mistake_breaks_is_said(answer, words):
    exercise = find("quantise_weight")
    probes = exercise.cases()
    broken = {rule.says for probe in probes for rule in exercise.properties if not rule.holds(answer(*probe), *probe)}
    assert any(words in says for says in broken)
    assert run(exercise, answer).kind == "unknown"
