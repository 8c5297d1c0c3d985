"""Every test has a store of its own, and one thread."""

import pytest
import torch


@pytest.fixture(autouse=True)
def own_home(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("KDLAB_HOME", str(tmp_path_factory.mktemp("home")))


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    torch.set_num_threads(1)
