"""Weights in few bits: exact bytes, torch's own rounding as the oracle."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from kdlab import measure, models
from kdlab.errors import KdlabError
from kdlab.measure import coding, packing, rounding

NETWORKS = [("cnn", {"width": 4}), ("resnet", {"width": 3}), ("mlp", {"hidden": (7,)})]


def network(name: str, sparsity: float = 0.0, seed: int = 0, **settings) -> nn.Module:
    """A network with weights, batch norms and counters that are no longer as they were made."""
    model, draw = models.build(name, seed=seed, **settings), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for key, tensor in model.state_dict().items():
            if tensor.is_floating_point():
                tensor.add_(torch.rand(tensor.shape, generator=draw) * 0.1)
                tensor[torch.rand(tensor.shape, generator=draw) < sparsity] = 0
            elif key.endswith("tracked"):
                tensor.fill_(780)
    return model


@pytest.mark.parametrize("bits", rounding.BITS)
@pytest.mark.parametrize("sparsity", [0.0, 0.5, 0.95, 1.0])
@pytest.mark.parametrize(("name", "options"), NETWORKS)
def test_unpacking_gives_exactly_the_rounded_network(name, options, sparsity, bits):
    model = network(name, sparsity, **options)
    state, expected = measure.unpack(measure.pack(model, bits=bits)), measure.quantise(model, bits).state_dict()
    assert list(state) == list(expected)
    for key, value in expected.items():
        assert torch.equal(state[key], value) and state[key].dtype == value.dtype
        assert not bool((torch.signbit(state[key]) & (state[key] == 0)).any()) or value.ndim < 2
    models.build(name, **options).load_state_dict(state)


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 8), st.integers(0, 10**6), st.floats(-3, 3), st.floats(0, 1))
def test_zeros_stay_and_the_error_is_at_most_half_a_step(bits, seed, size, sparsity):
    draw = torch.Generator().manual_seed(seed)
    weight = torch.randn(5, 3, 2, generator=draw) * 10**size
    weight[torch.rand(weight.shape, generator=draw) < sparsity] = 0
    codes, scale = rounding.encode("w", weight, bits)
    error = (rounding.decode(codes, scale) - weight).abs()
    assert bool((codes[weight == 0] == 0).all()) and int(codes.abs().max()) <= 2 ** (bits - 1) - 1
    assert bool((error <= 0.5001 * scale.float().view(-1, 1, 1)).all())


@pytest.mark.parametrize("bits", rounding.BITS)
def test_torch_rounds_the_same_way(bits):
    weight, top = torch.randn(40, 9, generator=torch.Generator().manual_seed(bits)), 2 ** (bits - 1) - 1
    codes, scale = rounding.encode("w", weight, bits)
    zero = torch.zeros(40, dtype=torch.int32)
    theirs = torch.fake_quantize_per_channel_affine(weight, scale.float(), zero, 0, -top, top)
    assert torch.equal(rounding.decode(codes, scale), theirs) and int(codes.abs().max()) == top


@pytest.mark.parametrize("bits", rounding.BITS)
def test_rounding_twice_changes_nothing(bits):
    once = measure.quantise(network("resnet", width=3), bits)
    twice = measure.quantise(once, bits)
    assert all(torch.equal(a, b) for a, b in zip(once.state_dict().values(), twice.state_dict().values(), strict=True))


def test_rounding_leaves_the_network_itself_alone():
    model = network("cnn", width=4)
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    rounded = measure.quantise(model, 3)
    assert all(torch.equal(before[key], tensor) for key, tensor in model.state_dict().items())
    assert all(p.requires_grad for p in rounded.parameters())
    weight = rounded.features[0].weight
    assert all(len(channel.unique()) <= 7 for channel in weight)


def test_fewer_bits_and_more_zeros_make_smaller_files():
    sizes = [len(measure.pack(network("cnn", width=8), bits=bits)) for bits in rounding.BITS]
    assert sizes == sorted(sizes)
    dense, sparse = (len(measure.pack(network("cnn", s, width=8), bits=8)) for s in (0, 0.9))
    assert sparse < 0.35 * dense


@given(st.lists(st.integers(-127, 127) | st.just(0), max_size=400))
@settings(max_examples=60, deadline=None)
def test_squeezed_codes_come_back(numbers):
    codes = torch.tensor(numbers, dtype=torch.int8).numpy()
    assert coding.expand_codes(coding.squeeze_codes(codes), len(codes)).tolist() == numbers
    assert coding.expand(coding.squeeze(codes.tobytes())) == codes.tobytes()


def test_bytes_without_names_need_to_be_told():
    state = network("resnet", width=3).state_dict()
    packed = packing.pack_rounded(state, 6, named=False)
    assert len(packed) < len(packing.pack_rounded(state, 6)) - 100
    expected, found = measure.unpack(packing.pack_rounded(state, 6)), measure.unpack(packed, state)
    assert list(found) == list(expected) and all(torch.equal(found[k], expected[k]) for k in expected)
    for like in (None, network("resnet", width=4).state_dict(), network("cnn", width=3).state_dict()):
        with pytest.raises(KdlabError, match="not a packed network"):
            measure.unpack(packed, like)


def test_rounded_bytes_cut_anywhere_or_altered_are_refused():
    packed = measure.pack(network("cnn", width=2), bits=4)
    flipped = [packed[:i] + bytes([packed[i] ^ 4]) + packed[i + 1 :] for i in range(len(packed))]
    for bad in [packed[:i] for i in range(len(packed))] + flipped:
        with pytest.raises(KdlabError, match="not a packed network"):
            measure.unpack(bad)


@pytest.mark.parametrize("bits", [0, 1, 9, 16, 4.0, True, "8", torch.float16])
def test_other_bits_are_refused(bits):
    for use in (measure.quantise, lambda m, b: measure.pack(m, bits=b)):
        with pytest.raises(KdlabError, match="expected a whole number from 2 to 8"):
            use(nn.Linear(2, 2), bits)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e30])
@pytest.mark.parametrize("where", ["weight", "bias"])
def test_numbers_that_cannot_be_rounded_are_refused(value, where):
    layer = nn.Linear(2, 2)
    getattr(layer, where).data.flatten()[0] = value
    for use in (measure.quantise, lambda m, b: measure.pack(m, bits=b)):
        with pytest.raises(KdlabError, match=f"'{where}' holds numbers that are not finite, or above 65,504"):
            use(layer, 8)


@pytest.mark.filterwarnings("ignore:Initializing zero-element")
def test_networks_without_weights_or_with_empty_ones_are_fine():
    for model in (nn.Identity(), nn.Linear(0, 3), nn.BatchNorm2d(2)):
        state = measure.unpack(measure.pack(model, bits=8))
        assert {k: v.shape for k, v in state.items()} == {k: v.shape for k, v in model.state_dict().items()}
