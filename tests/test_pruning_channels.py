"""Channels on small networks: groups, removal, random graphs, saving, recalibration."""

import copy
import json

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import prune as torch_prune

from kdlab import models
from kdlab import pruning as prune
from kdlab.data import Batch
from kdlab.errors import KdlabError

channels = prune.channels
PICTURE = torch.randn(2, 1, 28, 28, generator=torch.Generator().manual_seed(0))


def count(model):
    return sum(p.numel() for p in model.parameters())


def randomise(model, seed=0):
    """Give batch norms statistics, scales and shifts that hide no mistake; return the model in eval mode, float64."""
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            for tensor, low, high in ((module.weight, 0.5, 1.5), (module.bias, -0.5, 0.5)):
                tensor.data.uniform_(low, high, generator=generator)
            module.running_mean.uniform_(-0.5, 0.5, generator=generator)
            module.running_var.uniform_(0.5, 1.5, generator=generator)
    return model.eval().double()


def a_third_of_each(model, example, seed=0):
    """Pick about a third of the channels of every removable group: {layer: indices}."""
    generator = torch.Generator().manual_seed(seed)
    picked = {}
    for group in channels.groups(model, example):
        if group.stays is None:
            chosen = torch.randperm(group.width, generator=generator)[: max(1, group.width // 3)]
            part = max(group.makers, key=lambda part: part.entries)
            picked[part.layer] = torch.isin(part.places, chosen).nonzero().flatten().tolist()
    return {layer: indices for layer, indices in picked.items() if indices}


@torch.no_grad()
def check_silence_is_removal(model, example, seed=0):
    """The property: removing silent channels changes no output, and silencing them did change it."""
    picked = a_third_of_each(model, example, seed)
    silent = channels.silence(model, example, picked)
    smaller = channels.remove(silent, example, channels=picked)
    full, quiet, small = model(example), silent(example), smaller(example)
    size = quiet.abs().max().clamp_min(1e-6)
    assert not torch.allclose(full, quiet, atol=float(1e-6 * size))
    assert float((quiet - small).abs().max() / size) < 1e-9
    assert count(smaller) < count(model)
    return smaller


# -- groups ------------------------------------------------------------------------------------------------------------


def layers(parts):
    return [part.layer for part in parts]


def test_groups_of_a_residual_network_couple_what_is_added():
    groups = {g.name: g for g in channels.groups(models.build("resnet", width=8), PICTURE)}
    stem = groups["stem.0"]
    assert layers(stem.makers) == ["stem.0", "stages.0.conv2"]
    assert layers(stem.passers) == ["stem.1", "stages.0.bn2"]
    assert layers(stem.readers) == ["stages.0.conv1", "stages.1.conv1", "stages.1.shortcut.0"]
    assert groups["stages.1.shortcut.0"].width == 16
    assert groups["head"].stays == "they are the network's output"
    printed = str(stem).splitlines()
    assert printed[0] == "stem.0: 8 channels" and printed[1].split(maxsplit=2)[2] == "stem.0, stages.0.conv2"


def test_multiplicity_after_flattening_and_two_halves():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.gate, self.head = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 12, 1), nn.Linear(6 * 9, 3)

        def forward(self, x):
            a, b = self.gate(F.relu(self.conv(x))).chunk(2, 1)
            return self.head(F.adaptive_avg_pool2d(a * b.sigmoid(), 3).flatten(1))

    model = Net()
    conv, gate, _ = channels.groups(model, PICTURE)
    assert conv.width == 4 and gate.width == 6
    assert gate.multiplicity(gate.makers[0]) == 2  # a channel of each half
    assert gate.multiplicity(gate.readers[0]) == 9
    assert "head (x9)" in str(gate)
    smaller = channels.remove(model, PICTURE, ratio=0.5)
    assert smaller.gate.out_channels == 6 and smaller.head.in_features == 27
    check_silence_is_removal(randomise(model), PICTURE.double())


def test_concatenation_is_read_in_parts():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.bn = nn.Conv2d(1, 4, 3), nn.Conv2d(1, 6, 3), nn.BatchNorm2d(10)
            self.head = nn.Conv2d(10, 5, 1)

        def forward(self, x):
            return self.head(self.bn(torch.cat([self.a(x), self.b(x)], 1))).mean((2, 3))

    model = Net()
    groups = channels.groups(model, PICTURE)
    assert [g.width for g in groups] == [4, 6, 5]
    assert groups[1].readers[0].places.tolist() == [-1] * 4 + list(range(6))
    smaller = channels.remove(model, PICTURE, channels={"a": [0], "b": [1, 5]})
    assert smaller.bn.num_features == smaller.head.in_channels == 7
    assert torch.equal(smaller.head.weight, model.head.weight[:, [1, 2, 3, 4, 6, 7, 8]])


# -- removal -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("network", ["mlp", "cnn", "resnet"])
@pytest.mark.parametrize("rank", ["l1", "l2", "bn", "taylor", "random"])
def test_the_courses_networks_become_smaller_ordinary_modules(network, rank):
    if (network, rank) == ("mlp", "bn"):
        with pytest.raises(KdlabError, match="batch norm"):
            channels.remove(models.build("mlp"), PICTURE, rank="bn")
        return
    model = models.build(network)
    model(PICTURE).sum().backward()
    before = copy.deepcopy(model.state_dict())
    smaller = channels.remove(model, PICTURE, ratio=0.5, rank=rank)
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    assert model.training and smaller.training
    assert type(smaller) is type(model) and list(smaller.state_dict()) == list(before)
    assert smaller(PICTURE).shape == (2, 10)
    assert 0.2 < count(smaller) / count(model) < 0.5
    assert all(type(p) is nn.Parameter and p.requires_grad for p in smaller.parameters())
    smaller(PICTURE).sum().backward()
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in [*model.modules(), *smaller.modules()])
    twin = copy.deepcopy(smaller).eval()
    assert torch.equal(twin(PICTURE), smaller.eval()(PICTURE))


