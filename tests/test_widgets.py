"""The explorers react, and carry a still picture."""

import pytest
import torch

from kdlab import data, widgets
from kdlab.errors import KdlabError


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
