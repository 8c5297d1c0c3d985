"""The explorers react, and carry a still picture."""

import pytest
import torch

from kdlab import data, models, widgets
from kdlab.errors import KdlabError
from kdlab.measure import macs, parameters
from kdlab.pruning import channels, weights


@pytest.fixture
def explorer():
    val = data.load(scale="smoke").val
    logits = torch.zeros(len(val), 10)
    logits[:, 3] = 8
    return widgets.temperature_explorer(logits, val, temperature=1.0)


def test_moving_the_temperature_redraws(explorer):
    cold = explorer.view.value
    explorer.children[0].value = 20.0
    hot = explorer.view.value
    assert "T = 1.00: entropy 0.0" in cold and ": entropy 3.3" in hot


def test_moving_the_image_shows_its_own_class(explorer):
    val = data.load(scale="smoke").val
    for image in (0, 5):
        explorer.children[1].value = image
        assert f"The true class, {val.classes[val.labels[image]]}," in explorer.view.value


def test_a_still_picture_travels_with_the_widget(explorer):
    still = explorer._repr_mimebundle_()["text/html"]
    explorer.children[0].value = 50.0
    assert "data:image/png;base64" in still and explorer._repr_mimebundle_()["text/html"] == still
    assert "application/vnd.jupyter.widget-view+json" in explorer._repr_mimebundle_()


def test_logits_of_other_images_are_refused():
    with pytest.raises(KdlabError, match=r"logits have shape \(3, 10\); expected \(300, 10\)"):
        widgets.temperature_explorer(torch.zeros(3, 10), data.load(scale="smoke").val)


def test_attention_maps_of_every_network_follow_the_image():
    val = data.load(scale="smoke").val
    maps = {name: torch.rand(len(val), 49, generator=torch.Generator().manual_seed(len(name))) for name in ("a", "bc")}
    explorer = widgets.attention_explorer(maps, val, image=3)
    first = explorer.view.value
    assert first.count("<img") == 3 and val.classes[val.labels[3]] in first and ">bc<" in first
    explorer.children[0].value = 4
    assert explorer.view.value != first
    assert explorer._repr_mimebundle_()["text/html"] == first


def test_a_map_that_is_zero_everywhere_can_be_drawn():
    assert widgets.attention_html({"dead": torch.zeros(4)}, torch.zeros(28, 28).numpy(), "bag").count("<img") == 2


@pytest.mark.parametrize("shape", [(3, 49), (300, 48), (300, 7, 7)])
def test_attention_maps_that_do_not_fit_the_images_are_refused(shape):
    with pytest.raises(KdlabError, match="expected \\(300, H \\* W\\)"):
        widgets.attention_explorer({"teacher": torch.zeros(shape)}, data.load(scale="smoke").val)


@pytest.fixture
def pruning_explorer():
    network = models.build("cnn", width=2, seed=0)
    return widgets.sparsity_explorer(network, {"as pruned": {0.0: 0.9, 0.5: 0.8}, "tuned": {0.0: 0.91}}, sparsity=0.5)


def test_moving_the_sparsity_looks_up_what_was_measured(pruning_explorer):
    half = pruning_explorer.view.value
    pruning_explorer.children[0].value = 0.0
    none = pruning_explorer.view.value
    assert "as pruned 80.0%; tuned: not measured here" in half
    assert "here 0 of" in none and "as pruned 90.0%; tuned 91.0%" in none


def test_half_of_all_weights_are_marked_but_not_half_of_each_layer(pruning_explorer):
    total = sum(w.numel() for w in weights(models.build("cnn", width=2)).values())
    assert f"here {total // 2:,} of {total:,} (50%)" in pruning_explorer.view.value
    first = weights(models.build("cnn", width=2, seed=0))["features.0"]
    pruning_explorer.children[1].value = "features.0"
    assert f"of {first.numel():,} (" in pruning_explorer.view.value and "(50%)" not in pruning_explorer.view.value