def test_li_2017_is_one_function_away():
    """Ranking by the filters' own L1 norm keeps the filters that ln_structured keeps."""
    model = nn.Sequential(nn.Conv2d(1, 16, 3), nn.ReLU(), nn.Conv2d(16, 8, 3), nn.Flatten(), nn.LazyLinear(3))
    model(PICTURE)
    kept = channels.kept(model, PICTURE, 0.25, lambda m, g: m.get_submodule(g.name).weight.abs().flatten(1).sum(1))
    for name in ("0", "2"):
        theirs = torch_prune.ln_structured(copy.deepcopy(model[int(name)]), "weight", 0.25, n=1, dim=0).weight_mask
        assert kept[name].tolist() == theirs.flatten(1).any(1).nonzero().flatten().tolist()


def test_scores_are_sums_over_the_group():
    model = models.build("cnn", seed=1)
    model(PICTURE).square().sum().backward()
    conv, bn, after = model.features[0], model.features[1], model.features[3]
    bn.weight.data.uniform_(0.5, 1.5)
    sums = {
        "l1": conv.weight.abs().sum((1, 2, 3)) + bn.weight.abs() + after.weight.abs().sum((0, 2, 3)),
        "l2": conv.weight.square().sum((1, 2, 3)) + bn.weight.square() + after.weight.square().sum((0, 2, 3)),
        "bn": bn.weight.abs(),
        "taylor": (conv.weight * conv.weight.grad).abs().sum((1, 2, 3))
        + (after.weight * after.weight.grad).abs().sum((0, 2, 3)),
    }
    for rank, expected in sums.items():
        torch.testing.assert_close(channels.scores(model, PICTURE, rank)["features.0"], expected.detach())


def test_taylor_gathers_its_own_gradients():
    model = models.build("cnn").eval()
    batch = Batch(PICTURE, torch.tensor([1, 2]), torch.arange(2))
    ours = channels.scores(model, PICTURE, channels.Taylor(batch))
    F.cross_entropy(model(batch.images), batch.labels).backward()
    theirs = channels.scores(model, PICTURE, "taylor")
    assert all(torch.allclose(ours[name], theirs[name]) for name in theirs)


