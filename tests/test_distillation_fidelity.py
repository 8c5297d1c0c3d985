"""Fidelity: how like its teacher a student is, whatever either gets right."""

import pytest
import torch
from torch import nn
from torch.distributions import Categorical
from torch.distributions import kl_divergence as torchs_divergence

from kdlab import data, models
from kdlab.errors import KdlabError
from kdlab.measure import agreement, fidelity, kl_divergence
from kdlab.training import predict


@pytest.fixture(scope="module")
def fashion():
    return data.load(scale="smoke")


@pytest.mark.parametrize("temperature", [1, 4])
def test_divergence_is_torchs_and_has_a_direction(temperature):
    a, b = 3 * torch.randn(2, 20, 10, generator=torch.Generator().manual_seed(0))
    expected = torchs_divergence(Categorical(logits=a / temperature), Categorical(logits=b / temperature)).mean()
    assert kl_divergence(a, b, temperature) == pytest.approx(expected.item(), rel=1e-5)
    assert kl_divergence(a, b) != pytest.approx(kl_divergence(b, a), rel=1e-3)
    assert kl_divergence(a, a + 5) == pytest.approx(0, abs=1e-6)


def test_fidelity_compares_two_networks_on_the_same_images(fashion):
    one, two = models.build("cnn"), models.build("mlp")
    a, b = predict(one, fashion.val), predict(two, fashion.val)
    found = fidelity(one, two, fashion.val)
    assert found.agreement == agreement(a, b) and found.kl == pytest.approx(kl_divergence(b, a))
    itself = fidelity(one, one, fashion.val)
    assert itself.agreement == 1 and itself.kl == pytest.approx(0, abs=1e-9) and "100.0%" in repr(itself)


def test_what_cannot_be_compared_is_refused(fashion):
    one = models.build("cnn")
    with pytest.raises(KdlabError, match="test data"):
        fidelity(one, one, fashion.test)
    assert fidelity(one, one, fashion.test, final=True).agreement == 1
    with pytest.raises(KdlabError, match="expected two of the same images"):
        fidelity(one, nn.Sequential(nn.Flatten(), nn.Linear(784, 7)), fashion.val)
    with pytest.raises(KdlabError, match="temperature is 0"):
        kl_divergence(torch.zeros(2, 3), torch.zeros(2, 3), temperature=0)