def test_a_start_that_was_not_measured_is_refused():
    with pytest.raises(KdlabError, match=r"Nothing was measured at sparsity=0.7; expected one of \[0.0, 0.5\]"):
        widgets.sparsity_explorer(models.build("cnn", width=2), {"as pruned": {0.0: 0.9, 0.5: 0.8}}, sparsity=0.7)


@pytest.fixture
def channel_explorer():
    network, picture = models.build("resnet", width=4, seed=0), torch.randn(1, 1, 28, 28)
    curves = {"as cut": {0.0: 0.9, 0.5: 0.2, 0.75: 0.1}, "recalibrated": {0.0: 0.91, 0.5: 0.7}}
    return network, picture, widgets.channels_explorer(network, picture, curves, ratio=0.5)


def test_moving_the_ratio_shows_what_surgery_leaves_and_what_was_measured(channel_explorer):
    network, picture, explorer = channel_explorer
    half = channels.remove(network, picture, 0.5)
    sizes = [(count(half), count(network)) for count in (parameters, lambda net: macs(net, picture))]
    (now, before), (fewer, many) = sizes
    shown = explorer.view.value
    assert f"{now:,} of {before:,} parameters ({now / before:.0%}) and {fewer:,} of {many:,} MACs" in shown
    assert "With 50.0% of the channels" in shown and "as cut 20.0%; recalibrated 70.0%" in shown
    explorer.children[0].value = 0.0
    assert f"{before:,} of {before:,} parameters (100%)" in explorer.view.value
    explorer.children[0].value = 0.75
    assert "as cut 10.0%; recalibrated: not measured here" in explorer.view.value
    assert explorer._repr_mimebundle_()["text/html"] == shown


def test_the_widths_are_those_of_the_groups(channel_explorer, monkeypatch):
    network, picture, _ = channel_explorer
    seen = []
    monkeypatch.setattr(widgets, "channels_html", lambda widths, *_: seen.append(widths) or "")
    explorer = widgets.channels_explorer(network, picture, {"as cut": {0.0: 0.9, 0.75: 0.1}}, ratio=0.75)
    explorer.children[0].value = 0.0
    removable = [group for group in channels.groups(network, picture) if not group.stays]
    assert seen[0] == {group.name: (group.width // 4, group.width) for group in removable}
    assert seen[1] == {group.name: (group.width, group.width) for group in removable}


def test_a_ratio_that_was_not_measured_is_refused():
    with pytest.raises(KdlabError, match=r"Nothing was measured at ratio=0.25; expected one of \[0.0, 0.5\]"):
        widgets.channels_explorer(models.build("cnn"), torch.randn(1, 1, 28, 28), {"as cut": {0.0: 0.9, 0.5: 0.8}})


def test_the_schedule_follows_its_controls():
    explorer = widgets.schedule_explorer(400, target=0.9, span=(0.0, 0.75), prunings=11)
    gentle = explorer.view.value
    explorer.children[2].value = 2
    abrupt = explorer.view.value
    explorer.children[0].value = 0.8
    explorer.children[1].value = (0.2, 0.5)
    assert "reaches 90% in 10 prunings" in gentle and "one-shot 90%" in gentle and "25% of training" in gentle
    assert "reaches 90% in 1 pruning." in abrupt and "takes 90% of the weights" in abrupt
    assert "reaches 80%" in explorer.view.value and "50% of training" in explorer.view.value
    assert explorer._repr_mimebundle_()["text/html"] == gentle


@pytest.mark.parametrize("span", [(0.0, 0.0), (0.3, 0.3), (1.0, 1.0), (0.0, 1.0)])
def test_a_schedule_without_a_span_is_drawn_too(span):
    explorer = widgets.schedule_explorer(50, span=span)
    assert "reaches 95%" in explorer.view.value


def test_training_without_steps_is_refused():
    with pytest.raises(KdlabError, match="expected at least 2 steps"):
        widgets.schedule_explorer(1)