def test_rounding_minimum_keeping_and_ratios_by_layer():
    model = models.build("cnn", width=12)  # 12, 24, 48 channels
    widths = lambda m: [m.features[i].out_channels for i in (0, 3, 6)]  # noqa: E731
    assert widths(channels.remove(model, PICTURE, 0.3)) == [8, 16, 33]
    assert widths(channels.remove(model, PICTURE, 0.3, round_to=8)) == [8, 16, 32]
    assert widths(channels.remove(model, PICTURE, 0.9, round_to=8)) == [8, 8, 8]
    assert widths(channels.remove(model, PICTURE, 0.95, min_channels=2)) == [2, 2, 2]
    assert widths(channels.remove(model, PICTURE, 0.5, keep=["features.3"])) == [6, 24, 24]
    assert widths(channels.remove(model, PICTURE, {"features.6": 0.75})) == [12, 24, 12]
    assert widths(channels.remove(model, PICTURE, 0.0)) == [12, 24, 48]


def test_global_ranking_removes_the_asked_number_and_empties_nothing():
    model = models.build("resnet", width=16)
    with torch.no_grad():
        model.stages[1].bn1.weight.mul_(1e-3)  # the least important of all
        smaller = channels.remove(model, PICTURE, 0.4, "bn", scope="global")
    removable = [g for g in channels.groups(model, PICTURE) if g.stays is None]
    left = [g.width for g in channels.groups(smaller, PICTURE) if g.name in {g.name for g in removable}]
    assert sum(left) == int(sum(g.width for g in removable) * 0.6)
    assert smaller.stages[1].conv1.out_channels == 1
    l1 = channels.remove(model, PICTURE, 0.4, "l1", scope="global")
    assert min(p.shape[0] for p in l1.parameters()) >= 1 and l1(PICTURE).shape == (2, 10)


def test_a_layer_that_sees_a_part_of_a_group_is_not_emptied_either():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c = nn.Conv2d(1, 12, 1), nn.Conv2d(1, 4, 1), nn.Conv2d(1, 16, 1)
            self.head = nn.Linear(16, 2)

        def forward(self, x):
            return self.head((torch.cat([self.a(x), self.b(x)], 1) + self.c(x)).mean((2, 3)))

    model = Net()
    with torch.no_grad():
        for part in (model.b.weight, model.c.weight[12:], model.head.weight[:, 12:]):
            part.mul_(1e-3)  # all of b is less important than any of a
    for scope in ("group", "global"):
        smaller = channels.remove(model, PICTURE, 0.5, scope=scope)
        assert (smaller.a.out_channels, smaller.b.out_channels) == (7, 1)
    with pytest.raises(KdlabError, match="would empty 'b"):
        channels.remove(model, PICTURE, channels={"b": range(4)})


def test_kept_agrees_with_what_remove_does():
    model = models.build("resnet")
    kept, smaller = channels.kept(model, PICTURE, 0.3, "l2"), channels.remove(model, PICTURE, 0.3, "l2")
    for layer, indices in kept.items():
        assert len(indices) == smaller.get_submodule(layer).weight.shape[0]
    assert torch.equal(smaller.stem[0].weight, model.stem[0].weight[kept["stem.0"]])


def test_the_example_is_taken_to_the_networks_device():
    """A network on the meta device runs on meta tensors only, as one on a GPU does on that GPU's."""
    model, far = models.build("resnet"), models.build("resnet").to("meta")
    example = PICTURE.clone()
    assert [str(group) for group in channels.groups(far, example)] == [str(g) for g in channels.groups(model, PICTURE)]
    assert prune.layers.blocks(far, (example,)) == prune.layers.blocks(model, PICTURE)
    kept, expected = (channels.kept(network, example, 0.5, "random") for network in (far, model))
    assert all(torch.equal(kept[layer], expected[layer]) for layer in expected) and kept.keys() == expected.keys()
    smaller, expected = (channels.remove(network, example, 0.5, "random") for network in (far, model))
    assert {name: (t.shape, t.device.type) for name, t in smaller.state_dict().items()} == {
        name: (t.shape, "meta") for name, t in expected.state_dict().items()
    }
    assert example.device.type == "cpu" and torch.equal(example, PICTURE) and vars(example) == {}


def test_one_channel_by_hand():
    """Cutting the filter, its batch norm and the column that reads it is what remove does."""
    model = randomise(models.build("cnn"))
    smaller = channels.remove(model, PICTURE.double(), channels={"features.0": [3]})
    left = [0, 1, 2, 4, 5, 6, 7]
    assert torch.equal(smaller.features[0].weight, model.features[0].weight[left])
    assert torch.equal(smaller.features[1].running_mean, model.features[1].running_mean[left])
    assert torch.equal(smaller.features[3].weight, model.features[3].weight[:, left])
    with torch.no_grad():
        model.features[1].weight[3] = model.features[1].bias[3] = 0
        torch.testing.assert_close(smaller(PICTURE.double()), model(PICTURE.double()))


@pytest.mark.parametrize("network", ["cnn", "resnet"])
def test_silent_channels_can_go(network):
    check_silence_is_removal(randomise(models.build(network)), PICTURE.double())


def test_silent_neurons_can_go():
    check_silence_is_removal(models.build("mlp").eval().double(), PICTURE.double())


# -- random graphs -----------------------------------------------------------------------------------------------------

ACTIVATIONS = (F.relu, F.silu, F.gelu, F.hardswish, torch.tanh, F.leaky_relu)


class RandomNet(nn.Module):
    """A network of random parts; its forward pass is a loop that torch.fx could not trace."""

    def __init__(self, seed):
        super().__init__()
        self.dice = torch.Generator().manual_seed(seed)
        self.stem, width = nn.Conv2d(1, 12, 3, stride=2), 12
        self.steps = nn.ModuleList()
        for _ in range(6):
            step, width = self.part(width)
            self.steps.append(step)
        self.flat = self.roll(2) == 0
        inputs = width * 4 if self.flat else width
        self.head = nn.Sequential(nn.Linear(inputs, 10), nn.Tanh(), nn.Linear(10, 5))

    def roll(self, n):
        return int(torch.randint(n, (1,), generator=self.dice))

    def conv(self, before, after, kernel=1, **kw):
        norm = nn.BatchNorm2d(after) if self.roll(2) else nn.Identity()
        return nn.Sequential(nn.Conv2d(before, after, kernel, padding=kernel // 2, bias=bool(self.roll(2)), **kw), norm)

    def part(self, width):
        kind = ("plain", "residual", "projected", "dense", "se", "depthwise", "grouped", "gated", "twice")[self.roll(9)]
        after = 4 * (1 + self.roll(4))
        layers = {
            "plain": lambda: ([self.conv(width, after, 3)], after),
            "residual": lambda: ([self.conv(width, 8), self.conv(8, width, 3)], width),
            "projected": lambda: ([self.conv(width, after, 3), self.conv(width, after)], after),
            "dense": lambda: ([self.conv(width, 6, 3), nn.BatchNorm2d(width + 6)], width + 6),
            "se": lambda: ([self.conv(width, 6), self.conv(6, width)], width),
            "depthwise": lambda: ([self.conv(width, width * 2, 3, groups=width)], width * 2),
            "grouped": lambda: ([self.conv(width, 8), self.conv(8, 12, 3, groups=4), self.conv(12, after)], after),
            "gated": lambda: ([self.conv(width, 2 * after)], after),
            "twice": lambda: ([self.conv(width, width, 3)], width),
        }[kind]()
        step = nn.ModuleList(layers[0])
        step.kind, step.act = kind, ACTIVATIONS[self.roll(len(ACTIVATIONS))]
        return step, layers[1]

    def forward(self, x):
        x = self.stem(x)
        for step in self.steps:
            act, first, last = step.act, step[0], step[-1]
            if step.kind == "residual":
                x = x + last(act(first(x)))
            elif step.kind == "projected":
                x = act(first(x)).add_(last(x))
            elif step.kind == "dense":
                x = last(torch.cat((x, act(first(x))), dim=1))
            elif step.kind == "se":
                x = x * last(act(first(x.mean((2, 3), keepdim=True)))).sigmoid()
            elif step.kind == "gated":
                value, gate = first(x).chunk(2, dim=1)
                x = value * torch.sigmoid(gate)
            elif step.kind == "twice":
                x = act(first(act(first(x))))
            else:
                for layer in step:
                    x = act(layer(x))
        x = F.adaptive_avg_pool2d(x, 2)
        return self.head(x.view(len(x), -1) if self.flat else x.amax((-1, -2)))


@pytest.mark.parametrize("seed", range(30))
def test_silent_channels_can_go_from_random_networks(seed):
    torch.manual_seed(seed)
    model, example = randomise(RandomNet(seed), seed), torch.randn(2, 1, 16, 16).double()
    check_silence_is_removal(model, example, seed)
    for rank in ("l1", "random"):
        smaller = channels.remove(model, example, 0.4, rank, min_channels=1)
        assert smaller(example).shape == (2, 5) and count(smaller) < count(model)


class Shuffled(nn.Module):
    """Channel shuffle, pixel shuffle, a layer scale, padding of channels: parts of networks in use."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.up = nn.Conv2d(1, 8, 3), nn.Conv2d(8, 8, 1, groups=2), nn.Conv2d(8, 16, 1)
        self.scale, self.act = nn.Parameter(torch.rand(8, 1, 1)), nn.PReLU(8)
        self.down, self.head = nn.ConvTranspose2d(4, 6, 3), nn.Linear(6, 3)

    def forward(self, x):
        x = self.act(self.a(x)) * self.scale
        n, c, h, w = x.shape
        x = self.b(x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w))
        x = F.pixel_shuffle(self.up(x).relu(), 2)
        return self.head(self.down(x)[:, :, ::2, 1:].permute(0, 2, 3, 1).mean((1, 2)))


def test_parts_of_networks_in_use():
    smaller = check_silence_is_removal(Shuffled().eval().double(), PICTURE.double())
    assert smaller.scale.shape[0] == smaller.a.out_channels == smaller.act.num_parameters < 8
    assert smaller.up.out_channels % 4 == 0


def test_channels_that_cannot_go_stay_and_say_why():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c, self.d = (nn.Conv2d(1, 4, 3) for _ in range(4))
            self.norm, self.free, self.head = nn.GroupNorm(2, 4), nn.Conv2d(4, 6, 1), nn.Linear(6, 2)

        def forward(self, x):
            y = self.norm(self.a(x)) + self.b(x)[:, :4].softmax(1) + F.pad(self.c(x)[:, :3], (0, 0, 0, 0, 0, 1))
            return self.head(self.free(y * self.d(x).mean(1, keepdim=True)).mean((2, 3)))

    model = Net()
    groups = {g.name: g for g in channels.groups(model, PICTURE)}
    assert "normalises" in groups["a"].stays and "'norm'" in groups["a"].stays
    assert groups["b"].stays and groups["c"].stays and "mean" in groups["d"].stays
    assert groups["free"].stays is None
    smaller = channels.remove(model, PICTURE, 0.5)
    assert smaller.free.out_channels == 3 and smaller.a.out_channels == 4
    with pytest.raises(KdlabError, match="normalises"):
        channels.remove(model, PICTURE, channels={"a": [0]})


# -- graphs that cannot be followed ------------------------------------------------------------------------------------


class Odd(nn.Module):
    def __init__(self, part):
        super().__init__()
        self.conv, self.odd, self.head = nn.Conv2d(1, 8, 3), part, nn.LazyLinear(3)
        self(PICTURE)

    def forward(self, x):
        return self.head(self.odd(self.conv(x)).flatten(1))


class Function(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


@pytest.mark.parametrize(
    "function, node",
    [
        (lambda x: torch.fft.fft2(x).real, "fft2"),
        (lambda x: torch.cdist(x, x), "cdist"),
        (lambda x: x.view(len(x), 4, 2, 26, 26)[:, :, 0], None),
        (lambda x: x.reshape(2, 4, 2, 26, 26).flatten(1, 2), "'odd' (reshape)"),
        (lambda x: x.reshape(-1, 8, 26, 26), "'head' (linear)"),
        (lambda x: F.linear(x.flatten(2), torch.ones(4, 676)), "'odd'"),
        (lambda x: x.sort(1).values, "sort"),
        (lambda x: torch.zeros(2, 8, 26, 26).copy_(x), "copy"),
    ],
)
def test_a_graph_that_cannot_be_followed_is_refused_by_name(function, node):
    model = Odd(Function(function))
    before = copy.deepcopy(model.state_dict())
    if node is None:  # picked by number: handled, by leaving them
        assert "by number" in channels.groups(model, PICTURE)[0].stays
        return
    with pytest.raises(KdlabError) as error:
        channels.remove(model, PICTURE, 0.5)
    assert node in str(error.value) and "\n" not in str(error.value)
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())


# -- on disk -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("network", ["mlp", "cnn", "resnet"])
def test_save_and_load(network, tmp_path):
    model = models.build(network, seed=1)
    smaller = channels.remove(model, PICTURE, 0.4).eval()
    if network == "resnet":
        smaller = prune.layers.remove_blocks(smaller, PICTURE, "stages.0")
    channels.save(smaller, tmp_path / "new" / "small")
    assert sorted(f.name for f in (tmp_path / "new").iterdir()) == ["small.json", "small.safetensors"]
    assert json.loads((tmp_path / "new" / "small.json").read_text())["shapes"]
    base = models.build(network, seed=2)
    back = channels.load(tmp_path / "new" / "small", base).eval()
    assert repr(back) == repr(smaller)
    assert torch.equal(back(PICTURE), smaller(PICTURE))
    assert count(base) == count(model)
    again = channels.remove(back, PICTURE, 0.5)  # and it can be pruned further
    assert count(again) < count(back)


def test_loading_what_does_not_fit(tmp_path):
    path = tmp_path / "small"
    channels.save(channels.remove(models.build("cnn"), PICTURE), path)
    for base in (models.build("resnet"), models.build("cnn", width=2)):
        with pytest.raises(KdlabError, match="was not cut from"):
            channels.load(path, base)
    with pytest.raises(KdlabError, match="There is no"):
        channels.load(tmp_path / "other", models.build("cnn"))
    (tmp_path / "small.safetensors").write_bytes(b"nothing")
    with pytest.raises(KdlabError, match="damaged"):
        channels.load(path, models.build("cnn"))


# -- recalibration -----------------------------------------------------------------------------------------------------


def test_recalibration_measures_the_average_and_restores_every_mode():
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.9), nn.Conv2d(4, 2, 1), nn.BatchNorm2d(2))
    model[2].eval()
    weights = copy.deepcopy(dict(model.named_parameters()))
    images = torch.randn(60, 1, 9, 9)
    assert channels.recalibrate(model, images, batch_size=20) is model
    with torch.no_grad():
        seen = model[0](images)
    torch.testing.assert_close(model[1].running_mean, seen.mean((0, 2, 3)))
    parts = torch.stack([part.var((0, 2, 3)) for part in seen.split(20)]).mean(0)
    torch.testing.assert_close(model[1].running_var, parts)
    assert model[1].momentum == 0.1 and model[1].num_batches_tracked == 3
    assert [m.training for m in model] == [True, True, False, True, True]
    assert all(torch.equal(p, weights[n]) for n, p in model.named_parameters())
    twice = channels.recalibrate(copy.deepcopy(model), [images[:20], images[20:40], images[40:]])
    torch.testing.assert_close(twice[4].running_var, model[4].running_var)
    with pytest.raises(KdlabError, match="some hundred"):
        channels.recalibrate(model, images[:1])
